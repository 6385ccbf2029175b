"""Tests of the example chats in a real browser, used as a user would."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from running import CANCEL_S, Turn, Upstream

from providers_sync.testing import (
    answer,
    cut,
    error,
    finish,
    garbage,
    html,
    pause,
    reasoning,
    refusal,
    repeat,
    stall,
    status,
    text,
    wait,
)

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

WAIT_S = 10.0
STOP = '//*[@id="go"][@aria-label="Stop"]'
SEND = '//*[@id="go"][@aria-label="Send"]'


class Tab:
    """A browser tab with a chat page, as its user sees and operates it."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.switch_to.new_window("tab")
        self.handle = driver.current_window_handle
        driver.get(url)

    def activate(self) -> Any:
        """Bring the tab to the front."""
        if self.driver.current_window_handle != self.handle:
            self.driver.switch_to.window(self.handle)
        return self.driver

    def type(self, *keys: str) -> None:
        self.activate().find_element(By.ID, "question").send_keys(*keys)

    def ask(self, question: str) -> None:
        self.type(question, Keys.ENTER)

    def see(self, selector: str) -> str:
        """Return the text of the last matching element, or "" if there is none."""
        script = "return [...document.querySelectorAll(arguments[0])].at(-1)?.innerText ?? ''"
        seen: str = self.activate().execute_script(script, selector)
        return seen

    def wait(self, condition: Callable[[], Any]) -> Any:
        waiting = WebDriverWait(self.driver, WAIT_S, poll_frequency=0.02)
        return waiting.until(lambda driver: condition())

    def wait_for(self, expected: str, selector: str = ".answer .text") -> None:
        """Wait until the last matching element contains the text."""
        self.wait(lambda: expected in self.see(selector))

    def click(self, xpath: str) -> None:
        self.activate().find_element(By.XPATH, xpath).click()

    def close(self) -> None:
        if self.handle in self.driver.window_handles:
            self.activate().close()
        self.driver.switch_to.window(self.driver.window_handles[0])


