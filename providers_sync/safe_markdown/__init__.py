"""A model's Markdown, made harmless for notebooks: no HTML, no images, no odd links.

Notebooks render Markdown with HTML, and each of them (JupyterLab, VS Code, an exported page) reads
Markdown in a slightly different way. So nothing here depends on how they read it: whatever could
act is written in a form that is harmless both as code and as text.

- Text holds no ``<`` of the model's, no bracket that is not part of a checked link, no stray
  backtick, dollar or backslash: they become entities.
- Code whose characters are harmless as text, too, stays Markdown; other code becomes a
  ``<code>`` of ours with every punctuation mark as an entity. Only blocks outside lists and quotes
  are written as they are, so that they are highlighted: between blank lines, at the start of the
  line, behind a fence that can neither close nor be closed by another one.
- A formula stays on one line, without the macros that link, load or define.
"""

from __future__ import annotations

import re

from .blocks import Code, Definitions, Quote, Text, split
from .escaping import clean, code_block, is_harmless
from .formulas import DELIMITERS
from .inline import inline

__all__ = ["safe_markdown"]


def safe_markdown(text: str) -> str:
    r"""Return Markdown that shows ``text`` as the model meant it, and does nothing else.

    Formulas in ``\(…\)`` and ``\[…\]`` become ``$…$`` and ``$$…$$``; the time it takes is linear.

    >>> safe_markdown(r"\(x^2\) is `x` <b onclick=f()>!")
    '$x^2$ is `x` &lt;b onclick=f()>!'
    >>> safe_markdown("![a cat](https://example.org/cat.png) [b](javascript:f())")
    '[a cat](https://example.org/cat.png) &#91;b&#93;(javascript:f())'
    """
    blocks, definitions = split(clean(text))
    return "\n".join(_lines(blocks, definitions)).strip("\n")


def _lines(blocks: list[Code | Quote | Text], definitions: Definitions) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Text):
            lines += inline("\n".join(block.lines), definitions).split("\n")
        elif isinstance(block, Quote):
            inner = _lines(block.blocks, definitions)
            first, rest = block.first + "> ", block.rest + "> "
            lines += [(rest if number else first) + line for number, line in enumerate(inner)]
        elif block.is_top:
            gap = [""] if lines and lines[-1] else []
            lines += [*gap, *_top_code(block), ""]
        else:
            lines += _nested_code(block)
    return lines


def _top_code(block: Code) -> list[str]:
    """Return a block that no list or quote holds, as Markdown if it has no formula's delimiters.

    JupyterLab and nbconvert look for those before they look for code.
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
    """Return code between fences that are longer than any of its own.

    The language is always there: a fence with a word behind it never closes another one.
    """
    longest = max(map(len, re.findall("`{3,}", "\n".join(lines))), default=2)
    fence = "`" * (longest + 1)
    return [f"{fence}{language}", *lines, fence]
