"""Scans: pages that are pictures, alone and among others, and where their words stand."""

import io

import pytest
from PIL import Image

from indexer.parsers import parse
from indexer.parsers.base import Limits
from indexer.parsers.boxes import boxes
from indexer.parsers.detect import PDF, detect
from ragplat.errors import EmptyDocument
from tests.fixtures.documents import encoded, picture

LINES = ["Retrieval augmented generation", "answers from documents"]


def save(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def read(path, **limits):
    return parse(path, path.name, detect(path, path.name), Limits(**limits))


def test_an_image_is_read_and_its_words_are_found(tmp_path, capfd):
    path = save(tmp_path, "scan.png", encoded(picture(LINES), "PNG"))
    made = read(path)
    assert made.text.split() == " ".join(LINES).split()
    assert made.ocr_pages == (1,)
    (box,) = boxes(path, 1, "answers from documents")
    assert 0.04 < box.left < 0.08 and 0.3 < box.top < 0.4 < box.bottom < 0.5 and 0.4 < box.right < 0.7
    assert capfd.readouterr() == ("", "")  # no chatter, no download


def test_a_scanned_pdf_with_a_blank_page(tmp_path):
    target = io.BytesIO()
    picture(LINES).save(target, "PDF", save_all=True, append_images=[Image.new("RGB", (1000, 400), "white")])
    made = read(save(tmp_path, "scan.pdf", target.getvalue()))
    assert made.text.split() == " ".join(LINES).split()
    assert (made.ocr_pages, made.blank_pages, len(made.pages)) == ((1,), (2,), 2)


def test_pages_over_the_limit_of_ocr_are_named(tmp_path):
    target = io.BytesIO()
    picture(LINES).save(target, "PDF", save_all=True, append_images=[picture(LINES)])
    made = read(save(tmp_path, "scan.pdf", target.getvalue()), ocr_pages=1)
    assert (made.ocr_pages, made.blank_pages) == ((1,), (2,))
    assert "1 pages with pictures of text were not read by OCR, as the limit is 1 pages" in made.warnings[0]


def test_a_picture_without_words_is_an_empty_document(tmp_path):
    path = save(tmp_path, "blank.png", encoded(Image.new("RGB", (300, 300), "white"), "PNG"))
    with pytest.raises(EmptyDocument, match=r"1 page, none with text. OCR found nothing either"):
        read(path)


def test_a_stamp_on_a_scan_does_not_hide_the_scan(tmp_path):
    """A page with a little text of its own over a full-page picture is still read."""
    jpeg = encoded(picture(LINES, height=1294), "JPEG")
    content = b"q 612 0 0 792 0 0 cm /Im Do Q BT /F 12 Tf 72 20 Td (Page 3) Tj ET"
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R "
        b"/Resources << /XObject << /Im 5 0 R >> /Font << /F 6 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /XObject /Subtype /Image /Width 1000 /Height 1294 /ColorSpace /DeviceRGB /BitsPerComponent 8 "
        b"/Filter /DCTDecode /Length %d >>\nstream\n%s\nendstream" % (len(jpeg), jpeg),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    source = b"%PDF-1.4\n" + b"".join(b"%d 0 obj\n%s\nendobj\n" % (n, part) for n, part in enumerate(parts, start=1))
    path = save(tmp_path, "stamped.pdf", source + b"trailer\n<< /Root 1 0 R /Size 7 >>\n")
    made = parse(path, path.name, PDF, Limits())
    assert "Page 3" in made.text and "augmented" in made.text
    assert made.ocr_pages == (1,)
