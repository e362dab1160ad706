"""Our generator beside the openai client, on the same vLLM: tokens per second, time to the first, closing, caching.

    python benchmarks/generation/streams.py [--streams 1,8,32] [--tokens 128] [--rounds 3]

vLLM serves a tiny model with random weights on the processor (it has to be installed beside this environment, as
`make test` does): so what is measured is everything around the model, at more tokens per second than a large model
on a GPU would give one stream. The two take turns: first the generators alone, then our whole pipeline, retrieval on.
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import installation
import talks
from whole import Whole

from inference.generators.base import Sampling
from inference.generators.openai import OpenAIGenerator
from ragplat.types import Prompt
from tests.chunks import scored
from tests.vllm_server import VLLM

EACH = 3  # answers of each stream, one after the other: those that begin together say more about the beginning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # One core for the model: else its waiting threads take the cores from its own server and from the clients, and what
    # is measured is which of them was lucky.
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "0")
    installation.setup()
    with tempfile.TemporaryDirectory() as folder, installation.running(worker=True):
        server = VLLM(Path(folder))
        server.start()
        try:
            report(server, [int(count) for count in options.streams.split(",")], options.tokens, options.rounds)
        finally:
            server.stop()


def report(server: VLLM, streams: list[int], tokens: int, rounds: int) -> None:
    print(f"{installation.machine()}\n\n| streams | | output tokens/s | first token ms, p50 |\n|---|---|---|---|")
    for count in streams:
        compare(server, count, tokens, rounds)
    whole = Whole(server.url, tokens)
    for count in streams:
        compare(server, count, tokens, rounds, whole)
    print(f"\nClosing 32 streams mid-way: the engine is idle after {closing(server):.2f} s")
    print(f"Memory of an open stream: {memory(server) / 1024:.0f} KiB")
    for name, share in talks.one_document(asker(server)).items():
        print(f"{talks.QUESTIONS} questions on one document, {name}: {share:.0%} of the prompts' tokens known before")
    for name, share in talks.conversation(asker(server)).items():
        print(f"A conversation of {talks.TURNS} questions, {name}: {share:.0%} of the prompts' tokens known before")


def prompt(number: int) -> Prompt:
    """A prompt of its own: what one side asked must not be cached for the other."""
    chunks = [scored(n, talks.SENTENCE.format(n, number), document=n, rank=n) for n in range(1, 4)]
    return talks.build(f"What of number {number}?", chunks)


def ours(server: VLLM, tokens: int) -> OpenAIGenerator:
    return OpenAIGenerator(server.url, server.model, "", Sampling(max_tokens=tokens))


def compare(server: VLLM, streams: int, tokens: int, rounds: int, whole: Whole | None = None) -> None:
    """A row for each side. With ``whole`` ours is the whole pipeline, and retrieval is left out of its first token."""
    numbers = iter(range(10**6 * streams, 10**9))
    found: dict[str, list[tuple[float, list[float]]]] = {"openai client": [], "ours": []}

    def turn(name: str) -> tuple[float, list[float]]:
        mine = [next(numbers) for _ in range(EACH * streams)]
        if name == "ours" and whole:
            return whole.run(mine, streams)
        asked = whole.prompts(mine) if whole else [prompt(number) for number in mine]
        if name == "ours":
            return through_ours(server, asked, streams, tokens)
        return asyncio.run(through_client(server, asked, streams, tokens))

    turn("ours")  # warm
    for _ in range(rounds):
        for name, runs in found.items():
            runs.append(turn(name))
    rates, firsts = {}, {}
    for name, runs in found.items():
        rates[name] = statistics.median(rate for rate, _ in runs)
        firsts[name] = statistics.median(one for _, several in runs for one in several) * 1000
        shown = name + (", retrieval on" if whole and name == "ours" else "")
        print(f"| {streams} | {shown} | {rates[name]:,.0f} | {firsts[name]:.1f} |")
    print(f"| {streams} | ratio, difference | {rates['ours'] / rates['openai client']:.2f}x "
          f"| {firsts['ours'] - firsts['openai client']:+.1f} |", flush=True)  # fmt: skip


def through_ours(server: VLLM, asked: list[Prompt], streams: int, tokens: int) -> tuple[float, list[float]]:
    """Output tokens per second of all streams together, and the time to the first text of each."""
    generator = ours(server, tokens)

    def one(prompt) -> tuple[int, float]:
        began, first, last = time.perf_counter(), None, None
        for delta in generator.generate(prompt):
            first, last = first or time.perf_counter() - began, delta
        return last.completion_tokens, first

    started = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        done = list(pool.map(one, asked))
    return sum(count for count, _ in done) / (time.perf_counter() - started), [first for _, first in done]


async def through_client(server: VLLM, asked: list[Prompt], streams: int, tokens: int) -> tuple[float, list[float]]:
    from openai import AsyncOpenAI

    free = asyncio.Semaphore(streams)
    async with AsyncOpenAI(base_url=server.url, api_key="none") as client:

        async def one(prompt) -> tuple[int, float]:
            async with free:
                return await answered(prompt)

        async def answered(prompt) -> tuple[int, float]:
            began, first, usage = time.perf_counter(), None, None
            stream = await client.chat.completions.create(
                model=server.model,
                messages=[dict(message) for message in prompt.messages],
                temperature=0.0,
                max_tokens=tokens,
                stream=True,
                stream_options={"include_usage": True},
            )
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    first = first or time.perf_counter() - began
                usage = chunk.usage or usage
            return usage.completion_tokens, first or time.perf_counter() - began

        started = time.perf_counter()
        done = await asyncio.gather(*map(one, asked))
        return sum(count for count, _ in done) / (time.perf_counter() - started), [first for _, first in done]


def closing(server: VLLM) -> float:
    streams = [ours(server, 1500).generate(prompt(10**9 + n)) for n in range(32)]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(next, streams))
    started = time.perf_counter()
    for stream in streams:
        stream.close()
    while server.metric("num_requests_running") + server.metric("num_requests_waiting"):
        time.sleep(0.02)
    return time.perf_counter() - started


def memory(server: VLLM, count: int = 32) -> float:
    """Bytes that this process grows by for each stream held open."""
    process, stopped = psutil.Process(os.getpid()), threading.Event()
    before = process.memory_info().rss
    streams = [ours(server, 1500).generate(prompt(2 * 10**9 + n), stopped) for n in range(count)]
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(next, streams))
    grown = process.memory_info().rss - before
    for stream in streams:
        stream.close()
    return max(grown, 0) / count


def asker(server: VLLM) -> talks.Ask:
    def ask(asked: Prompt) -> tuple[int, int, str]:
        *said, last = ours(server, 16).generate(asked)
        return last.prompt_tokens, last.cached_tokens or 0, "".join(one.text for one in [*said, last])

    return ask


if __name__ == "__main__":
    main()
