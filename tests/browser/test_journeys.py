"""The main journeys as a person makes them: ask, check the source, come back, upload."""

import json
import re

import pytest

from indexer.rendering import visible_text
from tests.pdf import make_pdf

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
LIGHTHOUSE = "How tall is the lighthouse?"
STORM = "How strong was the wind during the storm?"


def ask(page, question: str, corpus: str = "demo"):
    """Ask on the start page as a person does, and wait until the answer is complete."""
    page.goto(f"/?corpus={corpus}")
    page.get_by_label("Your question").fill(question)
    page.keyboard.press("Enter")
    page.wait_for_url("**/conversations/**")
    return finished(page)


def finished(page):
    """The newest turn, once its answer is the one the server keeps."""
    turn = page.locator(".turn").last
    turn.locator(".turn-foot").wait_for()
    return turn


def squeezed(text: str) -> str:
    return "".join(text.split())


def marker_of(turn, document: str):
    return turn.locator(f"a.marker[aria-label*='{document}']").first


def quote_at(stack, marker) -> str:
    """The passage a marker's address names, from the document's own text."""
    document, start, end = re.fullmatch(
        r"/documents/(\d+)/\?start=(\d+)&end=(\d+)", marker.get_attribute("href")
    ).groups()
    text = f"Document.objects.get(pk={document}).text[{start}:{end}]"
    code = f"import json; from indexer.models import Document; print(json.dumps({text}))"
    done = stack.manage("shell", "--no-imports", "-c", code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_ask_then_check_the_passage(visitor, stack):
    page = visitor.page()
    turn = ask(page, LIGHTHOUSE)
    marker = marker_of(turn, "harbour.md")
    quote = quote_at(stack, marker)
    marker.click()
    page.locator("#evidence mark.passage").first.wait_for()
    shown = "".join(page.locator("#evidence mark.passage").all_inner_texts())
    assert squeezed(shown) == squeezed(visible_text(quote, "markdown"))
    assert "lighthouse" in turn.locator(".answer").inner_text()
    assert marker.get_attribute("aria-current") == "true"
    page.get_by_role("link", name="Open the document").click()
    page.wait_for_url("**/documents/**")
    page.locator("article mark.passage").first.wait_for()
    assert squeezed("".join(page.locator("article mark.passage").all_inner_texts())) == squeezed(shown)


def test_a_pdf_citation_shows_its_page_with_boxes(visitor):
    page = visitor.page()
    turn = ask(page, STORM)
    marker_of(turn, "storm-report.pdf").click()
    image = page.locator("#evidence .page-image img")
    image.wait_for()
    assert image.evaluate("async (picture) => (await picture.decode(), picture.naturalWidth)") >= 900
    box = page.locator("#evidence .boxes rect").first
    box.wait_for()
    inside, outside = box.bounding_box(), image.bounding_box()
    assert 0 < inside["width"] < outside["width"] and 0 < inside["height"] < outside["height"] / 4
    assert outside["x"] <= inside["x"] and inside["x"] + inside["width"] <= outside["x"] + outside["width"] + 1
    assert outside["y"] <= inside["y"] and inside["y"] + inside["height"] <= outside["y"] + outside["height"] + 1


def test_the_answer_is_streamed_and_kept(visitor):
    page = visitor.page()
    turn = ask(page, LIGHTHOUSE)
    answer = turn.locator(".answer").inner_text()
    page.get_by_label("Your question").fill("When were the ferries to Kolla leaving?")
    with page.expect_response(re.compile(r"/turns/\d+/events$")) as stream:
        page.keyboard.press("Enter")
    assert stream.value.headers["content-type"] == "text/event-stream"
    page.locator(".turn").nth(1).wait_for()
    assert "ferries" in finished(page).locator(".question").inner_text()
    assert page.get_by_label("Your question").input_value() == ""
    page.reload()
    assert page.locator(".turn").count() == 2
    assert page.locator(".answer").first.inner_text() == answer
    assert page.locator(".sidebar a[aria-current]").inner_text() == LIGHTHOUSE


def test_a_reload_in_the_middle_loses_nothing(visitor):
    page = visitor.page()
    page.goto("/?corpus=demo")
    page.get_by_label("Your question").fill(LIGHTHOUSE)
    page.keyboard.press("Enter")
    page.wait_for_url("**/conversations/**", wait_until="domcontentloaded")  # at "commit" Chromium may refuse to reload
    page.reload()
    assert "lighthouse" in finished(page).locator(".answer").inner_text()


def test_a_question_the_documents_do_not_answer_is_refused_with_the_closest_passages(visitor):
    page = visitor.page()
    turn = ask(page, "Who won the football world cup in 1998?")
    assert turn.locator(".refusal").count() == 1
    turn.locator(".closest a").first.click()
    page.locator("#evidence mark.passage, #evidence .page-image").first.wait_for()


def test_why_this_answer_shows_ranks_and_times(visitor):
    page = visitor.page()
    turn = ask(page, LIGHTHOUSE)
    turn.get_by_text("Why this answer").click()
    turn.locator(".ranks tbody tr").first.wait_for()
    assert "cited" in turn.locator(".ranks").inner_text()


def test_an_empty_question_is_not_sent_and_keys_work(visitor):
    page = visitor.page()
    page.goto("/?corpus=demo")
    page.locator("h1").click()
    page.keyboard.press("/")
    box = page.get_by_label("Your question")
    assert box.evaluate("element => element === document.activeElement")
    page.keyboard.press("Enter")
    page.keyboard.type("first")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second")
    assert box.input_value() == "first\nsecond"
    assert page.url.endswith("/?corpus=demo")


def test_escape_closes_the_sources_and_returns_to_the_marker(visitor):
    page = visitor.page(viewport={"width": 900, "height": 700})
    turn = ask(page, LIGHTHOUSE)
    marker = turn.locator("a.marker").first
    marker.focus()
    page.keyboard.press("Enter")
    page.locator("#evidence mark.passage").first.wait_for()
    page.keyboard.press("Escape")
    page.locator("#evidence").wait_for(state="hidden")
    assert marker.evaluate("element => element === document.activeElement")


def test_without_scripts_asking_and_reading_work(visitor):
    page = visitor.page(java_script_enabled=False)
    page.goto("/?corpus=demo")
    page.get_by_label("Your question").fill(LIGHTHOUSE)
    page.get_by_role("button", name="Ask").click()
    page.wait_for_url("**/conversations/**")
    page.locator(".turn-foot").wait_for()  # the page refreshes itself until the answer is there
    page.locator("a.marker").first.click()
    page.wait_for_url("**/documents/**")
    assert page.locator("mark.passage").count() >= 1


@pytest.fixture(scope="module")
def inbox(stack) -> str:
    """A corpus of its own for what is uploaded and deleted."""
    code = "from indexer.corpora import create; create('Inbox', slug='inbox')"
    done = stack.manage("shell", "--no-imports", "-c", code)
    assert done.returncode == 0, done.stderr
    return "inbox"


def test_several_files_one_refused_one_broken(visitor, inbox, tmp_path):
    (tmp_path / "notes.md").write_text("# Notes\n\nThe crane lifts 12 tonnes.\n")
    (tmp_path / "<b>report.pdf").write_bytes(make_pdf([["The quay is 90 metres long."]]))
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 broken")
    (tmp_path / ("x" * 200 + ".md")).write_text("long")
    page = visitor.page()
    page.goto(f"/corpora/{inbox}/")
    page.locator("#files").set_input_files(sorted(tmp_path.iterdir()))
    page.locator("#uploads li").nth(3).wait_for()
    for name in ("notes.md", "<b>report.pdf"):
        page.locator("#uploads li.ready", has_text=name).wait_for(timeout=90_000)
    failed = page.locator("#uploads li.failed", has_text="broken.pdf")
    failed.wait_for(timeout=90_000)
    assert len(failed.locator(".outcome").inner_text()) > 10
    row = page.locator(".documents tr", has_text="broken.pdf")
    row.locator(".state.failed").wait_for()
    page.locator(".documents tr", has_text="notes.md").locator(".state.ready").wait_for()
    assert page.locator("#documents b").count() == 0  # names are never markup
    page.locator("#files").set_input_files(tmp_path / "notes.md")
    page.locator("#uploads li.known, #uploads li.ready", has_text="notes.md").first.wait_for()

    too_long = "y" * 600 + ".md"
    said = page.evaluate(
        """async (name) => {
            const body = new FormData();
            body.append("files", new File(["text"], "a.md"));
            body.append("path", name);
            const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
            const headers = { Accept: "application/json", "X-CSRFToken": token };
            const response = await fetch(document.getElementById("upload").action, { method: "POST", body, headers });
            return [response.status, (await response.json()).results[0]];
        }""",
        too_long,
    )
    assert said[0] == 400 and said[1]["outcome"] == "refused" and "at most 500" in said[1]["message"]


def test_retry_and_delete_from_the_table(visitor, inbox, tmp_path):
    (tmp_path / "damaged.pdf").write_bytes(b"%PDF-1.4 nothing here")
    page = visitor.page()
    page.goto(f"/corpora/{inbox}/")
    page.locator("#files").set_input_files(tmp_path / "damaged.pdf")
    row = page.locator(".documents tr", has_text="damaged.pdf")
    row.locator(".state.failed").wait_for(timeout=60_000)
    row.get_by_role("button", name="again").click()
    page.get_by_text("is in the queue again").wait_for()
    row.locator(".state.failed").wait_for(timeout=60_000)
    row.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Cancel").click()
    assert row.count() == 1
    row.get_by_role("link", name="Delete").click()
    page.locator("dialog").get_by_role("button", name="Delete").click()
    page.get_by_text("was deleted").wait_for()
    assert page.locator(".documents tr", has_text="damaged.pdf").count() == 0


def test_upload_without_scripts(visitor, inbox, tmp_path):
    (tmp_path / "plain.md").write_text("# Plain\n\nA plain form.\n")
    page = visitor.page(java_script_enabled=False)
    page.goto(f"/corpora/{inbox}/")
    page.locator("#files").set_input_files(tmp_path / "plain.md")
    page.get_by_role("button", name="Upload the chosen files").click()
    assert "was added" in page.locator("#uploads").inner_text()
