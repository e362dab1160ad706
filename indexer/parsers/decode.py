"""Bytes to text: which encoding a text file is in."""

import codecs
import re

from indexer.parsers.markdown import clean

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE = 64 * 1024
_ODD_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_HAN = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff01-\uff5e]")


def is_text(data: bytes) -> bool:
    """Whether ``data``, the beginning of a file, is text in any encoding: at most 1 odd control byte in 200."""
    if data.startswith(tuple(mark for mark, _ in _BOMS)) or _wide(data):
        return True
    return b"\x00" not in data and len(_ODD_CONTROL.findall(data)) * 200 <= len(data)


def decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    """The text of a file and warnings about how it was read.

    Tried in order: byte order mark, UTF-8, UTF-16 without a mark, GB18030 (only where the result is mostly Chinese),
    Latin-1. The last two are guesses, and Latin-1 fits any bytes, so it is named in a warning.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _marked(data[len(mark) :], encoding)
    try:
        return clean(data.decode("utf-8")), ()
    except UnicodeDecodeError:
        pass
    if encoding := _wide(data):
        return _marked(data, encoding)
    chinese = _gb18030(data)
    if chinese is not None:
        return clean(chinese), ("The file says nothing about its encoding; it was read as GB18030 (Chinese).",)
    warning = "The file says nothing about its encoding and is not valid UTF-8; it was read as Latin-1."
    return clean(data.decode("cp1252", errors="replace")), (warning,)


def _marked(data: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    text = data.decode(encoding, errors="replace")
    broken = text.count("\N{REPLACEMENT CHARACTER}")
    return clean(text), (f"{broken} characters are not valid {encoding.upper()} and were replaced.",) if broken else ()


def _wide(data: bytes) -> str:
    """ "utf-16-le" or "utf-16-be" when ``data`` looks like UTF-16 without a byte order mark, else ""."""
    sample = data[: _SAMPLE & ~1]
    half = len(sample) // 2
    if half < 2:
        return ""
    zeros = {"utf-16-be": sample[0::2].count(0), "utf-16-le": sample[1::2].count(0)}
    encoding = max(zeros, key=zeros.__getitem__)
    clean_side = min(zeros.values()) == 0
    return encoding if clean_side and zeros[encoding] >= 0.4 * half else ""


def _gb18030(data: bytes) -> str | None:
    """GB18030 decodes much Western text into rare signs, so it must give common Chinese characters to be believed."""
    try:
        text = data.decode("gb18030")
    except UnicodeDecodeError:
        return None
    foreign = [char for char in text[:_SAMPLE] if ord(char) > 127]
    common = sum(bool(_HAN.match(char)) for char in foreign)
    return text if foreign and common >= 0.9 * len(foreign) and _runs_of_han(text) else None


def _runs_of_han(text: str) -> bool:
    """Chinese comes in runs; an accented letter taken for Chinese swallows one neighbour and stands alone."""
    alone = len(re.findall(r"(?<![^\x00-\x7f])[^\x00-\x7f](?![^\x00-\x7f])", text[:_SAMPLE]))
    return alone * 3 <= len(_HAN.findall(text[:_SAMPLE]))
