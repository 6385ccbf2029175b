"""What the doctor says: one line about one thing, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..printable import one_line


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    """One word: ``DNS``, ``TLS``, ``key``, …"""
    text: str
    advice: str = ""
    level: Literal["ok", "note", "wrong"] = "ok"

    def __str__(self) -> str:
        mark = {"ok": "ok  ", "note": "note", "wrong": "BAD "}[self.level]
        advice = f"\n{'':16}→ {one_line(self.advice)}" if self.advice else ""
        return f"  {mark} {self.about:<8} {one_line(self.text)}{advice}"


def ok(about: str, text: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(about, text)


def note(about: str, text: str, advice: str = "") -> Finding:
    """Return a finding that may matter."""
    return Finding(about, text, advice, "note")


def wrong(about: str, text: str, advice: str = "") -> Finding:
    """Return a finding that keeps answers away."""
    return Finding(about, text, advice, "wrong")