@pytest.fixture(scope="session", params=["flask", "django"])
def url(request: pytest.FixtureRequest) -> Any:
    """Each of the two example apps."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def open_tab(chromium: Any, url: str) -> Iterator[Callable[[], Tab]]:
    """A function that opens tabs, which are closed at the end of the test."""
    tabs: list[Tab] = []

    def new() -> Tab:
        tabs.append(Tab(chromium, url))
        return tabs[-1]

    yield new
    for tab in tabs:
        tab.close()


@pytest.fixture
def tab(open_tab: Callable[[], Tab]) -> Tab:
    """A fresh chat."""
    return open_tab()


@pytest.fixture(scope="module")
def page(chromium: Any, flask_url: str) -> Iterator[Tab]:
    """A page used only for its Markdown renderer."""
    tab = Tab(chromium, flask_url)
    yield tab
    tab.close()


def test_text_grows_while_the_model_streams(tab: Tab, upstream: Upstream) -> None:
    """Each chunk is on the page before the next one is sent; the outcome comes last."""
    gates = [threading.Event() for _ in range(3)]
    chunks = ["**One", " two** three", "\n\n- four"]
    script = [
        step for go, chunk in zip(gates, chunks, strict=True) for step in (wait(go), text(chunk))
    ]
    upstream.set_answer("Count", reasoning("Counting…"), *script)
    tab.ask("Count")
    tab.wait_for("Thinking", ".reasoning summary")
    assert tab.see(".answer .text") == ""
    for go, seen in zip(gates, ["**One", "One two three", "One two three\n\nfour"], strict=True):
        go.set()
        tab.wait(lambda seen=seen: tab.see(".answer .text").strip() == seen)
    tab.wait_for("complete · test-model · 3\xa0chunks", ".outcome")
    assert tab.see(".question") == "Count"
    assert tab.activate().find_elements(By.XPATH, SEND)


@pytest.mark.parametrize("phase", ["waiting", "silent", "streaming"])
@pytest.mark.parametrize("how", ["button", "escape", "closed tab"])
def test_stopping_cancels_the_call(tab: Tab, upstream: Upstream, how: str, phase: str) -> None:
    """By button, key or closing the tab, before or after the first chunk: within a second."""
    rest = repeat(text("word "), pause(0.05)) if phase == "streaming" else stall()
    turn = upstream.set_answer("Long", *([] if phase == "waiting" else [text("Once upon ")]), rest)
    tab.ask("Long")
    assert turn.received.wait(WAIT_S)
    if phase != "waiting":
        tab.wait_for("Once upon")
    stop(tab, how)
    assert upstream.wait_closed(turn, WAIT_S) < CANCEL_S
    if how != "closed tab":
        tab.wait_for("Stopped", ".note strong")
        assert tab.see(".answer .text").startswith("" if phase == "waiting" else "Once upon")


def stop(tab: Tab, how: str) -> None:
    if how == "button":
        tab.click(STOP)
    elif how == "escape":
        tab.type(Keys.ESCAPE)
    else:
        tab.activate().close()


FAULTS: dict[str, tuple[list[Any], str, str]] = {
    "refused": ([status(401, "No such key")], "The answer failed", "refuses requests"),
    "busy": ([status(429, "Slow", headers={"Retry-After": "99"})], "The answer failed", "too busy"),
    "malformed": ([html()], "The answer failed", "MalformedStream"),
    "garbage": ([text("Hel"), garbage()], "The answer failed", "MalformedStream"),
    "error": ([text("Hel"), error("Out of luck")], "The answer failed", "ServerError"),
    "cut": ([text("Hel"), cut()], "The answer broke off", "StreamCut"),
    "truncated": ([answer(text("Hel"), end=False)], "The answer is incomplete", "StreamTruncated"),
}
BEFORE_ANY_TEXT = ("refused", "busy", "malformed")
TIMEOUTS_AND_UNREACHABLE: dict[str, tuple[list[Any], str, str]] = {
    "stall": ([text("Hel"), stall()], "The model stopped responding", "silent for too long"),
    "silence": ([stall()], "The model stopped responding", "silent for too long"),
    "endless": ([repeat(text("Hel"), pause(0.05))], "The answer took too long", "not end in time"),
    "unreachable": ([], "The answer failed", "could not be reached"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows_its_message_in_place(tab: Tab, upstream: Upstream, fault: str) -> None:
    """The text so far stays, with an error message and a reference; the chat can go on."""
    script, title, message = FAULTS[fault]
    upstream.set_answer("Fail", *script)
    turn = upstream.set_answer("Go on", text("Yes."))
    tab.ask("Fail")
    tab.wait_for(title, ".note.failed strong")
    seen = tab.see(".note.failed p")
    assert message in seen
    assert re.search(r" [0-9a-f]{8}$", seen)
    assert not any(
        detail in seen for detail in ("No such key", "Slow", "Out of luck", upstream.url)
    )
    assert tab.see(".answer .text") == ("" if fault in BEFORE_ANY_TEXT else "Hel")
    tab.ask("Go on")
    tab.wait_for("complete", ".outcome")
    assert sent_messages(turn) == ["Go on"]


@pytest.mark.parametrize("fault", TIMEOUTS_AND_UNREACHABLE)
def test_a_timeout_shows_its_message_in_place(
    chromium: Any, short_timeouts_url: str, upstream: Upstream, fault: str
) -> None:
    """The page shows what was too slow, or that the server could not be reached."""
    script, title, message = TIMEOUTS_AND_UNREACHABLE[fault]
    upstream.set_answer(fault, *script)
    tab = Tab(chromium, short_timeouts_url)
    try:
        tab.ask(fault)
        tab.wait_for(title, ".note.failed strong")
        assert message in tab.see(".note.failed p")
    finally:
        tab.close()


def test_try_again_sends_the_same_question(tab: Tab, upstream: Upstream) -> None:
    """The new exchange replaces the failed one."""
    upstream.set_answer("Again", text("Hel"), cut())
    tab.ask("Again")
    tab.wait_for("The answer broke off", ".note strong")
    upstream.set_answer("Again", text("Hello."))
    tab.click('//button[text()="Try again"]')
    tab.wait_for("complete", ".outcome")
    assert tab.see(".answer .text") == "Hello."
    assert len(tab.activate().find_elements(By.CSS_SELECTOR, ".exchange")) == 1


def test_the_conversation_contains_only_complete_answers(tab: Tab, upstream: Upstream) -> None:
    """The next question is sent with the earlier complete answers, without those that were cut."""
    for question, *script in [("One", text("1")), ("Two", text("2"), cut()), ("Three", text("3"))]:
        turn = upstream.set_answer(question, *script)
        tab.ask(question)
        assert turn.received.wait(WAIT_S)
        tab.wait(lambda: tab.activate().find_elements(By.XPATH, SEND))
    assert sent_messages(turn) == ["One", "1", "Three"]
    tab.click('//*[@id="new"]')
    turn = upstream.set_answer("Four", text("4"))
    tab.ask("Four")
    tab.wait_for("4")
    assert sent_messages(turn) == ["Four"]


def sent_messages(turn: Turn) -> list[str]:
    """Return the contents of the messages that the model received."""
    assert turn.request is not None
    return [message["content"] for message in turn.request.json()["messages"]]


def test_two_tabs_are_independent(open_tab: Callable[[], Tab], upstream: Upstream) -> None:
    """Two answers stream at once, each in its own tab; stopping one does not affect the other."""
    go, tabs = threading.Event(), {"red": open_tab(), "blue": open_tab()}
    for word, tab in tabs.items():
        upstream.set_answer(
            word, text(f"{word} one "), wait(go), repeat(text(f"{word} "), times=20)
        )
        tab.ask(word)
    for word, tab in tabs.items():
        tab.wait_for(f"{word} one")
    tabs["red"].click(STOP)
    tabs["red"].wait_for("Stopped", ".note strong")
    go.set()
    tabs["blue"].wait_for("complete", ".outcome")
    assert tabs["blue"].see(".answer .text") == "blue one" + " blue" * 20
    assert tabs["red"].see(".answer .text") == "red one"


MALICIOUS = """\
<script>hacked = 1</script> <img src=x onerror="hacked = 2"> <b>bold</b>

