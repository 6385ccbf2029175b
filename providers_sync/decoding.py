"""Bytes → events → deltas: pure, no I/O, and the only importer of sseclient.

A framer stands in front of ``SSEClient``: it yields one whole event at a time, with LF line ends,
without a BOM, as valid UTF-8, and within caps; an unterminated tail is withheld, because the
event-stream rules (WHATWG HTML, 9.2.6) say that an incomplete event is discarded.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sseclient import Event as ServerSentEvent
from sseclient import SSEClient

from .config import EVENT_BYTES, EVENT_LINES, JSON_BYTES
from .errors import MalformedStream, ServerError, StreamCut, StreamTruncated
from .types import Delta, Finish, ServedModel, Usage

_BOM = codecs.BOM_UTF8
_SURROGATE = re.compile("[\ud800-\udfff]")
_HTML = re.compile(rb"\s*<(!doctype\s+html|html|head|body)[\s>]", re.IGNORECASE)
_decode_json = json.JSONDecoder().raw_decode


# --- bytes -> events


def frames(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield each whole event of a byte stream as one piece that ends with an empty line.

    Raises ``MalformedStream`` beyond the caps and ``StreamCut`` at half a character.
    """
    tail = bytearray()
    for data in _lines_ended_by_lf(_without_bom(chunks)):
        seen = max(len(tail) - 1, 0)
        if tail:
            tail += data
            if tail.find(b"\n\n", seen) < 0:
                _check_size(tail)
                continue
            data = bytes(tail)
            tail.clear()
        *blocks, rest = data.split(b"\n\n")
        for block in blocks:
            if block:
                yield _checked(block)
        tail += rest
        _check_size(tail)
    if _half_character(tail):
        raise StreamCut("the stream ends inside a character")


def _without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Drop a byte order mark at the start, however it is split."""
    source = iter(chunks)
    head = b""
    for data in source:
        head += data
        if len(head) >= len(_BOM) or not _BOM.startswith(head):
            yield head.removeprefix(_BOM)
            yield from source
            return
    if head:
        yield head


def _lines_ended_by_lf(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Turn CRLF and CR into LF; a pair split over two pieces is one line end."""
    after_cr = False
    for data in chunks:
        if after_cr and data.startswith(b"\n"):
            data = data[1:]
            after_cr = False
            if not data:
                continue
        if b"\r" in data:
            after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            after_cr = False
        yield data


def _checked(block: bytes) -> bytes:
    _check_size(block)
    if block.count(b"\n") >= EVENT_LINES:
        raise MalformedStream(f"an event has more than {EVENT_LINES} lines")
    if not block.isascii():
        block = block.decode("utf-8", "replace").encode("utf-8")
    return block + b"\n\n"


def _check_size(block: bytes | bytearray) -> None:
    if len(block) > EVENT_BYTES:
        raise MalformedStream(f"an event is larger than {EVENT_BYTES // 1024**2} MiB")


def _half_character(tail: bytes | bytearray) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(bytes(tail[-8:]))
    return bool(decoder.getstate()[0])


def events(chunks: Iterable[bytes]) -> Iterator[ServerSentEvent]:
    """Yield the server-sent events of a byte stream (``.event``, ``.data``)."""
    return iter(SSEClient(frames(chunks)).events())


# --- events -> deltas


def parse(data: str) -> Any:
    """Parse the JSON of one event; ``MalformedStream`` says where it is broken."""
    try:
        value, end = _decode_json(data)
        return value if end == len(data) else json.loads(data)
    except ValueError:
        pass
    except RecursionError as error:
        raise MalformedStream("the JSON of an event is nested too deeply") from error
    try:  # the slow way: leading white space is fine, the rest explains itself
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedStream(f"an event is not JSON: {error}: {_excerpt(data)}") from error


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")


