"""A provider class of a program's own: what it may leave out, and what its mistakes raise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    Finish,
    InvalidRequestError,
    MalformedStream,
    OpenAICompatible,
    Provider,
    ProviderError,
    Stream,
    StreamCut,
    StreamTruncated,
    TextDelta,
)
from providers_sync.decoding import OpenAIDecoder
from providers_sync.recording import Recorded, read_recordings
from providers_sync.testing import answer, cut, raw, serve

A, B, BROKEN = b'{"t": "a"}\n', b'{"t": "b"}\n', b"oops\n"


class Lines:
    """Decodes lines of JSON with a text each, in a list."""

    def __init__(self) -> None:
        self.rest = b""

    def texts(self, data: bytes) -> Iterator[Any]:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            yield json.loads(line)["t"]

    def feed(self, data: bytes) -> Any:
        return list(self.texts(data))

    def end(self) -> Any:
        return [Finish("stop")]


class Yielding(Lines):
    def feed(self, data: bytes) -> Any:
        yield from self.texts(data)


class PublicEvents(Lines):
    def feed(self, data: bytes) -> Any:
        return [TextDelta(text) for text in self.texts(data)]


class Own(Provider):
    """Has no more than it must."""

    kind: Any = Lines
    default_model = "m"

    def body(self, messages: Any, model: str, options: dict[str, Any]) -> Any:
        return {"ask": messages[-1]["content"], **options}

    def decoder(self, content_type: str = "") -> Any:
        return self.kind()


def asked(kind: Any, *data: bytes, content_type: str = "application/jsonl") -> Stream:
    """Return the stream of an answer, which was read to its end."""
    provider_class = type("Provider", (Own,), {"kind": staticmethod(kind)})
    script = answer(*map(raw, data), end=False, content_type=content_type)
    with serve(script) as server:
        stream: Stream = provider_class(base_url=server.url, retry=1).stream("Hi")
        stream.read()
        return stream


def failure(kind: Any, *data: bytes) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        asked(kind, *data)
    assert caught.value.outcome == "failed"
    return caught.value


@pytest.mark.parametrize("kind", [Lines, Yielding, PublicEvents])
def test_decoder_may_return_or_yield_text_or_public_events(kind: Any) -> None:
    stream = asked(kind, A, B)
    assert (stream.text, stream.outcome, stream.finish_reason) == ("ab", "complete", "stop")


def test_empty_text_is_no_chunk() -> None:
    stream = asked(Lines, A, b'{"t": ""}\n', B)
    assert (stream.text, stream.stats.chunks) == ("ab", 2)


@pytest.mark.parametrize("kind", ["application/jsonl", "application/json-seq", "text/plain"])
def test_type_of_lines_of_json_is_accepted(kind: str) -> None:
    assert asked(Lines, A, content_type=kind).text == "a"


def test_text_before_a_wrong_line_is_kept() -> None:
    """All of it comes in one read; what Python raises becomes an error of the package."""
    error = failure(Yielding, A + B + BROKEN)
    assert type(error) is MalformedStream
    assert error.partial == "ab"
    assert str(error) == "Yielding cannot read what the server sent: JSONDecodeError"
    assert isinstance(error.__cause__, json.JSONDecodeError)
    assert type(failure(Yielding, A + b"{}\n").__cause__) is KeyError


def test_error_of_the_package_is_raised_as_it_is() -> None:
    class Picky(Yielding):
        def end(self) -> Any:
            yield "c"
            raise StreamTruncated("no more")

    with pytest.raises(StreamTruncated, match="no more") as caught:
        asked(Picky, A)
    assert (caught.value.partial, caught.value.outcome) == ("ac", "truncated")


def test_last_text_in_an_error_is_kept() -> None:
    """As the decoders of the package hand it over."""

    class Old(Lines):
        def end(self) -> Any:
            error = StreamTruncated("no more")
            error.deltas = ["c"]  # type: ignore[attr-defined]
            raise error

    with pytest.raises(StreamTruncated, match="no more") as caught:
        asked(Old, A)
    assert (caught.value.partial, caught.value.outcome) == ("ac", "truncated")


def test_subclass_of_a_decoder_of_the_package_may_yield_too() -> None:
    class Loud(OpenAIDecoder):
        def feed(self, data: bytes) -> Any:
            yield from map(loud, super().feed(data))

    def loud(delta: Any) -> Any:
        return delta.upper() if isinstance(delta, str) else delta

    class Own(OpenAICompatible):
        def decoder(self, content_type: str = "") -> Any:
            return Loud(content_type)

    with serve([answer("a", "b"), answer("c", cut())]) as server:
        provider = Own("m", base_url=server.url, retry=1)
        whole = provider.complete("Hi")
        assert (whole.text, whole.outcome, whole.finish_reason) == ("AB", "complete", "stop")
        with pytest.raises(StreamCut) as caught:
            provider.complete("Hi")
        assert caught.value.partial == "C"


def test_halves_of_a_character_are_joined() -> None:
    assert asked(Lines, b'{"t": "\\ud83d"}\n', b'{"t": "\\ude00"}\n').text == "\U0001f600"
    assert asked(Lines, b'{"t": "\\ud83d"}\n').text == "\ufffd"


class Wrong:
    """Returns these values."""

    def __init__(self, feed: Any = (), end: Any = ()) -> None:
        self._feed, self._end = feed, end

    def feed(self, data: bytes) -> Any:
        return self._feed

    def end(self) -> Any:
        return self._end


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (lambda: Wrong(None), "Wrong.feed() returned None, not a list of deltas"),
        (lambda: Wrong("text"), "Wrong.feed() returned str, not a list of deltas"),
        (lambda: Wrong([1]), "Wrong.feed() returned int as a delta; text must be a str"),
        (lambda: Wrong(end=None), "Wrong.end() returned None, not a list of deltas"),
        (lambda: None, "decoder() returned None, which has no method feed()"),
        (dict, "decoder() returned dict, which has no method feed()"),
    ],
)
def test_mistake_in_a_decoder_is_named(kind: Any, message: str) -> None:
    """No text is silently left out."""
    assert str(failure(kind, A)) == message


def test_recording_names_the_decoder(tmp_path: Path) -> None:
    """Not the class that checks it."""
    script = answer(raw(A), end=False, content_type="application/jsonl")
    path = tmp_path / "answers.jsonl"
    with serve(script) as server:
        Recorded(Own(base_url=server.url), path, mode="record").complete("Hi")
    assert [each.decoder for each in read_recordings(path)] == ["Lines"]


# --- the other hooks


def test_none_removes_an_option_from_any_body() -> None:
    script = answer(raw(A), end=False, content_type="application/jsonl")
    with serve(script) as server:
        Own(base_url=server.url, top_k=3, seed=1).complete("Hi", seed=None)
    assert server.requests[0].json() == {"ask": "Hi", "top_k": 3}


def test_missing_address_is_named() -> None:
    with pytest.raises(InvalidRequestError, match="Own needs an address: pass base_url="):
        Own()


def test_missing_body_is_named() -> None:
    class NoBody(Provider):
        default_model = "m"

    with pytest.raises(NotImplementedError, match=r"NoBody needs a method body\(messages, model"):
        NoBody(base_url="http://127.0.0.1:9").stream("Hi")


def test_body_that_is_no_dict_is_named() -> None:
    class NoDict(Own):
        def body(self, messages: Any, model: str, options: dict[str, Any]) -> Any:
            return None

    with pytest.raises(InvalidRequestError, match=r"NoDict.body\(\) must return a dict, not None"):
        NoDict(base_url="http://127.0.0.1:9").stream("Hi")
