"""The pages of a PDF or image file: their characters with places, their pictures. The one file that uses pypdfium2."""

import ctypes
import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ragplat.errors import BadInput, CorruptDocument, EncryptedDocument, LimitExceeded

_MAX_PIXELS = 100_000_000  # of an image file, or of a page picture: 300 MB in memory
_NO_CHARACTERS = ("", "\x02", "\ufffe", "\uffff")
_BOLD = re.compile(r"bold|black|heavy|demi|medi\b|cmbx|cmssbx", re.IGNORECASE)


class Char(NamedTuple):
    """One character on a page. The box is in shares (0..1) of width and height, the origin top left.

    A line ends with a "\\n" character. ``size`` is the font size in points, 0 where unknown. ``unreadable``: the font
    does not say which character this is, so ``text`` is noise.
    """

    text: str
    left: float
    top: float
    right: float
    bottom: float
    size: float = 0.0
    bold: bool = False
    unreadable: bool = False


class Pages(Protocol):
    """An open document of pages; page numbers count from 1. Its methods raise CorruptDocument for a broken page."""

    def __len__(self) -> int: ...
    def size(self, number: int) -> tuple[float, float]: ...  # width, height in points (pixels for images)
    def characters(self, number: int) -> list[Char]: ...
    def picture(self, number: int, width: int) -> Any: ...  # an RGB PIL.Image about `width` pixels wide
    def has_scan(self, number: int) -> bool: ...  # an image covers most of the page
    def properties(self) -> dict[str, str]: ...  # title, author...
    def warnings(self) -> list[str]: ...


@contextmanager
def open_pages(path: Path) -> Iterator[Pages]:
    """Open a PDF or an image file (PNG, JPEG, TIFF). Raises CorruptDocument, EncryptedDocument, LimitExceeded."""
    with path.open("rb") as file:
        is_pdf = b"%PDF-" in file.read(1024)
    pages = _Pdf(path) if is_pdf else _Images(path)
    try:
        yield pages
    finally:
        pages.close()


def page_count(path: Path) -> int:
    with open_pages(path) as pages:
        return len(pages)


def page_size(path: Path, page: int) -> tuple[float, float]:
    """Width and height of page ``page`` (from 1) in points, or in pixels for an image file."""
    with open_pages(path) as pages:
        return pages.size(_checked(page, pages))


def render(path: Path, page: int, width: int) -> bytes:
    """Page ``page`` (from 1) as a PNG picture ``width`` pixels wide. Raises DocumentError, BadInput."""
    with open_pages(path) as pages:
        picture = pages.picture(_checked(page, pages), width)
        target = io.BytesIO()
        picture.save(target, "PNG")
        return target.getvalue()


def _checked(page: int, pages: Pages) -> int:
    if not 1 <= page <= len(pages):
        raise BadInput(f"There is no page {page}; the document has {len(pages)}.")
    return page


def _fit(width: int, size: tuple[float, float]) -> float:
    """Pixels per unit for a picture ``width`` wide that stays under the limit on pixels, however odd the page."""
    across, down = size
    scale = width / across
    return min(scale, math.sqrt(_MAX_PIXELS / (across * down)), 16_000 / max(across, down))


