"""One request over requests: session, proxy, TLS, reading, stopping; the only importer of requests.

Stopping works through a duplicate of the TCP socket, taken before it connects: shutting that down
ends a connect, a TLS handshake, a CONNECT, the wait for headers and a blocked read, from any
thread. Name resolution cannot be interrupted, so it has a thread of its own that may be left alone.
"""

from __future__ import annotations

from .answer import Answer
from .call import Call, Stopped
from .problems import tls_error
from .session import Transport, proxy_for
from .status import status_error

__all__ = ["Answer", "Call", "Stopped", "Transport", "proxy_for", "status_error", "tls_error"]
