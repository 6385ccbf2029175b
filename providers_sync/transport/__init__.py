"""One request over requests: session, proxy, TLS, reading, stopping; the only importer of requests.

Stopping works through a duplicate of the TCP socket, taken before it connects: shutting that down
ends a connect, a TLS handshake, a CONNECT, the wait for headers and a blocked read, from any
thread. Name resolution cannot be interrupted, so it has a thread of its own that may be left alone.
"""

from __future__ import annotations

from .call import Call, Stopped
from .problems import connection_error, tls_error
from .redaction import SECRET_LENGTH, Secret, hide, masked, proxies_in_use, secrets
from .response import Answer
from .session import Transport, proxy_for
from .status import status_error

__all__ = [
    "SECRET_LENGTH",
    "Answer",
    "Call",
    "Secret",
    "Stopped",
    "Transport",
    "connection_error",
    "hide",
    "masked",
    "proxies_in_use",
    "proxy_for",
    "secrets",
    "status_error",
    "tls_error",
]
