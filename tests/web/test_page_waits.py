"""Tests that the chat page never waits forever: a silent site, tabs, Back, and reload."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from running import CANCEL_S, Upstream
from sites import PageHandler, Site, done, serving

from providers_sync.testing import stall, text, wait

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By
from test_browser import SEND, WAIT_S, Tab

FASTER = 20
"""The page's clock: its limits of 15 and 60 seconds are tested in one and three."""
SHORT_SECONDS = (
    f"const real = setInterval; window.setInterval = (call, ms) => real(call, ms / {FASTER})"
)
DELTA = b'event: delta\ndata: {"text":"Hello "}\n\n'
SCRIPTS: dict[str, list[bytes]] = {
    "silent": [b":\n\n", DELTA],
    "at once silent": [b":\n\n"],
    "half an event": [DELTA, b"event: del"],
    "goes on after done": [DELTA, done("complete").encode()],
    "not JSON": [DELTA, b"event: delta\ndata: {oops\n\n"],
    "done without its data": [DELTA, b"event: done\ndata: {}\n\n"],
}


class SilentHandler(PageHandler):
    """Answers by the scripts, then says nothing more."""

    def reply(self, question: str) -> None:
        if question != "no headers":
            self.send_response(503 if question == "half an error" else 200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for chunk in SCRIPTS.get(question, [b'{"error": ']):
                self.wfile.write(chunk)
        self.server.released.wait(WAIT_S * 3)


@pytest.fixture
def site() -> Iterator[Site]:
    """A site that goes silent, until the end of the test."""
    with serving(SilentHandler) as site:
        yield site


@pytest.fixture
def tab(chromium: Any, site: Site) -> Iterator[Tab]:
    """The page of that site, whose seconds are short."""
    tab = Tab(chromium, site.url)
    tab.activate().execute_script(SHORT_SECONDS)
    yield tab
    tab.close()


ENDS = {
    "silent": ("The answer broke off", "connection to this site was lost", "Hello"),
    "at once silent": ("The answer broke off", "connection to this site was lost", ""),
    "half an event": ("The answer broke off", "connection to this site was lost", "Hello"),
    "not JSON": ("The answer failed", "something that is not an answer", "Hello"),
    "done without its data": ("The answer failed", "", "Hello"),
    "no headers": ("The answer failed", "This site does not answer", ""),
    "half an error": ("The answer failed", "This site does not answer", ""),
}


@pytest.mark.parametrize("how", ENDS)
def test_site_that_says_nothing_more(tab: Tab, how: str) -> None:
    """The page says so, keeps the text, offers to try again, and takes the next question."""
    title, reason, words = ENDS[how]
    tab.ask(how)
    tab.wait_for(title, ".note.failed strong")
    assert reason in tab.see(".note.failed p")
    assert tab.see(".answer .text").strip() == words
    assert tab.activate().find_elements(By.XPATH, '//button[text()="Try again"]')
    tab.wait(lambda: tab.activate().find_elements(By.XPATH, SEND))
    assert not tab.activate().find_elements(By.CSS_SELECTOR, ".waiting, [aria-busy]")


def test_body_that_goes_on_after_done(tab: Tab) -> None:
    """The answer is complete, and the connection is given back: a browser has six for a site."""
    for number in range(7):
        tab.ask("goes on after done")
        tab.wait(
            lambda number=number: (
                tab.activate().execute_script(
                    "return document.querySelectorAll('.outcome').length === arguments[0]",
                    number + 1,
                )
                and tab.driver.find_elements(By.XPATH, SEND)
            )
        )


def test_site_that_is_gone(tab: Tab, site: Site) -> None:
    """The page is open, and its site cannot be reached."""
    site.released.set()
    site.shutdown()
    site.socket.close()
    tab.ask("silent")
    tab.wait_for("The answer failed", ".note.failed strong")
    assert "cannot be reached" in tab.see(".note.failed p")


@pytest.mark.parametrize("how", ["back", "reload"])
def test_page_that_is_left_and_shown_again(
    chromium: Any, flask_url: str, upstream: Upstream, how: str
) -> None:
    """The model is stopped at once; the page takes the next question."""
    turn = upstream.set_answer("Long", text("Once "), stall())
    upstream.set_answer("Next", text("Yes."))
    tab = Tab(chromium, flask_url)
    try:
        tab.ask("Long")
        tab.wait_for("Once")
        if how == "back":
            tab.driver.get("about:blank")
        else:
            tab.driver.refresh()
        assert upstream.wait_closed(turn, WAIT_S) < CANCEL_S
        if how == "back":
            tab.driver.back()
        tab.wait(lambda: tab.driver.find_elements(By.XPATH, SEND))
        assert tab.see(".waiting") == ""
        tab.ask("Next")
        tab.wait_for("Yes.")
    finally:
        tab.close()


def test_page_that_sleeps(chromium: Any, flask_url: str, upstream: Upstream) -> None:
    """The seconds in which a phone sleeps are no silence of the site: the answer goes on."""
    go = threading.Event()
    upstream.set_answer("Long", text("Once "), wait(go), text("upon a time."))
    tab = Tab(chromium, flask_url)
    try:
        tab.driver.execute_script(SHORT_SECONDS)
        tab.ask("Long")
        tab.wait_for("Once")
        tab.driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "frozen"})
        time.sleep(2 * 15 / FASTER)
        tab.driver.execute_cdp_cmd("Page.setWebLifecycleState", {"state": "active"})
        go.set()
        tab.wait_for("complete", ".outcome")
        assert tab.see(".answer .text") == "Once upon a time."
    finally:
        go.set()
        tab.close()


def test_two_tabs_wait_apart(chromium: Any, flask_url: str, upstream: Upstream) -> None:
    """One is stopped, the other goes on."""
    turns = [upstream.set_answer(name, text(f"{name}: "), stall()) for name in ("One", "Two")]
    tabs = [Tab(chromium, flask_url) for _ in turns]
    try:
        for tab, name in zip(tabs, ("One", "Two"), strict=True):
            tab.ask(name)
            tab.wait_for(f"{name}:")
        tabs[0].driver.switch_to.window(tabs[0].handle)
        tabs[0].close()
        assert upstream.wait_closed(turns[0], WAIT_S) < CANCEL_S
        with pytest.raises(TimeoutError):
            upstream.wait_closed(turns[1], 0.5)
        assert tabs[1].see(".answer .text").startswith("Two:")
    finally:
        for tab in tabs:
            tab.close()
    assert upstream.wait_closed(turns[1], WAIT_S) < CANCEL_S
