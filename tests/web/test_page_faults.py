"""Tests in a real browser of what the page does with answers that it cannot show, or use."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from running import Upstream
from sites import PageHandler, Site, done, serving

from providers_sync.testing import cut, event, finish, reasoning, status, text, wait
from providers_sync.testing import tool_call as call

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_browser import SEND, Tab, sent_messages

LAST = ".exchange:last-child"
TRY_AGAIN = '//button[text()="Try again"]'
IMAGE = "data:image/gif;base64," + base64.b64encode(b"GIF89a").decode()


@pytest.fixture
def tab(chromium: Any, flask_url: str) -> Iterator[Tab]:
    """A fresh chat."""
    tab = Tab(chromium, flask_url)
    yield tab
    tab.close()


def image() -> Any:
    """Return an answer's image."""
    delta = {"images": [{"type": "image_url", "image_url": {"url": IMAGE}}]}
    return event({"choices": [{"index": 0, "delta": delta}]})


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([image(), finish("stop")], "The model sent an image, which this page does not show"),
        (
            [call("f", {"a": 1}), finish("tool_calls")],
            "The model sent a function call, which this page does not show",
        ),
    ],
)
def test_answer_without_text(tab: Tab, upstream: Upstream, script: Any, words: str) -> None:
    """The page says what has come, and no empty message joins the conversation."""
    upstream.set_answer("Draw", *script)
    turn = upstream.set_answer("Next", text("Yes."))
    tab.ask("Draw")
    tab.wait_for(words, f"{LAST} .reason")
    tab.wait(lambda: tab.activate().find_elements(By.XPATH, SEND))
    tab.ask("Next")
    tab.wait_for("Yes.")
    assert sent_messages(turn) == ["Next"]


def test_partial_answer_stays_until_the_next_begins(tab: Tab, upstream: Upstream) -> None:
    """Greyed; if the next attempts fail it is still there."""
    upstream.set_answer("Again", text("Hello"), cut())
    tab.ask("Again")
    tab.wait_for("The answer broke off", ".note strong")
    for script, title in [
        ([status(401)], "The answer failed"),
        ([reasoning("Hm."), cut()], "The answer broke off"),
    ]:
        upstream.set_answer("Again", *script)
        tab.click(TRY_AGAIN)
        tab.wait(lambda: tab.activate().find_elements(By.XPATH, SEND))
        tab.wait_for(title, f"{LAST} .note strong")
        assert tab.see(".exchange.old .text") == "Hello"
        assert len(tab.activate().find_elements(By.CSS_SELECTOR, ".exchange")) == 2
        assert len(tab.driver.find_elements(By.XPATH, TRY_AGAIN)) == 1
    go = threading.Event()
    upstream.set_answer("Again", text("Yes"), wait(go))
    tab.click(TRY_AGAIN)
    tab.wait_for("Yes")
    assert len(tab.driver.find_elements(By.CSS_SELECTOR, ".exchange")) == 1
    go.set()
    tab.wait_for("complete", ".outcome")


def test_end_of_a_long_page_stays_in_view(tab: Tab, upstream: Upstream) -> None:
    """Also what comes below a new question: the input does not cover it."""
    upstream.set_answer("Long", text("a\n\n" * 100))
    upstream.set_answer("Fail", status(401))
    tab.ask("Long")
    tab.wait_for("complete", ".outcome")
    tab.ask("Fail")
    tab.wait_for("The answer failed", ".note strong")
    script = (
        "const bottom = (name) => document.querySelector(name).getBoundingClientRect().bottom;"
        "return [bottom('.note'), document.querySelector('form').getBoundingClientRect().top]"
    )
    note, form = tab.activate().execute_script(script)
    assert note <= form


def test_conversation_that_is_too_long(tab: Tab, upstream: Upstream) -> None:
    """To try again would fail again: a new chat is offered, with the question in its input."""
    upstream.set_answer("Long", text("z " * 99_999))
    turn = upstream.set_answer("Next", text("Yes."))
    tab.ask("Long")
    tab.wait_for("complete", ".outcome")
    tab.ask("Next")
    tab.wait_for("The conversation is longer than", f"{LAST} .note")
    assert not tab.activate().find_elements(By.XPATH, TRY_AGAIN)
    button = tab.driver.find_element(By.XPATH, '//div[@role="alert"]/button[text()="New chat"]')
    button.send_keys(Keys.ENTER)
    tab.type(Keys.ENTER)
    tab.wait_for("Yes.")
    assert sent_messages(turn) == ["Next"]


def test_escape_of_an_input_method_stops_nothing(tab: Tab, upstream: Upstream) -> None:
    """It ends the composition of a character."""
    go = threading.Event()
    upstream.set_answer("Hi", text("Hello "), wait(go), text("there."))
    tab.ask("Hi")
    tab.wait_for("Hello")
    press = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', arguments[0]))"
    escape = {"key": "Escape", "isComposing": True, "bubbles": True}
    tab.activate().execute_script(press, escape)
    go.set()
    tab.wait_for("complete", ".outcome")
    assert tab.see(".answer .text") == "Hello there."


