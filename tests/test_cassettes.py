"""vcrpy: answers are recorded and replayed; without a recording nothing is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vcr
import yaml
from mock_kit import WAYS, ask

from providers_sync import APIConnectionError, OpenAICompatible
from providers_sync.testing import Server, answer, cut, serve, status, text


@pytest.fixture
def cassette(tmp_path: Path) -> str:
    """The path of a cassette that does not exist yet."""
    return str(tmp_path / "cassette.yaml")


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers ``Hello``."""
    with serve([text("Hel"), text("lo")]) as running:
        yield running


def openai(server: Server, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=f"{server.url}/v1", **settings)


def replay(cassette: str) -> Any:
    return vcr.use_cassette(cassette, record_mode="none")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", ["before", "inside"])
def test_answer_is_recorded_and_replayed(
    first: str, way: str, server: Server, cassette: str
) -> None:
    """Also by a provider with an open connection; calls outside a cassette work as ever."""
    provider = openai(server)
    if first == "before":
        assert ask(provider).text == "Hello"
    with vcr.use_cassette(cassette) as recorded:
        assert ask(provider, way) == ("Hello", "complete", None)
        assert len(recorded) == 1
    sent = len(server.requests)
    for each in (provider, openai(server)):
        with replay(cassette) as played:
            assert ask(each, way) == ("Hello", "complete", None)
            assert played.play_count == 1
    assert len(server.requests) == sent
    assert ask(provider, way) == ("Hello", "complete", None)
    assert ask(openai(server), way) == ("Hello", "complete", None)
    assert len(server.requests) == sent + 2


@pytest.mark.parametrize("way", WAYS)
def test_request_without_a_recording_is_refused_at_once(
    way: str, server: Server, cassette: str
) -> None:
    """Nothing is sent; the error names vcrpy's class and quotes its text."""
    with vcr.use_cassette(cassette):
        openai(server).complete("recorded")
    provider = openai(server)
    assert ask(provider).text == "Hello"  # its connection is open
    sent = len(server.requests)
    for each in (provider, openai(server)):
        with replay(cassette) as played:
            error = ask(each, way).error
            assert played.play_count <= 1
            error = error or ask(each, way).error  # the first answer was played
        assert "CannotOverwriteExistingCassetteException: " in str(error)
    assert len(server.requests) == sent


def test_refusal_of_a_cassette_is_not_retryable(server: Server, cassette: str) -> None:
    """vcrpy's exception is the cause."""
    with replay(cassette), pytest.raises(APIConnectionError) as caught:
        openai(server).complete("Hi")
    assert not caught.value.retryable
    assert type(caught.value.__cause__).__name__ == "CannotOverwriteExistingCassetteException"
    assert server.connections == []


def test_compressed_answer_is_replayed(cassette: str) -> None:
    """vcrpy records the bytes as they were sent."""
    with serve(answer(text("Hel"), text("lo"), gzip=True)) as server:
        for context in (vcr.use_cassette(cassette), replay(cassette)):
            with context:
                assert ask(openai(server)) == ("Hello", "complete", None)
        assert len(server.requests) == 1
    assert "gzip" in Path(cassette).read_text("utf-8")


def test_answer_over_tls_is_recorded_and_replayed(tls: Any, ca: str, cassette: str) -> None:
    """The certificate is verified while it is recorded."""
    with serve(["Hello"], tls=tls) as server:
        provider = openai(server, verify=ca)
        for context in (vcr.use_cassette(cassette), replay(cassette)):
            with context:
                assert ask(provider) == ("Hello", "complete", None)
        assert len(server.requests) == 1
        with vcr.use_cassette(cassette + "2"):
            error = ask(openai(server, retry=None)).error
        assert "the certificate of" in str(error)
        assert ask(provider).text == "Hello"


def test_attempts_inside_a_cassette_are_all_recorded(cassette: str) -> None:
    """The replay makes the same attempts."""
    busy = status(503, "busy", headers={"Retry-After": "0"})
    with serve([busy, busy, ["Hello"]]) as server:
        for context in (vcr.use_cassette(cassette), replay(cassette)):
            with context as used:
                assert ask(openai(server)).text == "Hello"
                assert len(used) == 3
        assert len(server.requests) == 3


def test_truncated_recording_is_truncated(server: Server, cassette: str) -> None:
    """A cassette whose text was shortened by hand is no complete answer."""
    with vcr.use_cassette(cassette):
        openai(server).complete("Hi")
    recorded = yaml.safe_load(Path(cassette).read_text("utf-8"))
    (interaction,) = recorded["interactions"]
    body = interaction["response"]["body"]
    body["string"] = body["string"].partition("\n\n")[0] + "\n\n"
    Path(cassette).write_text(yaml.safe_dump(recorded), "utf-8")
    with replay(cassette):
        answer = ask(openai(server, retry=None))
    assert (answer.text, answer.outcome) == ("Hel", "truncated")


def test_answer_that_is_cut_while_recorded_is_an_error(cassette: str) -> None:
    """vcrpy reads the complete body before it hands over any of it."""
    with serve([text("Hel"), cut()]) as server:
        with vcr.use_cassette(cassette):
            error = ask(openai(server, retry=None)).error
        assert error is not None
        assert ask(openai(server, retry=None)).outcome == "cut"


def test_thread_beside_a_cassette_gets_its_answer(server: Server, cassette: str) -> None:
    """vcrpy holds for the whole process; nothing breaks, inside or outside of the ``with``."""
    answers: list[str] = []
    inside, end = threading.Event(), threading.Event()

    def record() -> None:
        with vcr.use_cassette(cassette):
            answers.append(ask(openai(server)).text)
            inside.set()
            end.wait(10)

    thread = threading.Thread(target=record)
    provider = openai(server)
    answers.append(ask(provider).text)
    thread.start()
    assert inside.wait(10)
    answers.append(provider.complete("Beside").text)
    end.set()
    thread.join()
    answers.append(ask(provider).text)
    assert answers == ["Hello"] * 4


def test_stream_open_across_a_cassettes_end_is_read_to_its_end(
    server: Server, cassette: str
) -> None:
    """An answer begun on a real connection before a cassette goes on inside it and after it."""
    provider = openai(server)
    with provider.stream("Before") as stream:
        first = next(stream)
        with vcr.use_cassette(cassette):
            assert provider.complete("Inside").text == "Hello"
            across = provider.stream("Across")
        assert first + "".join(stream) == "Hello"
        assert "".join(across) == "Hello"
    assert ask(provider).text == "Hello"
