"""One request over requests: session, proxy, TLS, reading, stopping; the only importer of requests.

Stopping works through a duplicate of the TCP socket, taken before it connects: shutting that down
ends a connect, a TLS handshake, a CONNECT, the wait for headers and a blocked read, from any
thread. Name resolution cannot be interrupted, so it has a thread of its own that may be left alone.
"""

from __future__ import annotations

from .call import Call, CallStopped
from .problems import connection_error, find_tls_error
from .redaction import SECRET_LENGTH, Secret, collect_secrets, mask_secrets, proxies_in_use, redact
from .response import Response
from .session import Transport, proxy_for
from .status import status_error

__all__ = [
    "SECRET_LENGTH",
    "Call",
    "CallStopped",
    "Response",
    "Secret",
    "Transport",
    "collect_secrets",
    "connection_error",
    "find_tls_error",
    "mask_secrets",
    "proxies_in_use",
    "proxy_for",
    "redact",
    "status_error",
]
