"""``Exchange``: a request and what the server has answered, as a line of JSON."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from .. import errors, transport
from ..errors import APIConnectionError, APITimeoutError, ProviderError

VERSION = 1
BEGINNING = b'{"version":1,"id":"'
"""How a line begins."""
HOW = ("clean", "cut", "reset", "timeout", "malformed", "error", "stopped")
"""How a body may have ended; ``stopped`` by the caller, or because nothing more was needed."""
_SAFE_HEADERS = (
    *("content-type", "location", "date", "retry-after", "retry-after-ms", "x-should-retry"),
    *("x-request-id", "request-id"),
)
_STARS = "***"
_SAFE_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")


@dataclass(frozen=True)
class RecordedRequest:
    """What was sent, without its headers; secrets in it are replaced by stars."""

    method: str
    url: str
    body: Any

    @property
    def fingerprint(self) -> str:
        """The same for equal requests, whatever their keys and headers."""
        text = json.dumps([self.method, self.url, self.body], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def to_request(method: str, url: str, body: Mapping[str, Any] | None) -> RecordedRequest:
    """Return a request as it is recorded."""
    parts = urlsplit(url)
    body = json.loads(json.dumps(body))  # as a recording has it: names are strings, no tuples
    query = [
        (name, _STARS if transport.names_secret(name) else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    shown = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query, safe="*"), ""))
    return RecordedRequest(method, shown, _without_secrets(body))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: _STARS
            if isinstance(each, str) and transport.names_secret(str(name))
            else _without_secrets(each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_without_secrets(each) for each in value]
    return value


def _map_strings(change: Callable[[str], str], value: Any) -> Any:
    if isinstance(value, dict):
        return {change(name): _map_strings(change, each) for name, each in value.items()}
    if isinstance(value, list):
        return [_map_strings(change, each) for each in value]
    return change(value) if isinstance(value, str) else value


@dataclass
class Exchange:
    """A request, and what came back: the pieces of the body, each with its time.

    Attributes:
        request: What was sent: ``method``, ``url`` and ``body``; secrets are replaced by stars.
        replaces: The ids of the earlier exchanges whose place it takes.
        status: The HTTP status; ``None`` if no response came, and ``error`` tells why.
        headers: The response headers that a replay needs, and that hold no secret.
        pieces: Seconds since the request was sent, and the bytes of the body, without compression.
        how: How the body ended: ``clean``, ``cut``, ``reset``, ``timeout``, ``malformed``,
            ``error``, or ``stopped``: by the caller, or because nothing more was needed.
        seconds: From the request to the end.
        error: The class and the words of the error that ended it.
        is_whole: Whether the answer was complete, and the model ended it by itself.
        decoder: The class that has read the body.
        sent_fingerprint: That of the request before secrets in it were replaced.
        recorded_at: When it was recorded, in UTC.
        id: Its own, by which a later exchange replaces it.
    """

    request: RecordedRequest
    replaces: list[str] = field(default_factory=list)
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    how: str = "stopped"
    seconds: float = 0.0
    error: dict[str, Any] | None = None
    is_whole: bool = False
    decoder: str = ""
    sent_fingerprint: str = ""
    recorded_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def fingerprints(self) -> set[str]:
        """What a recording is found by: requests with the secrets, and with stars instead."""
        return {self.request.fingerprint, self._fingerprint}

    @property
    def _fingerprint(self) -> str:
        has_stars = _STARS in self.request.url + json.dumps(self.request.body)
        return (has_stars and self.sent_fingerprint) or self.request.fingerprint

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(data for _, data in self.pieces)

    def failure(self) -> ProviderError | None:
        """Return the error that ended it, anew."""
        told = self.error
        if told is None:
            return None
        words = str(told.get("message", ""))
        kind = getattr(errors, str(told.get("type")), ProviderError)
        if kind is APITimeoutError:
            return APITimeoutError(words, clock=str(told.get("clock")))
        if not (isinstance(kind, type) and issubclass(kind, ProviderError)):
            kind = ProviderError
        try:
            failure: ProviderError = kind(words)
        except TypeError:  # it takes more
            failure = ProviderError(words)
        if isinstance(failure, APIConnectionError) and told.get("retryable") is False:
            failure.retryable = False
        return failure

    def note_failure(self, failure: BaseException) -> None:
        """Keep an error of ours so that ``failure()`` returns it.

        Args:
            failure: The error.
        """
        self.error = {"type": type(failure).__name__, "message": str(failure)}
        if isinstance(failure, APITimeoutError):
            self.error["clock"] = failure.clock
        if isinstance(failure, APIConnectionError) and not failure.retryable:
            self.error["retryable"] = False

    def keep_headers(self, headers: Mapping[str, str]) -> None:
        """Keep those that a replay needs, and that hold no secret.

        Args:
            headers: The response headers.
        """
        for name, value in headers.items():
            lower = name.lower()
            if lower == "location":  # the rest of the address may hold a token
                value = re.split("[?#]", value)[0]
            if lower in _SAFE_HEADERS or lower.startswith(_SAFE_PREFIXES):
                self.headers[lower] = value

    def hide(self, secrets: list[str]) -> None:
        """Replace secrets by stars, also where two pieces share one.

        Args:
            secrets: What must not be in the file.
        """

        def hidden(text: str) -> str:
            return transport.redact_text(secrets, text)

        def hidden_bytes(data: bytes) -> bytes:
            text = data.decode("utf-8", "surrogateescape")
            return hidden(text).encode("utf-8", "surrogateescape")

        pieces = [(seconds, hidden_bytes(data)) for seconds, data in self.pieces]
        joined = hidden_bytes(self.body)
        if b"".join(data for _, data in pieces) != joined:
            pieces = [(pieces[-1][0], joined)]
        self.pieces = pieces
        self.headers = {name: hidden(value) for name, value in self.headers.items()}
        asked = self.request
        self.sent_fingerprint = asked.fingerprint
        self.request = RecordedRequest(
            asked.method, hidden(asked.url), _map_strings(hidden, asked.body)
        )
        if self.error is not None:
            self.error["message"] = hidden(self.error["message"])

    def to_line(self) -> bytes:
        """Return it as a line of JSON."""
        value = {
            "version": VERSION,
            "id": self.id,
            "fingerprint": self._fingerprint,
            "recorded_at": self.recorded_at.isoformat(timespec="milliseconds"),
            "request": vars(self.request),
            "replaces": self.replaces,
            "status": self.status,
            "headers": self.headers,
            "decoder": self.decoder,
            "pieces": [[round(seconds, 4), _text_of(data)] for seconds, data in self.pieces],
            "how": self.how,
            "seconds": round(self.seconds, 4),
            "error": self.error,
            "is_whole": self.is_whole,
        }
        line = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        try:
            return line.encode() + b"\n"
        except UnicodeEncodeError:  # half a pair of surrogates
            return json.dumps(value, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Exchange:
        """Return what a line of a file says.

        Args:
            line: The line, with or without its end.

        Raises:
            ValueError: The line is wrong.
        """
        try:
            value = json.loads(line)
            if value["version"] != VERSION:
                raise ValueError(f"its version is {value['version']!r}, not {VERSION}")
            asked = value["request"]
            exchange = cls(
                request=RecordedRequest(str(asked["method"]), str(asked["url"]), asked["body"]),
                replaces=_ids(value["replaces"]),
                status=None if value["status"] is None else int(value["status"]),
                headers={str(name): str(each) for name, each in value["headers"].items()},
                pieces=[(_time(seconds), _bytes_of(data)) for seconds, data in value["pieces"]],
                how=str(value["how"]),
                seconds=_time(value["seconds"]),
                error=None if value["error"] is None else dict(value["error"]),
                is_whole=value["is_whole"] is True,
                decoder=str(value["decoder"]),
                sent_fingerprint=str(value.get("fingerprint", "")),
                recorded_at=datetime.fromisoformat(value["recorded_at"]),
                id=str(value["id"]),
            )
            urlsplit(exchange.request.url)  # raises ValueError if it is not a URL
            if exchange.recorded_at.tzinfo is None or exchange.how not in HOW:
                raise ValueError("recorded_at has no time zone, or how has an unknown value")
        except KeyError as failure:
            raise ValueError(f"{failure} is missing") from failure
        except (TypeError, AttributeError, RecursionError, OverflowError) as failure:
            raise ValueError(f"{type(failure).__name__}: {failure}") from failure
        return exchange


def _ids(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError("replaces is not a list of ids")
    return [str(each) for each in value]


def _time(value: Any) -> float:
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} is not a time")
    return seconds


def _text_of(data: bytes) -> Any:
    """Return a piece as text, or other bytes as ``{"base64": …}``."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _bytes_of(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    try:
        return base64.b64decode(value["base64"], validate=True)
    except binascii.Error as failure:
        raise ValueError(str(failure)) from failure
