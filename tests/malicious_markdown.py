"""Malicious Markdown that runs scripts, loads images or hides links, and a check for harm."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser

HOST = "http://images.invalid"
"""A placeholder for the server that counts requests; tests replace it with their own."""
IMAGE = f'<img src="{HOST}/img.png" onerror="window.ran=1">'
SCRIPT = "<script>window.ran=1</script>"
MARKDOWN_IMAGE = f"![cat]({HOST}/markdown.png)"
LINK = "[click](javascript:window.ran=1)"
FORMULA = r"\href{javascript:window.ran=1}{x}"

MALICIOUS = [
    # HTML in text
    IMAGE,
    SCRIPT,
    f"Cats {IMAGE} purr. {SCRIPT} <b onmouseover=window.ran=1>b</b>",
    f'<svg onload="window.ran=1"><image href="{HOST}/svg.png"></svg>',
    f'<iframe srcdoc="{SCRIPT}" src="{HOST}/frame"></iframe>',
    f'<style>body {{ background: url("{HOST}/style.png") }}</style>',
    f'<link rel=stylesheet href="{HOST}/link.css"><base href="{HOST}/">',
    f'<video poster="{HOST}/poster.png" src="{HOST}/video"><object data="{HOST}/object">',
    f'<form action="{HOST}/form"><button formaction="javascript:window.ran=1">b</button></form>',
    f"<!-- a comment {IMAGE} --> <!--> {IMAGE} -->",
    f"<?php {IMAGE} ?> <!DOCTYPE {IMAGE}> <![CDATA[ {IMAGE} ]]>",
    f"<b\n\nx {IMAGE}",
    f"<div>\n\n{IMAGE}\n\n</div>\n*a*",
    f"<pre>\n```\n{IMAGE}\n```\n</pre>",
    f"<details>\n{LINK}\n{MARKDOWN_IMAGE}",
    f"- <div>\n  {IMAGE}\n- x",
    f"> <table><tr><td {IMAGE}",
    f"| a | b |\n|---|---|\n| {IMAGE} | {MARKDOWN_IMAGE} |",
    f"# {IMAGE}\n{SCRIPT}\n===\n{IMAGE}\n---",
    f"*a {IMAGE}* **{IMAGE}** ~~{IMAGE}~~",
    "&lt;img src=x onerror=window.ran=1&gt; &#60;script>window.ran=1&#60;/script>",
    # links
    LINK,
    "<javascript:window.ran=1> <JaVaScRiPt:window.ran=1> <data:text/html,x>",
    "[a](JAVASCRIPT:window.ran=1) [b](java\tscript:x) [c](java\nscript:x) [d](<java script:x>)",
    "[a](&#106;avascript:x) [b](javascript&colon;x) [c](javascript&#x3A;x) [d](java&Tab;script:x)",
    r"[a](\javascript:x) [b](j\avascript:x) [c](javascript\:x) [d](javascript%3Ax)",
    "[a](\x01javascript:x) [b]( javascript:x ) [c](<javascript:x> 'title') [d](vbscript:x)",
    "[a](data:text/html;base64,PHNjcmlwdD4=) [b](file:///etc/passwd) [c](blob:x) [d](ftp://x/)",
    "[a](//evil.invalid/) [b](/api/shutdown) [c](../../lab) [d](?token=1) [e](a.ipynb)",
    "- [x](javascript:window.ran=1)\n- [ ](javascript:x)\n- [x]: javascript:x\n- [x] a",
    "[a]\n\n[a]: javascript:window.ran=1\n[b]: <javascript:window.ran=1> 'title'\n\n[b] [x][a]",
    f'[a]: http://x/ "a title\n```html\n" {IMAGE}\n```\n[a]',
    f"[a]: http://x/\n'title\n\n{IMAGE}' [a][]",
    '[a](https://x/"onmouseover="window.ran=1) [b](https://x/ "t\\" onclick=window.ran=1 ")',
    f"[a](https://x/<img src={HOST}/a>) [{IMAGE}](https://x/)",
    "[a](https://x/`) ` [b](javascript:x) `](javascript:x)",
    f"[`a](javascript:x) {IMAGE}` ![`]({HOST}/tick.png)`",
    # images
    MARKDOWN_IMAGE,
    f"!{MARKDOWN_IMAGE} !!{MARKDOWN_IMAGE} \\{MARKDOWN_IMAGE} !<{HOST}/auto.png>",
    f"![cat][c] ![c] ![c][] !\\[c]\n\n[c]: {HOST}/reference.png",
    f"[![cat]({HOST}/in-link.png)]({HOST}/outer) ![![a]({HOST}/b.png)]({HOST}/c.png)",
    f"![a\nb]({HOST}/lines.png) ![`x`]({HOST}/code.png 'title') ![]({HOST}/empty.png)",
    f"![a](<{HOST}/angle.png>) ![a]({HOST}/p(a)r.png) ![a](\n{HOST}/gap.png\n)",
    f"&#33;[cat]({HOST}/entity.png) !&#91;cat]({HOST}/entity.png)",
    f"| ![a]({HOST}/table.png) |\n|---|\n| `|` ![b]({HOST}/cell.png) |",
    # what only some parsers take for code
    f"```\n{IMAGE}\n",
    f"~~~\n{IMAGE}\n```\n{SCRIPT}",
    f"```html\n{IMAGE}\n~~~\n{SCRIPT}\n```\n{IMAGE}",
    f"   ```\n{IMAGE}\n    ```\n{SCRIPT}",
    f"    ```\n{IMAGE}\n    ```",
    f"- ```\n  x\n{IMAGE}\n  ```\n{SCRIPT}",
    f"- a\n\n  ```\n  x\n ```\n{IMAGE}\n```\n{SCRIPT}\n```",
    f"1. a\n\n    ```html\n    {IMAGE}\n    ```\n{IMAGE}",
    f"> ```\n> x\n{IMAGE}\n> ```\n{SCRIPT}",
    f"> ```\n{IMAGE}\n```\n{IMAGE}\n```",
    f"-\t```\n\t{IMAGE}\n\t```\n\n\t\t{IMAGE}",
    f"a\n    {IMAGE}\n\n    {IMAGE}\n\n\t{SCRIPT}",
    f"- a\n\n    {IMAGE}\n\n      {IMAGE}\n\n          {IMAGE}",
    f"`{IMAGE}\n\n{IMAGE}`",
    f"``a ` {IMAGE}`` *b `` {IMAGE} ` c* d ``",
    f"~~a `{IMAGE}~~ b` ~~c~~ `{IMAGE}`",
    f"*a ``{IMAGE} ` b* c`` _d `{IMAGE}_ e`",
    f"- `a\n- {IMAGE}`\n# `b\n{IMAGE}`",
    f"\\`{IMAGE}` \\\\`{IMAGE}` `\\`{IMAGE}`",
    f"```a`b\n{IMAGE}\n```",
    f"```\u2028{IMAGE}\n```\x0c\n{IMAGE}\n```\r{IMAGE}",
    f"````\n```\n{IMAGE}\n`````\n{IMAGE}",
    f'```py" onmouseover="window.ran=1\n{IMAGE}\n```',
    f'```mermaid\ngraph TD; A["{IMAGE}"]; click A "javascript:window.ran=1"\n```',
    f"```MERMAID {{}}\n{SCRIPT}\n```\n\n~~~mermaid\n</pre>{IMAGE}\n~~~",
    # formulas
    f"${FORMULA}$ $${FORMULA}$$ \\({FORMULA}\\) \\[{FORMULA}\\]",
    f"\\\\({FORMULA}\\\\) \\\\[{FORMULA}\\\\] \\begin{{align}}{FORMULA}\\end{{align}}",
    f"&#36;{FORMULA}&#36; &bsol;({FORMULA}&bsol;) &dollar;&bsol;href{{javascript:x}}{{x}}&dollar;",
    r"$\style{background:url(javascript:x)}{x}$ $\class{jp-x}{x}$",
    r"$\cssId{main}{x}$ $\unicode{x3c}$ $\text{\href{javascript:x}{y}}$ $\bbox[border:url(x)]{y}$",
    r"$\require{html}\def\x{\href}\x{javascript:x}{y}$ $\let\y=\href \y{javascript:x}{y}$",
    r"$\newcommand{\z}[1]{\href{#1}{y}} \z{javascript:x}$ $\includegraphics{"
    + HOST
    + r"/tex.png}$",
    r"$\\\[2pt]href{javascript:x}{y}$ \[\hr\label{a}ef{javascript:x}{y}\]",
    r"$\hr%ef{javascript:x}{y}$ $\href1{x}$ $\text{\(\href{javascript:x}{y}\)}$",
    f"$a{IMAGE}b$ $$a{SCRIPT}b$$ \\(a {IMAGE} b\\)",
    f'[a](https://x/ "$") {IMAGE} [b](https://x/ "$\\" onmouseover=window.ran=1 ")',
    '$" onmouseover="window.ran=1" x="$ [a](https://x/@\\@0@@) [b](https://x/ "@&#64;0@@")',
    f"```\n\\begin{{a}}\n```\n\\end{{a}}\n```html\n{IMAGE}\n```",
    f"$$\n\n```html\n$$ {IMAGE}\n```\n\n`$$`\n\n```\n$$\n{IMAGE}\n```",
    f"$a$$b$\n\n```html\n$$ {IMAGE}\n```",
    f"$a \\\\[b$\n\n```html\n\\\\] {IMAGE}\n```\n\n$\\begin{{a}}$\n\n```\n\\end{{a}} {IMAGE}\n```",
    f"- x\n  ```\n  $\n  ```\n\n```html\n$ {IMAGE} @@0@@ @@1@@\n```",
]

_FRAGMENTS = [
    *(IMAGE, SCRIPT, MARKDOWN_IMAGE, LINK, f"${FORMULA}$", FORMULA, "![a][r]", "[r]", "[a][r]"),
    *("\n[r]: javascript:window.ran=1\n", f"\n[r]: {HOST}/r.png\n", '\n[r]: http://x/ "', "'", '"'),
    *("`", "``", "```", "~~~", "\n```\n", "\n~~~\n", "\n```html\n", "\n````\n", "\n   ```\n"),
    *("\n    ```\n", "\n> ```\n", "\n- ```\n", "\n1. ~~~\n", "\n\t```\n", "\n  - ```\n"),
    *("\n", "\n\n", "\n    ", "\n\t", "\n> ", "\n- ", "\n  ", "\n1. ", "\n* ", "\n# ", "\n---\n"),
    *(
        "<div>",
        "</div>",
        "<pre>",
        "</pre>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?",
        "?>",
        "<a b='",
    ),
    *(
        "$",
        "$$",
        "\\(",
        "\\)",
        "\\[",
        "\\]",
        "\\\\(",
        "\\\\)",
        "\\\\[",
        "\\\\]",
        "\\",
        "\\\\",
        "\\`",
    ),
    *("\\begin{a}", "\\end{a}", "{", "}", "@@0@@", "@\\@0@@", "@@", "&#36;", "&lt;", "&bsol;", "&"),
    *(
        "[",
        "]",
        "(",
        ")",
        "](",
        "![",
        "!",
        "<",
        ">",
        "|",
        "\n|---|\n",
        "\n- [x]",
        "[ ]",
        "*",
        "**",
        "_",
        "~~",
        "a",
        "b c",
    ),
    *(
        "\r",
        "\u2028",
        "\x0c",
        "\xa0",
        "5",
        "<javascript:x>",
        f"<{HOST}/auto>",
        '```x" onclick="a\n',
    ),
]


def mixed(number: int) -> Iterator[str]:
    """Yield ``number`` random mixtures of fragments, the same ones every time."""
    rng = random.Random(4)
    for _ in range(number):
        fragments = rng.sample(_FRAGMENTS, rng.choice([5, 12, 40]))
        yield "".join(rng.choice(fragments) for _ in range(rng.choice([4, 8, 16, 32])))


# --- what a rendered page must not contain

_SAFE_TAGS = (
    " p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong del s a hr br span div"
    " table thead tbody tr th td input dl dt dd "
)
_FORMULA = re.compile(r"mjx-|m[a-z]+$")
"""The elements of a formula that MathJax has rendered."""
_SAFE_ATTRIBUTES = (
    " href class id align start type checked disabled target rel title lang dir style role"
    " data-jupyter-id "
)
_TARGET = re.compile(r"(?:https?://|mailto:|#)", re.I)


def harm(page: str) -> list[str]:
    """Return everything in this HTML that harmless Markdown cannot produce."""
    checker = _HarmChecker()
    checker.feed(page)
    checker.close()
    return checker.found


class _HarmChecker(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        is_formula = bool(_FORMULA.match(tag)) and tag not in ("main", "map", "mark", "marquee")
        if not (f" {tag} " in _SAFE_TAGS or is_formula):
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            target = name == "href" and not _TARGET.match(value or "")
            style = name == "style" and "url" in (value or "")
            event = name.startswith("on") or not (is_formula or f" {name} " in _SAFE_ATTRIBUTES)
            if target or style or event or name == "src":
                self.found.append(f"<{tag} {name}={value!r}>")

    def handle_comment(self, data: str) -> None:
        self.found.append(f"<!--{data}-->")

    def handle_decl(self, decl: str) -> None:
        self.found.append(f"<!{decl}>")

    unknown_decl = handle_decl

    def handle_pi(self, data: str) -> None:
        self.found.append(f"<?{data}>")
