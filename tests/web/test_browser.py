"""The example chats in a real browser, as their readers use them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from running import STOP_S, Turn, Upstream

from providers_sync.testing import (
    answer,
    cut,
    error,
    garbage,
    html,
    pause,
    reasoning,
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
    """One tab with a chat page, as its reader sees and uses it."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.switch_to.new_window("tab")
        self.handle = driver.current_window_handle
        driver.get(url)

    def turn_to(self) -> Any:
        """Bring the tab to the front."""
        if self.driver.current_window_handle != self.handle:
            self.driver.switch_to.window(self.handle)
        return self.driver

    def type(self, *keys: str) -> None:
        self.turn_to().find_element(By.ID, "question").send_keys(*keys)

    def ask(self, question: str) -> None:
        self.type(question, Keys.ENTER)

    def see(self, selector: str) -> str:
        """Return what the last such element says, or nothing where there is none."""
        script = "return [...document.querySelectorAll(arguments[0])].at(-1)?.innerText ?? ''"
        seen: str = self.turn_to().execute_script(script, selector)
        return seen

    def wait(self, true: Callable[[], Any]) -> Any:
        waiting = WebDriverWait(self.driver, WAIT_S, poll_frequency=0.02)
        return waiting.until(lambda driver: true())

    def wait_for(self, words: str, selector: str = ".answer .text") -> None:
        """Wait until the last such element says so."""
        self.wait(lambda: words in self.see(selector))

    def click(self, path: str) -> None:
        self.turn_to().find_element(By.XPATH, path).click()

    def close(self) -> None:
        if self.handle in self.driver.window_handles:
            self.turn_to().close()
        self.driver.switch_to.window(self.driver.window_handles[0])


