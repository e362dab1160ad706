"""Many questions at once: every one answered exactly once, whatever breaks; and the `ask` command around them."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connection

from indexer import tasks
from indexer.corpora import create, recipe_named
from indexer.upload import accept
from inference import batch
from inference.batch import Question, answer_many
from inference.batch_files import AnswerFile, read_questions
from ragplat.errors import BadInput, GeneratorUnavailable
from tests.fakes import DONE, ScriptedServer, said

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
TEXT = "# Harbour\n\nThe breakwater is 640 metres long.\n\n## Lighthouse\n\nThe lighthouse is 31 metres tall.\n"
REPLY = [said("It is 31 metres tall [1]."), said("", "stop"), DONE]


@pytest.fixture
def corpus(toy_platform):
    recipe_named("index", "default")
    made = create("Harbour")
    document = accept(made, "harbour.md", io.BytesIO(TEXT.encode())).document
    tasks.index_document(document_id=document.pk)
    return made


@pytest.fixture
def model_server(settings):
    with ScriptedServer(REPLY) as server:
        settings.GENERATOR_URL = server.url
        yield server


def questions(count: int) -> list[Question]:
    return [Question(id=str(n), text=f"How tall is lighthouse {n}?") for n in range(count)]


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_until(happened) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def asked(server: ScriptedServer) -> Counter[str]:
    """How often each question came to the model."""
    texts = (body["messages"][-1]["content"] for body in server.requests)
    return Counter(text.rpartition("lighthouse ")[2].partition("?")[0] for text in texts)


# Answers


def test_every_question_is_answered_once_and_many_at_a_time(corpus, model_server):
    model_server.script = [0.3, *REPLY]
    results = list(answer_many(corpus, iter(questions(40))))
    assert model_server.connections > 10, "each is used by one answer at a time"
    assert sorted(int(one.question.id) for one in results) == list(range(40))
    assert not [one.error for one in results if one.error]
    assert all(one.answer.text == "It is 31 metres tall [1]." for one in results)
    assert all(one.prompt.chunks and one.answer.citations for one in results)
    assert set(asked(model_server).values()) == {1}


def test_results_come_while_others_are_still_asked(corpus, model_server):
    taken = []

    def endless():
        for one in questions(10_000):
            taken.append(one)
            yield one

    with closing(answer_many(corpus, endless(), concurrency=2)) as results:
        assert next(results).answer.text
        assert len(taken) <= 4
    assert model_server.requests


def test_a_question_that_fails_is_a_result_with_its_reason(corpus, model_server, monkeypatch):
    real = batch.answer

    def broken(corpus, question, *rest, **options):
        if question == "panic":
            raise BaseException("a panic of Rust")
        return real(corpus, question, *rest, **options)

    monkeypatch.setattr(batch, "answer", broken)
    mixed = [Question(id="good", text="How tall is it?"), Question(id="long", text="x" * 100_000)]
    mixed += [Question(id="empty", text="\x00 "), Question(id="panic", text="panic")]
    results = {one.question.id: one for one in answer_many(corpus, mixed)}
    assert not results["good"].error
    assert "100,000 characters; at most 4,000" in results["long"].error
    assert "empty" in results["empty"].error
    assert "panic of Rust" in results["panic"].error
    assert results["panic"].answer is None


def test_an_answer_that_breaks_off_keeps_its_words_and_has_an_error(corpus, model_server):
    model_server.script = [said("It is 31 metres tall [1]."), None]
    (result,) = answer_many(corpus, questions(1))
    assert result.answer.text == "It is 31 metres tall [1]."
    assert model_server.url in result.error


def test_no_other_generator_stands_in_for_a_part_of_a_batch(corpus, model_server):
    model_server.status, model_server.error = 400, "too long"
    results = list(answer_many(corpus, questions(3)))
    assert all("too long" in one.error and one.answer is None for one in results)


def test_without_a_model_server_a_batch_quotes(corpus):
    (result,) = answer_many(corpus, [Question(id="1", text="How tall is the lighthouse?")])
    assert result.answer.trace["generator"] == "extractive"
    assert "31 metres" in result.answer.text


def test_closing_ends_what_is_being_written(corpus, model_server):
    model_server.script = [said("It is "), *([0.05, said("very ")] * 400)]
    results = answer_many(corpus, [Question(id="empty", text=" "), *questions(100)], concurrency=4)
    assert next(results).question.id == "empty"
    wait_until(lambda: model_server.requests)
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 6
    assert model_server.hung_up.wait(2)
    assert len(model_server.requests) <= 4
    assert not [one for one in threading.enumerate() if one.name.startswith("batch")]


def test_no_thread_leaves_a_connection_to_the_database_open(corpus, model_server):
    before = _connections()
    with closing(answer_many(corpus, questions(20), concurrency=8)) as results:
        assert len(list(results)) == 20
    assert _connections() == before


def _connections() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return cursor.fetchone()[0]


# Files of questions


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("q.txt", "How tall?\n\n  Who? \r\n", [("1", "How tall?"), ("3", "Who?")]),
        ("q.jsonl", '{"id": 7, "question": "How?"}\n\n{"question": "Who?"}', [("7", "How?"), ("3", "Who?")]),
        ("q.csv", '\ufeffid,question\na,"How, and\nwhy?"\nb,Who?\n', [("a", "How, and\nwhy?"), ("b", "Who?")]),
        ("q.CSV", "question\nHow?\n", [("2", "How?")]),
    ],
)
def test_questions_are_read(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content.encode())
    assert [(one.id, one.text) for one in read_questions(tmp_path / name)] == expected


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("q.jsonl", b'{"question": "How?"}\n{"question": ', "Line 2 .* is no JSON"),
        ("q.jsonl", b'["How?"]\n', "Line 1 .* no object"),
        ("q.jsonl", b'{"question": "How?"}\n{"id": 2}\n', "Line 2 .* has no question"),
        ("q.jsonl", b'{"question": 7}\n', "Line 1 .* has no question"),
        ("q.jsonl", b'{"question": "How?"}\n{"question": "  "}\n', "Line 2 .* has no question"),
        ("q.jsonl", b'{"id": true, "question": "How?"}\n', "has the id True"),
        ("q.jsonl", b'{"id": 1, "question": "a"}\n\n{"id": "1", "question": "b"}\n', 'Line 3 .*"1", which line 1 has'),
        ("q.csv", b"id,text\n1,How?\n", "Line 1 .* name the columns"),
        ("q.csv", b"id,question\n1,How?,more\n", "Line 2 .* as many fields"),
        ("q.csv", b"id,question\n1\n", "Line 2 .* as many fields"),
        ("q.csv", b'id,question\n1,"How\n', "is no CSV"),
        ("q.csv", b"", "Line 1"),
        ("q.txt", b"\n  \n", "holds no question"),
        ("q.txt", b"How?\nWh\xff?\n", "Line 2 .* is not UTF-8"),
        ("q.pdf", b"How?\n", r"\.jsonl, \.csv, \.txt"),
    ],
)
def test_a_line_that_is_no_question_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=words):
        read_questions(tmp_path / name)


# Files of answers


@pytest.fixture
def command(corpus, tmp_path):
    """`ask harbour --file ... --out ...`: its exit code and what it said, and the rows it left."""

    def run(lines: list[str], *options: str) -> tuple[int, str, list[dict]]:
        (tmp_path / "q.txt").write_text("\n".join(lines))
        said = io.StringIO()
        paths = ["--file", str(tmp_path / "q.txt"), "--out", str(tmp_path / "answers.jsonl")]
        try:
            call_command("ask", corpus.slug, *paths, *options, stderr=said)
            code = 0
        except SystemExit as end:
            code = end.code
        return code, said.getvalue(), rows_of(tmp_path / "answers.jsonl")

    return run


LINES = [f"How tall is lighthouse {n}?" for n in range(6)]


def test_answers_are_written_with_all_that_belongs_to_them(command, model_server):
    code, said, rows = command(LINES)
    assert code == 0
    assert "6 answered, 0 failed" in said
    assert {row["id"]: row["question"] for row in rows} == {str(n + 1): line for n, line in enumerate(LINES)}
    for row in rows:
        assert (row["answer"], row["finish_reason"]) == ("It is 31 metres tall [1].", "stop")
        assert row["citations"][0]["quote"] in TEXT
        assert row["sentences"] and row["trace"]["stages"]
        assert row["made_with"]["corpus"] == "harbour"
        assert "error" not in row


def test_what_is_answered_is_not_asked_again(command, model_server):
    command(LINES[:4])
    code, said, rows = command(LINES)
    assert (code, len(rows)) == (0, 6)
    assert "2 answered, 0 failed, 4 had an answer already" in said
    assert set(asked(model_server).values()) == {1}


def test_what_failed_is_asked_again_and_the_exit_code_tells(command, model_server):
    model_server.passing = [400, 400]
    code, said, rows = command(LINES)
    assert code == 1
    assert "4 answered, 2 failed" in said
    assert f"2 failed ({', '.join(row['id'] for row in rows if 'error' in row)})" in said
    assert sum("error" in row for row in rows) == 2
    code, said, rows = command(LINES)
    assert (code, len(rows)) == (0, 6)
    assert "2 questions that failed before are asked again" in said
    assert not any("error" in row for row in rows)
    assert sorted(asked(model_server).values()) == [1, 1, 1, 1, 2, 2]


def test_a_half_written_line_is_cut_off_and_said(command, model_server, tmp_path):
    command(LINES)
    out = tmp_path / "answers.jsonl"
    whole = out.read_bytes()
    for kept in (len(whole) - 1, len(whole) - 300, len(b"".join(whole.splitlines(keepends=True)[:5])) + 3):
        out.write_bytes(whole[:kept])
        code, said, rows = command(LINES)
        assert (code, len(rows)) == (0, 6)
        assert "not written to its end" in said
        assert sorted(row["id"] for row in rows) == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("content", ["notes", "notes\n", '{"id": "1", "question": "Why?"}\n', "[1]\n"])
def test_another_file_is_left_alone(command, model_server, tmp_path, content):
    (tmp_path / "answers.jsonl").write_text(content)
    with pytest.raises(BadInput, match=r"Line 1 .* is no answer of a batch"):
        command(LINES)
    assert (tmp_path / "answers.jsonl").read_text() == content
    assert not model_server.requests


def test_answers_made_otherwise_are_not_mixed(command, corpus, model_server, tmp_path):
    command(LINES)
    whole = (tmp_path / "answers.jsonl").read_bytes()
    with pytest.raises(BadInput, match=r"made with .*generator generator\|name:openai.*Choose another --out"):
        command(LINES, "--generator", "extractive")
    with pytest.raises(BadInput, match=r'id "1" to another question: "How tall is lighthouse 0\?"'):
        command(["Why?"])
    model_server.models = ("another",)
    for known in _servers():
        known._offer = None
    with pytest.raises(BadInput, match=r"model:toy.*model:another"):
        command(LINES)
    assert (tmp_path / "answers.jsonl").read_bytes() == whole


def _servers():
    from inference.generators import server

    return server._connected.values()


def test_a_model_server_that_is_down_is_told_before_anything_is_asked(command, settings, tmp_path):
    settings.GENERATOR_URL = "http://127.0.0.1:1/v1"
    with pytest.raises(GeneratorUnavailable, match="cannot be reached"):
        command(LINES)
    assert not (tmp_path / "answers.jsonl").exists()


def test_two_commands_do_not_write_to_one_file(tmp_path):
    with AnswerFile(tmp_path / "a.jsonl", {}), pytest.raises(BadInput, match="Another command"):
        AnswerFile(tmp_path / "a.jsonl", {}).__enter__()


@pytest.mark.parametrize("text", ["\x9b31m", "a\u2028b\x85c", "\ud800", "\x1b]0;x\x07\r"])
def test_any_words_are_one_line_and_come_back_as_they_are(tmp_path, text):
    with AnswerFile(tmp_path / "a.jsonl", {}) as file:
        file.add(batch.Result(question=Question(id=text, text=text), error=text))
    (line,) = (tmp_path / "a.jsonl").read_text().splitlines()
    assert line.isprintable()
    assert json.loads(line)["question"] == text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--file", "q.txt"], "go together"),
        (["--out", "a.jsonl"], "go together"),
        (["Why?", "--file", "q.txt", "--out", "a.jsonl"], "neither a question"),
        (["--json", "--file", "q.txt", "--out", "a.jsonl"], "neither a question"),
        ([], "Give a question"),
    ],
)
def test_what_does_not_go_together_is_refused(monkeypatch, arguments, words):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(BadInput, match=words):
        call_command("ask", "harbour", *arguments)


# Killed


@pytest.fixture
def environment(corpus, settings):
    """What a command of its own needs to work on the tests' installation."""
    place = connection.settings_dict
    database = f"postgresql://{place['USER']}@/{place['NAME']}?host={place['HOST'] or place['OPTIONS']['host']}"
    mine = {"DATABASE_URL": database, "RAGPLAT_EMBED_URL": settings.EMBED_URL, "RAGPLAT_EMBED_MODEL": "hashing"}
    return os.environ | mine


