"""Word documents, read from their XML with the standard library.

The general reader is not used here: it drops every "&", "<", ">" and tab of a DOCX file ("R&D" becomes "RD").
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from indexer.parsers.archive import Archive, core_properties
from indexer.parsers.base import Limits
from indexer.parsers.detect import DOCX
from indexer.parsers.markdown import Draft, heading, paragraph, squeeze, table
from ragplat.signature import signature
from ragplat.types import Parsed

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_SIGNS = {W + "tab": "\t", W + "br": "\n", W + "cr": "\n", W + "noBreakHyphen": "-"}
_LEFT_OUT = {
    W + "drawing": "pictures or drawings",
    W + "pict": "pictures or drawings",
    W + "object": "embedded objects",
}


class Docx:
    """Word documents. They have no pages until they are printed, so they get none here."""

    name = "docx"
    media_types = frozenset({DOCX})

    def signature(self) -> str:
        return signature("parser", name=self.name, v=1)

    def parse(self, path: Path, name: str, media_type: str, limits: Limits) -> Parsed:
        """See ``Parser.parse``. Deleted (tracked) text, comments, page headers and footers are left out."""
        with Archive(path, limits) as archive:
            reader = _Reader(archive)
            draft = Draft(limits)
            body = archive.xml("word/document.xml").find(W + "body")
            draft.extend(reader.blocks(body) if body is not None else ())
            draft.extend(reader.notes())
            properties = core_properties(archive)
            warnings = reader.warnings()
        return Parsed(
            text=draft.text,
            pages=(),
            markup="markdown",
            title=properties.pop("title", "") or reader.title,
            tables=reader.tables,
            warnings=warnings,
            metadata=properties,
        )


class _Reader:
    def __init__(self, archive: Archive):
        self._archive = archive
        self._levels, self._style_lists = _styles(archive)  # style id > heading level; > (numId, ilvl)
        self._bullets = _numbering(archive)  # (numId, ilvl) > True for bullets, False for numbers
        self._counts: Counter[tuple[str, int]] = Counter()
        self._left_out: Counter[str] = Counter()
        self._notes: list[tuple[str, str]] = []  # part and id, in order of their marks in the text
        self.title = ""
        self.tables = 0

    def blocks(self, parent: Element) -> list[str]:
        """Markdown blocks of the paragraphs and tables inside ``parent``."""
        found: list[str] = []
        in_list = False
        for child in parent:
            if child.tag == W + "p":
                text, is_item = self._paragraph(child)
                if is_item and in_list and text:
                    found[-1] += "\n" + text
                elif text:
                    found.append(text)
                in_list = is_item if text else in_list
                boxes = [box for node in child.iter(W + "txbxContent") for box in self.blocks(node)]
                found += dict.fromkeys(boxes)  # a text box is stored twice: for new and for old programs
            elif child.tag == W + "tbl":
                found += self._table(child)
                in_list = False
            elif child.tag not in (W + "sectPr", W + "del", W + "moveFrom"):
                found += self.blocks(child)  # content controls, tracked insertions, custom XML
        return found

    def _paragraph(self, element: Element) -> tuple[str, bool]:
        """The paragraph as Markdown, and whether it is a list item."""
        text = "".join(self._runs(element)).strip("\n ")
        if not text.strip():
            return "", False
        style = _value(element, f"{W}pPr/{W}pStyle")
        level = self._levels.get(style)
        outline = _value(element, f"{W}pPr/{W}outlineLvl")
        if level is None and outline.isdecimal() and int(outline) < 6:
            level = int(outline) + 1
        if level is not None and len(text) < 300:
            self.title = self.title or squeeze(text)
            return heading(max(level, 1), text), False
        number = _value(element, f"{W}pPr/{W}numPr/{W}numId")
        depth = _value(element, f"{W}pPr/{W}numPr/{W}ilvl")
        inherited = self._style_lists.get(style, ("", 0))
        item = (number or inherited[0], int(depth) if depth.isdecimal() else inherited[1])
        if item in self._bullets:
            return self._item(item, text), True
        return paragraph(text), False

    def _item(self, item: tuple[str, int], text: str) -> str:
        number, depth = item
        self._counts[item] += 1
        for deeper in [key for key in self._counts if key[0] == number and key[1] > depth]:
            del self._counts[deeper]
        mark = "  " * depth + ("- " if self._bullets[item] else f"{self._counts[item]}. ")
        return mark + text.replace("\n", "\n" + " " * len(mark))

    def _runs(self, parent: Element) -> list[str]:
        """Pieces of running text, in order, without tracked deletions and fallbacks."""
        found: list[str] = []
        for child in parent:
            if child.tag in (W + "t", _MATH_TEXT):
                found.append(child.text or "")
            elif child.tag in _SIGNS:
                found.append(_SIGNS[child.tag])
            elif child.tag in (W + "footnoteReference", W + "endnoteReference"):
                self._notes.append((child.tag.removeprefix(W).removesuffix("Reference"), child.get(W + "id", "")))
                found.append(f"[^{len(self._notes)}]")
            elif child.tag in _LEFT_OUT:
                if child.find(f".//{W}txbxContent") is None:
                    self._left_out[_LEFT_OUT[child.tag]] += 1
            elif child.tag == W + "commentReference":
                self._left_out["comments"] += 1
            elif child.tag not in (W + "pPr", W + "rPr", W + "del", W + "moveFrom", W + "instrText", _FALLBACK):
                found += self._runs(child)
        return found

    def _table(self, element: Element) -> list[str]:
        rows = [self._row(row) for row in _inside(element, W + "tr")]
        rows = [row for row in rows if any(cell.strip() for cell in row)]
        if not rows:
            return []
        if max(map(len, rows)) == 1:  # a frame around text, or a list
            return [cell for row in rows for cell in row]
        self.tables += 1
        return [table(rows)]

    def _row(self, element: Element) -> list[str]:
        cells: list[str] = []
        for cell in _inside(element, W + "tc"):
            span = _value(cell, f"{W}tcPr/{W}gridSpan")
            cells.append("\n".join(self.blocks(cell)))
            cells += [""] * (min(int(span), 63) - 1 if span.isdecimal() else 0)
        return cells

    def notes(self) -> list[str]:
        """Footnotes and endnotes, in the order of their marks."""
        parts: dict[str, dict[str, Element]] = {}
        found = []
        for index, (kind, id_) in enumerate(list(self._notes), start=1):
            part = f"word/{kind}s.xml"
            if kind not in parts and part in self._archive:
                parts[kind] = {note.get(W + "id", ""): note for note in self._archive.xml(part)}
            note = parts.get(kind, {}).get(id_)
            if note is not None:
                found.append(f"[^{index}]: " + "\n".join(self.blocks(note)))
        return found

    def warnings(self) -> tuple[str, ...]:
        """What the file holds and the text does not."""
        margins = [part for part in self._archive.names() if re.fullmatch(r"word/(header|footer)\d*\.xml", part)]
        lines = [("".join(node.text or "" for node in self._archive.xml(part).iter(W + "t"))) for part in margins]
        texts = {squeeze(line) for line in lines}
        said = [f"Left out: {count} {what}." for what, count in sorted(self._left_out.items())]
        said += [f'Left out, a page header or footer: "{text[:200]}".' for text in sorted(texts) if text]
        return tuple(said)


def _inside(parent: Element, tag: str) -> Iterator[Element]:
    """The rows of a table or cells of a row, those in content controls too, but not those of tables inside."""
    for child in parent:
        if child.tag == tag:
            yield child
        elif child.tag in (W + "sdt", W + "sdtContent", W + "customXml", W + "ins"):
            yield from _inside(child, tag)


def _value(element: Element, path: str) -> str:
    found = element.find(path)
    return "" if found is None else found.get(W + "val", "")


def _styles(archive: Archive) -> tuple[dict[str, int], dict[str, tuple[str, int]]]:
    """Heading level by style id, and list membership by style id, with what styles inherit."""
    levels: dict[str, int] = {}
    lists: dict[str, tuple[str, int]] = {}
    parents: dict[str, str] = {}
    root = archive.xml("word/styles.xml") if "word/styles.xml" in archive else Element("none")
    for style in root.iter(W + "style"):
        id_ = style.get(W + "styleId", "")
        name = _value(style, W + "name").lower()
        outline = _value(style, f"{W}pPr/{W}outlineLvl")
        number = _value(style, f"{W}pPr/{W}numPr/{W}numId")
        parents[id_] = _value(style, W + "basedOn")
        if found := re.fullmatch(r"heading (\d)", name):
            levels[id_] = int(found[1])
        elif name == "title":
            levels[id_] = 1
        elif outline.isdecimal() and int(outline) < 6:
            levels[id_] = int(outline) + 1
        if number:
            depth = _value(style, f"{W}pPr/{W}numPr/{W}ilvl")
            lists[id_] = (number, int(depth) if depth.isdecimal() else 0)
    for id_ in parents:
        parent = parents[id_]
        for _ in range(10):  # styles may, in a broken file, inherit from each other
            if id_ not in levels and parent in levels:
                levels[id_] = levels[parent]
            if id_ not in lists and parent in lists:
                lists[id_] = lists[parent]
            parent = parents.get(parent, "")
    return levels, lists


def _numbering(archive: Archive) -> dict[tuple[str, int], bool]:
    """Whether a list level (numId, ilvl) has bullets (True) or numbers (False)."""
    if "word/numbering.xml" not in archive:
        return {}
    root = archive.xml("word/numbering.xml")
    abstract: dict[str, dict[int, bool]] = {}
    for definition in root.iter(W + "abstractNum"):
        levels = {
            int(level.get(W + "ilvl", "0")): _value(level, W + "numFmt") in ("bullet", "none", "")
            for level in definition.iter(W + "lvl")
            if level.get(W + "ilvl", "0").isdecimal()
        }
        abstract[definition.get(W + "abstractNumId", "")] = levels
    return {
        (number.get(W + "numId", ""), level): bullet
        for number in root.iter(W + "num")
        for level, bullet in abstract.get(_value(number, W + "abstractNumId"), {}).items()
    }
