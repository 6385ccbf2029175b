"""HTTP transport: connections, proxies, TLS, requests and response bodies.

No other package imports requests or urllib3. A call is stopped through a duplicate of its TCP
socket, made before the socket connects: shutting the duplicate down ends a connect, a TLS
handshake, a CONNECT, the wait for headers and a blocked read, from any thread. Name resolution
cannot be interrupted, so it runs in a separate thread that can be abandoned.
"""

from __future__ import annotations

from requests.structures import CaseInsensitiveDict

from .attempt import AttemptStopped, RequestAttempt
from .caller_session import custom_headers, session_credentials, session_parameters
from .errors import connection_error, find_tls_error
from .redaction import (
    SECRET_LENGTH,
    Secret,
    collect_secrets,
    mask_secrets,
    names_secret,
    proxies_in_use,
    redact,
    redact_text,
)
from .response import Response
from .session import Session, Transport, proxy_for
from .status_errors import status_error

__all__ = [
    "SECRET_LENGTH",
    "AttemptStopped",
    "CaseInsensitiveDict",
    "RequestAttempt",
    "Response",
    "Secret",
    "Session",
    "Transport",
    "collect_secrets",
    "connection_error",
    "custom_headers",
    "find_tls_error",
    "mask_secrets",
    "names_secret",
    "proxies_in_use",
    "proxy_for",
    "redact",
    "redact_text",
    "session_credentials",
    "session_parameters",
    "status_error",
]
