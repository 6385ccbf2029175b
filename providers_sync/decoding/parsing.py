"""What every protocol's decoder needs: JSON, surrogates, tool calls, errors, whole bodies."""

from __future__ import annotations

import codecs
import json
import re
import reprlib
from collections.abc import Iterator
from typing import Any

from ..config import JSON_BYTES, JSON_VALUES, LEADING_SPACE_BYTES, TOOL_CALLS
from ..errors import MalformedStream, ServerError
from ..types import ToolCall

_SURROGATE = re.compile("[\ud800-\udfff]")
_HTML = re.compile(rb"\s*<(!doctype\s+html|html|head|body)[\s>]", re.IGNORECASE)
NAME_CHARACTERS = 200
"""Of an error's type and code; honest ones are a word or two."""
WRONG_SHAPE = (TypeError, AttributeError, LookupError, RecursionError)
"""What JSON raises that is not built as its reader takes for granted."""
_decode_json = json.JSONDecoder().raw_decode
_decode_string = json.decoder.scanstring  # type: ignore[attr-defined]


def parse_json(data: str) -> Any:
    """Parse the JSON of one event; ``MalformedStream`` says where it is broken."""
    if is_dense(data):
        raise MalformedStream(f"the JSON of an event has more than {JSON_VALUES} values")
    try:
        value, end = _decode_json(data)
        if end == len(data):
            return value
    except (ValueError, RecursionError):
        pass  # white space before it is fine; everything else explains itself below
    try:
        return json.loads(data)
    except RecursionError as error:
        raise MalformedStream("the JSON of an event is nested too deeply") from error
    except ValueError as error:
        raise MalformedStream(f"an event is not JSON: {error}: {excerpt(data)}") from error


def is_dense(data: str) -> bool:
    """Tell whether JSON has too many values, each of which takes up to fifty times its text."""
    return len(data) > JSON_VALUES and sum(map(data.count, ",[{")) > JSON_VALUES


class EventTemplate:
    """Reads the one string that differs between an event and those before it.

    A server's deltas are the same JSON but for their text. Where the bytes before and after the
    text's string are those of an event that was parsed in full, the rest of the JSON is the same
    too, and only the string is left to parse: a fifth of the work.
    """

    def __init__(self) -> None:
        self._before = self._after = ""
        self._start = 0
        self._tries = TEMPLATE_TRIES
        self._spared = TEMPLATE_SPARED

    def match(self, data: str) -> str | None:
        """Return the text of an event of the learnt form, ``None`` for any other."""
        start = self._start
        if not start or not data.startswith(self._before) or not data.endswith(self._after):
            return None
        try:
            text, end = _decode_string(data, start)
        except ValueError:
            return None
        return text if end + len(self._after) == len(data) else None

    def learn(self, data: str, value: Any, delta: dict[str, Any], key: str) -> None:
        """Take the form of an event; ``delta[key]``, somewhere in ``value``, is its text."""
        if not self._tries or len(data) > TEMPLATE_CHARACTERS:
            return  # every event differs in more than its text
        if self._spared:
            self._spared -= 1
            return
        self._tries -= 1
        start = data.find('"', data.find(f'"{key}"') + len(key) + 2) + 1
        text = delta[key]
        try:
            said, end = _decode_string(data, start)
            # Proof that this is the right string: put another in its place, and see it come back.
            delta[key] = _PROBE
            probed = json.loads(f"{data[: start - 1]}{json.dumps(_PROBE)}{data[end:]}")
            if said == text and probed == value:
                self._before, self._after, self._start = data[:start], data[end:], start
        except (ValueError, RecursionError):
            pass
        finally:
            delta[key] = text


TEMPLATE_SPARED = 2
"""Events before the first form is learnt: a short answer is done sooner without, and where many
answers begin at once, their first words are not held up by it."""
TEMPLATE_CHARACTERS = 64 * 1024
"""Of the event that is learnt from; trying it out takes its size several times over."""
TEMPLATE_TRIES = 4
"""Forms learnt in one answer: servers change them now and then."""
_PROBE = "\x00 a text that no server sends \x00"


def excerpt(value: object) -> str:
    """Return the beginning of a value, for an error's text."""
    text = describe(value)
    return repr(text if len(text) <= 80 else text[:77] + "...")


def describe(value: object) -> str:
    """Return a text as it is, of anything else the outline: it may be large, and nested deeply."""
    return value if isinstance(value, str) else reprlib.repr(value)


