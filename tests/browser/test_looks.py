"""Every page at the widths and in the colours people use: nothing sticks out, nothing is unreadable."""

import pytest

from tests.browser.test_journeys import LIGHTHOUSE, ask

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
PAGES = ("/", "/corpora/", "/corpora/new/", "/corpora/demo/", "/conversations/", "/nowhere/")
ADMIN = [""] + [f"indexer/{name}/" for name in ("document", "chunk", "corpus", "index", "recipe", "recipe/add")]
ADMIN += ["procrastinate/procrastinatejob/", "inference/conversation/", "inference/turn/"]

# The contrast of every visible piece of text with the first opaque colour behind it (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
    const rgb = (value) => {
        const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        canvas.fillStyle = value;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return { r, g, b, a: a / 255 };
    };
    const light = ({ r, g, b }) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const colour = rgb(getComputedStyle(one).backgroundColor);
            if (colour.a > 0.99) return colour;
        }
        return rgb(getComputedStyle(document.documentElement).colorScheme === "dark" ? "black" : "white");
    };
    const bad = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        const shown = element.checkVisibility({ visibilityProperty: true }) && element.getClientRects().length;
        const aside = element.closest(".visually-hidden, option, script, noscript");
        if (!walker.currentNode.data.trim() || !shown || aside) continue;
        const style = getComputedStyle(element);
        const [one, two] = [light(rgb(style.color)), light(behind(element))];
        const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
        const size = parseFloat(style.fontSize);
        const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
        if (ratio < (large ? 3 : 4.5)) bad.push(`${walker.currentNode.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    return bad;
}"""

NAMELESS = """() => [...document.querySelectorAll("button, a[href], input:not([type=hidden]), select, textarea")]
    .filter((one) => one.checkVisibility() && !one.innerText?.trim() && !one.ariaLabel)
    .filter((one) => !one.labels?.length && !one.value)
    .map((one) => one.outerHTML)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1280])
def test_pages_fit_and_can_be_read(visitor, width, scheme):
    page = visitor.page(viewport={"width": width, "height": 780}, color_scheme=scheme)
    for address in PAGES:
        page.goto(address)
        look(page, width, address)
    page.goto("/corpora/demo/")
    names = [link.get_attribute("href") for link in page.locator(".documents td.col-name a").all()]
    for address in names:
        page.goto(address)
        look(page, width, address)
    turn = ask(page, LIGHTHOUSE)
    turn.get_by_text("Why this answer").click()
    turn.locator(".ranks").wait_for()
    look(page, width, "an answer")
    turn.locator("a.marker").first.click()
    page.locator("#evidence mark.passage").first.wait_for()
    look(page, width, "a passage")


def look(page, width: int, address: str) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= width, address
    assert page.evaluate(CONTRAST) == [], address
    assert page.evaluate(NAMELESS) == [], address


def test_the_toggle_turns_the_page_dark_and_it_stays(visitor):
    page = visitor.page(color_scheme="light")
    page.goto("/corpora/")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(ground)
    assert dark != "rgb(255, 255, 255)"
    page.goto("/")
    assert page.evaluate(ground) == dark
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_the_menu_opens_on_a_small_screen_without_scripts(visitor):
    page = visitor.page(viewport={"width": 380, "height": 780}, java_script_enabled=False)
    page.goto("/corpora/")
    assert not page.locator("#sidebar").is_visible()
    page.get_by_role("button", name="Open the menu").click()
    page.locator("#sidebar").get_by_role("link", name="New question").wait_for()
    page.get_by_role("button", name="Close the menu").click()
    page.locator("#sidebar").wait_for(state="hidden")


def test_the_administration_obeys_the_policy(visitor):
    page = visitor.page()
    for address in ADMIN:
        page.goto(f"/admin/{address}")
        assert "Ragplat" in page.title(), address
    page.goto("/admin/indexer/document/")
    page.locator("#result_list tbody th a").first.click()
    page.locator("#content h1, #content h2").first.wait_for()


def test_signing_out_ends_the_session(visitor):
    page = visitor.page(signed_in=False)
    page.goto("/")
    assert "/accounts/login/" in page.url
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    assert "correct" in page.get_by_role("alert").inner_text()
    page.get_by_label("Password").fill(visitor.stack.login[1])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{visitor.stack.url}/")
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/**")
    page.goto("/corpora/demo/")
    assert "/accounts/login/" in page.url
