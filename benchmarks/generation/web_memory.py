"""What an answer that is being written, and followed by a browser, takes in the web process.

    python benchmarks/generation/web_memory.py [--streams 32]

An installation of its own with a corpus of the project's documentation; a scripted model server writes slowly.
"""

import argparse
import re
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.conftest import ROOT, Stack
from tests.fakes import DONE, ScriptedServer, said

WORDS = 1500  # longer than it takes to ask everything
SLOW = [step for n in range(WORDS) for step in (said(f"word {n} "), 0.1)] + [said("[1].", "stop"), DONE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=32)
    count = parser.parse_args().streams
    folder = Path(tempfile.mkdtemp(prefix="ragplat-memory-"))
    folder.chmod(0o755)
    stack = Stack(folder)
    with ScriptedServer(SLOW) as model:
        stack.env["RAGPLAT_GENERATOR_URL"] = model.url
        process = stack.start("--no-demo")
        try:
            done = stack.manage("ingest", "docs", str(ROOT / "docs"), "--wait")
            assert done.returncode == 0, done.stderr
            measure(stack, web_of(process.pid), count)
        finally:
            process.terminate()
            process.wait(30)
            shutil.rmtree(folder, ignore_errors=True)


def web_of(pid: int) -> psutil.Process:
    """The web process below `manage.py up`."""
    children = psutil.Process(pid).children(recursive=True)
    return next(child for child in children if "ragplat.asgi" in " ".join(child.cmdline()))


def measure(stack: Stack, web: psutil.Process, count: int) -> None:
    with closing(signed_in(stack)) as browser, ThreadPoolExecutor(count) as pool:
        token = token_of(browser.get("/"))
        follow(browser, ask(browser, token, 0), words=5)  # warm
        time.sleep(1)
        before = web.memory_info().rss
        addresses = list(pool.map(lambda n: ask(browser, token, n), range(count)))
        enough = threading.Barrier(count + 1)
        followers = [pool.submit(follow, browser, address, 100, enough) for address in addresses]
        enough.wait(60)
        peak = web.memory_info().rss
        print(f"{count} answers being written and followed: {(peak - before) / count / 2**20:.2f} MiB each")
        for one in followers:
            one.result()
        print(f"The web process: {before / 2**20:.0f} MiB before, {peak / 2**20:.0f} MiB with them")


def signed_in(stack: Stack) -> httpx.Client:
    limits = httpx.Limits(max_connections=None)
    browser = httpx.Client(
        base_url=stack.url, follow_redirects=True, timeout=120, limits=limits, headers={"Accept": "text/html"}
    )
    name, password = stack.login
    form = browser.get("/")
    browser.post(str(form.url), data={"username": name, "password": password, "csrfmiddlewaretoken": token_of(form)})
    return browser


def token_of(page: httpx.Response) -> str:
    return re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text).group(1)


def ask(browser: httpx.Client, token: str, number: int) -> str:
    """Ask a question; the address of its events."""
    fields = {"corpus": "docs", "question": f"What of number {number}?", "csrfmiddlewaretoken": token}
    page = browser.post("/ask/", data=fields).raise_for_status()
    return re.search(r'data-events="([^"]+)"', page.text).group(1)


def follow(browser: httpx.Client, address: str, words: int, enough: threading.Barrier | None = None) -> None:
    """Read an answer until so many pieces have come; wait there for the others."""
    with browser.stream("GET", address) as events:
        pieces = 0
        for line in events.iter_lines():
            pieces += '"text"' in line
            if pieces == words:
                if enough:
                    enough.wait(60)
                return
    raise AssertionError(f"the answer ended after {pieces} pieces")


if __name__ == "__main__":
    main()