def start(environment, *arguments: str, **options) -> subprocess.Popen:
    line = [sys.executable, str(ROOT / "manage.py"), "ask", "harbour", *arguments]
    # Ctrl-C has to reach it, even where the tests run behind a shell that has switched it off.
    return subprocess.Popen(line, env=environment, cwd=ROOT, preexec_fn=_hears_ctrl_c, **options)


def _hears_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def written(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_batch_goes_on_where_it_was(environment, tmp_path, how):
    count, out = 150, tmp_path / "answers.jsonl"
    (tmp_path / "q.txt").write_text("".join(f"How tall is lighthouse {n}?\n" for n in range(count)))
    with ScriptedServer([0.3, *REPLY]) as server:
        environment = environment | {"RAGPLAT_GENERATOR_URL": server.url}
        for least in (1, 60):
            process = start(
                environment, "--file", str(tmp_path / "q.txt"), "--out", str(out), stderr=subprocess.PIPE, text=True
            )
            wait_until(lambda least=least: written(out) >= least)
            process.send_signal(how)
            said = process.communicate(timeout=30)[1]
            assert process.returncode == (-9 if how == signal.SIGKILL else 130)
            if how == signal.SIGINT:
                assert "are kept" in said
                assert "Traceback" not in said
        assert written(out) < count
        process = start(environment, "--file", str(tmp_path / "q.txt"), "--out", str(out))
        assert process.wait(120) == 0
    rows = rows_of(out)
    assert sorted(int(row["id"]) for row in rows) == list(range(1, count + 1))
    assert all(row["answer"] == "It is 31 metres tall [1]." for row in rows)
    again = sum(asked(server).values()) - count
    assert 0 <= again <= 2 * batch.SERVER_CONCURRENCY, "only what was being written is asked twice"


# One question, and a dialogue


def test_a_dialogue_on_a_terminal_keeps_what_was_said(environment, tmp_path):
    mine, terminal = pty.openpty()
    process = start(environment, "--why", stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.close(terminal)
    os.write(mine, b"How tall is the lighthouse?\n\nAnd where is it?\n\x04")
    said, wrong = process.communicate(timeout=60)
    os.close(mine)
    assert (process.returncode, wrong) == (0, "")
    assert said.count("31 metres tall") >= 2
    assert "understood as: And where is it (tall is the lighthouse)? (rules)" in said


def test_ctrl_c_in_a_dialogue_keeps_what_was_said(environment, tmp_path):
    mine, terminal = pty.openpty()
    with ScriptedServer([said("It is 31 "), 30.0, *REPLY]) as server:
        environment = environment | {"RAGPLAT_GENERATOR_URL": server.url}
        process = start(environment, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.close(terminal)
        os.write(mine, b"How tall is the lighthouse?\n")
        wait_until(lambda: server.requests)
        time.sleep(1)  # the first words are there
        process.send_signal(signal.SIGINT)
        os.write(mine, b"\x04")
        out, wrong = process.communicate(timeout=60)
        os.close(mine)
    assert process.returncode == 0, wrong
    assert "It is 31" in out
    assert "was stopped here" in out
    assert "Traceback" not in wrong


def test_why_tells_every_stage(corpus, model_server, capsys):
    call_command("ask", "harbour", "How tall is the lighthouse?", "--why")
    said = capsys.readouterr().out
    for words in (
        "search: hybrid; minmax",
        "terms: ",
        "dense: ",
        "chunks: ",
        "harbour.md",
        "prompt: answer",
        "s cite: ",
    ):
        assert words in said
    assert "generator: openai, first words after" in said


def test_nothing_steers_the_terminal(corpus, model_server, capsys):
    model_server.script = [said("It is \x1b]0;owned\x07\x9b31m31\u202e metres\r tall [1].", "stop"), DONE]
    call_command("ask", "harbour", "How tall?", "--why")
    call_command("ask", "harbour", "How tall?", "--json")
    printed = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in printed)
    assert json.loads(printed[printed.index('{\n "answer"') :])["answer"].startswith("It is \x1b]0;owned\x07\x9b31m31")
