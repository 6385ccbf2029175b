"""Tests of the chat page's code, formulas and sources in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from running import Upstream

from providers_sync.testing import event, text

pytest.importorskip("selenium")
from test_browser import LARGE, Tab, render


@pytest.fixture(scope="module")
def page(chromium: Any, flask_url: str) -> Iterator[Tab]:
    """A page used only for its renderer."""
    tab = Tab(chromium, flask_url)
    yield tab
    tab.close()


def code_of(page: Tab, language: str, code: str) -> str:
    """Return the HTML of a rendered code block; check that its text is unchanged."""
    html = render(page, f"```{language}\n{code}\n```")
    found = re.search(r"<code>(.*)</code>", html, re.S)
    assert found is not None
    script = "const box = document.createElement('p'); box.innerHTML = arguments[0];"
    shown = page.activate().execute_script(script + "return box.textContent", found[1])
    assert shown == code
    return found[1]


CODE = [
    (
        "python",
        "def f(x):  # why?\n    return 'it\\'s' + str(1.5)",
        '<span class="keyword">def</span> f(x):  <span class="comment"># why?</span>\n'
        '    <span class="keyword">return</span> <span class="string">\'it\\\'s\'</span>'
        ' + str(<span class="number">1.5</span>)',
    ),
    (
        "python",
        "x = [1]# it's",
        'x = [<span class="number">1</span>]<span class="comment"># it\'s</span>',
    ),
    ("cpp", "n = 1'000'000;", "n = <span class=\"number\">1'000'000</span>;"),
    ("py", '"""a\n# b"""', '<span class="string">"""a\n# b"""</span>'),
    (
        "js",
        "let a = `b ${1}`; // c",
        '<span class="keyword">let</span> a = <span class="string">`b ${1}`</span>; '
        '<span class="comment">// c</span>',
    ),
    (
        "SQL",
        "select a -- b",
        '<span class="keyword">select</span> a <span class="comment">-- b</span>',
    ),
    (
        "html",
        '<a href="b">c</a><!-- d -->',
        '<span class="keyword">&lt;a</span> href=<span class="string">"b"</span>'
        '<span class="keyword">&gt;</span>c<span class="keyword">&lt;/a</span>'
        '<span class="keyword">&gt;</span><span class="comment">&lt;!-- d --&gt;</span>',
    ),
    ("rust", "f<'a>('b')", "f&lt;'a&gt;(<span class=\"string\">'b'</span>)"),
    ("c", "int a; /* not ended", None),
    (
        "bash",
        "cd '\\' # b",
        """cd <span class="string">'\\'</span> <span class="comment"># b</span>""",
    ),
    ("sql", "'\\' -- b", """<span class="string">'\\'</span> <span class="comment">-- b</span>"""),
    ("bash", "echo $# # b", 'echo $# <span class="comment"># b</span>'),
    ("", "if a: return 1  # b", "if a: return 1  # b"),
    ("brainfuck", "if 'a' 1", "if 'a' 1"),
    ("constructor", "if 'a' 1", "if 'a' 1"),
    ("python", "<img src=x onerror=hacked=1>", None),
]


@pytest.mark.parametrize(("language", "code", "expected"), CODE)
def test_code_is_coloured(page: Tab, language: str, code: str, expected: str | None) -> None:
    """By what its tokens are; the text itself is unchanged, and a language not known is plain."""
    html = code_of(page, language, code)
    assert expected is None or html == expected
    assert "<img" not in html


def test_code_grows_as_it_streams(page: Tab) -> None:
    """A string or comment that has not ended yet is coloured to the end."""
    assert code_of(page, "python", "a = 'b") == 'a = <span class="string">\'b</span>'
    assert code_of(page, "js", "/* b\nc") == '<span class="comment">/* b\nc</span>'


UNITS = ['"', "'", "`", "/*", "//", "# ", "--", '"""', "<!--", "<a ", '="', "\\", '"\\', "a", "&a"]


@pytest.mark.parametrize("language", ["python", "js", "html", "sql", "bash", "rust", "json"])
def test_code_takes_linear_time(page: Tab, language: str) -> None:
    """Whatever delimiter is repeated; and code that is very long has no colours."""
    for unit in UNITS:
        render(page, f"```{language}\n{unit * (49_000 // len(unit))}")
        assert float(page.activate().execute_script("return took")) < 1000, unit
    assert "<span class=" not in code_of(page, language, "if 'a' " * LARGE)


