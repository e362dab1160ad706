"""EPUB books: their chapters, in reading order, through the HTML reader."""

import posixpath
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from indexer.parsers.archive import Archive
from indexer.parsers.base import Limits
from indexer.parsers.detect import EPUB
from indexer.parsers.html import decode_html, read
from indexer.parsers.markdown import Draft, heading, squeeze
from ragplat.errors import CorruptDocument, EncryptedDocument
from ragplat.signature import signature
from ragplat.types import Parsed

_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"


class Epub:
    """Electronic books. A chapter without a heading of its own gets its title as one."""

    name = "epub"
    media_types = frozenset({EPUB})

    def signature(self) -> str:
        return signature("parser", name=self.name, v=1)

    def parse(self, path: Path, name: str, media_type: str, limits: Limits) -> Parsed:
        """See ``Parser.parse``. Raises EncryptedDocument for books under rights management."""
        with Archive(path, limits) as archive:
            if "META-INF/rights.xml" in archive:
                raise EncryptedDocument("The book is protected by rights management (DRM) and cannot be read.")
            package, folder = _package(archive)
            draft = Draft(limits)
            tables, missing = 0, []
            for chapter in _spine(package, folder):
                if chapter not in archive:
                    missing.append(chapter)
                    continue
                tables += _add(draft, archive.read(chapter))
        said = {field: squeeze(package.findtext(f".//{_DC}{field}") or "") for field in ("title", "creator", "date")}
        return Parsed(
            text=draft.text,
            pages=(),
            markup="markdown",
            title=said.pop("title"),
            tables=tables,
            warnings=tuple(f'The chapter "{chapter}" is listed but not in the file.' for chapter in missing),
            metadata={field: value for field, value in said.items() if value},
        )


def _add(draft: Draft, source: bytes) -> int:
    """Append a chapter; the number of its tables."""
    page = read(decode_html(source)[0])
    if page.blocks and page.title and not any(block.startswith("#") for block in page.blocks):
        draft.add(heading(1, page.title))
    draft.extend(page.blocks)
    return page.tables


def _package(archive: Archive) -> tuple[Element, str]:
    """The package document and the folder its paths start from."""
    root = archive.xml("META-INF/container.xml").find(f".//{_CONTAINER}rootfile")
    place = root.get("full-path", "") if root is not None else ""
    if not place:
        raise CorruptDocument("The book does not say where its contents are listed (META-INF/container.xml).")
    return archive.xml(place), posixpath.dirname(place)


def _spine(package: Element, folder: str) -> list[str]:
    """Paths of the chapters in reading order."""
    places = {item.get("id"): item.get("href", "") for item in package.iter(_OPF + "item")}
    order = [places.get(item.get("idref"), "") for item in package.iter(_OPF + "itemref")]
    return [posixpath.normpath(posixpath.join(folder, unquote(place))) for place in order if place]
