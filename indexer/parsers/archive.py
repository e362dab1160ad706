"""Reading the ZIP containers of office files and e-books without being blown up by them."""

import zipfile
import zlib
from pathlib import Path
from xml.etree import ElementTree

from indexer.parsers.base import MIB, Limits
from indexer.parsers.markdown import squeeze
from ragplat.errors import CorruptDocument, EncryptedDocument, LimitExceeded

_MEMBERS = 20_000
_CORE = {
    "title": "{http://purl.org/dc/elements/1.1/}title",
    "author": "{http://purl.org/dc/elements/1.1/}creator",
    "created": "{http://purl.org/dc/terms/}created",
    "modified": "{http://purl.org/dc/terms/}modified",
}


class Archive:
    """A ZIP file, opened for reading its members by path. A context manager.

    Raises CorruptDocument when it is no ZIP file, LimitExceeded when unpacking it would take more than
    ``limits.unpacked_bytes`` or it has an absurd number of members (a "zip bomb").
    """

    def __init__(self, path: Path, limits: Limits):
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise CorruptDocument(f"The file is a damaged ZIP container ({error}). Save it again.") from error
        members = self._zip.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > limits.unpacked_bytes or len(members) > _MEMBERS:
            self._zip.close()
            raise LimitExceeded(
                f"Unpacked, the file would be {unpacked / MIB:,.0f} MiB in {len(members):,} parts; the limits are "
                f"{limits.unpacked_bytes / MIB:,.0f} MiB and {_MEMBERS:,} parts."
            )
        self._names = {member.filename for member in members}

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names(self) -> list[str]:
        return sorted(self._names)

    def read(self, name: str) -> bytes:
        """The bytes of one member, never more than it declares. Raises CorruptDocument, EncryptedDocument."""
        try:
            with self._zip.open(name) as member:
                return member.read(self._zip.getinfo(name).file_size)
        except KeyError as error:
            raise CorruptDocument(f'The file lacks its part "{name}". Save it again.') from error
        except RuntimeError as error:  # zipfile's way of saying that a member is encrypted
            raise EncryptedDocument() from error
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
            raise CorruptDocument(f'The part "{name}" of the file is damaged ({error}). Save it again.') from error

    def xml(self, name: str) -> ElementTree.Element:
        """The root element of an XML member. Raises CorruptDocument."""
        try:
            return ElementTree.fromstring(self.read(name))
        except (ElementTree.ParseError, ValueError, LookupError) as error:
            raise CorruptDocument(f'The part "{name}" of the file is not valid XML ({error}).') from error


def core_properties(archive: Archive) -> dict[str, str]:
    """Title, author, created and modified of an Office file, where given."""
    if "docProps/core.xml" not in archive:
        return {}
    root = archive.xml("docProps/core.xml")
    found = {name: squeeze(root.findtext(tag) or "") for name, tag in _CORE.items()}
    return {name: value for name, value in found.items() if value}
