"""Tests of ``make_safe()``: what it keeps, what it escapes, and that it takes linear time."""

from __future__ import annotations

import re
import time

import pytest
from malicious_markdown import IMAGE, MALICIOUS, harm, mixed
from markdown_it import MarkdownIt

from providers_sync.safe_markdown import make_safe
from providers_sync.types import Completion, Outcome, Stats

DOLLAR = "<span>&#36;</span>"


@pytest.fixture(scope="module")
def parser() -> MarkdownIt:
    """A Markdown parser that renders HTML, as VS Code's does."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


@pytest.mark.parametrize("source", MALICIOUS)
def test_malicious_markdown_is_harmless(parser: MarkdownIt, source: str) -> None:
    """The rendered page has no HTML from the model, no images and no unsafe links."""
    assert harm(parser.render(make_safe(source))) == []


def test_mixtures_of_malicious_markdown_are_harmless(parser: MarkdownIt) -> None:
    """The same holds for random combinations."""
    found = {source: harm(parser.render(make_safe(source))) for source in mixed(1500)}
    assert {source: harms for source, harms in found.items() if harms} == {}


def test_unsanitized_markdown_is_harmful(parser: MarkdownIt) -> None:
    """The tests above can fail: without sanitizing, most of their input is harmful."""
    assert sum(bool(harm(parser.render(source))) for source in MALICIOUS) > len(MALICIOUS) / 2


def test_a_completion_displays_itself_without_html() -> None:
    """Even if ``providers_sync.notebook`` was never imported."""
    stats = Stats(None, 0.0, 1, 1, 1)
    answer = Completion(f"a {IMAGE} `<b>`", None, None, None, Outcome.COMPLETE, stats)
    shown = answer._repr_markdown_()
    assert shown.startswith("a &lt;img src=")
    assert shown.endswith(" <code>&#60;b&#62;</code>")


@pytest.mark.parametrize(
    "source",
    [
        "# Cats\n\nThey *purr* and **sleep** ~~a lot~~:\n\n1. a\n2. b\n   - c\n\n> quoted\n> text",
        "| a | b |\n|:--|--:|\n| `x` | 1 |",
        "a  \nb\\\nc\n\n---\n\na\n===",
        "- [ ] milk\n- [x] bread",
        "[a](https://example.org/?a=b#c)",
        "x > y & z, a != b! (c)",
        "`print(x[0])` and `x` -->",
        "$x^2$ and $$y_1$$ and $a$, $b$",
        "1. a\n   ```py\n   x = f(1)\n\n   y\n   ```\n2. b",
    ],
)
def test_harmless_markdown_is_unchanged(source: str) -> None:
    """Markdown that notebooks render safely is kept as it is."""
    assert make_safe(source) == source


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        # HTML, entities, escapes
        ("a <b>c</b> <!-- d -->", "a &lt;b>c&lt;/b> &lt;!-- d -->"),
        ("&lt;b&gt; &amp;lt; AT&T &copy;", "&#60;b&#62; &#38;lt; AT&amp;T ©"),
        (r"\*a\* \<b> C:\Users", "&#42;a&#42; &#60;b> C:<span>&#92;</span>Users"),
        ("a&#13;b&#x2028;c ::: d", "a&#10;b&#10;c &#58;&#58;&#58; d"),
        ("@@0@@ \x1b[1m", "&#64;&#64;0&#64;&#64; ␛&#91;1m"),
        # code
        ("`<div>` and `a\\b`", "<code>&#60;div&#62;</code> and <code>a&#92;b</code>"),
        ("`` ` ``", "<code>&#96;</code>"),
        ("| `a\\|b` |\n|---|", "| <code>a&#124;b</code> |\n|---|"),
        ("a ` b", "a &#96; b"),
        ("```html\n<b>\n```\nc", "```html\n<b>\n```\n\nc"),
        ("a\n```\n$x <b>", "a\n\n```text\n$x <b>\n```"),
        ("~~~ py\n```\n~~~", "````py\n```\n````"),
        ("a\n\n    <b>\n\n    c", "a\n\n```text\n<b>\n\nc\n```"),
        ("- a\n  ```\n  <b>\n  c\n  ```", "- a\n  <pre><code>&#60;b&#62;&#10;c</code></pre>"),
        ("> ```\n> <b>\n> ```", "> <pre><code>&#60;b&#62;</code></pre>"),
        ('```py" onclick="a\nb\n```', "```text\nb\n```"),
        ("```{raw} html\na\n```", "```text\na\n```"),
        ("```mermaid\na\n```", "```text\na\n```"),
        ("```tex\n\\begin{a}\n```", "<pre><code>&#92;begin&#123;a&#125;</code></pre>"),
        # links and images
        ("![a](http://b/c.png 'd')", "[a](http://b/c.png)"),
        ("![](http://b/)", "[http&#58;&#47;&#47;b&#47;](http://b/)"),
        ("[a][b] ![b] [c]\n\n[B]: http://d/", "[a](http://d/) [b](http://d/) &#91;c&#93;\n\n"),
        ("[a](<http://b/c d>) [e](#f)", "[a](http://b/c%20d) [e](#f)"),
        ("[a](http://b/(c)?d&amp;e)", "[a](http://b/%28c%29?d&amp;e)"),
        ("[a](javascript:b)", "&#91;a&#93;(javascript:b)"),
        ("![a](data:image/png;base64,x)", "&#33;&#91;a&#93;(data:image/png;base64,x)"),
        ("[![a](http://b/)](http://c/)", "&#91;[a](http://b/)&#93;(http://c/)"),
        ("<a@b.c>", "[a&#64;b&#46;c](mailto:a@b.c)"),
        # formulas and prices
        (r"\( a+b \) and \[ c \]", "$a+b$ and $$ c $$"),
        ("\\[\na % b\n= c\n\\]", r"$$a \% b = c$$"),
        (r"\(5\%\) a \( b \(c\)", r"$5\%$ a &#40; b $c$"),
        (r"$$a \tag{1} \label{b}$$", r"$$a \tag{1} $$"),
        ("$$\na <b\n- c\n$$", "$$a < b - c$$"),
        (
            "\\begin{align}\na&=b\\\\[2pt] &c\n\\end{align}",
            "$$\\begin{align} a&=b\\\\ & c \\end{align}$$",
        ),
        (r"\(a\)\(b\)", "$a$ $b$"),
        ("a \\( b", "a &#40; b"),
        (r"\\(a\\)", "<span>&#92;</span>(a<span>&#92;</span>)"),
        ("Cats cost $5 and dogs $6.", f"Cats cost {DOLLAR}5 and dogs {DOLLAR}6."),
        ("$5 or so, and a few $ more", f"{DOLLAR}5 or so, and a few {DOLLAR} more"),
        ("$5 for you, 6$ for me", f"{DOLLAR}5 for you, 6{DOLLAR} for me"),
        (r"$\href{http://a/}{b}$", f"{DOLLAR}<span>&#92;</span>href{{http://a/}}{{b}}{DOLLAR}"),
        (
            r"$a{b$ $\begin{c}$",
            f"{DOLLAR}a{{b{DOLLAR} {DOLLAR}<span>&#92;</span>begin{{c}}{DOLLAR}",
        ),
    ],
)
def test_markdown_is_sanitized_for_notebooks(source: str, expected: str) -> None:
    """The output is harmless to every parser and still shows what the model wrote."""
    assert make_safe(source) == expected.rstrip("\n")


def test_a_paragraph_with_too_many_delimiters_is_shown_as_code() -> None:
    """The Markdown around it is kept."""
    shown = make_safe("*a*\n- *b*\n- " + "*c " * 2000 + "\n- *d* <b>\n\n\\(x\\)")
    first, second, third, fourth, *_, last = shown.split("\n")
    assert (first, second, fourth, last) == ("*a*", "- *b*", "- *d* &lt;b>", "$x$")
    assert third.startswith("- <code>") or third.startswith("- `*c *c ")


@pytest.mark.parametrize("marker", ["1. ", "- + ", "> "])
def test_deep_nesting_is_escaped(parser: MarkdownIt, marker: str) -> None:
    """Notebooks fail on a thousand nested lists or block quotes."""
    page = parser.render(make_safe(marker * 1000 + "x"))
    assert 3 < len(re.findall("<(?:ol|ul|blockquote)", page)) <= 12


@pytest.mark.parametrize(
    "text",
    [
        "[a](" + " " * 40_000 + "b",
        "$a" + " " * 40_000 + "b$",
        "$" + "1," * 20_000 + "x$",
        "[a](b" + " " * 40_000 + "'c'",
        "[a]: b" + " " * 40_000 + "'c' d",
        "\\(a\n" + " " * 40_000 + "b\\)",
        "- " * 20_000 + "x",
        "[" * 20_000 + "]" * 20_000 + "\n\n[a]: http://b/",
        "`" * 40_000 + "x`",
    ],
    ids=range(9),
)
def test_long_runs_of_a_character_take_linear_time(text: str) -> None:
    """No pattern backtracks over every way to split a run."""
    start = time.process_time()
    make_safe(text)
    assert time.process_time() - start < 1.0


UNITS = [
    *("\\(a ", "\\[a ", "\\(a\n", "$$a", "$a", "$x y", "$\\{", "\\begin{align}\n", "\\", "$$a\n\n"),
    *("~~~~\n", "```\n~~~\n", "``a`", "`a`", "|`a\\|", "> ```\n", "- a\n  ```\n", "    a\n\n"),
    *("[", "![", "](", "[a](", "[a](b 'c", "[a](<", "[a][", "[[](", "[a]: ", '[a]: b "', "](a\\"),
    *(
        "<",
        "<http://",
        "<a@",
        "&",
        "&lt;",
        "!",
        "\\(a{ ",
        "\\[{",
        "\\begin{align}{",
        "$1,",
        "1,1",
        "@@",
        "*a ",
        "> ",
        ">",
        "- ",
        "1. ",
        " \n",
        "\t",
    ),
]


CLOSING = "\\) \\] $$ $ \\end{align} ` `` ]( ) \"' > }\n```\n"
"""Closes everything that the units open."""


@pytest.mark.parametrize("unit", [*UNITS, ""])
def test_malicious_text_takes_linear_time(unit: str) -> None:
    """40 kB of opening delimiters take a tenth of a second; two seconds would not be linear."""
    rising = "".join("`" * length + "a" for length in range(1, 280))
    text = unit * (40_000 // len(unit)) if unit else rising
    start = time.process_time()
    make_safe(text)
    make_safe(f"{text}{CLOSING}")
    assert time.process_time() - start < 2.0


def test_an_unclosed_formula_is_searched_for_once() -> None:
    """Searching is fast: only a longer text shows whether each opening delimiter searches again."""
    start = time.process_time()
    make_safe("\\(a" * 300_000)
    assert time.process_time() - start < 12.0
