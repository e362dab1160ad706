"""What a person types into a search field, taken apart.

    rope "night shift" -summer folder:guides type:pdf after:2024-05 meta.author:Ada

Quotes ask for these words in a row, a minus in front of a word or quotes leaves out what has them, ``field:value``
restricts the documents. Only known fields are fields: ``http://x``, ``std::vector`` and ``12:30`` are words. The same
field twice means either value; ``meta.KEY`` must hold each time. What has the form of no operator is plain text.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import date

from indexer.parsers import detect as kinds
from ragplat.errors import BadInput
from ragplat.types import Filters

TYPES = {  # what people call a kind of file -> media type, or the beginning of several
    "pdf": kinds.PDF, "docx": kinds.DOCX, "word": kinds.DOCX, "pptx": kinds.PPTX, "powerpoint": kinds.PPTX,
    "xlsx": kinds.XLSX, "excel": kinds.XLSX, "epub": kinds.EPUB, "html": kinds.HTML, "htm": kinds.HTML,
    "md": kinds.MARKDOWN, "markdown": kinds.MARKDOWN, "txt": kinds.TEXT, "text": kinds.TEXT, "csv": kinds.CSV,
    "json": kinds.JSON, "eml": kinds.EMAIL, "email": kinds.EMAIL, "mail": kinds.EMAIL, "png": kinds.PNG,
    "jpg": kinds.JPEG, "jpeg": kinds.JPEG, "tif": kinds.TIFF, "tiff": kinds.TIFF, "image": "image/*",
}  # fmt: skip
_LISTS = {
    "name": "names", "folder": "folders", "tag": "tags", "type": "media_types",
    "language": "languages", "lang": "languages",
}  # fmt: skip

# A straight quote opens only in front of a word and not right after one (5" pipe), but Chinese has no spaces.
_QUOTED = (
    r'(?:(?<![^\W\u2e80-\uffdc])"(?=\S)[^"]+"|\uff02[^\uff02]+\uff02|“[^“”]+”|„[^„“”]+[“”]|«[^«»]+»'
    r"|「[^「」]+」|『[^『』]+』)"
)
_SYNTAX = re.compile(
    rf"""(?<!\S)(?P<minus>-?)(?P<field>{"|".join(_LISTS)}|after|before|meta\.[\w.-]+)[:\uff1a]
                (?P<value>{_QUOTED}|[^\s:\uff1a]\S*)\s*
    |    (?<!\S)-(?P<excluded>{_QUOTED}|[^\W\d_]\S*)\s*
    |    (?P<phrase>{_QUOTED})""",
    re.VERBOSE | re.IGNORECASE,
)
_OPENING, _CLOSING = '"\uff02“„«「『', '"\uff02”“»」』'
_AS_TEXT = "To search for these words themselves, put them in quotes."
_MEDIA_TYPE = re.compile(r"[\w.+-]+/(?:[\w.+-]+|\*)", re.ASCII)
_DATE = re.compile(r"([0-9]{4})(?:-([0-9]{1,2}))?(?:-([0-9]{1,2}))?")


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query taken apart. One that is only a text asks for its words."""

    text: str  # without operators; the words of phrases are part of it
    words: tuple[str, ...] = ()  # those of `text` outside phrases, as typed
    phrases: tuple[str, ...] = ()  # what must occur word for word
    excluded: tuple[str, ...] = ()  # words and phrases that must not occur
    filters: Filters = field(default_factory=Filters)


def parse(text: str) -> ParsedQuery:
    """Take apart what a person typed.

    Raises BadInput for a known field with a value that makes no sense, and for a query that only excludes or filters:
    there is nothing to rank by.
    """
    pieces: list[tuple[str, bool]] = []  # of what is searched for: text, and whether it is a phrase
    excluded: list[str] = []
    filters = Filters()
    end = 0
    for found in _SYNTAX.finditer(text):
        pieces.append((text[end : found.start()], False))
        end = found.end()
        if found["field"]:
            filters = _restricted(filters, found)
        elif not any(character.isalnum() for character in found.group()):
            pieces.append((found.group(), False))
        elif found["phrase"]:
            pieces.append((_content(found["phrase"]), True))
        else:
            excluded.append(_content(found["excluded"]))
    pieces.append((text[end:], False))
    rest = "".join(piece for piece, _ in pieces).strip()
    if not rest and (excluded or filters != Filters()):
        raise BadInput(
            "The query only says what to leave out or where to look. Add what you are looking for, "
            'as in: harbour -"night shift" folder:guides'
        )
    words = tuple(word for piece, phrase in pieces if not phrase for word in piece.split())
    return ParsedQuery(rest, words, tuple(piece for piece, phrase in pieces if phrase), tuple(excluded), filters)


def _content(value: str) -> str:
    """A word without the punctuation after it, or what stands between quotes."""
    return value[1:-1] if value[0] in _OPENING else value.rstrip(",;:.?!)")


def _restricted(filters: Filters, found: re.Match[str]) -> Filters:
    """``filters`` and the one of this match."""
    name, written = found["field"].lower(), found.group().strip()
    if found["minus"]:
        raise BadInput(f'"{written}" would leave documents out by a field, which there is no way to do. {_AS_TEXT}')
    if found["value"][0] in _OPENING and found["value"][-1] not in _CLOSING:
        raise BadInput(f"The quote in {written} is not closed.")
    value = _content(found["value"]).strip()
    if not value.strip("/"):
        raise BadInput(f'"{written}" has no value. {_AS_TEXT}')
    if name.startswith("meta."):
        key = found["field"].partition(".")[2]
        return replace(filters, metadata=(*filters.metadata, (key, value)))
    if name in ("after", "before"):
        return _dated(filters, name, value)
    read = {"type": _media_type, "language": _language, "lang": _language}.get(name, str)
    kept = getattr(filters, _LISTS[name])
    return replace(filters, **{_LISTS[name]: tuple(dict.fromkeys([*kept, read(value)]))})


def _dated(filters: Filters, name: str, value: str) -> Filters:
    if getattr(filters, name) is not None:
        raise BadInput(f'"{name}:" is given twice. Give one date.')
    found = _DATE.fullmatch(value)
    try:
        day = date(*(int(part or 1) for part in found.groups()))
    except (AttributeError, ValueError):
        raise BadInput(
            f'"{name}:{value}" is no date. Write {name}:2024, {name}:2024-05 or {name}:2024-05-31. {_AS_TEXT}'
        ) from None
    filters = replace(filters, **{name: day})
    if filters.after and filters.before and filters.after >= filters.before:
        raise BadInput(f"There is no day from {filters.after} on and before {filters.before}.")
    return filters


def _media_type(value: str) -> str:
    known = TYPES.get(value.lower())
    if known is None and not _MEDIA_TYPE.fullmatch(value):
        raise BadInput(
            f'There is no type "{value}". Choose one of {", ".join(sorted(TYPES))}, '
            f"or give a media type such as text/csv or image/*. {_AS_TEXT}"
        )
    return known or value.lower()


def _language(value: str) -> str:
    if not re.fullmatch("[A-Za-z]{2}", value):
        raise BadInput(f'There is no language "{value}". Give a code of two letters, such as en or zh. {_AS_TEXT}')
    return value.lower()