@pytest.fixture(scope="session", params=["flask", "django"])
def url(request: pytest.FixtureRequest) -> Any:
    """Each of the two example apps."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def open_tab(chromium: Any, url: str) -> Iterator[Callable[[], Tab]]:
    """Open tabs that are closed at the end of the test."""
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
    """A page that is used for its renderer only."""
    tab = Tab(chromium, flask_url)
    yield tab
    tab.close()


def test_text_grows_while_the_model_speaks(tab: Tab, upstream: Upstream) -> None:
    """Each piece is on the page before the next one is said; then comes the verdict."""
    steps = [threading.Event() for _ in range(3)]
    said = ["**One", " two** three", "\n\n- four"]
    script = [
        step for go, words in zip(steps, said, strict=True) for step in (wait(go), text(words))
    ]
    upstream.says("Count", reasoning("Counting…"), *script)
    tab.ask("Count")
    tab.wait_for("Thinking", ".thoughts summary")
    assert tab.see(".answer .text") == ""
    for go, seen in zip(steps, ["**One", "One two three", "One two three\n\nfour"], strict=True):
        go.set()
        tab.wait(lambda seen=seen: tab.see(".answer .text").strip() == seen)
    tab.wait_for("complete · test-model · 3\xa0chunks", ".verdict")
    assert tab.see(".question") == "Count"
    assert tab.turn_to().find_elements(By.XPATH, SEND)


@pytest.mark.parametrize("phase", ["thinking", "speaking", "talking on"])
@pytest.mark.parametrize("how", ["button", "escape", "closed tab"])
def test_stopping_stops_the_model(tab: Tab, upstream: Upstream, how: str, phase: str) -> None:
    """By button, key or by leaving, before the first word or after it: within a second."""
    more = repeat(text("word "), pause(0.05)) if phase == "talking on" else stall()
    turn = upstream.says("Long", *([] if phase == "thinking" else [text("Once upon ")]), more)
    tab.ask("Long")
    assert turn.asked.wait(WAIT_S)
    if phase != "thinking":
        tab.wait_for("Once upon")
    stop(tab, how)
    assert upstream.wait_stopped(turn, WAIT_S) < STOP_S
    if how != "closed tab":
        tab.wait_for("Stopped", ".note strong")
        assert tab.see(".answer .text").startswith("" if phase == "thinking" else "Once upon")


def stop(tab: Tab, how: str) -> None:
    if how == "button":
        tab.click(STOP)
    elif how == "escape":
        tab.type(Keys.ESCAPE)
    else:
        tab.turn_to().close()


FAULTS: dict[str, tuple[list[Any], str, str]] = {
    "refused": ([status(401, "No such key")], "The model did not answer", "let this site ask"),
    "busy": ([status(429, "Slow", headers={"Retry-After": "99"})], "The model did not", "too busy"),
    "malformed": ([html()], "The model did not answer", "MalformedStream"),
    "garbage": ([text("Hel"), garbage()], "The model did not answer", "MalformedStream"),
    "error": ([text("Hel"), error("Out of luck")], "The model did not answer", "ServerError"),
    "cut": ([text("Hel"), cut()], "The answer broke off", "StreamCut"),
    "truncated": ([answer(text("Hel"), end=False)], "The answer is not whole", "StreamTruncated"),
}
BEFORE_THE_FIRST_WORD = ("refused", "busy", "malformed")
IMPATIENT: dict[str, tuple[list[Any], str, str]] = {
    "stall": ([text("Hel"), stall()], "The model fell silent", "silent for too long"),
    "silence": ([stall()], "The model fell silent", "silent for too long"),
    "endless": ([repeat(text("Hel"), pause(0.05))], "The answer took too long", "not end in time"),
    "nobody": ([], "The model did not answer", "could not be reached"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_shows_its_message_in_place(tab: Tab, upstream: Upstream, fault: str) -> None:
    """What had come stays, a plain sentence and a reference stand below, and one can go on."""
    script, title, message = FAULTS[fault]
    upstream.says("Fail", *script)
    turn = upstream.says("Go on", text("Yes."))
    tab.ask("Fail")
    tab.wait_for(title, ".note.failed strong")
    seen = tab.see(".note.failed p")
    assert message in seen
    assert re.search(r" [0-9a-f]{8}$", seen)
    assert not any(words in seen for words in ("No such key", "Slow", "Out of luck", upstream.url))
    assert tab.see(".answer .text") == ("" if fault in BEFORE_THE_FIRST_WORD else "Hel")
    tab.ask("Go on")
    tab.wait_for("complete", ".verdict")
    assert asked(turn) == ["Go on"]


@pytest.mark.parametrize("fault", IMPATIENT)
def test_a_wait_that_was_too_long_shows_its_message(
    chromium: Any, moody_url: str, upstream: Upstream, fault: str
) -> None:
    """The page says what was too slow, or that nobody was there."""
    script, title, message = IMPATIENT[fault]
    upstream.says(fault, *script)
    tab = Tab(chromium, moody_url)
    try:
        tab.ask(fault)
        tab.wait_for(title, ".note.failed strong")
        assert message in tab.see(".note.failed p")
    finally:
        tab.close()


def test_try_again_asks_the_same_question(tab: Tab, upstream: Upstream) -> None:
    """The failed exchange makes room for the new one."""
    upstream.says("Again", text("Hel"), cut())
    tab.ask("Again")
    tab.wait_for("The answer broke off", ".note strong")
    upstream.says("Again", text("Hello."))
    tab.click('//button[text()="Try again"]')
    tab.wait_for("complete", ".verdict")
    assert tab.see(".answer .text") == "Hello."
    assert len(tab.turn_to().find_elements(By.CSS_SELECTOR, ".exchange")) == 1


def test_the_conversation_holds_whole_answers_only(tab: Tab, upstream: Upstream) -> None:
    """The next question is sent with what was answered before, and without what was cut."""
    for question, *script in [("One", text("1")), ("Two", text("2"), cut()), ("Three", text("3"))]:
        turn = upstream.says(question, *script)
        tab.ask(question)
        assert turn.asked.wait(WAIT_S)
        tab.wait(lambda: tab.turn_to().find_elements(By.XPATH, SEND))
    assert asked(turn) == ["One", "1", "Three"]
    tab.click('//*[@id="new"]')
    turn = upstream.says("Four", text("4"))
    tab.ask("Four")
    tab.wait_for("4")
    assert asked(turn) == ["Four"]


def asked(turn: Turn) -> list[str]:
    """Return what the model was sent, message by message."""
    assert turn.request is not None
    return [message["content"] for message in turn.request.json()["messages"]]


def test_two_tabs_do_not_mix(open_tab: Callable[[], Tab], upstream: Upstream) -> None:
    """Two answers at a time, each in its own tab; stopping one leaves the other alone."""
    go, tabs = threading.Event(), {"red": open_tab(), "blue": open_tab()}
    for word, tab in tabs.items():
        upstream.says(word, text(f"{word} one "), wait(go), repeat(text(f"{word} "), times=20))
        tab.ask(word)
    for word, tab in tabs.items():
        tab.wait_for(f"{word} one")
    tabs["red"].click(STOP)
    tabs["red"].wait_for("Stopped", ".note strong")
    go.set()
    tabs["blue"].wait_for("complete", ".verdict")
    assert tabs["blue"].see(".answer .text") == "blue one" + " blue" * 20
    assert tabs["red"].see(".answer .text") == "red one"


HOSTILE = """\
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
    """Every tag is read as text; no script runs, no picture is loaded, no address but the web's."""
    upstream.says("Hack", reasoning(HOSTILE), *map(text, HOSTILE))
    tab.ask("Hack")
    tab.wait_for("complete", ".verdict")
    seen = tab.see(".answer .text")
    for words in ['<img src=x onerror="hacked = 2"> <b>bold</b>', "<iframe srcdoc=", "&lt;script"]:
        assert words in seen
    driver = tab.turn_to()
    assert driver.execute_script("return typeof hacked") == "undefined"
    made = "return [...document.querySelectorAll('.exchange *')].map(e => e.localName)"
    assert not {"script", "img", "iframe", "svg", "b"} & set(driver.execute_script(made))
    links = "return [...document.querySelectorAll('.exchange a')].map(a => a.protocol)"
    assert set(driver.execute_script(links)) <= {"http:", "https:"}


