"""`manage.py up` and its processes, as a person at a terminal meets them; and what kill -9 does to work under way."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest


def children(process) -> dict[str, psutil.Process]:
    """The processes `up` watches, by name."""
    found = {}
    for child in psutil.Process(process.pid).children():
        line = ""
        with suppress(psutil.NoSuchProcess):  # just ended, not yet started again
            line = " ".join(child.cmdline())
        for name, mark in (("worker", "manage.py worker"), ("web", "uvicorn"), ("embed", "embedding.service")):
            if mark in line:
                found[name] = child
    return found


def wait_for(condition, seconds: float = 60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")


def status(url: str) -> int:
    try:
        return urllib.request.urlopen(url, timeout=5).status
    except OSError:
        return 0


def ask(stack, *arguments: str) -> dict:
    done = stack.manage(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def documents(tmp_path, count: int) -> str:
    for n in range(count):
        parts = "\n\n".join(
            f"## Part {p}\n\n" + f"Ship {n} carries cargo {p} to berth {n * p}. " * 30 for p in range(12)
        )
        (tmp_path / f"ship-{n}.md").write_text(f"# Ship {n}\n\n{parts}\n")
    return str(tmp_path)


def test_an_installation_lives_dies_and_comes_back(new_stack):
    process = new_stack.start("--no-demo")
    try:
        assert status(f"{new_stack.url}/healthz") == 200
        second = new_stack.manage("up")
        assert second.returncode == 1
        assert "running already" in second.stderr
        for name, child in children(process).items():
            child.kill()
            wait_for(lambda name=name, old=child.pid: (c := children(process).get(name)) and c.pid != old)
        wait_for(lambda: status(f"{new_stack.url}/healthz") == 200)
        postmaster = int((new_stack.var_dir / "pg" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGKILL)
        pid_file = new_stack.var_dir / "pg" / "postmaster.pid"
        wait_for(lambda: pid_file.exists() and int(pid_file.read_text().split()[0]) != postmaster)
        wait_for(lambda: new_stack.manage("doctor").stdout.count("BAD") == 0)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        _, alive = psutil.wait_procs(family, timeout=5)
        assert not alive
        assert "Stopped." in (new_stack.var_dir / "up.log").read_text()
        assert not pid_file.exists()
        started = time.monotonic()
        process = new_stack.start("--no-demo")
        assert time.monotonic() - started < 15
    finally:
        process.terminate()
        process.wait(30)


def test_a_taken_port_is_one_clear_line(new_stack):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", new_stack.port))
        taken.listen()
        done = new_stack.manage("up")
    assert done.returncode == 1
    assert "RAGPLAT_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_killed_worker_and_service_lose_and_repeat_nothing(new_stack, tmp_path):
    folder = documents(tmp_path, 6)
    process = new_stack.start("--no-demo")
    try:
        assert new_stack.manage("ingest", "ships", folder).returncode == 0
        for n in range(6):
            time.sleep(1.5)
            victim = children(process).get("embed" if n == 3 else "worker")
            if victim:
                victim.kill()
        report = wait_for(lambda: settled(new_stack, 6), 240)
        assert report == {"ready": 6}
        done = new_stack.manage("shell", "-v", "0", "-c", COUNTS)
        chunks, distinct, stored, expected = json.loads(done.stdout)
        assert chunks == distinct == stored == expected > 0
    finally:
        process.terminate()
        process.wait(30)


COUNTS = """
import json
import os
from django.db import connection
from django.db.models import Sum
from indexer.models import Document
with connection.cursor() as cursor:
    cursor.execute('SELECT count(*), count(DISTINCT (document_id, start, "end")) FROM indexer_chunk')
    chunks, distinct = cursor.fetchone()
    cursor.execute("SELECT count(*) FROM indexer_vector")
    stored, = cursor.fetchone()
print(json.dumps([chunks, distinct, stored, Document.objects.aggregate(n=Sum("chunk_count"))["n"]]))
"""


def settled(stack, count: int) -> dict | None:
    script = (
        "import json; from collections import Counter; from indexer.models import Document; "
        "print(json.dumps(Counter(Document.objects.values_list('state', flat=True))))"
    )
    done = stack.manage("shell", "-v", "0", "-c", script)
    states = json.loads(done.stdout) if done.returncode == 0 else {}
    under_way = sum(states.get(state, 0) for state in ("queued", "parsing", "chunking", "embedding"))
    return states if states and not under_way and sum(states.values()) == count else None


def test_commands_work_without_a_running_installation(new_stack, tmp_path):
    (tmp_path / "note.md").write_text("# Note\n\nThe spare key lies under the blue stone.\n")
    report = ask(new_stack, "ingest", "notes", str(tmp_path / "note.md"), "--wait")
    assert report["states"] == {"ready": 1}
    found = ask(new_stack, "search", "notes", "where is the key?")
    assert "blue stone" in found["chunks"][0]["text"]
    made = ask(new_stack, "ask", "notes", "Where does the spare key lie?")
    assert "blue stone" in made["answer"]
    assert made["citations"][0]["quote"] in (tmp_path / "note.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "nowhere", "x"), "There is no corpus"),
        (("ask", "nowhere", "x"), "There is no corpus"),
        (("ingest", "new", "/does/not/exist"), "There is no file"),
    ],
)
def test_mistakes_are_one_line(stack, arguments, message):
    done = stack.manage(*arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_setting_and_a_database_out_of_reach_are_one_line(new_stack):
    new_stack.env["RAGPLAT_MAX_PAGES"] = "many"
    done = new_stack.manage("check")
    assert done.returncode != 0
    assert "RAGPLAT_MAX_PAGES" in done.stderr
    assert "Traceback" not in done.stderr
    del new_stack.env["RAGPLAT_MAX_PAGES"]
    new_stack.env["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    done = new_stack.manage("search", "x", "y")
    assert done.returncode != 0
    assert "database" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_is_quick_and_loads_nothing_heavy(new_stack):
    script = (
        "import sys, time; started = time.time(); from ragplat.cli import run; code = run(['manage.py', 'check']); "
        "heavy = {'torch', 'transformers', 'faiss', 'tantivy', 'pypdfium2', 'kreuzberg', 'onnxruntime', 'openai'}; "
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=new_stack.env | {"DJANGO_SETTINGS_MODULE": "ragplat.settings"},
        capture_output=True,
        text=True,
        cwd=Path.cwd(),
    )
    assert done.stdout.strip().endswith("0 []"), done.stdout + done.stderr
