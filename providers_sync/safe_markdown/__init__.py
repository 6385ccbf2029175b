"""Makes a model's Markdown safe for notebooks: escapes HTML, turns images into links.

Notebooks render HTML in Markdown, and each one (JupyterLab, VS Code, an exported page) parses
Markdown slightly differently. So the output does not depend on the parser: anything that could be
active is written in a form that is harmless both as code and as text.

- In the model's text, every ``<``, every bracket that is not part of a checked link, and every
  unpaired backtick, dollar or backslash becomes an entity.
- Code that would be harmless as text stays Markdown; other code becomes a ``<code>`` element in
  which every punctuation mark is an entity. Only code blocks outside lists and block quotes keep
  their text, so that they are highlighted: between blank lines, at the start of the line, with a
  fence that can neither close another one nor be closed by it.
- A formula is put on one line; macros that link, load or define are refused.
"""

from __future__ import annotations

import re

from .blocks import Code, Definitions, Quote, Text, split
from .escaping import clean, code_block, is_harmless
from .formulas import DELIMITERS
from .inline import render_inline

__all__ = ["make_safe"]


def make_safe(text: str) -> str:
    r"""Return Markdown that shows ``text`` as the model intended and contains nothing active.

    Formulas in ``\(…\)`` and ``\[…\]`` become ``$…$`` and ``$$…$$``. Takes linear time.

    >>> make_safe(r"\(x^2\) is `x` <b onclick=f()>!")
    '$x^2$ is `x` &lt;b onclick=f()>!'
    >>> make_safe("![a cat](https://example.org/cat.png) [b](javascript:f())")
    '[a cat](https://example.org/cat.png) &#91;b&#93;(javascript:f())'
    """
    blocks, definitions = split(clean(text))
    return "\n".join(_lines(blocks, definitions)).strip("\n")


def _lines(blocks: list[Code | Quote | Text], definitions: Definitions) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Text):
            lines += render_inline("\n".join(block.lines), definitions).split("\n")
        elif isinstance(block, Quote):
            inner = _lines(block.blocks, definitions)
            first, rest = block.first + "> ", block.rest + "> "
            lines += [(rest if i else first) + line for i, line in enumerate(inner)]
        elif block.is_top_level:
            gap = [""] if lines and lines[-1] else []
            lines += [*gap, *_top_level_code(block), ""]
        else:
            lines += _nested_code(block)
    return lines


def _top_level_code(block: Code) -> list[str]:
    """Return a code block outside lists and quotes, as Markdown if it has no formula delimiters.

    JupyterLab and nbconvert look for formulas before they look for code.
    """
    if any(map(DELIMITERS.search, block.lines)):
        return [code_block(block.lines)]
    return _fenced(block.language, block.lines)


def _nested_code(block: Code) -> list[str]:
    first, *rest = (
        _fenced(block.language, block.lines)
        if is_harmless("\n".join(block.lines))
        else [code_block(block.lines)]
    )
    return [block.first + first, *(line and block.rest + line for line in rest)]


def _fenced(language: str, lines: list[str]) -> list[str]:
    """Return code between fences that are longer than any backtick run in it.

    The info string is never empty: a fence with an info string cannot close another one.
    """
    longest = max(map(len, re.findall("`{3,}", "\n".join(lines))), default=2)
    fence = "`" * (longest + 1)
    return [f"{fence}{language}", *lines, fence]
