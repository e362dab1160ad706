"""The context line of a chunk: what a reader who sees only the chunk needs to know."""

from functools import lru_cache

from indexer.chunkers.base import Tokenizer

_SIGNS = "#*=- \t\n"
_CUT = "…"


class Contexts:
    """Makes context lines for one document. A line never has more than ``most`` tokens."""

    def __init__(self, title: str, tokenizer: Tokenizer, most: int):
        self.title = " ".join(title.split())
        self.tokenizer = tokenizer
        self.most = most
        self.line = lru_cache(maxsize=1024)(self._line)
        self.count = lru_cache(maxsize=1024)(self._count)

    def _count(self, text: str) -> int:
        return len(self.tokenizer.offsets(text))

    def names(self, path: tuple[str, ...], text: str) -> tuple[str, ...]:
        """Title and headings for a chunk's ``text``, without the title if the text begins with it, none twice."""
        start = text[: len(self.title) + 40].strip(_SIGNS)
        titled = not self.title or _same(" ".join(start.split())[: len(self.title)], self.title)
        names = [*([] if titled else [self.title]), *path]
        return tuple(name for place, name in enumerate(names) if place == 0 or not _same(name, names[place - 1]))

    def _line(self, names: tuple[str, ...]) -> str:
        """Names joined by " > ". Where they are too long, the title and the headings nearest to the chunk stay."""
        for dropped in range(max(len(names) - 1, 1)):
            kept = names if not dropped else (names[0], _CUT, *names[dropped + 1 :])
            line = " > ".join(kept)
            if self.count(line) <= self.most:
                return line
        if len(names) == 1:
            return self._shortened(names[0], self.most)
        signs = self.count(f" > {_CUT} > ")
        half = (self.most - signs) // 2
        return " > ".join(self._shortened(name, half) for name in (names[0], names[-1])) if half > 1 else ""

    def table_header(self, header: str, room: int) -> str:
        """As many of a table's column names as fit ``room`` tokens."""
        offsets = self.tokenizer.offsets(header)
        if len(offsets) <= room:
            return header
        if room < 3:
            return ""
        end = header.rfind("|", 0, offsets[room - 2][0] + 1)
        return f"{header[:end].rstrip()} | {_CUT}" if end > 1 else ""

    def _shortened(self, name: str, tokens: int) -> str:
        offsets = self.tokenizer.offsets(name)
        if len(offsets) <= tokens:
            return name
        return name[: offsets[tokens - 1][0]].rstrip() + _CUT if tokens > 1 else ""


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()
