"""The document viewer: the passage marked exactly, page images with boxes, and originals that never run."""

import re
from html import unescape

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient

from indexer.documents import path_of
from indexer.reading import PART
from tests.pdf import make_pdf
from tests.rows import make_document

pytestmark = pytest.mark.django_db
TEXT = "# Harbour\n\nThe *lighthouse* is 31 metres tall.\n\n| ship | year |\n|---|---|\n| Anna | 1874 |\n"


def marked(html: str) -> str:
    """The text of all marks of a page, as a reader sees it."""
    inside = "".join(re.findall(r'<mark class="passage">(.*?)</mark>', html, re.DOTALL))
    return unescape(re.sub(r"<[^>]*>", "", inside))


def at(document, passage: str) -> str:
    start = document.text.index(passage)
    return f"/documents/{document.pk}/?start={start}&end={start + len(passage)}"


@pytest.mark.parametrize("passage", ["31 metres tall.", "Harbour", "Anna", "1874"])
def test_the_passage_is_marked_exactly(client, corpus, passage):
    document = make_document(corpus, "harbour.md", TEXT)
    assert marked(client.get(at(document, passage)).content.decode()) == passage


def test_a_passage_far_into_a_long_text_is_on_the_part_shown(client, corpus):
    text = "".join(f"Line {number} of a long document.\n" for number in range(8_000))
    document = make_document(corpus, "long.txt", text, markup="plain")
    html = client.get(at(document, "Line 7000 of a long document.")).content.decode()
    assert marked(html) == "Line 7000 of a long document."
    assert len(html) < 3 * PART
    boundary = text.index("\n", PART)  # a passage over the end of a part is shown whole
    html = client.get(f"/documents/{document.pk}/?start={boundary - 100}&end={boundary + 100}").content.decode()
    assert "".join(marked(html).split()) == "".join(text[boundary - 100 : boundary + 100].split())


def test_every_character_is_on_exactly_one_part(client, corpus):
    text = "".join(f"w{number} " + ("\n" if number % 7 == 0 else "") for number in range(30_000))
    document = make_document(corpus, "long.txt", text, markup="plain")
    seen: list[str] = []
    for part in range(1, 20):
        html = client.get(f"/documents/{document.pk}/?part={part}").content.decode()
        article = re.search(r'<article class="prose">(.*?)</article>', html, re.DOTALL)[1]
        words = re.findall(r"w\d+", article)
        if seen and words[-1] == seen[-1]:
            break
        seen += words
    assert seen == text.split()


@pytest.mark.parametrize(
    "query",
    [
        "start=5",
        "start=9&end=9",
        "start=x&end=y",
        "start=-1&end=3",
        f"start=1{'0' * 30}&end=2{'0' * 30}",
        "part=99999999999",
        "page=0",
    ],
)
def test_a_link_to_nowhere_still_shows_the_document(client, corpus, query):
    document = make_document(corpus, "harbour.md", TEXT)
    response = client.get(f"/documents/{document.pk}/?{query}")
    assert response.status_code == 200
    assert "Harbour" in response.content.decode()


def test_the_panel_shows_the_surroundings_and_a_plain_visit_the_viewer(client, corpus):
    document = make_document(corpus, "harbour.md", TEXT)
    address = at(document, "31 metres").replace("/?", "/passage/?")
    panel = client.get(address, headers={"HX-Request": "true"}).content.decode()
    assert marked(panel) == "31 metres"
    assert "<html" not in panel
    assert client.get(address).url == at(document, "31 metres")
    gone = client.get(f"/documents/{document.pk}/passage/?start=900&end=950", headers={"HX-Request": "true"})
    assert "no longer in" in gone.content.decode()


@pytest.fixture
def pdf(corpus):
    data = make_pdf([["The storm came at night."], ["Two cranes fell.", "Nobody was hurt."]])
    text = "The storm came at night.\n\nTwo cranes fell.\nNobody was hurt."
    second = text.index("Two")
    pages = [[1, 0, second], [2, second, len(text)]]
    return make_document(corpus, "storm.pdf", text, data=data, media_type="application/pdf", pages=pages)


def test_a_pdf_shows_its_pages_and_asks_for_boxes_where_the_passage_is(client, pdf):
    html = client.get(at(pdf, "Two cranes fell.")).content.decode()
    assert f"/documents/{pdf.pk}/pages/1.png" in html and f"/documents/{pdf.pk}/pages/2.png" in html
    assert f"/documents/{pdf.pk}/pages/2/boxes/" in html and f"/documents/{pdf.pk}/pages/1/boxes/" not in html
    text = client.get(at(pdf, "Two cranes fell.") + "&view=text").content.decode()
    assert marked(text) == "Two cranes fell."
    assert "Page 1" in text and "Page 2" in text


def test_page_images_are_private_pictures_that_browsers_keep(client, pdf):
    response = client.get(f"/documents/{pdf.pk}/pages/2.png?width=600")
    assert response.headers["Content-Type"] == "image/png"
    assert response.content[:8] == b"\x89PNG\r\n\x1a\n"
    assert response.headers["Cache-Control"].startswith("private")
    again = client.get(
        f"/documents/{pdf.pk}/pages/2.png?width=600", headers={"If-None-Match": response.headers["ETag"]}
    )
    assert again.status_code == 304
    for address in ("pages/9.png", "pages/1.png?width=7", "pages/1.png?width=x"):
        assert client.get(f"/documents/{pdf.pk}/{address}").status_code == 400, address


def test_boxes_are_shapes_and_not_styles(client, pdf):
    start = pdf.text.index("Nobody")
    html = client.get(f"/documents/{pdf.pk}/pages/2/boxes/?start={start}&end={len(pdf.text)}").content.decode()
    assert html.count("<rect") == 1
    assert "style" not in html
    none = client.get(f"/documents/{pdf.pk}/pages/1/boxes/?start={start}&end={len(pdf.text)}").content.decode()
    assert "could not be placed" in none


def test_an_original_is_always_a_download(user, corpus):
    name = 'we"ird\r\nSet-Cookie: a=b <script>ü.html'
    document = make_document(corpus, name, data=b"<script>alert(1)</script>")

    async def fetch():
        client = AsyncClient()
        await client.aforce_login(user)
        response = await client.get(f"/documents/{document.pk}/file/")
        return response, b"".join([block async for block in response.streaming_content])

    response, body = async_to_sync(fetch)()
    assert body == b"<script>alert(1)</script>"
    assert response.headers["Content-Disposition"].startswith("attachment;")
    assert "\n" not in response.headers["Content-Disposition"]
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in response.headers


def test_an_original_that_is_missing_is_said_to_be(client, corpus):
    document = make_document(corpus, "a.md", data=b"some bytes")
    path_of(document).unlink()
    assert client.get(f"/documents/{document.pk}/file/").status_code == 404


def test_the_coverage_report_is_in_words(client, corpus):
    document = make_document(corpus, "scan.pdf", "Words.", pages=[[1, 0, 6]])
    document.coverage |= {
        "pages": 12, "ocr_pages": list(range(1, 13)), "pages_without_text": [3], "warnings": ["A font is odd."],
        "seconds": {"parse": 1.25},
    }  # fmt: skip
    document.save()
    html = client.get(f"/documents/{document.pk}/").content.decode()
    assert "page 1, 2, 3, 4, 5, 6, 7, 8 and 4 more" in html
    assert "A font is odd." in html
    assert "parse 1.2 s" in html
