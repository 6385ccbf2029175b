"""Tests of the decoders' interface: any split of a body, errors after text, decoders of users."""

from __future__ import annotations

import gc
import json
import sys
import weakref
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

import pytest
from decode_kit import decode, split
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync import (
    Anthropic,
    MalformedStream,
    OpenAICompatible,
    Outcome,
    Provider,
    ProviderError,
    ServerError,
    StreamTruncated,
)
from providers_sync.config import EVENT_LINES, LEADING_SPACE_BYTES
from providers_sync.decoding import OpenAIDecoder, sse
from providers_sync.decoding.anthropic import AnthropicDecoder
from providers_sync.decoding.text import TextDecoder
from providers_sync.testing import answer, pause, serve, stall
from providers_sync.types import Decoder, Delta, Finish, ReasoningDelta

EVENTS = "text/event-stream"
DONE = b"data: [DONE]\n\n"
DECODERS = [OpenAIDecoder, AnthropicDecoder, TextDecoder]
many = settings(max_examples=400, deadline=None)


def openai(text: str) -> bytes:
    return b"data: %b\n\n" % json.dumps({"choices": [{"delta": {"content": text}}]}).encode()


def anthropic(text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    value = {"type": "content_block_delta", "index": 0, "delta": delta}
    return b"event: content_block_delta\ndata: %b\n\n" % json.dumps(value).encode()


# --- any split


def result(decoder: Decoder, pieces: Iterable[bytes]) -> tuple[list[Any], str]:
    """Return all deltas, with neighbouring text joined, and the error."""
    deltas: list[Any] = []
    try:
        for delta in decode(decoder, pieces):
            kind = type(delta)
            if kind in (str, ReasoningDelta) and deltas and type(deltas[-1]) is kind:
                joined = text_of(deltas.pop()) + text_of(delta)
                deltas.append(kind(joined))  # type: ignore[call-arg]
            else:
                deltas.append(delta)
    except ProviderError as error:
        return deltas, repr(error)
    return deltas, ""


def text_of(delta: Any) -> str:
    return delta if isinstance(delta, str) else str(delta.text)


MESSAGE = {"content": "H\ud83dé", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}
BLOCKS = [{"type": "text", "text": "Hé"}, {"type": "thinking", "thinking": "x"}]
PARTS = [
    *(openai("Hel"), openai("lö"), openai("\ud83d"), openai("\ude00"), anthropic("Hel"), DONE),
    *(
        b'data: {"choices":[{"delta":{"reasoning":"\\ud83d"}}],"model":"m"}\n\n',
        anthropic("\ud83d"),
    ),
    *(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\r\n\r\n', b"data: {}\n\n"),
    *(b'event: error\ndata: {"message":"no"}\n\n', b'data: {"error":{"type":"busy"}}\r\r'),
    *(b'data: {"type":"message_stop"}\n\n', b'data: {"choices":7}\n\n', b"data: junk\n\n"),
    *(b": comment\n\n", b"data: {\r\ndata: }\r\n\r\n", b"\n", b"\r", b"data:", b"\xef\xbb\xbf"),
    *(b"\xff", b"\xe2\x82", b"<html>", b"<!doctype ", b"<", b">", b"{", b"}", b" " * 30, b"x" * 70),
    json.dumps({"choices": [{"message": MESSAGE}], "usage": {"prompt_tokens": 1}}).encode(),
    json.dumps({"content": BLOCKS, "stop_reason": "end", "model": "m"}).encode(),
    json.dumps({"content": [*BLOCKS, {}]}).encode(),
    b" " * (LEADING_SPACE_BYTES - 40),
]
bodies = st.lists(st.sampled_from(PARTS), max_size=8).map(b"".join)
types = st.sampled_from([EVENTS, "", "application/json", "text/plain", "application/octet-stream"])
cuts = st.lists(st.integers(0, 100_000), max_size=30)


@many
@given(st.sampled_from(DECODERS), bodies, types, cuts)
def test_any_split_of_a_body_gives_the_same_answer(
    kind: type[OpenAIDecoder | AnthropicDecoder], body: bytes, content_type: str, at: list[int]
) -> None:
    """The same text, events and error, whatever the body's format and whoever detects it."""
    whole = result(kind(content_type), [body])
    assert result(kind(content_type), split(body, at)) == whole
    if len(body) < 2000:
        assert result(kind(content_type), [body[i : i + 1] for i in range(len(body))]) == whole


@pytest.mark.parametrize("kind", [OpenAIDecoder, AnthropicDecoder])
def test_json_behind_a_byte_order_mark_is_detected_in_single_bytes(kind: Any) -> None:
    """The mark alone tells no format."""
    answers = {
        OpenAIDecoder: {"choices": [{"message": {"content": "Hello"}}]},
        AnthropicDecoder: {"content": [{"type": "text", "text": "Hello"}]},
    }
    body = "\ufeff".encode() + json.dumps(answers[kind]).encode()
    deltas, error = result(kind(""), [body[i : i + 1] for i in range(len(body))])
    assert (deltas, error) == (["Hello", Finish()], "")


@pytest.mark.parametrize("kind", DECODERS)
def test_late_tag_is_a_web_page_or_not_however_it_is_split(kind: Any) -> None:
    """Only the same number of bytes is looked at."""
    seen = set()
    for spaces in range(40, 70):
        body = b"<!doctype" + b" " * spaces + b"html>"
        _, error = result(kind(""), [body])
        assert result(kind(""), [body[i : i + 1] for i in range(len(body))])[1] == error
        seen.add("web page" in error)
    assert seen == {True, False}


def test_half_a_character_in_a_json_answer_stays_in_its_place() -> None:
    """No other half can come."""
    content = [{"text": "a\ud83d"}, {"type": "thinking", "thinking": "b"}, {"text": "c"}]
    body = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
    deltas, _ = result(OpenAIDecoder("application/json"), [body])
    assert deltas == ["a\ufffd", ReasoningDelta("b"), "c", Finish()]


# --- what came before an error

WRONG = {
    "not JSON": (b"data: oops\n\n", MalformedStream),
    "no object": (b"data: [1]\n\n", MalformedStream),
    "wrong shape": (b'data: {"choices": 7, "type": "content_block_delta"}\n\n', MalformedStream),
    "error event": (b'event: error\ndata: {"message": "no"}\n\n', ServerError),
    "error object": (b'data: {"error": {"message": "no"}}\n\n', ServerError),
    "too many lines": (b"data: x\n" * (EVENT_LINES + 1) + b"\n", MalformedStream),
    "too large": (b"data: " + b" " * 5000 + b"\n\n", MalformedStream),
    "too large, unterminated": (b"data: " + b"x" * 5000, MalformedStream),
    "truncated": (b"data: half", StreamTruncated),
}
MAKERS: dict[str, tuple[type[Provider], Callable[[str], bytes], bytes]] = {
    "openai": (OpenAICompatible, openai, DONE),
    "anthropic": (Anthropic, anthropic, b'data: {"type": "message_stop"}\n\n'),
}


@pytest.mark.parametrize("protocol", MAKERS)
@pytest.mark.parametrize("name", WRONG)
def test_text_before_a_wrong_event_in_the_same_piece_is_kept(
    protocol: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing after it is read, not even the end marker."""
    if "large" in name:
        monkeypatch.setattr(sse, "EVENT_BYTES", 4096)
    kind, event, end = MAKERS[protocol]
    wrong, expected = WRONG[name]
    body = event("Hel") + event("lo\ud83d") + wrong
    body += b"" if wrong[-2:] != b"\n\n" else event("lost") + end
    with serve(answer(body, end=False)) as server:
        stream = kind("m", base_url=server.url, api_key="k", retry=1).stream("Hi")
        with pytest.raises(expected) as caught:
            stream.read()
    held = "\ufffd" if name == "truncated" else ""  # half a character, whose end cannot come
    assert caught.value.partial == stream.text == "Hello" + held


def test_end_marker_counts_although_a_wrong_event_follows_in_the_same_piece() -> None:
    """Nothing after the end marker is read."""
    for wrong, _ in WRONG.values():
        for kind, (_, event, end) in zip(DECODERS, MAKERS.values(), strict=False):
            deltas, error = result(kind(EVENTS), [event("Hello") + end + wrong])
            assert (deltas, error) == (["Hello", Finish()], "")


def test_text_before_an_error_within_a_json_answer_is_kept() -> None:
    """Although the whole body is decoded at once."""
    blocks = [{"type": "text", "text": "Hello"}, {"type": "text", "text": 7}]
    body = json.dumps({"content": blocks}).encode()
    with serve(answer(body, content_type="application/json", end=False)) as server:
        stream = Anthropic("m", base_url=server.url, api_key="k", retry=1).stream("Hi")
        with pytest.raises(MalformedStream, match="wrong shape") as caught:
            stream.read()
    assert caught.value.partial == "Hello"


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize(
    "body", [b"data: oops\n\n", DONE, b'data: {"type":"message_stop"}\n\n', b"<html>"]
)
def test_fed_after_its_end_a_decoder_returns_nothing(kind: Any, body: bytes) -> None:
    """And its end stays the same."""
    decoder, other = kind(""), kind("")
    decoder.feed(body)
    other.feed(body)
    if decoder.ended:
        assert decoder.feed(openai("lost")) == []
        assert result(decoder, []) == result(other, [])


def test_decoder_is_freed_with_its_last_reference() -> None:
    """Also after an error: no cycle through its traceback waits for the garbage collector."""
    gc.disable()
    try:
        for body in (b"data: oops\n\n", b"data: x\n" * 2000 + b"\n", b"<html>", b"{", DONE, b""):
            for kind in DECODERS:
                decoder = kind("")
                reference = weakref.ref(decoder)
                result(decoder, [body])
                del decoder
                assert reference() is None, body
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("kind", "event", "limit"), [(OpenAIDecoder, openai, 3), (AnthropicDecoder, anthropic, 3)]
)
def test_event_of_plain_text_takes_few_calls(
    kind: Any, event: Callable[[str], bytes], limit: int
) -> None:
    """Each costs as much as a tenth of the JSON parser's work; a piece of the body takes three."""
    decoder = kind(EVENTS)
    decoder.feed(event("x"))
    assert calls(lambda: decoder.feed(event("x"))) <= 3 + limit
    assert calls(lambda: decoder.feed(event("x") * 100)) <= 3 + limit * 100


def calls(work: Callable[[], object]) -> int:
    """Return the number of calls of the package's functions in ``work``."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call" and "providers_sync" in frame.f_code.co_filename

    gc.collect()  # no finalizer of an earlier test may be counted
    gc.disable()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


# --- decoders of users


class Lines:
    """Takes each line for a piece of text: a decoder without ``ended``."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[Delta]:
        """Return the complete lines."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [self.read(line.decode()) for line in lines]

    def read(self, line: str) -> str:
        """Return the text of a line."""
        return line

    def end(self) -> Iterable[Delta]:
        """Return the last line."""
        return [self.read(self.rest.decode()), Finish("eof")]


class FailingInFeed(Lines):
    """Raises at a line."""

    def read(self, line: str) -> str:
        """Raise ``KeyError`` at ``c``."""
        return {"a": "a", "b": "b", "": ""}[line]


class FailingInEnd(Lines):
    """Raises at the end."""

    def end(self) -> Iterable[Delta]:
        """Raise ``KeyError``."""
        raise KeyError(self.rest)


class FailingAfterDeltas(Lines):
    """Has both text and an error at the end."""

    def end(self) -> Iterable[Delta]:
        """Yield the last line, then raise."""
        yield self.rest.decode()
        raise KeyError


class Ending(Lines):
    """Knows its own end marker."""

    ended = False

    def read(self, line: str) -> str:
        """Note the end."""
        self.ended = line == "b"
        return line


def provider(decoder: Callable[[], Decoder], url: str) -> Provider:
    """Return a provider with a decoder of its own."""

    class Custom(OpenAICompatible):
        def decoder(self, content_type: str = "") -> Decoder:
            return decoder()

    return Custom("m", base_url=url, retry=1)


def test_decoder_with_only_feed_and_end_is_read_to_the_end_of_the_body() -> None:
    """``ended`` is optional."""
    with serve(answer(b"a\nb", pause(0.01), b"\nc", end=False)) as server:
        completion = provider(Lines, server.url).complete("Hi")
    assert (completion.text, completion.finish_reason) == ("abc", "eof")
    assert completion.outcome is Outcome.COMPLETE


def test_decoder_with_an_end_marker_is_not_fed_after_it() -> None:
    """The server need not close the connection."""
    with serve(answer(b"a\nb\n", stall(), end=False)) as server:
        stream = provider(Ending, server.url).stream("Hi")
        assert (stream.read(), stream.finish_reason) == ("ab", "eof")


@pytest.mark.parametrize(
    ("decoder", "text"), [(FailingInFeed, "ab"), (FailingInEnd, "ab"), (FailingAfterDeltas, "abc")]
)
def test_error_of_a_decoder_keeps_the_text_before_it(decoder: type[Lines], text: str) -> None:
    """It is the cause of a ``ProviderError``."""
    last = b"\n" if decoder is FailingInFeed else b""
    script = answer(b"a\nb\n", pause(0.05), b"c", pause(0.05), last, end=False)
    with serve(script) as server:
        stream = provider(decoder, server.url).stream("Hi")
        with pytest.raises(ProviderError) as caught:
            stream.read()
    assert caught.value.partial == text
    assert type(caught.value.__cause__) is KeyError
