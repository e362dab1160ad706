"""A real Chromium on a real stack. Whatever a page complains about fails the test that showed it."""

import shutil
from collections.abc import Iterator

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def chromium():
    """The browser of this machine, driven by Playwright."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium found ({', '.join(NAMES)}); on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """Opens pages as a signed-in person, and notes what a page should never do."""

    def __init__(self, browser, stack):
        self.browser, self.stack = browser, stack
        self.complaints: list[str] = []
        self.contexts = []
        self.session = None

    def page(self, signed_in: bool = True, **options):
        """A new page; ``options`` are those of a browser context (viewport, color_scheme, java_script_enabled...)."""
        if signed_in and self.session is None:
            self.session = self._sign_in()
        state = self.session if signed_in else None
        context = self.browser.new_context(base_url=self.stack.url, storage_state=state, **options)
        context.set_default_timeout(20_000)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(f"{page.url}: {error}"))
        page.on("request", self._asked)
        return page

    def _heard(self, message) -> None:
        # Chromium reports refused uploads and the like as errors too; those statuses are meant.
        meant = "the server responded with a status of 4" in message.text
        if message.type in ("error", "warning") and not meant:
            self.complaints.append(f"{message.location.get('url')}: {message.text}")

    def _asked(self, request) -> None:
        if not request.url.startswith((self.stack.url, "data:", "blob:")):
            self.complaints.append(f"a request to {request.url}")

    def _sign_in(self) -> dict:
        page = self.page(signed_in=False)
        page.goto("/")
        page.get_by_label("Name").fill(self.stack.login[0])
        page.get_by_label("Password").fill(self.stack.login[1])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{self.stack.url}/")
        return page.context.storage_state()

    def close(self) -> None:
        for context in self.contexts:
            context.close()


@pytest.fixture
def visitor(chromium, stack) -> Iterator[Visitor]:
    made = Visitor(chromium, stack)
    yield made
    made.close()
    assert made.complaints == []
