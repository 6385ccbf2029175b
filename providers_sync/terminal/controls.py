"""Text that cannot steer the terminal: what control characters become on the screen."""

from __future__ import annotations

_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"}
_MARKS = dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
_TABLE = {**_PICTURES, **_MARKS, 0x7F: 0x2421, ord("\r"): None}


def visible(text: str) -> str:
    r"""Return ``text`` with control characters made visible; line breaks and tabs stay.

    A model's words, or a file it was shown, must not move the cursor or rename the window.

    >>> visible("a\x1b[2Jb\r\n")
    'a␛[2Jb\n'
    """
    return text.translate(_TABLE)
