"""What answers cost: ``Cost``, by the list prices of genai-prices (extra ``prices``).

Nothing is fetched: the prices are those of the installed release of genai-prices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .request_usage import RequestUsage, TokenCounts, surcharge

if TYPE_CHECKING:
    from genai_prices.types import PriceCalculation

INSTALL = "pip install 'providers-sync[prices]'"
REASONS = 10
"""How many reasons a cost names: a server may call its model by a new name each time."""
LONGEST_NAME = 256
"""A longer name of a model has no price: a server may send megabytes, and to compare takes long."""
OPENROUTER = "openrouter.ai"
OTHERS = "the cost of more answers is not known"
_MODALITIES = {"TEXT": "text", "IMAGE": "image", "DOCUMENT": "image", "AUDIO": "audio"}
_MODALITIES["VIDEO"] = "video"
_GEMINI_DETAILS = {
    "promptTokensDetails": "input_{}_tokens",
    "cacheTokensDetails": "cache_{}_read_tokens",
    "candidatesTokensDetails": "output_{}_tokens",
}
_DETAILS = {
    "cache_write_5m_tokens": ("cache_creation", "ephemeral_5m_input_tokens"),  # Anthropic
    "cache_write_1h_tokens": ("cache_creation", "ephemeral_1h_input_tokens"),
    "web_searches": ("server_tool_use", "web_search_requests"),
    "input_audio_tokens": ("prompt_tokens_details", "audio_tokens"),  # OpenAI
    "output_audio_tokens": ("completion_tokens_details", "audio_tokens"),
    "input_image_tokens": ("input_tokens_details", "image_tokens"),
    "output_image_tokens": ("output_tokens_details", "image_tokens"),
}
"""Counts with prices of their own, and where servers put them."""


@dataclass(frozen=True)
class Cost:
    """What answers cost in US dollars, by list prices; costs can be added, also with ``sum()``.

    >>> total = Cost(Decimal("0.25")) + Cost(unknown=("no price is known for 'm' at localhost",))
    >>> total.usd, total.known_usd
    (None, Decimal('0.25'))
    >>> print(total)
    at least $0.25: no price is known for 'm' at localhost

    Attributes:
        known_usd: The part that is known, in US dollars.
        unknown: Why the rest is not known, each reason once; empty if all is known.
    """

    known_usd: Decimal = Decimal(0)
    unknown: tuple[str, ...] = ()

    @property
    def usd(self) -> Decimal | None:
        """The US dollars; ``None`` if the cost of anything is not known."""
        return None if self.unknown else self.known_usd

    def __add__(self, other: object) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        reasons = list(dict.fromkeys([*self.unknown, *other.unknown]))
        if len(reasons) > REASONS:
            reasons = [*[each for each in reasons if each != OTHERS][:REASONS], OTHERS]
        return Cost(self.known_usd + other.known_usd, tuple(reasons))

    def __radd__(self, other: object) -> Cost:
        return self if other == 0 else NotImplemented  # ``sum()`` starts with 0

    def __str__(self) -> str:
        if not self.unknown:
            return _dollars(self.known_usd)
        part = f"at least {_dollars(self.known_usd)}" if self.known_usd else "unknown"
        return f"{part}: {'; '.join(self.unknown)}"


def cost_of(requests: Iterable[RequestUsage]) -> Cost:
    """Return the total cost of these requests.

    Args:
        requests: Those of an answer or a batch's result (``requests``), or of several.

    Raises:
        ImportError: The extra ``prices`` is not installed.
    """
    return sum(map(_cost_of_one, requests), Cost())


def check_installed() -> None:
    """Check that the extra ``prices`` is installed.

    Raises:
        ImportError: It is not; the error says how to install it.
    """
    try:
        import genai_prices  # late: few need it, and it loads an HTTP client  # noqa: F401
    except ImportError as error:
        raise ImportError(f"prices need the package genai-prices: {INSTALL}") from error


def cost_if_installed(requests: Iterable[RequestUsage]) -> Cost | None:
    """Return the total cost of these requests; ``None`` without the extra ``prices``.

    Args:
        requests: As for ``cost_of``.
    """
    try:
        return cost_of(requests)
    except ImportError:
        return None


def _cost_of_one(request: RequestUsage) -> Cost:
    name = repr((request.model or "")[:80])
    host = urlsplit(request.url).hostname or "this server"
    unfinished = () if request.is_final else (f"an answer of {name} is not finished",)
    usage = request.usage
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return Cost(unknown=unfinished or (f"{host} did not report the tokens of {name}",))
    if (charged := _charged(host, usage.raw or {})) is not None:
        return Cost(charged, unfinished)
    if dearer := request.surcharge or surcharge(usage.raw):
        return Cost(unknown=(f"no price is known for {name} at {host} with {dearer}",))
    if (usage.reasoning_tokens or 0) > usage.output_tokens:  # Perplexity's has a price of its own
        return Cost(unknown=(f"the token counts of {name} contradict each other",))
    try:
        found = _calculate(request, _counts(usage))
    except ValueError:  # more cached tokens than tokens, for example
        return Cost(unknown=(f"the token counts of {name} contradict each other",))
    if found is not None:
        return Cost(found.total_price, unfinished)
    if host == OPENROUTER and (request.model or "").endswith(":free"):
        return Cost()
    return Cost(unknown=(f"no price is known for {name} at {host}",))


def _charged(host: str, raw: Mapping[str, Any]) -> Decimal | None:
    """Return what OpenRouter has charged; its credits are US dollars.

    Source: OpenRouter, "Usage Accounting". With a key of the vendor's own (``is_byok``) it is only
    a part: the vendor sends a bill, too.
    """
    cost: Any = raw.get("cost")
    if host != OPENROUTER or raw.get("is_byok") or type(cost) not in (int, float):
        return None
    return Decimal(repr(cost)) if 0 <= cost < math.inf else None


def _calculate(request: RequestUsage, counts: dict[str, int]) -> PriceCalculation | None:
    """Return the price of these counts; ``None`` if it is not known. Raises ``ValueError``."""
    check_installed()
    import genai_prices

    if len(request.model or "") > LONGEST_NAME:
        return None
    try:
        found = genai_prices.calc_price(
            counts,
            request.model or "",
            provider_api_url=request.url,
            genai_request_timestamp=datetime.fromtimestamp(request.at, timezone.utc),
        )
    except LookupError:
        return None
    price = found.model_price
    return None if price.input_mtok is None or price.output_mtok is None else found


def _counts(usage: TokenCounts) -> dict[str, int]:
    """Return the counts by the names of genai-prices.

    There, too, the input includes what is read from a cache and written to it, and the output
    includes the reasoning (its ``data_units.py``).
    """
    raw = usage.raw or {}
    used_by_tools = _number(raw.get("toolUsePromptTokenCount"))  # Gemini: not in its input
    counts = {
        "input_tokens": (usage.input_tokens or 0) + used_by_tools,
        "input_tool_tokens": used_by_tools,
        "output_tokens": usage.output_tokens or 0,
        "cache_read_tokens": usage.cached_tokens or 0,
        "cache_write_tokens": usage.cache_write_tokens or 0,
        "output_reasoning_tokens": usage.reasoning_tokens or 0,
    }
    for name, (outer, inner) in _DETAILS.items():
        details = raw.get(outer)
        counts[name] = _number(details.get(inner)) if isinstance(details, Mapping) else 0
    for outer, pattern in _GEMINI_DETAILS.items():
        for kind, count in _by_modality(raw.get(outer)):
            counts[pattern.format(kind)] = counts.get(pattern.format(kind), 0) + count
    return {name: count for name, count in counts.items() if count}


def _by_modality(details: Any) -> Iterable[tuple[str, int]]:
    """Yield the tokens of each kind of content in Gemini's counts."""
    for each in details if isinstance(details, list) else ():
        if isinstance(each, Mapping) and (kind := _MODALITIES.get(str(each.get("modality")))):
            yield kind, _number(each.get("tokenCount"))


def _number(value: Any) -> int:
    return value if type(value) is int and value > 0 else 0


def _dollars(usd: Decimal) -> str:
    """Return an amount with two decimals, or of a smaller one three significant digits.

    >>> _dollars(Decimal("12.346")), _dollars(Decimal("0.00012345")), _dollars(Decimal(0))
    ('$12.35', '$0.000123', '$0.00')
    """
    if not usd:
        return "$0.00"
    decimals = max(2, 2 - usd.adjusted()) if usd < 1 else 2
    whole, _, rest = f"{usd:.{decimals}f}".partition(".")
    return f"${whole}.{rest.rstrip('0'):0<2}"