def test_code_can_be_copied_while_it_streams(tab: Tab, upstream: Upstream) -> None:
    """Its button stays, and copies what is there."""
    go = threading.Event()
    upstream.set_answer("Code", text("```py\na = 1\n"), wait(go), text("b = 2\n```"))
    tab.ask("Code")
    tab.wait_for("a = 1", ".code pre")
    script = "window.button = document.querySelector('.code button')"
    tab.activate().execute_script(script)
    go.set()
    tab.wait_for("b = 2", ".code pre")
    tab.wait_for("complete", ".outcome")
    tab.driver.execute_script(
        "navigator.clipboard.writeText = async (text) => { window.copied = text }; button.click()"
    )
    tab.wait_for("Copied", ".code button")
    assert tab.driver.execute_script("return copied") == "a = 1\nb = 2"


def test_screen_reader_hears_the_outcome(tab: Tab, upstream: Upstream) -> None:
    """A region that is always there says that the page waits, and how the answer has ended."""
    go = threading.Event()
    upstream.set_answer("Hi", wait(go), text("```py\na = 1\n```"), finish("length"))
    tab.ask("Hi")
    spoken = "return document.querySelector('[role=status]').textContent"
    assert tab.activate().execute_script(spoken) == "Waiting for the model"
    go.set()
    tab.wait_for("complete", ".outcome:last-child")
    assert "cut off by a limit" in tab.driver.execute_script(spoken)
    label = "return document.querySelector('pre[role=region]').ariaLabel"
    assert tab.driver.execute_script(label) == "Code: py"
    upstream.set_answer("Go on", text("Yes."))
    tab.ask("Go on")
    tab.wait_for("complete", f"{LAST} .outcome")
    assert tab.driver.execute_script(spoken) == "The answer is complete"


def test_policy_of_the_page(flask_url: str, django_url: str, tab: Tab) -> None:
    """No form, frame, plugin or base address of another site, whatever a model writes."""
    script = (
        "const done = arguments[0]; fetch('.').then(response =>"
        " done(response.headers.get('Content-Security-Policy')))"
    )
    for url in (flask_url, django_url):
        tab.activate().get(url)
        rules = set(tab.driver.execute_async_script(script).split("; "))
        assert rules >= {"default-src 'self'", "base-uri 'none'", "object-src 'none'"}
        assert rules >= {"form-action 'self'", "frame-ancestors 'none'"}


# --- a site that answers something else

REPLIES: dict[str, tuple[int, str, str]] = {
    "error as text": (500, "application/json", '{"error": "Database is down"}'),
    "null": (500, "application/json", "null"),
    "login": (200, "text/html", "<h1>Log in</h1>"),
    "redirected": (302, "text/html", ""),
    "large": (413, "text/html", "<h1>Too large</h1>"),
    "null event": (200, "text/event-stream", "event: delta\ndata: null\n\n"),
    "null error": (200, "text/event-stream", "event: error\ndata: null\n\n"),
    "paused": (
        200,
        "text/event-stream",
        'event: delta\ndata: {"text":"I will."}\n\n' + done("paused"),
    ),
}


class ReplyHandler(PageHandler):
    """Replies by the question."""

    def reply(self, question: str) -> None:
        code, kind, body = REPLIES[question]
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if code == 302:
            self.send_header("Location", "/")
        self.end_headers()
        self.wfile.write(body.encode())


@pytest.fixture
def site() -> Iterator[Site]:
    """The page on a site with these replies."""
    with serving(ReplyHandler) as site:
        yield site


@pytest.fixture
def other(chromium: Any, site: Site) -> Iterator[Tab]:
    """The page of that site."""
    tab = Tab(chromium, site.url)
    yield tab
    tab.close()


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ("error as text", "This site answered with status 500."),
        ("null", "This site answered with status 500."),
        ("login", "Are you still logged in? Reload the page."),
        ("redirected", "Are you still logged in? Reload the page."),
        ("large", "The conversation is too long for this site."),
        ("null event", "This site sent something that is not an answer."),
        ("null error", "This site sent something that is not an answer."),
    ],
)
def test_reply_that_is_no_answer(other: Tab, question: str, words: str) -> None:
    other.ask(question)
    other.wait_for(words, ".note.failed p")


def test_paused_answer_does_not_join(other: Tab, site: Site) -> None:
    """It has a call without a result."""
    for _ in range(2):
        other.ask("paused")
        other.wait_for("paused", f"{LAST} .outcome")
        other.wait(lambda: other.activate().find_elements(By.XPATH, SEND))
    assert [len(messages) for messages in site.received] == [1, 1]
