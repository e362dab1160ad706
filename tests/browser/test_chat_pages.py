"""Conversations in a browser: versions of a question, two tabs, opinions, copies and files, a server that restarts."""

import re

import pytest

from tests.browser.test_journeys import LIGHTHOUSE, STORM, ask, finished
from tests.browser.test_looks import look

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
FERRIES = "When do the ferries to Kolla leave?"


def questions(page) -> list[str]:
    return page.locator(".turn .question").all_inner_texts()


def reword(page, turn, question: str):
    """Ask in other words, with the keyboard alone."""
    turn.locator(".edit summary").focus()
    page.keyboard.press("Enter")
    box = turn.get_by_label("The question in other words")
    page.wait_for_function("box => box === document.activeElement", arg=box.element_handle())
    page.keyboard.press("Control+a")
    page.keyboard.type(question)
    before = page.url
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: url != before)
    return finished(page)


def test_versions_of_a_question_with_what_follows_each(visitor):
    page = visitor.page()
    ask(page, LIGHTHOUSE)
    page.get_by_label("Your question").fill(FERRIES)
    page.keyboard.press("Enter")
    page.locator(".turn").nth(1).wait_for()
    finished(page)
    reword(page, page.locator(".turn").first, STORM)
    assert questions(page) == [STORM]
    page.get_by_label("Your question").fill(FERRIES + " In winter?")
    page.keyboard.press("Enter")
    page.locator(".turn").nth(1).wait_for()
    finished(page)
    page.get_by_role("link", name="Previous version").click()
    page.wait_for_load_state()
    assert questions(page) == [LIGHTHOUSE, FERRIES]
    page.goto(page.url.partition("?")[0])
    assert questions(page) == [LIGHTHOUSE, FERRIES]  # what was shown last is remembered
    page.get_by_role("link", name="Next version").click()
    page.wait_for_load_state()
    assert questions(page) == [STORM, FERRIES + " In winter?"]


def test_answering_again_keeps_the_first_answer(visitor):
    page = visitor.page()
    turn = ask(page, LIGHTHOUSE)
    before = turn.locator(".answer").inner_text()
    turn.get_by_role("button", name="Answer again").click()
    page.get_by_role("link", name="Previous version").wait_for()
    finished(page)
    page.get_by_role("link", name="Previous version").click()
    page.get_by_role("link", name="Next version").wait_for()
    assert page.locator(".turn").last.locator(".answer").inner_text() == before


def test_two_tabs_on_one_conversation_lose_nothing(visitor):
    one = visitor.page()
    ask(one, LIGHTHOUSE)
    other = visitor.page()
    other.goto(one.url)
    for page, question in ((one, FERRIES), (other, STORM)):
        page.get_by_label("Your question").fill(question)
        page.keyboard.press("Enter")
        page.locator(".turn").nth(1).wait_for()
        finished(page)
    one.get_by_label("Your question").fill("Who built it?")
    one.keyboard.press("Enter")
    one.locator(".turn").nth(2).wait_for()
    finished(one)
    assert questions(one) == [LIGHTHOUSE, FERRIES, "Who built it?"]
    other.reload()
    other.get_by_role("link", name=re.compile("version")).first.wait_for()


def test_a_rating_with_its_reason_survives_a_reload(visitor):
    page = visitor.page()
    turn = ask(page, LIGHTHOUSE)
    turn.get_by_role("button", name="Bad answer").focus()
    page.keyboard.press("Enter")
    turn.locator(".opinion[open]").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Bad answer"
    turn.get_by_label("It is incomplete").check()
    turn.get_by_label("Comment").fill("Since when?")
    turn.get_by_role("button", name="Keep").click()
    turn.get_by_text("kept").wait_for()
    page.reload()
    turn = page.locator(".turn").last
    assert turn.get_by_role("button", name="Bad answer").get_attribute("aria-pressed") == "true"
    turn.get_by_text("It is incomplete").first.click()
    assert turn.get_by_label("Comment").input_value() == "Since when?"
    turn.get_by_role("button", name="Bad answer").click()
    turn.locator(".opinion").wait_for(state="detached")


