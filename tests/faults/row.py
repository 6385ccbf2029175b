"""``Row``: one row of the fault table, which is a fault and the expected result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers_sync import ProviderError, Timeouts

OPENAI = ("OpenAICompatible",)
CHUNKS = (*OPENAI, "Vitalentum")
"""OpenAI's chunks: ``[DONE]`` or a finish reason ends the stream."""
ANTHROPIC = ("Anthropic",)
"""Anthropic's event types: ``message_stop`` or a stop reason ends the stream."""
RESPONSES = ("OpenAIResponses",)
"""The Responses API: only ``response.completed`` and the like end the stream."""
GEMINI = ("Gemini",)
"""Gemini's candidates: only a finish reason ends the stream."""
OLLAMA = ("Ollama",)
"""Ollama's lines of JSON: only ``"done": true`` ends the stream."""
DONE_ONLY = (*CHUNKS, *ANTHROPIC)
"""Protocols whose end marker says no reason."""
SSE = (*DONE_ONLY, *RESPONSES, *GEMINI)
"""Server-sent events, in which an error names its kind."""
MARKED = (*DONE_ONLY, *RESPONSES, *OLLAMA)
"""Protocols with an end marker after which nothing is read."""
NAMED = (*DONE_ONLY, *RESPONSES)
"""Protocols whose errors name a kind of error; Google's and Ollama's name none for a quota."""
EVENTS = (*SSE, *OLLAMA)
PLAIN = ("AI365VIP",)
ALL = (*EVENTS, *PLAIN)

HTTP = ("http",)
TLS = ("https",)
BOTH = ("http", "https")

ATTEMPTS = 3
"""Attempts allowed in every row, without a wait between them unless the server asks for one."""
MARGIN_S = 0.25
"""Seconds that a result may be late."""
LONG = Timeouts(connect=2, first_token=2, idle=2, total=4)
"""Timeouts that must not expire."""


@dataclass(frozen=True)
class Row:
    """A fault and its expected result; ``name`` is the description in docs/faults.md."""

    name: str
    script: Any
    """What the server plays; a function without arguments creates it when the row runs."""
    raises: type[ProviderError] | None = None
    """The exact class; ``None`` if the answer can be read to its end."""
    outcome: str = ""
    """By default the outcome of a good answer in the provider's protocol."""
    text: str | re.Pattern[str] = ""
    """Every character that arrived: ``.partial`` of the error and ``.text`` of the stream."""
    kinds: tuple[str, ...] = ALL
    """Names of the provider classes that are tested."""
    schemes: tuple[str, ...] = HTTP
    timeouts: Timeouts = LONG
    clock: str | None = None
    """The timeout that expires: ``.clock`` of the error."""
    requests: int = 1
    """How many requests the server receives."""
    opens: bool = True
    """Whether ``stream()`` returns, so that ``next()`` raises the error."""
    takes: float = 0.0
    """Seconds the row may take in addition to its timeout and the margin."""
    target: str = "server"
    """What the provider connects to: the scripted server, or the address of a fixture or patch."""
    message: tuple[str, ...] = ()
    """Strings that the error's text contains."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the error, or of the stream if there is no error."""

    @property
    def id(self) -> str:
        return re.sub(r"\W+", "-", self.name).strip("-")

    def expected_outcome(self, kind: str) -> str:
        """Return the outcome for this provider: ``unverified`` without an end marker."""
        return self.outcome or ("unverified" if kind in PLAIN else "complete")

    @property
    def limit(self) -> float:
        """Seconds within which the call must end."""
        timeout = getattr(self.timeouts, self.clock) if self.clock else 0.0
        attempts = ATTEMPTS if self.clock == "connect" else 1
        return float(timeout * attempts + self.takes + MARGIN_S)
