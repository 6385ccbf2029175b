"""Parsing shared by the decoders: JSON, and surrogates split between chunks."""

from __future__ import annotations

import codecs
import json
import re
import reprlib
from collections.abc import Iterator
from typing import Any

from ..error_words import as_text
from ..errors import MalformedStream, StreamCut
from ..server_json import SMALL_JSON, check_json

_SURROGATE = re.compile("[\ud800-\udfff]")
SHOWN_CHARACTERS = 1000
"""How much of a wrong event an error shows."""
WRONG_SHAPE = (TypeError, AttributeError, LookupError, RecursionError)
"""Exceptions raised by code that reads JSON of an unexpected structure."""
_BETWEEN_VALUES = re.compile(r"(?:\s|data:)*")
_decode_json = json.JSONDecoder().raw_decode
_decode_leniently = json.JSONDecoder(strict=False).raw_decode
"""It accepts control characters in strings, which some servers leave as they are."""


def parse_json(data: str) -> Any:
    """Parse the JSON of one event; raise ``MalformedStream``, which reports where it is invalid."""
    if len(data) > SMALL_JSON:
        try:
            check_json(data)
        except ValueError as error:
            raise MalformedStream(f"an event cannot be read: {error}") from None
    try:
        value, end = _decode_json(data)
        if end == len(data):
            return value
    except ValueError:
        pass  # json.loads below is more lenient, and describes every other problem
    try:
        return json.loads(data, strict=False)
    except ValueError as error:
        raise MalformedStream(f"an event is not JSON: {error}: {short_repr(data)}") from error


def json_values(text: str) -> Iterator[tuple[Any, int]]:
    """Yield each of the values in a text, and where it ends, up to what is not JSON.

    There may be white space and ``data:`` between them.
    """
    try:
        check_json(text)
    except ValueError:
        return
    end = 0
    while True:
        try:
            value, end = _decode_leniently(text, without_prefix(text, end))
        except ValueError:
            return
        yield value, end


def without_prefix(text: str, position: int) -> int:
    """Return where the next value may start."""
    between = _BETWEEN_VALUES.match(text, position)
    return between.end() if between else position


def decode_end(data: bytes) -> str:
    """Return the text of the last bytes of a stream; raise ``StreamCut`` inside a character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    if decoder.getstate()[0]:
        raise StreamCut("the stream ends inside a character")
    return text


def is_empty(value: Any) -> bool:
    """Return whether a value says nothing: null, an empty text, or nothing else within it.

    >>> is_empty({"content": None, "refusal": []}), is_empty({"filtered": False}), is_empty(0)
    (True, False, False)
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return all(item is None or item == "" or item == [] or item == {} for item in value)
    return value is None or value == ""


def short_repr(value: object) -> str:
    """Return the ``repr`` of a value, cut where it is long, for an error message."""
    text = as_text(value)
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "...")


def json_text(value: object) -> str:
    """Return JSON to be shown; a bounded ``repr`` of what cannot be written."""
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return reprlib.repr(value)


class SurrogateJoiner:
    """Joins escaped surrogate pairs that are split between chunks; a lone half becomes U+FFFD."""

    def __init__(self) -> None:
        self.held = ""
        """A high half, or empty; while it is empty, ASCII text needs no ``feed``."""

    def feed(self, text: str) -> str:
        """Return ``text`` without surrogates; keep a high half at its end for the next chunk."""
        if not self.held and text.isascii():
            return text
        text = self.held + text
        self.held = ""
        if "\ud800" <= text[-1:] <= "\udbff":
            self.held, text = text[-1], text[:-1]
        if not _SURROGATE.search(text):
            return text
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def end(self) -> str:
        """Return U+FFFD if a half is still held, else an empty string."""
        held, self.held = self.held, ""
        return "\ufffd" if held else ""


def join_surrogates(text: str) -> str:
    r"""Return a complete text with its surrogate pairs joined and lone halves replaced.

    >>> join_surrogates("\ud83d\ude00 \ud83d")
    '😀 �'
    """
    joiner = SurrogateJoiner()
    return joiner.feed(text) + joiner.end()