def test_sources_are_links_below_the_answer(page: Tab, upstream: Upstream) -> None:
    """Each once, with its title as text and its host; only addresses on the web become links."""
    sources = [
        *({"url": "https://a.example/x", "title": "**A** <b>"},) * 2,
        {"url": "https://b.example/"},
        {"url": "javascript:alert(1)", "title": "C"},
        {"url": "https://d.example/", "title": "https://bank.example/"},
        {"url": "https://e.example/", "title": " \n "},
        {"url": "https://f.example/", "title": "T" * 200},
    ]
    annotations = [{"type": "url_citation", "url_citation": source} for source in sources]
    chunk = {"choices": [{"index": 0, "delta": {"annotations": annotations}}]}
    upstream.set_answer("Sources?", text("Hello"), event(chunk))
    page.activate().execute_script("delete URL.canParse")  # browsers of before 2024 lack it
    page.ask("Sources?")
    page.wait_for("complete", ".exchange:last-child .outcome")
    script = (
        "return [...document.querySelectorAll('.exchange:last-child .sources li')].map(item =>"
        " [item.textContent, item.querySelector('a')?.href ?? null])"
    )
    assert page.activate().execute_script(script) == [
        ["**A** <b> a.example", "https://a.example/x"],
        ["https://b.example/", "https://b.example/"],
        ["C", None],
        ["https://bank.example/ d.example", "https://d.example/"],
        ["https://e.example/", "https://e.example/"],
        [f"{'T' * 100}… f.example", "https://f.example/"],
    ]


INLINE = '<code class="formula" title="Formula">{}</code>'
BLOCK = f'<p class="formula">{INLINE}</p>'
FORMULAS = [
    (r"Let \(a_1 * b_2 * c\) be", "<p>Let " + INLINE.format(r"\(a_1 * b_2 * c\)") + " be</p>"),
    (r"So \[x^2\] holds", "<p>So " + INLINE.format(r"\[x^2\]") + " holds</p>"),
    ("So $$a_i * b_i$$ holds", "<p>So " + INLINE.format("$$a_i * b_i$$") + " holds</p>"),
    ("\\[\na\n+ b\n- c\n\\]", BLOCK.format("\\[\na\n+ b\n- c\n\\]")),
    ("\\[\na\n\n- b\n\\]", BLOCK.format("\\[\na\n\n- b\n\\]")),
    ("$$ a\n\n- b $$", "<p>$$ a</p><ul><li>b $$</li></ul>"),
    ("\\[\n" + "a_1_\n" * 99 + "\\]", BLOCK.format("\\[\n" + "a_1_\n" * 99 + "\\]")),
    (
        "So:\n$$\n# a **b**\n$$\nthen",
        "<p>So:</p>" + BLOCK.format("$$\n# a **b**\n$$") + "<p>then</p>",
    ),
    ("$$E = mc^2$$.", BLOCK.format("$$E = mc^2$$.")),
    ("  \\[ a \\]", BLOCK.format(r"\[ a \]")),
    (r"**bold \(a*b\)**", "<p><strong>bold " + INLINE.format(r"\(a*b\)") + "</strong></p>"),
    (r"- \(a_b_c\)", "<ul><li>" + INLINE.format(r"\(a_b_c\)") + "</li></ul>"),
    (r"`\(a\)`", r"<p><code>\(a\)</code></p>"),
    (r"\\(a\\)", r"<p>\(a\)</p>"),
    (r"\(not ended *yet*", "<p>(not ended <em>yet</em></p>"),
    ("$$\nnot ended *yet*", "<p>$$\nnot ended <em>yet</em></p>"),
    ("It costs $5 to $10, or 5$ *each*", "<p>It costs $5 to $10, or 5$ <em>each</em></p>"),
    ("US$5, $1_000 and $2_000", "<p>US$5, $1_000 and $2_000</p>"),
    ("costs $$5 or $$6, *each*", "<p>costs $$5 or $$6, <em>each</em></p>"),
    ("price is\n$$5 each", "<p>price is\n$$5 each</p>"),
    ("- item\n$$5 lazily", "<ul><li>item\n$$5 lazily</li></ul>"),
    ("> quote\n$$5 lazily", "<blockquote><p>quote\n$$5 lazily</p></blockquote>"),
    ("kill -9 $$; echo $$", "<p>kill -9 $$; echo $$</p>"),
    (
        r"write \[ and \] for brackets",
        "<p>write " + INLINE.format(r"\[ and \]") + " for brackets</p>",
    ),
    (r"\(<img src=x>\)", "<p>" + INLINE.format(r"\(&lt;img src=x&gt;\)") + "</p>"),
]


@pytest.mark.parametrize(("source", "expected"), FORMULAS)
def test_formula_is_shown_as_its_source(page: Tab, source: str, expected: str) -> None:
    """No Markdown applies inside, and prices are no formulas."""
    assert render(page, source) == expected


REPEATED = [r"\(", r"\[", "$$", "$$a", r"\[ a ", "$$ a\n", "\\[ a\n", "$$a$", r"\(a\]", "$$\n\n"]


@pytest.mark.parametrize("unit", REPEATED)
def test_formulas_take_linear_time(page: Tab, unit: str) -> None:
    render(page, unit * (LARGE // len(unit)))
    assert float(page.activate().execute_script("return took")) < 5000
