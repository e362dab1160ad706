"""The errors people see.

RagplatError
├── BadInput            400  what was asked for makes no sense; the message says what would
│   ├── NotFound        404  no such corpus, document, recipe...
│   ├── TooLarge        413  over a limit; the message names the limit and its setting
│   ├── Refused         403  not allowed for this person
│   └── TooMany         429  asked too often; says in how many seconds to try again
├── BadSetting          500  a setting is wrong; the message names the variable and the allowed values
├── DocumentError       422  this document cannot be indexed; permanent, other documents are not touched
│   ├── UnsupportedFormat    no parser for this kind of file
│   ├── EncryptedDocument    needs a password
│   ├── CorruptDocument      the file is broken
│   ├── LimitExceeded        over a parsing limit (time, memory, pages, characters)
│   └── EmptyDocument        parsed, but holds no text; the document ends as `empty`
└── Unavailable         503  something we need does not answer; passing, so work is retried
    ├── DatabaseUnavailable
    ├── EmbedderUnavailable
    └── GeneratorUnavailable

``permanent`` is read by the worker: a permanent error stops a document with its reason, another is retried.
"""


class RagplatError(Exception):
    """Something went wrong in Ragplat."""

    status = 500
    permanent = True

    def __init__(self, message: str = ""):
        super().__init__(message or (self.__doc__ or "").strip())

    @property
    def message(self) -> str:
        return str(self)


class BadInput(RagplatError):
    """This input makes no sense here."""

    status = 400


class NotFound(BadInput):
    """There is no such thing, or you may not see it."""

    status = 404


class TooLarge(BadInput):
    """This is larger than the limit."""

    status = 413


class Refused(BadInput):
    """You are not allowed to do this."""

    status = 403


class TooMany(BadInput):
    """This was asked too often; try again in ``seconds``."""

    status = 429

    def __init__(self, message: str = "", seconds: int = 1):
        super().__init__(message)
        self.seconds = seconds


class BadSetting(RagplatError):
    """A setting is wrong."""


class DocumentError(RagplatError):
    """This document cannot be indexed."""

    status = 422


class UnsupportedFormat(DocumentError):
    """No parser reads this kind of file."""


class EncryptedDocument(DocumentError):
    """The file is protected by a password. Remove the password and upload it again."""


class CorruptDocument(DocumentError):
    """The file is damaged and cannot be read. Open it in its own program, save it again and upload that."""


class LimitExceeded(DocumentError):
    """The file is over a parsing limit."""


class EmptyDocument(DocumentError):
    """The file holds no text."""


class Unavailable(RagplatError):
    """Something Ragplat needs does not answer."""

    status = 503
    permanent = False


class DatabaseUnavailable(Unavailable):
    """The database does not answer. See `manage.py doctor`."""


class EmbedderUnavailable(Unavailable):
    """The embedding service does not answer. `make up` starts it; `manage.py doctor` says what is wrong."""


class GeneratorUnavailable(Unavailable):
    """The language model server does not answer."""
