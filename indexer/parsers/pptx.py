"""PowerPoint presentations, read from their XML with the standard library.

The general reader is not used here: it leaves out speaker notes, splits table cells at "|" and makes headings of
paragraphs that begin with "#".
"""

import re
from pathlib import Path
from xml.etree.ElementTree import Element

from indexer.parsers.archive import Archive, core_properties
from indexer.parsers.base import Limits, check_pages
from indexer.parsers.detect import PPTX
from indexer.parsers.markdown import Draft, heading, paragraph, table
from ragplat.signature import signature
from ragplat.types import Parsed

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_P = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_R = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_LISTS = ("body", "obj", "")  # placeholders whose paragraphs are bullet points; "" is the default, an object
_FURNITURE = ("dt", "ftr", "sldNum", "hdr", "sldImg")  # date, footer, number: the same on every slide


class Pptx:
    """PowerPoint presentations: every slide, hidden ones too, is a page."""

    name = "pptx"
    media_types = frozenset({PPTX})

    def signature(self) -> str:
        return signature("parser", name=self.name, v=1)

    def parse(self, path: Path, name: str, media_type: str, limits: Limits) -> Parsed:
        """See ``Parser.parse``. A slide gives its title as heading, its texts, tables and speaker notes."""
        draft = Draft(limits)
        tables, pictures, title = 0, 0, ""
        with Archive(path, limits) as archive:
            slides = _slides(archive)
            check_pages(len(slides), limits, "slides")
            for number, part in enumerate(slides, start=1):
                draft.page(number)
                slide = _Slide(archive.xml(part))
                draft.extend(slide.blocks)
                notes = _notes(archive, part)
                if notes:
                    draft.add(paragraph(f"Notes: {notes}"))
                tables += slide.tables
                pictures += slide.pictures
                title = title or slide.title
            properties = core_properties(archive)
        given = properties.pop("title", "")
        return Parsed(
            text=draft.text,
            pages=draft.pages,
            markup="markdown",
            title=title if given.lower() in ("", "powerpoint presentation") else given,
            blank_pages=draft.blank_pages,
            tables=tables,
            warnings=(f"Left out: {pictures} pictures, charts or diagrams.",) if pictures else (),
            metadata=properties,
        )


def _slides(archive: Archive) -> list[str]:
    """Parts of the slides in the order they are shown."""
    targets = _relations(archive, "ppt/presentation.xml")
    listed = archive.xml("ppt/presentation.xml").iter(_P + "sldId")
    parts = ["ppt/" + targets.get(slide.get(_R + "id", ""), "").removeprefix("/ppt/") for slide in listed]
    return [part for part in parts if part in archive]


def _relations(archive: Archive, part: str) -> dict[str, str]:
    """Targets of a part's relations by their id."""
    folder, _, file = part.rpartition("/")
    relations = f"{folder}/_rels/{file}.rels"
    if relations not in archive:
        return {}
    return {relation.get("Id", ""): relation.get("Target", "") for relation in archive.xml(relations)}


def _notes(archive: Archive, slide: str) -> str:
    for target in _relations(archive, slide).values():
        part = "ppt/notesSlides/" + target.rpartition("/")[2]
        if "notesSlides/" in target and part in archive:
            shapes = archive.xml(part).iter(_P + "sp")
            return "\n".join(line for shape in shapes if _kind(shape) == "body" for line in _paragraphs(shape))
    return ""


class _Slide:
    """What is on a slide."""

    def __init__(self, root: Element):
        self.blocks: list[str] = []
        self.tables = self.pictures = 0
        self.title = ""
        shapes = root.find(f"{_P}cSld/{_P}spTree")
        self._read(shapes if shapes is not None else root)

    def _read(self, parent: Element) -> None:
        for shape in parent:
            if shape.tag == _P + "sp":
                self._add_text(shape)
            elif shape.tag == _P + "grpSp":
                self._read(shape)
            elif shape.tag == _P + "graphicFrame":
                self._add_table(shape)
            elif shape.tag == _P + "pic":
                self.pictures += 1

    def _add_text(self, shape: Element) -> None:
        kind = _kind(shape)
        lines = _paragraphs(shape)
        if not lines or kind in _FURNITURE:
            return
        if kind in ("title", "ctrTitle"):
            text = " ".join(lines)
            self.title = self.title or text
            self.blocks.insert(0, heading(2, text))
        elif kind in _LISTS and len(lines) > 1:
            self.blocks.append("\n".join(f"{_indent(line)}- {line.strip()}" for line in lines))
        else:
            self.blocks += [paragraph(line) for line in lines]

    def _add_table(self, frame: Element) -> None:
        rows = [["\n".join(_paragraphs(cell)) for cell in row.findall(_A + "tc")] for row in frame.iter(_A + "tr")]
        if any(cell for row in rows for cell in row):
            self.tables += 1
            self.blocks.append(table(rows))
        elif not rows:
            self.pictures += 1  # a chart or diagram


def _kind(shape: Element) -> str | None:
    """Type of the placeholder a shape fills ("" where it does not say), None for a free text box."""
    placeholder = shape.find(f".//{_P}nvPr/{_P}ph")
    return None if placeholder is None else placeholder.get("type", "")


def _paragraphs(shape: Element) -> list[str]:
    """The lines of text in a shape, those of deeper levels indented by two blanks a level."""
    lines = []
    for element in shape.iter(_A + "p"):
        pieces = [node for node in element.iter() if node.tag in (_A + "t", _A + "br")]
        text = "".join("\n" if piece.tag == _A + "br" else piece.text or "" for piece in pieces)
        properties = element.find(_A + "pPr")
        level = properties.get("lvl", "0") if properties is not None else "0"
        depth = int(level) if level.isdecimal() else 0
        lines += ["  " * depth + line for line in re.split(r"[\n\v]", text) if line.strip()]
    return lines


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" "))]
