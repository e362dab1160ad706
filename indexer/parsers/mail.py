"""E-mail messages: who, when, about what, and the text."""

import email
import email.policy
from email.message import EmailMessage, Message
from pathlib import Path

from indexer.parsers.base import Limits
from indexer.parsers.decode import decode
from indexer.parsers.detect import EMAIL
from indexer.parsers.html import decode_html, read
from indexer.parsers.markdown import Draft, clean, heading, paragraph, squeeze
from ragplat.errors import CorruptDocument
from ragplat.signature import signature
from ragplat.types import Parsed

_HEADERS = ("From", "To", "Cc", "Date")


class Mail:
    """E-mail messages as files (.eml)."""

    name = "mail"
    media_types = frozenset({EMAIL})

    def signature(self) -> str:
        return signature("parser", name=self.name, v=1)

    def parse(self, path: Path, name: str, media_type: str, limits: Limits) -> Parsed:
        """See ``Parser.parse``. Attachments are named in a warning, not read."""
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        if not isinstance(message, EmailMessage) or not message.keys():
            raise CorruptDocument("The file holds no e-mail: it does not begin with headers such as From and Subject.")
        said = {header.lower(): _header(message, header) for header in ("Subject", *_HEADERS)}
        subject = said.pop("subject")
        draft = Draft(limits)
        if subject:
            draft.add(heading(1, subject))
        draft.add("\n".join(f"{header}: {said[header.lower()]}" for header in _HEADERS if said[header.lower()]))
        blocks, warnings = _body(message)
        draft.extend(blocks)
        attached = [squeeze(part.get_filename() or part.get_content_type()) for part in message.iter_attachments()]
        if attached:
            warnings += (f"Attachments were not read: {', '.join(attached)}. Upload them on their own.",)
        return Parsed(
            text=draft.text,
            pages=(),
            markup="markdown",
            title=clean(subject),
            warnings=warnings,
            metadata={field: clean(value) for field, value in said.items() if value},
        )


def _header(message: Message, name: str) -> str:
    try:
        return squeeze(str(message.get(name, "")))
    except (ValueError, LookupError, AttributeError, IndexError):  # the library's parser trips over some broken headers
        raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")
        return squeeze(str(raw))


def _body(message: EmailMessage) -> tuple[list[str], tuple[str, ...]]:
    """Blocks of the text part, or of the HTML part where there is no text."""
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        return [], ("The message has no text.",)
    raw = part.get_payload(decode=True) or b""
    charset = part.get_content_charset()
    warnings: tuple[str, ...] = ()
    try:
        text = raw.decode(charset or "utf-8")
    except (LookupError, UnicodeDecodeError):
        text, warnings = decode(raw)
    if part.get_content_type() == "text/html":
        return read(text if charset else decode_html(raw)[0]).blocks, warnings
    return [paragraph(clean(text))], warnings
