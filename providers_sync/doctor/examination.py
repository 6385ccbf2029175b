"""``Examination``: the examined provider, what has been found out about it, and the time left."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .. import transport
from ..clock import monotonic
from ..errors import ProviderError
from ..providers import Provider

LIMIT_S = 9.0
"""For all checks of one provider together: a person is waiting for the report."""
PORTS = {"http": 80, "https": 443}
SOCKS_PORT = 1080


@dataclass
class Examination:
    """The examined provider, and what has been found out about it so far."""

    provider: Provider
    address_from: str
    """What set the address: an option, a variable, "the default" or "the preset"."""
    model: str | None
    name: str = ""
    """What the provider is called: one of ``PROVIDERS`` or ``PRESETS``."""
    other_models: list[str] = field(default_factory=list)
    """Models of the server's list to try if it rejects the first, because none was given."""
    addresses: list[Any] = field(default_factory=list)
    """Addresses of the first hop: the proxy or the server."""
    connect_s: float = 0.0
    """How long connecting to the first hop took: a round trip of the network."""
    listed: list[str] = field(default_factory=list)
    """The models that the server lists."""
    list_error: ProviderError | None = None
    """Why there is no list of models."""
    has_responded: bool = False
    """Whether the server has answered any request, with whatever status."""
    is_over: bool = False
    """Whether further checks would tell nothing."""
    deadline: float = field(default_factory=lambda: monotonic() + LIMIT_S)

    def time_left(self, at_most: float = math.inf) -> float:
        """Return the seconds that a check may take; at least a moment, as 0 is not a timeout."""
        return max(min(self.deadline - monotonic(), at_most), 0.05)

    @property
    def proxy(self) -> str | None:
        return transport.proxy_for(self.provider.base_url)

    @property
    def host(self) -> str:
        return urlsplit(self.provider.base_url).hostname or ""

    @property
    def is_tls(self) -> bool:
        return urlsplit(self.provider.base_url).scheme == "https"

    def hop(self) -> tuple[str, int]:
        """Return host and port of the first hop of a request."""
        return host_and_port(self.proxy or self.provider.base_url)


def host_and_port(url: str) -> tuple[str, int]:
    """Return the host and the port of an address; raise ``ValueError`` for an invalid one."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, SOCKS_PORT)
