"""Sanitizing of TeX formulas: those with macros that link, load or define are refused."""

from __future__ import annotations

import re

DELIMITERS = re.compile(r"\\(?:begin|end)\{|\\\\[()\[\]]|@@\d")
"""Formula delimiters that JupyterLab and nbconvert see even in code, where they ignore ``$``, and
the placeholders that JupyterLab puts in place of formulas."""
ENVIRONMENT = re.compile(
    r"\\begin\{((?:align|alignat|aligned|array|cases|eqnarray|equation|flalign|gather|gathered"
    r"|matrix|multline|[bBpvV]matrix|smallmatrix|split)\*?)\}"
)
"""The start of an environment: a formula that needs no other delimiters in text."""

_FORBIDDEN_MACRO = re.compile(
    r"\\(?:"
    r"href|url|html\w*|class|style|cssId|data|mmlToken|bbox|tooltip|mathtip|texttip|toggle"
    r"|require|include\w*|input|unicode|U|char|verb|csname|catcode|expandafter|noexpand"
    r"|[egx]?def|let|futurelet|global|long|(?:re)?[nN]ew(?!line)\w*|provide\w*|Declare\w*"
    r"|usetagform|definecolor|mathtoolsset|setOptions|message|errmessage|show|write\d*|label"
    r"|[rR]ule|Space|raise|lower|raisebox|moveleft|moveright"
    r")(?![A-Za-z])"
)
"""Macros that link, load, define, set attributes, or draw outside their own box."""
_BRACES = re.compile(r"\\.|[{}]", re.S)
_ENVIRONMENT_ENDS = re.compile(r"\\(begin|end)\{([^{}]*)\}")
_PERCENT = re.compile(r"(\\.)|%", re.S)
"""A percent sign: escaped, since a comment would swallow the rest of the line."""
_LABEL = re.compile(r"\\label\s?\{[^{}]*\}")
"""Removed: it displays nothing, but causes an error when the formula is rendered again."""
_PRICE = re.compile(r"\d[^\\^_={}]*\s[^\W\d_]{2}")
"""Text between two prices: a digit, later a space and a word of two letters or more."""
_REPLACEMENTS = (
    (re.compile(r"\n\s*"), " "),
    (re.compile(r"\\\\\[[\w. -]*\]"), r"\\\\"),  # the height of a gap, as in "\\[2pt]"
    (re.compile(r"\\\\(?=[()\[\]])"), r"\\\\ "),  # delimiters to JupyterLab and nbconvert
    (re.compile(r"<(?=\S)"), "< "),  # not a tag
    (re.compile(r"&(?=[#\w])"), "& "),  # not an entity
    (re.compile(r"!(?=\[)|\](?=[(\[:])|@(?=@)"), r"\g<0> "),  # no image, link or placeholder
    (re.compile(r'"'), "''"),  # cannot end an attribute
)


def formula(tex: str, display: bool) -> str | None:
    r"""Return the formula between dollars, as Jupyter expects it; ``None`` if it is unsafe.

    >>> formula(r"a<b", False)
    '$a< b$'
    >>> formula(r"\href{javascript:f()}{x}", False)
    """
    tex = _LABEL.sub("", tex).strip("\n" if display else None)
    if not tex.strip() or "`" in tex or "$" in tex.replace("\\$", ""):
        return None
    tex = _PERCENT.sub(lambda match: match[1] or r"\%", tex)
    for pattern, replacement in _REPLACEMENTS:
        tex = pattern.sub(replacement, tex)
    # Last: what was removed above may have split a macro's name.
    if _FORBIDDEN_MACRO.search(tex) or not (_is_balanced(tex) and _is_nested(tex)):
        return None
    if tex.endswith("\\"):
        tex += " "
    return f"$${tex}$$" if display else f"${tex}$"


def is_price(tex: str) -> bool:
    """Return whether two dollars around this text probably belong to two prices."""
    return bool(_PRICE.match(tex))


def _is_balanced(tex: str) -> bool:
    """Return whether the braces match: JupyterLab ends a formula only outside them."""
    depth = 0
    for match in _BRACES.finditer(tex):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth < 0:
            return False
    return depth == 0


def _is_nested(tex: str) -> bool:
    """Return whether environments match: nbconvert searches the entire page for a missing end."""
    names: list[str] = []
    for macro, name in _ENVIRONMENT_ENDS.findall(tex):
        if macro == "begin":
            names.append(name)
        elif not names or names.pop() != name:
            return False
    return not names
