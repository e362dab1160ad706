"""Conversations as Markdown files: questions, answers, and for every marker the place it cites, with its quote.

The structure of the file is ours alone: text of people, models and documents is escaped, so nothing in it becomes a
heading, a link, HTML or the end of a quote.
"""

import re
from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from typing import Any

from django.utils import timezone
from django.utils.text import slugify

from indexer.rendering import render
from inference import rendering
from inference.models import Conversation, Turn

NAME = 60  # characters of a file's name taken from a title

# What would mean something to a Markdown reader in the middle of a line, and at its beginning.
_SPECIAL = re.compile(
    r"(\\(?=[!-/:-@\[-`{-~]|$)|[*`~\[]|(?<![^\W_])_|_(?![^\W_])|(?<!\S)#|<(?=[A-Za-z/!?])|&(?=#?\w+;))"
)
_BEGINNING = re.compile(r"^(\d*)([-+=>.)])")


def file_name(title: str, pk: int) -> str:
    """A name that every file system takes, such as "how-tall-is-it-12.md"."""
    words = slugify(title, allow_unicode=True)[:NAME].rstrip("-")
    return f"{words or 'conversation'}-{pk}.md"


def conversation(found: Conversation, turns: Iterable[Turn]) -> str:
    """The Markdown of a path of a conversation. Markers are numbered through the file."""
    turns = list(turns)
    documents = rendering.existing(found.corpus, turns)
    facts = f"Corpus: {escaped(found.corpus.title)}. Exported {timezone.now():%Y-%m-%d %H:%M} UTC."
    parts, number = [f"# {escaped(found.title)}", facts], 0
    for turn in turns:
        made, number = _turn(turn, documents, number)
        parts += made
    return "\n\n".join(parts) + "\n"


def single(turn: Turn) -> str:
    """The Markdown of one question and its answer."""
    parts, _ = _turn(turn, rendering.existing(turn.conversation.corpus, [turn]), 0)
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Text as one line of Markdown that shows it as it is."""
    return _as_line(_literal(" ".join(text.split())))


def _literal(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _as_line(text: str) -> str:
    """Blanks squeezed, and no list, quote or rule at its beginning."""
    return _BEGINNING.sub(r"\1\\\2", " ".join(text.split()))


def _turn(turn: Turn, documents: set[int], taken: int) -> tuple[list[str], int]:
    """The blocks of one turn, whose references begin after ``taken``; with the last number used."""
    sources = rendering.sources(turn, documents)
    numbers = {source["number"]: place for place, source in enumerate(sources, start=taken + 1)}
    blocks = [f"## {escaped(turn.question)}", f"*Asked {turn.created:%Y-%m-%d %H:%M} UTC*"]
    if turn.state == Turn.State.ASKED:
        return [*blocks, "*The answer was still being written when this file was made.*"], taken
    if turn.state == Turn.State.FAILED:
        return [*blocks, f"*No answer came: {escaped(turn.reason)}*"], taken
    blocks += _answer(turn, numbers)
    if turn.finish_reason == "no_answer":
        blocks.append("*The documents do not answer this question.*")
    elif ending := rendering.ending(turn):
        blocks.append(f"*{escaped(ending)}*")
    if sources:
        blocks.append("Sources:")
    for source in sources:
        blocks += _source(source, numbers[source["number"]])
    return blocks, taken + len(sources)


def _answer(turn: Turn, numbers: Mapping[int, int]) -> list[str]:
    """The blocks of an answer as the page shows it, with the file's own numbers as markers."""

    def marker(number: int, place: int) -> str | None:
        return f"<a>{numbers[number]}</a>" if rendering.cited_at(turn, number, place) else None

    writer = _Writer()
    writer.feed(render(turn.text, "markdown", spans=rendering.doubtful(turn), marker=marker))
    writer.close()
    return writer.blocks


def _source(source: Mapping[str, Any], number: int) -> list[str]:
    page = f", page {source['page']}" if source["page"] else ""
    quotes = [f"> {escaped(one['quote'])}" for one in source["quotes"] if one["quote"]]
    gone = [f"*{source['gone']}*"] if source["gone"] else []
    return [f"**[{number}]** {escaped(source['document'])}{page}", *quotes, *gone]


