"""The service as a process, from outside."""

import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest

from indexer.embedding import client as client_module
from indexer.embedding import wire
from indexer.embedding.client import EmbeddingClient, WrongEmbedder
from ragplat.errors import BadInput, BadSetting, EmbedderUnavailable
from tests.fixtures_embedding import ROOT, EmbeddingProcess

WORK = [f"{number} " + "word " * 200 for number in range(25)]  # some 2 s of one core


@pytest.fixture
def http(toy_embedding_service):
    path = toy_embedding_service.removeprefix("unix://")
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://embed") as http:
        yield http


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(client_module, "PATIENCE", {"query": 0.5, "bulk": 0.5})


def start(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "indexer.embedding.service", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def body(*numbers: int) -> bytes:
    return np.asarray(numbers, dtype="<i4").tobytes()


# The protocol


def test_vectors_are_raw_float32_with_the_fingerprint(http):
    answer = http.post("/packed?lane=query", content=body(2, 3, 2, 101, 7592, 102, 101, 102))
    assert answer.status_code == 200
    vectors = np.frombuffer(answer.content, "<f4").reshape(2, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert answer.headers[wire.FINGERPRINT_HEADER] == http.get("/info").json()["fingerprint"]


def test_info_and_health(http):
    assert http.get("/health").json() == {"status": "ok"}
    info = http.get("/info").json()
    assert (info["model"], info["backend"], info["dimensions"], info["max_tokens"]) == ("hashing", "hashing", 384, 256)


@pytest.mark.parametrize("path, sent, status, error_type", [
    ("/packed", b"abc", 400, "malformed"),
    ("/packed", body(1, 3, 5), 400, "malformed"),
    ("/packed?lane=fast", body(1, 1, 5), 400, "malformed"),
    ("/packed", body(0), 400, "empty"),
    ("/packed", body(1, 1, 30522), 422, "invalid_id"),
    ("/packed", body(1, 1, -1), 422, "invalid_id"),
    ("/packed", body(1, 257, *[5] * 257), 422, "too_long"),
    ("/packed", bytes(wire.MAX_BODY + 4), 413, "too_large"),
    ("/nowhere", b"", 404, "not_found"),
    ("/info", b"", 405, "not_found"),
])  # fmt: skip
def test_wrong_requests_get_a_clear_error(http, path, sent, status, error_type):
    answer = http.post(path, content=sent)
    assert (answer.status_code, answer.json()["error_type"]) == (status, error_type)
    assert answer.json()["error"]


# The client


def test_the_client_keeps_order_over_many_requests(toy_embedding_service, monkeypatch):
    monkeypatch.setattr(client_module, "REQUEST_TOKENS", 30)
    client = EmbeddingClient(toy_embedding_service, "hashing")
    texts = [f"number {number} " + "x " * (number % 7) for number in range(50)]
    together = client.embed_documents(texts)
    assert together == pytest.approx(np.concatenate([client.embed_queries([text]) for text in texts]))
    assert client.embed_documents([]).shape == (0, 384)
    assert client.embed_documents([]).dtype == np.float32


def test_the_client_refuses_and_truncates_long_texts(toy_embedding_service):
    client = EmbeddingClient(toy_embedding_service, "hashing", max_tokens=16)
    with pytest.raises(BadInput, match="Text 1 has 22 tokens"):
        client.embed_documents(["short", "word " * 20])
    cut, same = client.embed_documents(["word " * 20, "word " * 14], truncate=True)
    assert cut == pytest.approx(same)


def test_threads_share_a_client(toy_embedding_service):
    client = EmbeddingClient(toy_embedding_service, "hashing")
    expected = client.embed_queries(["one", "two", "three", "four"])
    got = {}

    def ask(index: int, text: str) -> None:
        got[index] = [client.embed_queries([text])[0] for _ in range(20)]

    threads = [threading.Thread(target=ask, args=pair) for pair in enumerate(["one", "two", "three", "four"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(vector == pytest.approx(expected[index]) for index in got for vector in got[index])


def test_vectors_of_another_embedder_are_refused(toy_embedding_service):
    right = EmbeddingClient(toy_embedding_service, "hashing").info()["fingerprint"]
    EmbeddingClient(toy_embedding_service, "hashing", fingerprint=right).embed_queries(["x"])
    other = "embedder|model:other|v:1"
    with pytest.raises(
        WrongEmbedder, match=r'index is made with "embedder\|model:other\|v:1".*runs "embedder\|model:h'
    ):
        EmbeddingClient(toy_embedding_service, "hashing", fingerprint=other).embed_queries(["x"])
    with pytest.raises(WrongEmbedder, match=r"runs hashing .* but all-MiniLM-L6-v2 .* is needed"):
        EmbeddingClient(toy_embedding_service).embed_queries(["x"])
    with pytest.raises(WrongEmbedder, match="takes 256 tokens a text, but 300"):
        EmbeddingClient(toy_embedding_service, "hashing", max_tokens=300).embed_queries(["x"])


def test_a_service_that_stays_away_is_reported_with_the_cure(tmp_path, impatient):
    for url, problem in (
        (f"unix://{tmp_path}/none.sock", "No such file or directory"),
        ("http://127.0.0.1:9", "Connection refused"),
    ):
        with pytest.raises(EmbedderUnavailable, match=rf"does not answer \({problem}\). Start it with `make up`"):
            EmbeddingClient(url).embed_queries(["x"])
    with pytest.raises(BadSetting, match=r"Allowed: unix:///folder/embed\.sock or http://host:port"):
        EmbeddingClient("embed.sock")


def test_the_real_model_knows_meanings(embedding_service):
    client = EmbeddingClient(embedding_service)
    [asked] = client.embed_queries(["How do I get a new passcode?"])
    near, far = client.embed_documents(["Reset your password under Settings.", "The new train gets here at noon."])
    assert asked @ near > asked @ far + 0.1


def test_a_full_queue_answers_429_and_the_client_waits():
    with EmbeddingProcess() as service:
        check_a_full_queue(service)


def check_a_full_queue(service: EmbeddingProcess) -> None:
    client = service.client()
    ids = client.tokenizer.encode(WORK * 3)
    statuses = []

    def send() -> None:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(service.path)), base_url="http://embed", timeout=4
        ) as http:
            try:
                answer = http.post("/packed", content=wire.pack(ids))
                statuses.append(answer.status_code)
                if answer.status_code == 429:
                    statuses.append((answer.json()["error_type"], answer.headers["retry-after"].isdecimal()))
            except httpx.ReadTimeout:
                statuses.append("left")  # which drops the work: else the next test would wait for it

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    started = time.perf_counter()
    assert client.embed_queries(["a query"]).shape == (1, 384)
    assert time.perf_counter() - started < 3  # ahead of 50 s of bulk work
    client.wait_until_ready(timeout=2)  # asks for its health
    for thread in threads:
        thread.join()
    assert 429 in statuses
    assert ("overloaded", True) in statuses
    assert client.embed_documents(["word " * 200]).shape == (1, 384)


def test_a_killed_service_is_a_pause_only():
    with EmbeddingProcess() as service:
        client = service.client()
        expected = client.embed_queries(WORK)
        result = []
        worker = threading.Thread(target=lambda: result.append(client.embed_documents(WORK)))
        worker.start()
        time.sleep(0.5)
        service.process.kill()
        service.process.wait()
        assert service.path.exists()  # the stale socket
        assert worker.is_alive()
        time.sleep(0.5)
        service.start()
        worker.join(60)
        assert result[0] == pytest.approx(expected, abs=1e-5)


# The process


def test_sigterm_finishes_what_is_under_way():
    with EmbeddingProcess() as service:
        client = service.client()
        client.info()
        result = []
        worker = threading.Thread(target=lambda: result.append(client.embed_documents(WORK)))
        worker.start()
        time.sleep(0.5)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(40) == 0
        worker.join(5)
        assert result[0].shape == (25, 384)
        assert not service.path.exists()


def test_a_socket_in_use_is_left_alone(toy_embedding_service):
    path = toy_embedding_service.removeprefix("unix://")
    second = start("--uds", path, "--model", "hashing")
    assert second.returncode == 1
    assert f"already listens on {path}. Stop it first" in second.stderr
    assert "Traceback" not in second.stderr
    EmbeddingClient(toy_embedding_service, "hashing").wait_until_ready(1)


@pytest.mark.parametrize("arguments, message", [
    (["--model", "none/such"], 'There is no embedding model "none/such" on this machine'),
    (["--max-tokens", "9999"], "max_tokens is 9999. all-MiniLM-L6-v2 takes 8 to 512 tokens"),
    (["--threads", "0"], "--threads is 0; at least 1"),
    (["--port", "80"], "--uds and --port exclude each other"),
])  # fmt: skip
def test_a_wrong_start_says_what_is_wrong(tmp_path, arguments, message):
    done = start("--uds", tmp_path / "s", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_path_that_cannot_be_a_socket(tmp_path):
    (tmp_path / "file").write_text("kept")
    assert "exists and is not a socket" in start("--uds", tmp_path / "file", "--model", "hashing").stderr
    assert (tmp_path / "file").read_text() == "kept"
    assert "over 107 bytes" in start("--uds", tmp_path / ("x" * 110), "--model", "hashing").stderr


def test_tcp():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "indexer.embedding.service", "--model", "hashing", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        client = EmbeddingClient(f"http://127.0.0.1:{port}", "hashing")
        client.wait_until_ready(20)
        assert client.embed_queries(["x"]).shape == (1, 384)
        taken = start("--model", "hashing", "--port", str(port))
        assert f"Cannot listen on 127.0.0.1 port {port}" in taken.stderr
    finally:
        process.terminate()
        process.wait(20)
    assert process.returncode == 0


def test_the_service_needs_no_heavy_library():
    """Its memory is a promise: torch, but neither Django nor transformers nor scikit-learn."""
    code = (
        "import sys; from indexer.embedding.service import load; import uvicorn; load('all-MiniLM-L6-v2', None, 1);"
        "print([name for name in ('django', 'transformers', 'sentence_transformers', 'sklearn', 'scipy', 'psycopg')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
