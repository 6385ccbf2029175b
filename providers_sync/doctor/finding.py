"""``Finding``: one line of the doctor's report, with its advice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..printable import one_line


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    about: str
    """The subject in one word: ``DNS``, ``TLS``, ``key``, …"""
    text: str
    advice: str = ""
    level: Literal["ok", "note", "wrong"] = "ok"

    def __str__(self) -> str:
        mark = {"ok": "ok  ", "note": "note", "wrong": "BAD "}[self.level]
        advice = f"\n{'':16}→ {one_line(self.advice)}" if self.advice else ""
        return f"  {mark} {self.about:<8} {one_line(self.text)}{advice}"


def ok(about: str, text: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(about, text)


def note(about: str, text: str, advice: str = "") -> Finding:
    """Return a finding that may matter."""
    return Finding(about, text, advice, "note")


def wrong(about: str, text: str, advice: str = "") -> Finding:
    """Return a finding that prevents answers or their streaming."""
    return Finding(about, text, advice, "wrong")