class _Writer(HTMLParser):
    """Writes the HTML of `indexer.rendering` as Markdown: the same blocks, one line each, everything else escaped."""

    def __init__(self):
        super().__init__()
        self.blocks: list[str] = []
        self.open = [""]  # the text of the block being read, and of each inline element that is open in it
        self.raw = False  # in code, where nothing is escaped
        self.prefix = ""  # of the block: its bullet or number, or the mark of a quote
        self.columns: list[int] = []  # where the text of the items around this one begins
        self.rows: list[list[str]] = []  # the cells of a table

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        match tag:
            case "strong" | "em" | "a":
                self.open.append("")
            case "code" | "pre":
                self.open.append("")
                self.raw = True
            case "ul" | "ol":
                self.columns = []
            case "li":
                self._begin_item(dict(attrs))
            case "blockquote":
                self.prefix = "> "
            case "hr":
                self.blocks.append("***")
            case "table":
                self.rows = []
            case "tr":
                self.rows.append([])

    def _begin_item(self, given: dict[str, str | None]) -> None:
        """Indent it as far as the item it belongs to asks for: one too far would be code."""
        depth = int(given["class"].split()[0].removeprefix("depth-"))
        self.columns = self.columns[:depth]
        column = self.columns[-1] if self.columns else 0
        bullet = f"{given['value']}. " if "value" in given else "- "
        self.prefix = " " * column + bullet
        self.columns.append(column + len(bullet))

    def handle_data(self, data: str) -> None:
        if not self.raw:
            would_link = self.open[-1].endswith("]") and data.startswith(("(", ":"))
            data = ("\\" if would_link else "") + _literal(data)
        self.open[-1] += data

    def handle_endtag(self, tag: str) -> None:
        match tag:
            case "strong":
                self._emphasise("**")
            case "em":
                self._emphasise("*")
            case "a":
                marker = self.open.pop()
                self.open[-1] += f"[{marker}]"
            case "code":
                self._end_code()
            case "pre":
                self._end_block_of_code()
            case "p" | "li":
                self._end_block(self.prefix)
            case "h1" | "h2" | "h3" | "h4" | "h5" | "h6":  # the file's own outline is its questions
                self._end_block("", "**")
            case "th" | "td":
                self.rows[-1].append(_as_line(self.open.pop()).replace("|", "\\|"))
                self.open = [""]
            case "table":
                self._end_table()
            case "blockquote":
                self.prefix = ""

    def _emphasise(self, mark: str) -> None:
        """Blanks go outside: with them inside, the marks would be text, or the bullet of a list."""
        inner = self.open.pop()
        core = inner.strip()
        self.open[-1] += inner.replace(core, f"{mark}{core}{mark}") if core else inner

    def _end_code(self) -> None:
        self.raw = False
        code = self.open.pop()
        fence = "`" * (_longest_run(code) + 1)
        blank = " " if code[:1] in ("", "`") or code[-1:] == "`" else ""
        apart = " " if self.open[-1].endswith("`") else ""
        self.open[-1] += f"{apart}{fence}{blank}{code}{blank}{fence}"

    def _end_block_of_code(self) -> None:
        self.raw = False
        code = self.open.pop().removeprefix("\n")
        fence = "`" * max(3, _longest_run(code) + 1)
        self.blocks.append(f"{fence}\n{code}\n{fence}")

    def _end_table(self) -> None:
        """With as many columns as its longest row has: readers leave out cells for which there is no head."""
        columns = max(map(len, self.rows))
        rows = [f"| {' | '.join(cells + [''] * (columns - len(cells)))} |" for cells in self.rows]
        if columns:
            self.blocks.append("\n".join([rows[0], "|---" * columns + "|", *rows[1:]]))

    def _end_block(self, prefix: str, mark: str = "") -> None:
        line = _as_line(self.open.pop())
        self.open = [""]
        if line:
            self.blocks.append(f"{prefix}{mark}{line}{mark}")


def _longest_run(code: str) -> int:
    return max(map(len, re.findall("`+", code)), default=0)