def test_the_keyboard_is_enough(tab: Tab, upstream: Upstream) -> None:
    """The focus is where one types; Shift+Enter starts a line; a question waits its turn."""
    go = threading.Event()
    turn = upstream.says("two\nlines", text("Yes"), wait(go))
    upstream.says("next", text("Next"))
    shifted = [Keys.SHIFT + Keys.ENTER + Keys.NULL]
    tab.turn_to().switch_to.active_element.send_keys("two", *shifted, "lines", Keys.ENTER)
    tab.wait_for("Yes")
    assert asked(turn) == ["two\nlines"]
    tab.ask("next")  # nothing is sent while the answer is under way, and nothing is lost
    go.set()
    tab.wait_for("complete", ".verdict")
    tab.type(Keys.ENTER)
    tab.wait_for("Next")


def test_the_next_words_are_typed_without_a_click(tab: Tab, upstream: Upstream) -> None:
    """Whichever button was pressed and has gone, the focus is in the box."""
    suggestion = '//*[@id="welcome"]//button[1]'
    upstream.says(tab.turn_to().find_element(By.XPATH, suggestion).text, text("Once"), stall())
    for button in (suggestion, STOP, '//button[text()="Try again"]', STOP, '//*[@id="new"]'):
        tab.wait(lambda path=button: tab.turn_to().find_elements(By.XPATH, path))
        tab.click(button)
        tab.wait(lambda: tab.driver.switch_to.active_element.get_attribute("id") == "question")
        tab.driver.execute_script("document.activeElement.blur()")


@pytest.mark.parametrize("may", [True, False])
def test_code_is_copied_or_else_selected(page: Tab, upstream: Upstream, may: bool) -> None:
    """Where the page may not write to the clipboard, the reader can."""
    upstream.says("Code", text("Look:\n```py\na = 1\n\nb = 2\n```\nSo."))
    page.ask("Code")
    page.wait_for("complete", ".exchange:last-child .verdict")
    page.turn_to().execute_script(
        "navigator.clipboard.writeText = async (text) => { if (!arguments[0]) throw 0;"
        " window.copied = text }",
        may,
    )
    page.click('(//button[text()="Copy"])[last()]')
    page.wait_for("Copied" if may else "Selected", ".code button")
    got = "return window.copied ?? getSelection().toString().trim()"
    assert page.driver.execute_script(got) == "a = 1\n\nb = 2"


WIDE = """\
| {} |
|{}|

```
{}
```

{} `{}`

> - 1. {}
""".format("a | " * 30, "---|" * 31, "code " * 60, "W" * 200, "c" * 200, "w" * 200)


def test_nothing_sticks_out_of_a_phone_in_the_dark(page: Tab, upstream: Upstream) -> None:
    """Wide tables and code scroll in themselves; long words break; the page is dark if asked."""
    driver = page.turn_to()
    metrics = {"width": 360, "height": 640, "deviceScaleFactor": 1, "mobile": True}
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    upstream.says("W" * 200, text(WIDE))
    page.ask("W" * 200)
    page.wait_for("complete", ".verdict")
    width, colour = driver.execute_script(
        "return [document.scrollingElement.scrollWidth,"
        " getComputedStyle(document.body).backgroundColor]"
    )
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert width <= 360
    assert max(map(int, re.findall(r"\d+", colour))) < 64


