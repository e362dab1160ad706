"""The files of a batch: questions in, one line of JSON per answer out. A batch that was broken off goes on there."""

import csv
import fcntl
import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from inference.batch import Question, Result
from inference.explanation import fields
from ragplat import printing
from ragplat.errors import BadInput

Row = tuple[int, Any, Any]  # line number, id or None, question
_BEGINNING = b'{"id": '  # of every line written here


def read_questions(path: Path) -> list[Question]:
    """The questions of a file, in its order: .jsonl (with "question"), .csv (with a column "question") or .txt (lines).

    The first two may have an "id"; the number of the line is taken otherwise. Blank lines are no questions.
    Raises BadInput naming the line: for what is not of its form, an empty question, an id that is there twice.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f'"{path}" is no file of questions. Its name has to end in one of: {", ".join(_READERS)}.')
    found: dict[str, tuple[int, Question]] = {}
    for line, given, text in reader(_decoded(path), path):
        if not isinstance(text, str) or not text.strip():
            raise BadInput(f"Line {line} of {path} has no question.")
        if not isinstance(given, str | int | None) or isinstance(given, bool) or given == "":
            raise BadInput(f"Line {line} of {path} has the id {given!r}. Ids are texts or numbers, not empty.")
        name = str(line if given is None else given)
        if name in found:
            raise BadInput(f'Line {line} of {path} has the id "{name}", which line {found[name][0]} has already.')
        found[name] = (line, Question(id=name, text=text))
    if not found:
        raise BadInput(f"{path} holds no question.")
    return [question for _, question in found.values()]


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(f"Line {line} of {path} is not UTF-8. Save the file as UTF-8.") from error


def _from_jsonl(text: str, path: Path) -> Iterator[Row]:
    for number, line in _lines(text):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"Line {number} of {path} is no JSON: {error}.") from error
        if not isinstance(row, dict):
            raise BadInput(f'Line {number} of {path} is no object such as {{"id": "1", "question": "Why?"}}.')
        yield number, row.get("id"), row.get("question")


def _from_csv(text: str, path: Path) -> Iterator[Row]:
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "question" not in (rows.fieldnames or ()):
            raise BadInput(f'Line 1 of {path} has to name the columns; one is "question", another may be "id".')
        for row in rows:
            if None in row or None in row.values():
                raise BadInput(f"Line {rows.line_num} of {path} has not as many fields as line 1 names.")
            yield rows.line_num, row.get("id"), row["question"]
    except csv.Error as error:
        raise BadInput(f"Line {rows.line_num} of {path} is no CSV: {error}.") from error


def _from_txt(text: str, path: Path) -> Iterator[Row]:
    for number, line in _lines(text):
        yield number, None, line.strip()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


_READERS: dict[str, Callable[[str, Path], Iterator[Row]]] = {
    ".jsonl": _from_jsonl,
    ".csv": _from_csv,
    ".txt": _from_txt,
}


class AnswerFile:
    """The answers of a batch at ``path``, made with ``made_with``; see ``inference.batch.made_with``.

    Opening it takes up what is there: ``answered`` has the question of each id answered already, ``notes`` says what
    was mended. A line that was not written to its end is cut off, and what failed is taken out, so that it is asked
    again. Use it as a context manager; nobody else can write to it meanwhile.

    Raises BadInput, and changes nothing, where the file is something else, or its answers are made with something else.
    """

    def __init__(self, path: Path, made_with: Mapping[str, Any]):
        self.path = path.resolve()  # where a link leads: that file is put in place anew
        self.answered: dict[str, str] = {}
        self.notes: list[str] = []
        self._made_with = dict(made_with)
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> "AnswerFile":
        file = self._locked(self.path)
        try:
            if self._examine(file):
                self._rewrite(file)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in self._files:
            file.close()

    def still(self, questions: Sequence[Question]) -> list[Question]:
        """Those questions that are not answered yet. Raises BadInput where an id was another question's."""
        for question in questions:
            before = self.answered.get(question.id, question.text)
            if before != question.text:
                raise BadInput(
                    f'{self.path} has an answer for the id "{question.id}" to another question: '
                    f'"{printing.one_line(before, 100)}". Choose another --out.'
                )
        return [question for question in questions if question.id not in self.answered]

    def add(self, result: Result) -> None:
        """Write what became of a question, as a whole line."""
        row: dict[str, Any] = {"id": result.question.id, "question": result.question.text, "made_with": self._made_with}
        row |= fields(result.answer) if result.answer else {}
        row |= {"error": result.error} if result.error else {}
        self._files[-1].write(printing.to_json(row).encode() + b"\n")
        self._files[-1].flush()

    def _locked(self, path: Path) -> IO[bytes]:
        file = path.open("a+b")
        self._files.append(file)  # kept open, and locked by that, to the end
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.__exit__(None, None, None)
            raise BadInput(f"Another command is writing to {path} right now.") from None
        return file

    def _examine(self, file: IO[bytes]) -> bool:
        """Note what is answered; whether there is something to take out."""
        file.seek(0)
        cut = failed = 0
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                self._check(_BEGINNING.startswith(line) or line.startswith(_BEGINNING), number)
                cut = len(line)
                continue
            row = self._row(line, number)
            failed += "error" in row
            if "error" not in row:
                self.answered[row["id"]] = row["question"]
        if cut:
            self.notes.append(f"The last line of {self.path} was not written to its end ({cut:,} bytes): cut off.")
        if failed:
            self.notes.append(f"{failed:,} questions that failed before are asked again.")
        return bool(cut or failed)

    def _row(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
            made_with = row["made_with"]
            texts = isinstance(row["id"], str) and isinstance(row["question"], str)
            self._check(isinstance(made_with, dict) and texts, number)
        except (ValueError, TypeError, KeyError, RecursionError):
            self._check(False, number)
        other = [name for name, value in self._made_with.items() if made_with.get(name) != value]
        if other:
            was = ", ".join(f"{name} {made_with.get(name)}" for name in other)
            now = ", ".join(f"{name} {self._made_with[name]}" for name in other)
            raise BadInput(f"{self.path} holds answers made with {was}, now it would be {now}. Choose another --out.")
        return row

    def _check(self, ours: bool, number: int) -> None:
        if not ours:
            raise BadInput(f"Line {number} of {self.path} is no answer of a batch. Choose another --out.")

    def _rewrite(self, file: IO[bytes]) -> None:
        """The file without what has to go, put in its place at once: a crash leaves the old one or the new one."""
        draft = self.path.with_name(f".{self.path.name}.draft")
        fresh = self._locked(draft)
        fresh.truncate(0)
        os.fchmod(fresh.fileno(), stat.S_IMODE(os.fstat(file.fileno()).st_mode))
        file.seek(0)
        fresh.writelines(line for line in file if line.endswith(b"\n") and "error" not in json.loads(line))
        fresh.flush()
        os.fsync(fresh.fileno())
        draft.replace(self.path)