<iframe srcdoc="<script>parent.hacked = 3</script>"></iframe>

[link](javascript:hacked=4) [data](data:text/html,<script>hacked=5</script>)
![image](x"onerror="hacked=6) ![beacon](http://127.0.0.1:9/spy.png)

| <svg onload="hacked = 7"> | `<script>hacked = 8</script>` |
|---|---|
| &lt;script&gt; | **<img src=x onerror="hacked = 9">** |

```html
<script>hacked = 10</script>
```

<https://example.com/"onmouseover="hacked=11>
"""


def test_html_from_the_model_stays_text(tab: Tab, upstream: Upstream) -> None:
    """Tags are shown as text, no script runs, no image is loaded, links lead to the web only."""
    upstream.set_answer("Hack", reasoning(MALICIOUS), *map(text, MALICIOUS))
    tab.ask("Hack")
    tab.wait_for("complete", ".outcome")
    seen = tab.see(".answer .text")
    for markup in ['<img src=x onerror="hacked = 2"> <b>bold</b>', "<iframe srcdoc=", "&lt;script"]:
        assert markup in seen
    driver = tab.activate()
    assert driver.execute_script("return typeof hacked") == "undefined"
    tags = "return [...document.querySelectorAll('.exchange *')].map(e => e.localName)"
    assert not {"script", "img", "iframe", "svg", "b"} & set(driver.execute_script(tags))
    links = "return [...document.querySelectorAll('.exchange a')].map(a => a.protocol)"
    assert set(driver.execute_script(links)) <= {"http:", "https:"}


def test_the_page_says_why_an_answer_is_not_whole(tab: Tab, upstream: Upstream) -> None:
    """Below the answer, as text; an answer that is whole has no such line."""
    upstream.set_answer("Whole", text("Yes."))
    upstream.set_answer("Limit", text("Hel"), finish("length"))
    upstream.set_answer("Refuse", refusal("I won't."))
    upstream.set_answer("Odd", finish("<img src=x onerror='hacked = 3'>"))
    words = ".exchange:last-child .outcome.reason"
    for question, shown, expected in [
        ("Whole", "Yes.", ""),
        ("Limit", "Hel", "The answer was cut off by a limit on its length (finish reason length)"),
        ("Refuse", "I won't.", "The answer is a refusal (finish reason stop)"),
        ("Odd", "", "ended for an unknown reason (finish reason <img src=x onerror='hacked = 3'>)"),
    ]:
        tab.ask(question)
        tab.wait_for("complete", ".exchange:last-child .outcome:last-child")
        tab.wait(lambda shown=shown: tab.see(".answer .text") == shown)
        assert (expected in tab.see(words)) if expected else (tab.see(words) == "")
        tab.wait(lambda: tab.activate().find_elements(By.XPATH, SEND))
    assert tab.activate().execute_script("return typeof hacked") == "undefined"


def test_the_page_works_with_the_keyboard_alone(tab: Tab, upstream: Upstream) -> None:
    """The input has the focus; Shift+Enter adds a line; the next question waits in the input."""
    go = threading.Event()
    turn = upstream.set_answer("two\nlines", text("Yes"), wait(go))
    upstream.set_answer("next", text("Next"))
    shift_enter = [Keys.SHIFT + Keys.ENTER + Keys.NULL]
    tab.activate().switch_to.active_element.send_keys("two", *shift_enter, "lines", Keys.ENTER)
    tab.wait_for("Yes")
    assert sent_messages(turn) == ["two\nlines"]
    tab.ask("next")  # while the answer is running, it is neither sent nor lost
    go.set()
    tab.wait_for("complete", ".outcome")
    tab.type(Keys.ENTER)
    tab.wait_for("Next")


def test_the_input_keeps_the_focus(tab: Tab, upstream: Upstream) -> None:
    """After any button, even one that disappears, the focus is in the input."""
    suggestion = '//*[@id="welcome"]//button[1]'
    upstream.set_answer(
        tab.activate().find_element(By.XPATH, suggestion).text, text("Once"), stall()
    )
    for button in (suggestion, STOP, '//button[text()="Try again"]', STOP, '//*[@id="new"]'):
        tab.wait(lambda path=button: tab.activate().find_elements(By.XPATH, path))
        tab.click(button)
        tab.wait(lambda: tab.driver.switch_to.active_element.get_attribute("id") == "question")
        tab.driver.execute_script("document.activeElement.blur()")


@pytest.mark.parametrize("allowed", [True, False])
def test_code_is_copied_or_else_selected(page: Tab, upstream: Upstream, allowed: bool) -> None:
    """If the page may not write to the clipboard, it selects the code for the user to copy."""
    upstream.set_answer("Code", text("Look:\n```py\na = 1\n\nb = 2\n```\nSo."))
    page.ask("Code")
    page.wait_for("complete", ".exchange:last-child .outcome")
    page.activate().execute_script(
        "navigator.clipboard.writeText = async (text) => { if (!arguments[0]) throw 0;"
        " window.copied = text }",
        allowed,
    )
    page.click('(//button[text()="Copy"])[last()]')
    page.wait_for("Copied" if allowed else "Selected", ".code button")
    script = "return window.copied ?? getSelection().toString().trim()"
    assert page.driver.execute_script(script) == "a = 1\n\nb = 2"


WIDE = """\
| {} |
|{}|

```
{}
```

{} `{}`

> - 1. {}
""".format("a | " * 30, "---|" * 31, "code " * 60, "W" * 200, "c" * 200, "w" * 200)


DEEP = "".join("  " * level + f"- {level}\n" for level in range(20)) + "\n" + "> " * 20 + "end\n\n"


def test_the_page_fits_a_phone_in_dark_mode(page: Tab, upstream: Upstream) -> None:
    """Wide tables and code scroll, long words break, and the page follows the colour scheme."""
    driver = page.activate()
    metrics = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    upstream.set_answer("W" * 200, text(WIDE + DEEP + f"```{'l' * 80}\nx\n```"))
    page.ask("W" * 200)
    page.wait_for("complete", ".outcome")
    width, colour, *ends = driver.execute_script(
        "return [document.scrollingElement.scrollWidth,"
        " getComputedStyle(document.body).backgroundColor,"
        " ...[...document.querySelectorAll('.code button, .text li, .text blockquote')]"
        ".map(node => node.getBoundingClientRect().right)]"
    )
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert max(width, *ends) <= 360
    assert max(map(int, re.findall(r"\d+", colour))) < 64


def test_the_page_loads_only_from_its_own_origin(tab: Tab, url: str) -> None:
    """Everything it loads comes from the app, and the console reports no error."""
    driver = tab.activate()
    driver.get_log("browser")  # of the tests before
    driver.refresh()
    loaded = driver.execute_script("return performance.getEntries().map(e => e.name)")
    addresses = [name for name in loaded if "://" in name]
    assert len(addresses) >= 4
    assert all(name.startswith(url) for name in addresses)
    assert [entry["message"] for entry in driver.get_log("browser")] == []


MARKDOWN = [
    ("a *b* **c** `d` ~~e~~", "<p>a <em>b</em> <strong>c</strong> <code>d</code> <del>e</del></p>"),
    ("**a *b* c** ***d***", "<p><strong>a <em>b</em> c</strong> <strong><em>d</em></strong></p>"),
    ("snake_case_name 5 * 6 * 7", "<p>snake_case_name 5 * 6 * 7</p>"),
    ("``a ` b`` `**c**`", "<p><code>a ` b</code> <code>**c**</code></p>"),
    ("unclosed **bold and `code", "<p>unclosed **bold and `code</p>"),
    (r"\*not\* \# this", "<p>*not* # this</p>"),
    ("# A `b` #\ntext\n---\n## C#", "<h1>A <code>b</code></h1><p>text</p><hr><h2>C#</h2>"),
    (
        "- a\n- b\n  - c\n    1. d\n- e",
        "<ul><li>a</li><li>b<ul><li>c<ol><li>d</li></ol></li></ul></li><li>e</li></ul>",
    ),
    ("1. a\n   - b\n2. c", "<ol><li>a<ul><li>b</li></ul></li><li>c</li></ol>"),
    ("3. a\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
    ("- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
    ("> a\n> - b\n\nc", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote><p>c</p>"),
    ("a  \nb\nc", "<p>a<br>b\nc</p>"),
    (
        "| a | b |\n|---|---|\n| 1 |\n| 2 | 3 | 4 |",
        '<div class="table"><table>'
        '<thead><tr><th class="">a</th><th class="">b</th></tr></thead>'
        '<tbody><tr><td class="">1</td><td class=""></td></tr>'
        '<tr><td class="">2</td><td class="">3 | 4</td></tr></tbody></table></div>',
    ),
    ("Yes:\n- a\n\nNo", "<p>Yes:</p><ul><li>a</li></ul><p>No</p>"),
    ("Born in\n1969. A year", "<p>Born in\n1969. A year</p>"),
    ("a < b && c > d &amp;", "<p>a &lt; b &amp;&amp; c &gt; d &amp;amp;</p>"),
]


@pytest.mark.parametrize(("source", "expected"), MARKDOWN)
def test_markdown_renders_as_html(page: Tab, source: str, expected: str) -> None:
    """Markdown as models write it, including unfinished Markdown."""
    assert render(page, source) == expected


DEPTH = 20


@pytest.mark.parametrize(
    ("marker", "tags"), [("> ", "blockquote"), ("- ", "ul><li"), (">", "blockquote")]
)
def test_quotes_and_lists_nest_up_to_a_limit(page: Tab, marker: str, tags: str) -> None:
    """Deeper levels are shown as typed."""
    rendered = render(page, marker * (DEPTH + 3) + "end")
    assert rendered.count(f"<{tags}>") == DEPTH
    assert page.activate().execute_script("return shown") == marker * 3 + "end"


LARGE = 100_000
REPEATED = [
    *("*", "_", "`", "[", "(", "**a ", "~~a ", "![a](", "> ", ">", "- ", "| a ", "<", "\\", "`a``"),
    *(
        " " * 10 + "#",
        "https://(",
        "[a](b ",
        "__a_ ",
        "**a ** b ",
        "__a ",
        "*a** b ",
        "[[a]",
        "1. ",
    ),
    *("- a\n\n", "> a\n\n", "#\n", "-\n", "|\n", "```\n", "\n", "> - ", "|a|b|\n|-|-|\n|c|\n"),
]
HALF = LARGE // 2
SHAPES = {
    "a false delimiter row of a table": "|\n-" + " " * LARGE + "x",
    "a false fence": "```" + " " * LARGE + "`",
    "a false fence of tildes": "~" * LARGE + "`",
    "a false list item": "- " + " " * LARGE + "\u2028",
    "spaces": "a" + " " * LARGE + "b",
    "blank lines in an item": "- a\n" + "\n" * LARGE + "  b",
    "a wide table with short rows": "|a" * HALF + "|\n" + "|-" * HALF + "|\n" + "|\n" * HALF,
    "a full table": "|a" * 99 + "|\n" + "|-" * 99 + "|\n" + "|\n" * 10_000,
    "backticks of many lengths": "a".join("`" * n for n in range(450)),
    "deep quotes on many lines": ("> " * 30 + "a\n") * 1600,
}


@pytest.mark.parametrize("unit", REPEATED)
def test_repeated_markdown_takes_linear_time(page: Tab, unit: str) -> None:
    """No repeated text blocks the page: ten times the text takes ten times as long."""
    render(page, unit * (LARGE // len(unit)))
    assert float(page.activate().execute_script("return took")) < 5000


@pytest.mark.parametrize("shape", SHAPES)
def test_no_markdown_structure_takes_long(page: Tab, shape: str) -> None:
    """Not even what makes a parser search for a closing delimiter again and again."""
    render(page, SHAPES[shape])
    assert float(page.activate().execute_script("return took")) < 5000


@pytest.mark.parametrize("source", ["> " * 6000 + "the end", ">" * 6000, "- " * 6000 + "the end"])
def test_an_answer_of_only_markers_ends_normally(tab: Tab, upstream: Upstream, source: str) -> None:
    """The page shows it and accepts the next question."""
    chunks = [source[at : at + 500] for at in range(0, len(source), 500)]
    upstream.set_answer("Marks", text("look\n\n"), *map(text, chunks))
    upstream.set_answer("Next", text("Yes."))
    tab.ask("Marks")
    tab.wait_for("complete", ".outcome")
    assert tab.see(".answer .text").strip().endswith(source.strip()[-7:])
    tab.ask("Next")
    tab.wait_for("Yes.")


def test_plain_text_is_shown_if_rendering_fails(tab: Tab, upstream: Upstream) -> None:
    """The complete text is shown, and the answer ends."""
    tab.activate().execute_script(
        "const make = document.createElement.bind(document);"
        "document.createElement = (kind) => { if (kind === 'hr') throw 0; return make(kind); }"
    )
    upstream.set_answer("Rule", *map(text, ["**a**\n\n", "---\n\n", "b  c\n", "<i>d"]))
    upstream.set_answer("Next", text("**Yes**"))
    tab.ask("Rule")
    tab.wait_for("complete", ".outcome")
    assert tab.see(".answer .text") == "**a**\n\n---\n\nb  c\n<i>d"
    assert tab.activate().find_elements(By.XPATH, SEND)
    tab.ask("Next")
    tab.wait(lambda: tab.see(".answer .text") == "Yes")


def render(page: Tab, source: str) -> str:
    """Return the HTML that the page renders from Markdown."""
    script = """
        const [source, done] = arguments, box = document.createElement("div");
        import("./page/markdown.js").then(({ show }) => {
            const start = performance.now();
            show(box, source);
            window.took = performance.now() - start;
            window.shown = box.textContent;
            done(box.innerHTML);
        });
    """
    rendered: str = page.activate().execute_async_script(script, source)
    return rendered
