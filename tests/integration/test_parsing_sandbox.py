"""The parser process: what a bad file does to it, and what it does not do to anybody else."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indexer.parsers import PARSERS, sandbox
from indexer.parsers.base import MIB, Limits
from indexer.parsers.detect import TEXT
from ragplat.errors import (
    BadInput,
    BadSetting,
    CorruptDocument,
    EmptyDocument,
    EncryptedDocument,
    LimitExceeded,
    Unavailable,
)
from tests.fixtures.documents import SAMPLES
from tests.pdf import make_pdf

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(seconds=30)


@pytest.fixture(autouse=True)
def bad_parsers(monkeypatch):
    names = (
        "Spins",
        "HangsOutsidePython",
        "Crashes",
        "EatsMemory",
        "Ends",
        "Raises",
        "Trips",
        "Prints",
        "Tells",
        "Waits",
    )
    known = {name.lower(): f"tests.fixtures.bad_parsers:{name}" for name in names}
    monkeypatch.setattr(PARSERS, "_entries", PARSERS.entries() | known)
    yield
    sandbox.shutdown()


@pytest.fixture
def note(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("Zebra")
    return path


def parse(path, parser="auto", limits=LIMITS):
    return sandbox.parse_file(path, path.name, TEXT, limits, parser)


def test_the_result_is_the_same_as_in_this_process(tmp_path):
    from indexer.parsers import parse as directly
    from indexer.parsers.detect import detect

    for name in ("letter.pdf", "book.xlsx", "talk.pptx", "note.md", "mail.eml"):
        path = tmp_path / name
        path.write_bytes(SAMPLES[name])
        kind = detect(path, name)
        assert sandbox.parse_file(path, name, kind, LIMITS) == directly(path, name, kind, LIMITS)


@pytest.mark.parametrize("parser", ["spins", "hangsoutsidepython"])
def test_a_hang_ends_at_the_time_limit(note, parser):
    parse(note)
    started = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"longer than 0\.5 seconds"):
        parse(note, parser, Limits(seconds=0.5))
    assert time.monotonic() - started < 3
    assert parse(note).text == "Zebra"


def test_a_crash_is_a_corrupt_document(note):
    with pytest.raises(CorruptDocument, match=r"made the parser crash \(SIGSEGV\)"):
        parse(note, "crashes")
    assert parse(note).text == "Zebra"


def test_an_exit_in_the_middle_is_not_tried_again_for_ever(note):
    with pytest.raises(CorruptDocument, match="made the parser crash"):
        parse(note, "ends")


def test_memory_is_limited(note):
    with pytest.raises(LimitExceeded, match="more than the 200 MiB of memory"):
        parse(note, "eatsmemory", Limits(memory_bytes=200 * MIB))
    assert parse(note).text == "Zebra"


def test_errors_keep_their_class_and_message(note, tmp_path):
    with pytest.raises(EncryptedDocument, match="This one needs a password"):
        parse(note, "raises")
    with pytest.raises(CorruptDocument, match="KeyError: 'missing'"):
        parse(note, "trips")
    with pytest.raises(BadInput, match="no parser named"):
        parse(note, "nope")
    blank = tmp_path / "blank.txt"
    blank.write_text(" ")
    with pytest.raises(EmptyDocument, match="holds no text"):
        parse(blank)


def test_what_a_library_prints_disturbs_nothing_and_the_process_stays_warm(note, capfd):
    first, second = parse(note, "prints").text, parse(note, "prints").text
    assert first == second != f"quiet {os.getpid()}"
    assert capfd.readouterr() == ("", "")


def test_the_process_knows_no_django_and_no_secrets(note, monkeypatch):
    monkeypatch.setenv("RAGPLAT_SECRET_KEY", "hush")
    assert parse(note, "tells").text == "modules [] secret None"


def test_many_threads_at_once(tmp_path):
    def one(number):
        path = tmp_path / f"{number}.txt"
        path.write_text(f"document {number}")
        return parse(path).text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(40))) == [f"document {number}" for number in range(40)]
    assert len(sandbox._idle) <= 2


def test_a_thread_that_ends_does_not_take_the_process_with_it(note):
    def warm_up():
        parse(note, "prints")

    thread = threading.Thread(target=warm_up)
    thread.start()
    thread.join()
    (child,) = sandbox._idle
    time.sleep(0.2)
    assert not child.has_ended()


def test_the_process_stays_warm_under_a_large_parent(note):
    """The kernel counts the parent's memory into the child's peak; that must not look like growth."""
    ballast = bytearray(os.urandom(2**20)) * 300
    sandbox.shutdown()
    first = parse(note, "prints").text
    assert len(ballast) == 300 * 2**20 and parse(note, "prints").text == first


def test_an_idle_process_ends_and_the_next_call_starts_another(note, monkeypatch):
    monkeypatch.setattr(sandbox, "_IDLE_SECONDS", 0.2)
    first = parse(note, "prints").text
    time.sleep(0.8)
    assert sandbox._idle[0].has_ended()
    assert parse(note, "prints").text != first


def test_a_process_that_went_while_nobody_looked_is_replaced(note):
    parse(note)
    os.kill(sandbox._idle[0]._process.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert parse(note).text == "Zebra"


def test_a_process_that_cannot_start_is_said_to(note, monkeypatch):
    sandbox.shutdown()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="cannot be started"):
        parse(note)
    monkeypatch.undo()


def test_a_part_that_cannot_be_loaded_is_a_bad_setting(note, monkeypatch):
    monkeypatch.setattr(PARSERS, "_entries", PARSERS.entries() | {"gone": "no.such:Thing"})
    with pytest.raises(BadSetting, match='The parser "gone"'):
        parse(note, "gone")


@pytest.mark.parametrize("parser", ["spins", "waits"])
def test_no_orphan_survives_its_killed_parent(tmp_path, parser):
    """kill -9 of a worker in the middle of a document."""
    (tmp_path / "note.txt").write_text("60")
    script = f"""
import sys, threading, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from indexer.parsers import PARSERS, sandbox
from indexer.parsers.base import Limits
PARSERS.extend({{"bad": "tests.fixtures.bad_parsers:{parser.capitalize()}"}})
path = Path({str(tmp_path / "note.txt")!r})
threading.Thread(target=sandbox.parse_file, args=(path, "note.txt", "text/plain", Limits(), "bad")).start()
time.sleep(1)
import psutil
print(psutil.Process().children()[0].pid, flush=True)
"""
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 5
    while _runs(child):
        assert time.monotonic() < deadline, "the parser process outlived its parent"
        time.sleep(0.05)


def _runs(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:  # a container without an init process keeps the dead as zombies
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_pages_are_drawn_and_searched_in_the_process_too(tmp_path):
    path = tmp_path / "a.pdf"
    path.write_bytes(make_pdf([["One line", "Another line"], ["Second page"]]))
    assert sandbox.render_page(path, 2, 200).startswith(b"\x89PNG")
    (box,) = sandbox.find_boxes(path, 1, "Another line")
    assert box.page == 1 and 0 < box.left < box.right < 1 and 0 < box.top < box.bottom < 1
    with pytest.raises(BadInput, match="There is no page 3; the document has 2"):
        sandbox.render_page(path, 3, 200)
    with pytest.raises(CorruptDocument):
        path.write_bytes(b"%PDF-1.4 broken")
        sandbox.render_page(path, 1, 200)