class Surrogates:
    """Joins an escaped surrogate pair that came in two pieces; a lone half becomes U+FFFD."""

    def __init__(self) -> None:
        self._held = ""

    def mend(self, text: str) -> str:
        """Return ``text`` printable; a high half at its end waits for the next piece."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            self._held, text = text[-1], text[:-1]
        if not _SURROGATE.search(text):
            return text
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def rest(self) -> str:
        """Return what still waits, as it must be shown at the end."""
        held, self._held = self._held, ""
        return "\ufffd" if held else ""


def chat(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    """Decode an answer of OpenAI's chat completions protocol, streamed or whole.

    Source: OpenAI API reference, "Chat Completions", object ``chat.completion.chunk``; the stream
    ends with ``data: [DONE]``. Raises ``StreamTruncated`` where it ends without a marker.
    """
    source = iter(chunks)
    if content_type == "text/event-stream":
        return _chat_events(source)
    kind, source = sniff(source)
    if kind == "html" and not content_type:
        raise MalformedStream("the server sent a web page instead of an answer")
    if kind == "json" or content_type.endswith("json"):
        return _chat_whole(source)
    return _chat_events(source)


def _chat_events(chunks: Iterator[bytes]) -> Iterator[Delta]:
    surrogates = Surrogates()
    finished = named = False
    for event in events(chunks):
        data = event.data
        if data == "[DONE]":
            if rest := surrogates.rest():
                yield rest
            if not finished:
                yield Finish()
            return
        if event.event == "error":
            raise server_error(data)
        if not data:  # a keep-alive of some proxies
            continue
        value = parse(data)
        if not named:
            model = value.get("model") if isinstance(value, dict) else None
            if isinstance(model, str) and model:
                named = True
                yield ServedModel(model)
        for delta in _chat_deltas(value, "delta"):
            if isinstance(delta, str):
                if not (delta := surrogates.mend(delta)):
                    continue
            elif isinstance(delta, Finish):
                finished = True
                if rest := surrogates.rest():
                    yield rest
            yield delta
    if rest := surrogates.rest():
        yield rest
    if not finished:
        raise StreamTruncated("the stream ended without its end marker ([DONE] or a finish reason)")


def _chat_whole(chunks: Iterator[bytes]) -> Iterator[Delta]:
    """Decode an answer that came whole, as one JSON object."""
    text = whole(chunks).decode("utf-8", "replace")
    if not text.strip():
        raise StreamTruncated("the answer is empty")
    value = parse(text)
    if isinstance(value, dict) and isinstance(value.get("model"), str):
        yield ServedModel(value["model"])
    surrogates = Surrogates()
    finished = False
    for delta in _chat_deltas(value, "message"):
        finished = finished or isinstance(delta, Finish)
        yield surrogates.mend(delta) + surrogates.rest() if isinstance(delta, str) else delta
    if not finished:
        yield Finish()  # one whole JSON object is its own end marker


def _chat_deltas(value: Any, key: str) -> Iterator[Delta]:
    """Yield what one chunk (``key`` is ``delta``) or one whole answer (``message``) says."""
    if not isinstance(value, dict):
        raise MalformedStream(f"an event is not a JSON object: {_excerpt(str(value))}")
    if value.get("error"):
        raise server_error(value)
    if "choices" not in value and "usage" not in value:
        raise MalformedStream(f"an event has no 'choices': {_excerpt(str(value))}")
    choices = value.get("choices")
    if choices:
        yield from _choice(choices, key)
    if isinstance(value.get("usage"), dict):
        yield _usage(value["usage"])


def _choice(choices: Any, key: str) -> Iterator[Delta]:
    try:
        choice = choices[0]
        delta = choice.get(key) or {}
        text = delta.get("content")
        reason = choice.get("finish_reason")
    except (TypeError, AttributeError, KeyError, LookupError) as error:
        raise MalformedStream(f"an event's 'choices' has the wrong shape: {error}") from error
    if text:
        if not isinstance(text, str):
            raise MalformedStream(f"an event's content is not text: {_excerpt(str(text))}")
        yield text
    if reason:
        yield Finish(str(reason))


def _usage(value: dict[str, Any]) -> Usage:
    def count(name: str) -> int | None:
        number = value.get(name)
        return number if isinstance(number, int) else None

    return Usage(count("prompt_tokens"), count("completion_tokens"), count("total_tokens"))


def plain(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    """Decode an answer of plain UTF-8 text, piece by piece as it comes; it has no end marker.

    Raises ``StreamCut`` at half a character and ``StreamTruncated`` for an empty body.
    """
    if content_type.endswith("json"):
        yield from _plain_json(iter(chunks))
        return
    source = iter(chunks)
    if not content_type:
        kind, source = sniff(source)
        if kind == "html":
            raise MalformedStream("the server sent a web page instead of an answer")
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    empty = True
    for data in source:
        if text := decoder.decode(data):
            empty = False
            yield text
    if decoder.getstate()[0]:
        raise StreamCut("the answer ends inside a character")
    if empty:
        raise StreamTruncated("the answer is empty")


def _plain_json(chunks: Iterator[bytes]) -> Iterator[Delta]:
    """A JSON body where plain text is due: an error, OpenAI's shape, or simply the text."""
    data = whole(chunks)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict) and ("error" in value or "choices" in value):
        yield from _chat_whole(iter([data]))
    elif text := data.decode("utf-8", "replace"):
        yield text
    else:
        raise StreamTruncated("the answer is empty")


def whole(chunks: Iterator[bytes]) -> bytes:
    """Return a body that has to be read to its end before it means anything, within a cap."""
    body = bytearray()
    for data in chunks:
        body += data
        if len(body) > JSON_BYTES:
            raise MalformedStream(f"the JSON answer is larger than {JSON_BYTES // 1024**2} MiB")
    return bytes(body)


def sniff(chunks: Iterator[bytes]) -> tuple[str, Iterator[bytes]]:
    """Tell ``html``, ``json`` or ``other`` from the first bytes; the stream stays complete."""

    def again() -> Iterator[bytes]:
        if head:
            yield head
        yield from chunks

    head = b""
    for data in chunks:
        head += data
        start = head.lstrip().removeprefix(_BOM)
        if start and (not start.startswith(b"<") or b">" in start or len(start) > 64):
            break
    if _HTML.match(head):
        return "html", again()
    return ("json" if head.lstrip().startswith(b"{") else "other"), again()


def server_error(value: Any) -> ServerError:
    """Return the error that an event reports: ``{"error": {"message", …}}`` or text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = {"message": value}
    detail = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(detail, dict):
        detail = {"message": str(detail)}
    kind, code = (str(detail[k]) if detail.get(k) is not None else None for k in ("type", "code"))
    message = detail.get("message") or kind or code or "no reason given"
    return ServerError(f"the server reports an error: {str(message)[:2000]}", type=kind, code=code)