class SurrogateJoiner:
    """Joins an escaped surrogate pair that came in two pieces; a lone half becomes U+FFFD."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """Return ``text`` printable; a high half at its end waits for the next piece."""
        if not self._held and text.isascii():
            return text
        text = self._held + text
        self._held = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            self._held, text = text[-1], text[:-1]
        if not _SURROGATE.search(text):
            return text
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def end(self) -> str:
        """Return what still waits, as it must be shown at the end."""
        held, self._held = self._held, ""
        return "\ufffd" if held else ""


def join_surrogates(text: str) -> str:
    r"""Return a whole text with its surrogates joined, and lone ones replaced.

    >>> join_surrogates("\ud83d\ude00 \ud83d")
    '😀 �'
    """
    halves = SurrogateJoiner()
    return halves.feed(text) + halves.end()


class ToolCallAssembler:
    """Puts tool calls together from their pieces."""

    def __init__(self) -> None:
        self._calls: list[dict[str, Any]] = []
        self._open: dict[object, dict[str, Any]] = {}
        self._begun = 0

    def add(self, key: object, call_id: str, name: str, arguments: str) -> None:
        """Take a piece of the call known by ``key``; another id under the same key begins anew."""
        call = self._open.get(key)
        if call is None or (call_id and call["id"] and call_id != call["id"]):
            call = self._open[key] = {"id": "", "name": "", "raw": []}
            self._calls.append(call)
            self._begun += 1
            if self._begun > TOOL_CALLS:
                raise MalformedStream(f"the answer has more than {TOOL_CALLS} tool calls")
        call["id"] = call["id"] or call_id
        call["name"] = call["name"] or name
        call["raw"].append(arguments)

    def start(self, key: object, call_id: str, name: str, arguments: Any) -> None:
        """Begin a call; ``arguments`` that are there already come as an object."""
        self.add(key, call_id, name, json.dumps(arguments) if arguments else "")

    def finished(self) -> Iterator[ToolCall]:
        """Yield the calls, now whole, in their order, and forget them."""
        calls, self._calls, self._open = self._calls, [], {}
        for call in calls:
            raw = join_surrogates("".join(call["raw"]))
            call_id, name = join_surrogates(str(call["id"])), join_surrogates(str(call["name"]))
            yield ToolCall(call_id, name, _arguments(raw), raw)


def _arguments(raw: str) -> dict[str, Any] | None:
    try:
        value = None if is_dense(raw) else json.loads(raw or "{}")
        if "\\ud" in raw.lower():  # escapes hide halves of surrogate pairs from printable()
            value = json.loads(join_surrogates(json.dumps(value, ensure_ascii=False)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_whole(chunks: Iterator[bytes]) -> bytes:
    """Return a body that has to be read to its end before it means anything, within a cap."""
    body = bytearray()
    for data in chunks:
        body += data
        if len(body) > JSON_BYTES:
            raise MalformedStream(f"the JSON answer is larger than {JSON_BYTES // 1024**2} MiB")
    return bytes(body)


def sniff_format(chunks: Iterator[bytes]) -> tuple[str, Iterator[bytes]]:
    """Tell ``html``, ``json`` or ``other`` from the first bytes; the stream stays complete."""

    def again() -> Iterator[bytes]:
        if head:
            yield head
        yield from chunks

    head = b""
    for data in chunks:
        head += data
        start = head.lstrip().removeprefix(codecs.BOM_UTF8)
        if start and (not start.startswith(b"<") or b">" in start or len(start) > 64):
            break
        if len(head) > LEADING_SPACE_BYTES:
            break
    start = head.lstrip().removeprefix(codecs.BOM_UTF8)
    if _HTML.match(start):
        return "html", again()
    return ("json" if start.lstrip().startswith(b"{") else "other"), again()


def token_count(value: Any) -> int | None:
    """Return a number of tokens, or ``None`` for anything else.

    >>> token_count(7), token_count(True), token_count("7"), token_count(2**63)
    (7, None, None, None)
    """
    return value if type(value) is int and 0 <= value < 2**63 else None


def server_error(value: Any) -> ServerError:
    """Return the error that an event reports: ``{"error": {"message", …}}`` or text."""
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except MalformedStream:
            value = {"message": value}
    detail = value.get("error", value) if isinstance(value, dict) else value
    if not isinstance(detail, dict):
        detail = {"message": detail}
    kind, code = (
        join_surrogates(describe(detail[k])[:NAME_CHARACTERS])
        if detail.get(k) is not None
        else None
        for k in ("type", "code")
    )
    message = join_surrogates(
        describe(detail.get("message") or kind or code or "no reason given")[:2000]
    )
    return ServerError(f"the server reports an error: {message}", type=kind, code=code)