class _Pdf:
    def __init__(self, path: Path):
        import pypdfium2

        self._lib = pypdfium2
        self._raw = pypdfium2.raw
        try:
            self._document = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            raise self._why(path) from error
        self._open: tuple[int, Any] | None = None

    def _why(self, path: Path) -> CorruptDocument | EncryptedDocument:
        """Why the file cannot be opened; asked again, as the library mixes up no pages with the last error."""
        handle = self._raw.FPDF_LoadDocument(str(path).encode() + b"\0", None)
        if handle:
            self._raw.FPDF_CloseDocument(handle)
            return CorruptDocument("The PDF has no pages.")
        if self._raw.FPDF_GetLastError() in (self._raw.FPDF_ERR_PASSWORD, self._raw.FPDF_ERR_SECURITY):
            return EncryptedDocument()
        return CorruptDocument()

    def close(self) -> None:
        self._close_page()
        self._document.close()

    def _close_page(self) -> None:
        if self._open:
            self._open[1].close()
            self._open = None

    def _page(self, number: int) -> Any:
        """The page, with form fields and annotations made part of it, so that their text is text."""
        if self._open and self._open[0] == number:
            return self._open[1]
        self._close_page()
        try:
            page = self._document[number - 1]
            if self._raw.FPDFPage_GetAnnotCount(page) > 0:
                self._raw.FPDFPage_Flatten(page, self._raw.FLAT_NORMALDISPLAY)
                page.close()
                page = self._document[number - 1]
        except self._lib.PdfiumError as error:
            raise CorruptDocument(f"Page {number} is damaged and cannot be read.") from error
        self._open = (number, page)
        return page

    def __len__(self) -> int:
        return len(self._document)

    def size(self, number: int) -> tuple[float, float]:
        width, height = self._page(number).get_size()
        if not (1 <= width <= 1e6 and 1 <= height <= 1e6):
            raise CorruptDocument(f"Page {number} has an impossible size ({width:g} by {height:g} points).")
        return width, height

    def picture(self, number: int, width: int) -> Any:
        size = self.size(number)
        page = self._page(number)
        try:
            return page.render(scale=_fit(width, size), rev_byteorder=True, prefer_bgrx=False).to_pil().convert("RGB")
        except self._lib.PdfiumError as error:
            raise CorruptDocument(f"Page {number} is damaged and cannot be drawn.") from error

    def has_scan(self, number: int) -> bool:
        page = self._page(number)
        width, height = self.size(number)
        try:
            images = list(page.get_objects(filter=[self._raw.FPDF_PAGEOBJ_IMAGE], max_depth=4))
            boxes = [image.get_bounds() for image in images]
        except self._lib.PdfiumError:
            return False
        covered = sum(abs(right - left) * abs(top - bottom) for left, bottom, right, top in boxes)
        return covered >= 0.5 * width * height

    def properties(self) -> dict[str, str]:
        given = self._document.get_metadata_dict(skip_empty=True)
        wanted = {"Title": "title", "Author": "author", "CreationDate": "created", "ModDate": "modified"}
        return {name: given[key].strip() for key, name in wanted.items() if given.get(key, "").strip()}

    def warnings(self) -> list[str]:
        found = []
        if self._document.get_formtype() in (self._raw.FORMTYPE_XFA_FULL, self._raw.FORMTYPE_XFA_FOREGROUND):
            found.append("This is an XFA form: only its plain PDF pages were read. Print it to PDF for the rest.")
        try:
            count = self._document.count_attachments()
            names = [self._document.get_attachment(index).get_name() for index in range(min(count, 20))]
        except self._lib.PdfiumError:
            count, names = 0, []
        if count:
            found.append(f"{count} attached files were not read: {', '.join(names)}.")
        return found

    def characters(self, number: int) -> list[Char]:
        page = self._page(number)
        self.size(number)
        try:
            text = page.get_textpage()
        except self._lib.PdfiumError as error:
            raise CorruptDocument(f"The text of page {number} is damaged and cannot be read.") from error
        try:
            return _right_to_left(_read(self._raw, text.raw, self._to_shares(page)))
        finally:
            text.close()

    def _to_shares(self, page: Any) -> tuple[float, float, float, float, float, float]:
        """The map from PDF points to shares of the visible page, rotation and crop box included."""
        unit = 1_000_000
        x, y = ctypes.c_int(), ctypes.c_int()
        places = []
        for point in ((0, 0), (1000, 0), (0, 1000)):
            self._raw.FPDF_PageToDevice(page, 0, 0, unit, unit, 0, *point, x, y)
            places.append((x.value / unit, y.value / unit))
        (ox, oy), (ax, ay), (bx, by) = places
        return ox, oy, (ax - ox) / 1000, (ay - oy) / 1000, (bx - ox) / 1000, (by - oy) / 1000


