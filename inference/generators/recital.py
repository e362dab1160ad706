"""Whether an answer tells the rules it was written by: they are for the model, not for readers."""

import re
from collections.abc import Mapping, Sequence
from html import unescape

RUN = 10  # words of the rules in a row that no answer has by chance; of Chinese, twice as many characters
_REACH = 400  # characters before new text in which such a run may have begun
_HAN = r"\u3400-\u9fff"
_UNIT = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+")


class Rules:
    """The rules of a prompt, its first message. What its other messages say, too, may be said: documents hold it."""

    def __init__(self, messages: Sequence[Mapping[str, str]]):
        rules, *others = (message["content"] for message in messages)
        self._size = RUN * (2 if re.search(f"[{_HAN}]", rules) else 1)
        self._runs, self._others = _runs(rules, self._size), others

    def told(self, text: str, fresh: int) -> bool:
        """Whether the last ``fresh`` characters of ``text``, an answer, go on telling them."""
        told = self._runs & _runs(text[-fresh - _REACH :], self._size)
        # Looked at only then: sources are long.
        return bool(told.difference(*(_runs(other, self._size) for other in self._others))) if told else False


def _runs(text: str, size: int) -> set[tuple[str, ...]]:
    units = _UNIT.findall(unescape(text).casefold())  # prompts write "<source" of documents as "&lt;source"
    return {tuple(units[i : i + size]) for i in range(len(units) - size + 1)}
