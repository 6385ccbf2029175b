"""Explains why a request has failed: the cause, and what to do."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from .. import transport
from ..errors import (
    APIStatusError,
    APITimeoutError,
    MalformedStream,
    ProviderError,
    RateLimitError,
    ServerError,
    StreamCut,
    StreamError,
    StreamTruncated,
)
from ..providers.settings import api_key_of
from ..transport import SECRET_LENGTH
from ..transport.errors import error_chain
from .examination import Examination
from .finding import Finding, note, wrong
from .network import bypass_advice, explain_tls, speaks_tls

KEY_ADVICE = "check that the key is complete, not expired, and valid for this address"
LIMIT_ADVICE = "wait, or check the account's limits and its balance"
PATH_ADVICE = "check the path of the address: another service answers there"
BUSY_ADVICE = "the server is too busy: try again later, or use another model"
MODEL_ADVICE = "check the model's name (--model)"
CUT_ADVICE = "check for a proxy with a time limit, or try again"
CREDIT_ADVICE = "add credit, or raise the limit, with the provider"
READY_ADVICE = "the server is running, but not ready yet: try again in a minute"
SHOWN_MODELS = 8
_NO_MODEL = re.compile(
    r"(model|deployment).?not.?found|(unknown|invalid|no such) model"
    r"|model\b[^{}]{0,80}\b(not (exist|found|supported|available)|does not exist)",
    re.IGNORECASE,
)
"""How servers say that they do not have a model."""
_LOADING = re.compile(r"(?<!error )(?<!failed )\bloading\b", re.IGNORECASE)
"""llama.cpp says "Loading model", others "is currently loading"."""
_TLS_WORDS = re.compile(r"HTTPS|SSL|TLS")
"""How servers name what they expect in place of plain HTTP."""
_TUNNEL = re.compile(r"Tunnel connection failed: (\d+[^'\")]*)")
"""The text of http.client if a proxy answers CONNECT with anything but 2xx."""


def explain_error(error: ProviderError, examination: Examination) -> Finding:
    """Return the finding about a failed request; ``note`` if the server is well."""
    text = clean(str(error), examination)
    if isinstance(error, APITimeoutError) and error.clock == "connect" and examination.is_tls:
        return wrong("TLS", f"no handshake: {text}", "check the port; it may be for http://")
    tls = transport.find_tls_error(error)
    if tls is not None:
        return explain_tls(tls, examination.host)
    if isinstance(error, APIStatusError):
        return _explain_status(error, examination)
    if isinstance(error, ServerError):
        return _explain_server_error(error, text)
    if isinstance(error, MalformedStream):
        return wrong("address" if "web page" in text else "answer", text, PATH_ADVICE)
    if isinstance(error, (StreamCut, StreamTruncated)):
        return wrong("answer", text, CUT_ADVICE)
    if isinstance(error, (APITimeoutError, StreamError)):
        return wrong("answer", text, BUSY_ADVICE)
    if refusal := _refused_tunnel(error):
        return _explain_tunnel(refusal, examination)
    if speaks_tls(examination):
        return _explain_plain(examination)
    advice = bypass_advice(examination) or "check that it is the API's port"
    return wrong("server", text, advice)


def _explain_status(error: APIStatusError, examination: Examination) -> Finding:
    status, text = error.status_code, clean(str(error), examination)
    if status == 407:
        return _explain_407()
    if 300 <= status < 400:
        return _explain_redirect(error, text)
    if status == 402 or error.quota_exhausted:
        return wrong("account", text, CREDIT_ADVICE)
    if isinstance(error, RateLimitError):
        return wrong("account", text, LIMIT_ADVICE)
    if status == 401:
        return _explain_401(text, examination)
    if status == 403:
        return wrong(
            "access",
            text,
            "check that the key may use this model, and that the service is offered in the country "
            "and the network that you call from",
        )
    if status == 503 and _LOADING.search(error.body):
        return note("server", text, READY_ADVICE)
    if status >= 500:
        advice = bypass_advice(examination) or "the server has a problem: try again later"
        return wrong("server", text, advice)
    if status == 400 and _TLS_WORDS.search(error.body) and speaks_tls(examination):
        return _explain_plain(examination)
    return _explain_rejection(error, text, examination)


def _explain_rejection(error: APIStatusError, text: str, examination: Examination) -> Finding:
    """Explain a 4xx: a wrong model, a wrong path, or a request that the server does not take."""
    model, listed = examination.model, examination.listed
    is_no_path = error.status_code in (404, 405)
    if _NO_MODEL.search(error.body) or (is_no_path and listed and model not in listed):
        advice = f"use --model with one of: {shown_models(listed)}" if listed else MODEL_ADVICE
        return wrong("model", text, advice)
    if is_no_path and listed:
        protocol = f"whether the server speaks the protocol of {examination.name} (--provider)"
        return wrong("answer", text, f"{MODEL_ADVICE}, and {protocol}")
    if is_no_path:
        return wrong("address", text, f"{MODEL_ADVICE}, and the path of the address")
    return wrong("answer", text, f"read the server's message, and {MODEL_ADVICE}")


def _explain_401(text: str, examination: Examination) -> Finding:
    if api_key_of(examination.provider):
        return wrong("key", f"the server rejects the key: {text}", KEY_ADVICE)
    variable = examination.provider.api_key_variable
    set_key = f"set {variable}" if variable else "pass it as api_key="
    return wrong("key", f"the server requires a key: {text}", set_key)


def _explain_407() -> Finding:
    return wrong("proxy", "it requires a name and a password", "use http://NAME:PASSWORD@HOST:PORT")


def _refused_tunnel(error: ProviderError) -> str:
    """Return the status with which a proxy refused to connect to the server, else ``""``."""
    for inner in error_chain(error):
        if found := _TUNNEL.search(str(inner)):
            return found.group(1)
    return ""


def _explain_tunnel(refusal: str, examination: Examination) -> Finding:
    if refusal.startswith("407"):
        return _explain_407()
    text = f"it refuses to connect to {examination.host}: {refusal}"
    return wrong("proxy", text, bypass_advice(examination))


def _explain_redirect(error: APIStatusError, text: str) -> Finding:
    target = urlsplit(error.headers.get("location") or "")
    address = f"{target.scheme}://{target.netloc}"
    advice = f"use an address that begins with {address}" if target.netloc else "correct the path"
    return wrong("address", text, advice)


def _explain_plain(examination: Examination) -> Finding:
    host = examination.host
    return wrong("TLS", f"{host} expects TLS on this port", "use https://, or the port for http")


def _explain_server_error(error: ServerError, text: str) -> Finding:
    if error.quota_exhausted:
        return wrong("account", text, CREDIT_ADVICE)
    if _LOADING.search(error.body):
        return note("server", text, READY_ADVICE)
    return wrong(
        "answer", text, BUSY_ADVICE if error.overloaded else "the server failed: try again later"
    )


def shown_models(names: list[str]) -> str:
    """Return the first of the names, for a text."""
    return ", ".join(names[:SHOWN_MODELS]) + (", …" if len(names) > SHOWN_MODELS else "")


def clean(text: str, examination: Examination) -> str:
    """Return ``text`` without words that contain part of the key: servers often quote it."""
    key = api_key_of(examination.provider) or ""
    parts = (key[:8], key[-4:]) if len(key) >= SECRET_LENGTH else ()
    words = ["***" if any(part in word for part in parts) else word for word in text.split()]
    return " ".join(words)