def _read(raw: Any, text: Any, shares: tuple[float, ...]) -> list[Char]:
    """Every character of a text page. One library call each: the hot loop of reading a PDF."""
    ox, oy, ax, ay, bx, by = shares
    box = raw.FS_RECTF()
    found: list[Char] = []
    size, bold, height, fresh = 0.0, False, -1.0, True
    for index in range(raw.FPDFText_CountChars(text)):
        code = raw.FPDFText_GetUnicode(text, index)
        if code in (10, 13) and raw.FPDFText_IsGenerated(text, index):
            if code == 10:
                found.append(Char("\n", 0, 0, 0, 0))
                fresh = True
            continue
        raw.FPDFText_GetLooseCharBox(text, index, box)
        if code == 32:
            fresh = True
        elif fresh or abs(box.top - box.bottom - height) > 0.1:
            size, bold, height, fresh = *_style(raw, text, index), box.top - box.bottom, False
        sign = "\u00ad" if code == 2 and raw.FPDFText_IsHyphen(text, index) > 0 else chr(code)
        left, right = sorted((ox + box.left * ax + box.bottom * bx, ox + box.right * ax + box.top * bx))
        top, bottom = sorted((oy + box.left * ay + box.bottom * by, oy + box.right * ay + box.top * by))
        unreadable = code != 32 and raw.FPDFText_HasUnicodeMapError(text, index) == 1
        if unreadable or (sign not in _NO_CHARACTERS and (sign.isprintable() or sign.isspace() or sign == "\u00ad")):
            found.append(Char(" " if sign.isspace() else sign, left, top, right, bottom, size, bold, unreadable))
    return found


def _style(raw: Any, text: Any, index: int) -> tuple[float, bool]:
    """Font size in points as it appears on the page, and whether the font calls itself bold."""
    matrix = raw.FS_MATRIX()
    scale = math.hypot(matrix.c, matrix.d) if raw.FPDFText_GetMatrix(text, index, matrix) else 1.0
    name = ctypes.create_string_buffer(128)
    flags = ctypes.c_int()
    raw.FPDFText_GetFontInfo(text, index, name, 128, flags)
    return raw.FPDFText_GetFontSize(text, index) * (scale or 1.0), bool(_BOLD.search(name.value.decode("latin-1")))


def _right_to_left(chars: list[Char]) -> list[Char]:
    """Undo the library's reversal of right-to-left characters that one glyph stands for, such as Arabic ligatures."""
    import unicodedata

    found: list[Char] = []
    start = 0
    while start < len(chars):
        end = start + 1
        if unicodedata.bidirectional(chars[start].text or " ")[:1] in ("R", "A"):
            while end < len(chars) and chars[end][1:5] == chars[start][1:5] and chars[end].text != " ":
                end += 1
        found += reversed(chars[start:end])
        start = end
    return found


class _Images:
    """An image file; a TIFF file may hold several pages."""

    def __init__(self, path: Path):
        from PIL import Image, UnidentifiedImageError

        Image.MAX_IMAGE_PIXELS = _MAX_PIXELS // 2  # the library refuses at twice this
        try:
            self._image = Image.open(path, formats=("PNG", "JPEG", "TIFF"))
        except Image.DecompressionBombError as error:
            raise LimitExceeded(f"The image is larger than {_MAX_PIXELS:,} pixels, which is the limit.") from error
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise CorruptDocument() from error
        self._decoded: tuple[int, Any] | None = None

    def close(self) -> None:
        self._image.close()

    def __len__(self) -> int:
        return getattr(self._image, "n_frames", 1)

    def _frame(self, number: int) -> Any:
        from PIL import Image, ImageOps

        if self._decoded and self._decoded[0] == number:
            return self._decoded[1]
        try:
            self._image.seek(number - 1)
            self._decoded = (number, ImageOps.exif_transpose(_on_white(self._image)))
            return self._decoded[1]
        except Image.DecompressionBombError as error:
            raise LimitExceeded(f"The image is larger than {_MAX_PIXELS:,} pixels, which is the limit.") from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise CorruptDocument(f"The image is damaged ({error}).") from error

    def size(self, number: int) -> tuple[float, float]:
        return self._frame(number).size

    def characters(self, number: int) -> list[Char]:
        return []

    def picture(self, number: int, width: int) -> Any:
        frame = self._frame(number)
        scale = _fit(width, frame.size)
        return frame.resize((max(1, round(frame.width * scale)), max(1, round(frame.height * scale))))

    def has_scan(self, number: int) -> bool:
        return True

    def properties(self) -> dict[str, str]:
        return {}

    def warnings(self) -> list[str]:
        return []


def _on_white(image: Any) -> Any:
    """``image`` in RGB: 16-bit greys scaled down, what is transparent made white."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value / 257).convert("L")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, image).convert("RGB")
    return image.convert("RGB")
