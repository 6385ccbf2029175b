"""Formulas that only show something: without the macros that link, load or define."""

from __future__ import annotations

import re

DELIMITERS = re.compile(r"\\(?:begin|end)\{|\\\\[()\[\]]|@@\d")
"""What begins or ends a formula for JupyterLab and nbconvert even in code, where ``$`` does not,
and what JupyterLab writes in a formula's place."""
ENVIRONMENT = re.compile(
    r"\\begin\{((?:align|alignat|aligned|array|cases|eqnarray|equation|flalign|gather|gathered"
    r"|matrix|multline|[bBpvV]matrix|smallmatrix|split)\*?)\}"
)
"""The beginning of a formula that stands in text without other delimiters."""

_FORBIDDEN = re.compile(
    r"\\(?:"
    r"href|url|html\w*|class|style|cssId|data|mmlToken|bbox|tooltip|mathtip|texttip|toggle"
    r"|require|include\w*|input|unicode|U|char|verb|csname|catcode|expandafter|noexpand"
    r"|[egx]?def|let|futurelet|global|long|(?:re)?[nN]ew(?!line)\w*|provide\w*|Declare\w*"
    r"|usetagform|definecolor|mathtoolsset|setOptions|message|errmessage|show|write\d*|label"
    r"|[rR]ule|Space|raise|lower|raisebox|moveleft|moveright"
    r")(?![A-Za-z])"
)
"""What links, loads, defines, sets attributes, or writes outside its own place."""
_BRACES = re.compile(r"\\.|[{}]", re.S)
_BORDERS = re.compile(r"\\(begin|end)\{([^{}]*)\}")
_PERCENT = re.compile(r"(\\.)|%", re.S)
"""Rather what it says than the beginning of a comment, which would take the rest of the line."""
_LABEL = re.compile(r"\\label\s?\{[^{}]*\}")
"""Nothing to be seen, but an error when the formula is shown again."""
_PRICE = re.compile(r"\d[^\\^_={}]*\s[^\W\d_]{2}")
"""How words begin that stand between two prices."""
_HARMLESS = (
    (re.compile(r"\n\s*"), " "),
    (re.compile(r"\\\\\[[\w. -]*\]"), r"\\\\"),  # the height of a gap, and below:
    (re.compile(r"\\\\(?=[()\[\]])"), r"\\\\ "),  # a delimiter for JupyterLab and nbconvert
    (re.compile(r"<(?=\S)"), "< "),  # no tag
    (re.compile(r"&(?=[#\w])"), "& "),  # no entity
    (re.compile(r"!(?=\[)|\](?=[(\[:])|@(?=@)"), r"\g<0> "),  # no image, no link, no marker
    (re.compile(r'"'), "''"),  # no end of an attribute
)


def formula(tex: str, display: bool) -> str | None:
    r"""Return the formula between the dollars of Jupyter's Markdown; ``None`` to refuse it.

    >>> formula(r"a<b", False)
    '$a< b$'
    >>> formula(r"\href{javascript:f()}{x}", False)
    """
    tex = _LABEL.sub("", tex).strip("\n" if display else None)
    if not tex.strip() or "`" in tex or "$" in tex.replace("\\$", ""):
        return None
    tex = _PERCENT.sub(lambda found: found[1] or r"\%", tex)
    for pattern, instead in _HARMLESS:
        tex = pattern.sub(instead, tex)
    # Last, as what is left out may have stood within a macro's name.
    if _FORBIDDEN.search(tex) or not (_is_balanced(tex) and _is_nested(tex)):
        return None
    if tex.endswith("\\"):
        tex += " "
    return f"$${tex}$$" if display else f"${tex}$"


def is_price(tex: str) -> bool:
    """Tell whether two dollars around this text are rather those of two prices."""
    return bool(_PRICE.match(tex))


def _is_balanced(tex: str) -> bool:
    """Tell whether the braces match: JupyterLab looks for the end of a formula outside them."""
    depth = 0
    for found in _BRACES.finditer(tex):
        depth += {"{": 1, "}": -1}.get(found[0], 0)
        if depth < 0:
            return False
    return depth == 0


def _is_nested(tex: str) -> bool:
    """Tell whether environments match: nbconvert looks for an open one's end on the whole page."""
    names: list[str] = []
    for border, name in _BORDERS.findall(tex):
        if border == "begin":
            names.append(name)
        elif not names or names.pop() != name:
            return False
    return not names