def test_the_page_needs_nobody_else(tab: Tab, url: str) -> None:
    """All that it loads comes from the app, and the console has no complaint."""
    driver = tab.turn_to()
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


@pytest.mark.parametrize(("source", "made"), MARKDOWN)
def test_markdown_becomes(page: Tab, source: str, made: str) -> None:
    """What models write, and what they have not finished writing."""
    assert render(page, source) == made


DEPTH = 20


@pytest.mark.parametrize(
    ("mark", "tags"), [("> ", "blockquote"), ("- ", "ul><li"), (">", "blockquote")]
)
def test_quotes_and_lists_nest_so_deep_and_no_deeper(page: Tab, mark: str, tags: str) -> None:
    """What is deeper is shown as it was typed."""
    made = render(page, mark * (DEPTH + 3) + "end")
    assert made.count(f"<{tags}>") == DEPTH
    assert page.turn_to().execute_script("return shown") == mark * 3 + "end"


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
    "a rule of a table that is none": "|\n-" + " " * LARGE + "x",
    "a fence that is none": "```" + " " * LARGE + "`",
    "a fence of tildes that is none": "~" * LARGE + "`",
    "an item that is none": "- " + " " * LARGE + "\u2028",
    "spaces": "a" + " " * LARGE + "b",
    "blank lines in an item": "- a\n" + "\n" * LARGE + "  b",
    "a wide table with short rows": "|a" * HALF + "|\n" + "|-" * HALF + "|\n" + "|\n" * HALF,
    "a full table": "|a" * 99 + "|\n" + "|-" * 99 + "|\n" + "|\n" * 10_000,
    "backticks of many lengths": "a".join("`" * n for n in range(450)),
    "deep quotes on many lines": ("> " * 30 + "a\n") * 1600,
}


@pytest.mark.parametrize("piece", REPEATED)
def test_markdown_takes_no_time(page: Tab, piece: str) -> None:
    """Nothing that a model repeats keeps the page busy: ten times the text, ten times the time."""
    render(page, piece * (LARGE // len(piece)))
    assert float(page.turn_to().execute_script("return took")) < 5000


@pytest.mark.parametrize("shape", SHAPES)
def test_no_shape_of_markdown_takes_long(page: Tab, shape: str) -> None:
    """Nor does what makes a parser look for an end again and again."""
    render(page, SHAPES[shape])
    assert float(page.turn_to().execute_script("return took")) < 5000


@pytest.mark.parametrize("words", ["> " * 6000 + "the end", ">" * 6000, "- " * 6000 + "the end"])
def test_an_answer_of_marks_ends_like_any_other(tab: Tab, upstream: Upstream, words: str) -> None:
    """The page shows it, and takes the next question."""
    pieces = [words[at : at + 500] for at in range(0, len(words), 500)]
    upstream.says("Marks", text("look\n\n"), *map(text, pieces))
    upstream.says("Next", text("Yes."))
    tab.ask("Marks")
    tab.wait_for("complete", ".verdict")
    assert tab.see(".answer .text").strip().endswith(words.strip()[-7:])
    tab.ask("Next")
    tab.wait_for("Yes.")


def test_text_is_shown_where_rendering_fails(tab: Tab, upstream: Upstream) -> None:
    """Plainly and whole, and the answer ends."""
    tab.turn_to().execute_script(
        "const make = document.createElement.bind(document);"
        "document.createElement = (kind) => { if (kind === 'hr') throw 0; return make(kind); }"
    )
    upstream.says("Rule", *map(text, ["**a**\n\n", "---\n\n", "b  c\n", "<i>d"]))
    upstream.says("Next", text("**Yes**"))
    tab.ask("Rule")
    tab.wait_for("complete", ".verdict")
    assert tab.see(".answer .text") == "**a**\n\n---\n\nb  c\n<i>d"
    assert tab.turn_to().find_elements(By.XPATH, SEND)
    tab.ask("Next")
    tab.wait(lambda: tab.see(".answer .text") == "Yes")


def render(page: Tab, source: str) -> str:
    """Return the HTML that the page's renderer makes of Markdown."""
    script = """
        const [source, done] = arguments, box = document.createElement("div");
        import("./page/markdown.js").then(({ show }) => {
            const began = performance.now();
            show(box, source);
            window.took = performance.now() - began;
            window.shown = box.textContent;
            done(box.innerHTML);
        });
    """
    made: str = page.turn_to().execute_async_script(script, source)
    return made
