"""One row of the fault table: a fault, and what a reader must see of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers_sync import ProviderError, Timeouts

OPENAI = ("OpenAICompatible",)
CHUNKS = (*OPENAI, "Vitalentum")
"""OpenAI's chunks: ``[DONE]`` or a finish reason ends them."""
ANTHROPIC = ("Anthropic",)
"""Events of its own types: ``message_stop`` alone ends them."""
EVENTS = (*CHUNKS, *ANTHROPIC)
PLAIN = ("AI365VIP",)
ALL = (*EVENTS, *PLAIN)

HTTP = ("http",)
TLS = ("https",)
BOTH = ("http", "https")

ATTEMPTS = 3
"""Of every row: our own number, with no wait between them unless the server asks for one."""
MARGIN_S = 0.25
"""How late a verdict may be."""
PATIENT = Timeouts(connect=2, first_token=2, idle=2, total=4)
"""Clocks that must not fire."""


@dataclass(frozen=True)
class Row:
    """A fault and its expectation; the fields without defaults make the sentence of the page."""

    name: str
    script: Any
    """What the server plays; a function without arguments makes it when the row runs."""
    raises: type[ProviderError] | None = None
    """The exact class; ``None`` for an answer that reads to its end."""
    outcome: str = ""
    """By default what a good answer of the provider's protocol has."""
    text: str | re.Pattern[str] = ""
    """Every character that arrived: ``.partial`` and ``.text``."""
    kinds: tuple[str, ...] = ALL
    wires: tuple[str, ...] = HTTP
    timeouts: Timeouts = PATIENT
    clock: str | None = None
    requests: int = 1
    """How many requests the server saw."""
    opens: bool = True
    """Whether ``stream()`` returned, so that the error came from ``next()``."""
    takes: float = 0.0
    """Seconds the row may take beside its clock and the margin."""
    place: str = "server"
    """Where the provider is sent: the scripted server, or a fixture's or patch's address."""
    says: tuple[str, ...] = ()
    """Words of the error's text."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the error, or of the stream where there is none."""

    @property
    def id(self) -> str:
        return re.sub(r"\W+", "-", self.name).strip("-")

    def verdict(self, kind: str) -> str:
        """The outcome for this provider: a protocol without an end marker proves less."""
        return self.outcome or ("unverified" if kind in PLAIN else "complete")

    @property
    def limit(self) -> float:
        """Seconds within which the verdict must be there."""
        clock = getattr(self.timeouts, self.clock) if self.clock else 0.0
        attempts = ATTEMPTS if self.clock == "connect" else 1
        return float(clock * attempts + self.takes + MARGIN_S)