def test_an_answer_is_copied_with_its_sources_and_a_conversation_is_a_file(visitor):
    page = visitor.page(permissions=["clipboard-read", "clipboard-write"])
    turn = ask(page, LIGHTHOUSE)
    turn.get_by_role("button", name="Copy").click()
    turn.locator("[data-copy].done").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith(f"## {LIGHTHOUSE}") and "\n\n> " in copied and "harbour.md" in copied
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as Markdown").click()
    assert re.fullmatch(r"how-tall-is-the-lighthouse-\d+\.md", download.value.suggested_filename)
    assert copied.strip() in download.value.path().read_text()


def test_a_conversation_is_renamed_in_place_and_found(visitor):
    page = visitor.page()
    ask(page, LIGHTHOUSE)
    page.locator(".talk-head summary").click()
    page.keyboard.press("Escape")
    assert not page.get_by_label("Title").is_visible()
    page.locator(".talk-head summary").click()
    page.get_by_label("Title").fill("Notes on towers")
    page.keyboard.press("Enter")
    page.locator(".sidebar a[aria-current]", has_text="Notes on towers").wait_for()
    page.goto("/conversations/")
    page.get_by_label("Words in titles and questions").fill("on towers")
    page.get_by_role("button", name="Find").click()
    page.locator(".rows summary").click()
    page.get_by_label("Title", exact=True).fill("Towers")
    page.get_by_role("button", name="Rename", exact=True).click()
    page.get_by_text("None found").wait_for()


def test_a_server_that_is_away_for_a_moment_is_asked_again(visitor):
    page = visitor.page()
    ask(page, LIGHTHOUSE)
    refused = []

    def refuse_once(route):
        if refused:
            return route.continue_()
        refused.append(route.request.url)
        return route.fulfill(status=403, body="")

    page.route("**/turns/*/events", refuse_once)
    page.get_by_label("Your question").fill(STORM)
    page.keyboard.press("Enter")
    page.get_by_text("Connecting again").wait_for()
    page.locator(".turn").nth(1).locator(".turn-foot").wait_for()
    assert len(refused) == 1


def test_all_of_it_works_without_scripts(visitor):
    page = visitor.page(java_script_enabled=False)
    page.goto("/?corpus=demo")
    page.get_by_label("Your question").fill(LIGHTHOUSE)
    page.get_by_role("button", name="Ask").click()
    page.locator(".turn-foot").wait_for()
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_text("What is bad about it?").first.click()
    page.get_by_label("It is wrong").check()
    page.get_by_role("button", name="Keep").click()
    page.get_by_text("It is wrong").first.wait_for()
    page.get_by_text("Edit", exact=True).click()
    page.get_by_label("The question in other words").fill(STORM)
    page.get_by_role("button", name="Ask this instead").click()
    page.locator(".turn-foot").wait_for()
    assert questions(page) == [STORM]
    page.get_by_role("link", name="Previous version").click()
    assert questions(page) == [LIGHTHOUSE]
    assert not page.get_by_role("button", name="Copy").is_visible()
    page.locator(".talk-head summary").click()
    page.get_by_label("Title").fill("Plain")
    page.get_by_role("button", name="Rename", exact=True).click()
    assert page.title().startswith("Plain")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1280])
def test_what_opens_fits_and_can_be_read(visitor, width, scheme):
    page = visitor.page(viewport={"width": width, "height": 780}, color_scheme=scheme)
    turn = ask(page, LIGHTHOUSE)
    turn.get_by_role("button", name="Bad answer").click()
    turn.locator(".opinion[open]").wait_for()
    keep, dock = turn.get_by_role("button", name="Keep"), page.locator(".dock")
    keep.focus()
    assert keep.bounding_box()["y"] + keep.bounding_box()["height"] <= dock.bounding_box()["y"]  # not behind the box
    turn.locator(".edit summary").click()
    look(page, width, "opinion and edit")
    page.locator(".talk-head summary").click()
    look(page, width, "rename")
    page.goto("/conversations/")
    page.locator(".rows summary").first.click()
    form = page.locator(".rename[open] form").bounding_box()
    assert form["x"] >= 0 and form["x"] + form["width"] <= width
    look(page, width, "rename in the list")
