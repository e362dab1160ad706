"""Where the tokens of a document begin, so that any stretch of it can be counted without tokenising it again."""

from bisect import bisect_left

from indexer.chunkers.base import Tokenizer

BLOCK = 32_768  # characters tokenised at once: one call on megabytes takes gigabytes of memory
MAX_GAP = 32  # a stretch of characters without a token start (base64, runs of spaces) longer than this...
GAP_STEP = 8  # ...counts as one token per so many characters, or one chunk could hold a megabyte


class TokenIndex:
    """The token starts of a text.

    Counts are those of the whole text. A stretch cut out at white space has the same tokens when tokenised alone; one
    cut inside a word may not, so whoever needs the exact number counts again.
    """

    def __init__(self, text: str, tokenizer: Tokenizer):
        self._text = text
        self._starts: list[int] = []
        begin = 0
        while begin < len(text):
            end = self._block_end(begin)
            self._add(begin, tokenizer.offsets(text[begin:end]))
            begin = end
        self._fill(len(text))

    def count(self, start: int, end: int) -> int:
        """How many tokens begin in [start, end)."""
        return bisect_left(self._starts, end) - bisect_left(self._starts, start)

    def reach(self, start: int, tokens: int) -> int:
        """The furthest end such that [start, end) holds at most ``tokens`` tokens; always beyond ``start``."""
        first = bisect_left(self._starts, start) + tokens
        end = self._starts[first] if first < len(self._starts) else len(self._text)
        return max(end, start + 1)

    def _block_end(self, begin: int) -> int:
        """The end of a block at a line break, else at a space, else anywhere."""
        limit = begin + BLOCK
        if limit >= len(self._text):
            return len(self._text)
        for char in "\n ":
            found = self._text.rfind(char, begin + BLOCK // 2, limit)
            if found >= 0:
                return found + 1
        return limit

    def _add(self, base: int, offsets: list[tuple[int, int]]) -> None:
        for start, _ in offsets:
            self._fill(base + start)
            self._starts.append(base + start)

    def _fill(self, until: int) -> None:
        last = self._starts[-1] if self._starts else 0
        if until - last > MAX_GAP:
            self._starts.extend(range(last + GAP_STEP, until, GAP_STEP))
