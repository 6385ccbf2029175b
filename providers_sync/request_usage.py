"""``RequestUsage``: what one request has used, and what its price depends on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

_STANDARD = {
    # OpenAI; Anthropic; Groq
    "service_tier": ("auto", "default", "standard", "standard_only", "on_demand"),
    "serviceTier": ("standard",),  # Gemini
    "speed": ("standard",),  # Anthropic: "fast" costs a multiple
    "inference_geo": ("global", "not_available"),  # Anthropic: "us" costs 10 % more
}
"""Options that change the price of a model, and their values that do not."""


class TokenCounts(Protocol):
    """What a server has counted: ``Usage``."""

    @property
    def input_tokens(self) -> int | None: ...
    @property
    def output_tokens(self) -> int | None: ...
    @property
    def cached_tokens(self) -> int | None: ...
    @property
    def cache_write_tokens(self) -> int | None: ...
    @property
    def reasoning_tokens(self) -> int | None: ...
    @property
    def raw(self) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True)
class RequestUsage:
    """A request that a server has begun to answer, and what it has used.

    A stream is told of it before anything else of the answer; then it has no counts yet.

    Attributes:
        url: Where it was sent, without the query.
        at: When the server began to answer, in seconds since 1970.
        surcharge: The option of the request that changes the price, such as
            ``service_tier='flex'``.
        model: The model's name as the server reports it, else the name in the request.
        usage: The tokens that the server counted, if it did.
        is_final: Whether the answer has ended, so that the counts are complete.
    """

    url: str = field(repr=False)
    at: float = field(default_factory=lambda: time.time())  # which freezegun may replace
    surcharge: str = ""
    model: str | None = None
    usage: TokenCounts | None = None
    is_final: bool = False


def surcharge(options: Mapping[str, Any] | None) -> str:
    """Return the option of a request's body, or of counts, that changes the price of the model.

    >>> surcharge({"service_tier": "flex"}), surcharge({"service_tier": "auto"})
    ("service_tier='flex'", '')
    """
    for name, standard in _STANDARD.items():
        value = (options or {}).get(name)
        if value is not None and value not in standard:
            return f"{name}={value!r:.40}"
    return ""
