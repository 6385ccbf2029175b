"""No secret is in a recording: wherever a provider is given it, and whatever a server echoes."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from providers_sync import Gemini, OpenAICompatible, Provider, ProviderError
from providers_sync.recording import Exchange, Recorded
from providers_sync.recording.exchange import RecordedRequest
from providers_sync.testing import (
    Request,
    ScriptedProvider,
    answer,
    pause,
    raw,
    redirect,
    serve,
    status,
)

from .test_secrets import ECHOES, HEADERS, KEY, SHOWN


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def record(provider: Provider, path: Path, prompt: str = "Hi", **options: Any) -> str:
    """Record one request; return the file in lower case."""
    with contextlib.suppress(ProviderError):
        Recorded(provider, path, "record").complete(prompt, retry=1, **options)
    written = path.read_text(encoding="utf-8").lower()
    assert '"request"' in written
    return written


@pytest.mark.parametrize("kind", HEADERS)
@pytest.mark.parametrize("echo", ECHOES)
def test_key_that_the_server_echoes(kind: type[Provider], echo: str, path: Path) -> None:
    """In a body, a header, an error, or on the status line."""
    with serve(ECHOES[echo]) as server:
        written = record(kind("m", base_url=server.url, api_key=KEY), path)
        name, value = HEADERS[kind]
        assert server.requests[0].headers[name] == value
    assert SHOWN not in written


def echo(request: Request) -> Any:
    """Echo all headers and the address, in the text and in headers that are kept."""
    seen = f"{request.path} {list(request.headers.pairs)}"
    return answer("You sent ", seen, headers={"X-Request-Id": seen, "Location": seen})


GIVEN: dict[str, dict[str, Any]] = {
    "api_key": {"api_key": KEY},
    "a function": {"api_key": lambda: KEY},
    "a header": {"headers": {"X-Auth-Token": KEY}},
    "a cookie": {"headers": {"Cookie": f"session={KEY}"}},
    "a parameter": {"query": {"api_key": KEY}},
    "a parameter named key": {"query": {"key": KEY, "version": "1"}},
    "an option": {"extra_body": {"access_token": KEY}},
}


@pytest.mark.parametrize("place", GIVEN)
def test_key_that_a_provider_is_given(place: str, path: Path) -> None:
    """The server has seen it, and its echo has stars."""
    with serve(echo) as server:
        written = record(OpenAICompatible("m", base_url=server.url, **GIVEN[place]), path)
        (request,) = server.requests
        sent = f"{request.path} {request.headers.pairs} {request.body!r}"
        assert KEY in sent
    assert SHOWN not in written
    assert "you sent" in written


def test_key_of_a_call(path: Path) -> None:
    with serve(echo) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        written = record(provider, path, headers={"Authorization": f"Bearer {KEY}"})
    assert SHOWN not in written


def test_user_of_the_base_url(path: Path) -> None:
    """Refused, or sent and not written."""
    with serve(echo) as server:
        address = server.url.replace("//", f"//user:{KEY}@")
        try:
            provider = OpenAICompatible("m", base_url=address)
        except ProviderError:
            return
        written = record(provider, path)
        encoded = base64.b64encode(f"user:{KEY}".encode()).decode().lower()
    assert SHOWN not in written
    assert encoded[:16] not in written


def test_key_of_gemini(path: Path) -> None:
    with serve(echo) as server:
        written = record(Gemini("m", base_url=server.url, api_key=KEY), path)
    assert SHOWN not in written


def test_password_of_a_proxy(path: Path) -> None:
    """A proxy that refuses, and echoes what it was sent."""

    def refuse(request: Request) -> Any:
        return status(407, f"Who is {request.headers['Proxy-Authorization']}, user:{KEY}?")

    with serve(refuse) as server:
        proxy = f"http://user:{KEY}@127.0.0.1:{server.port}"
        written = record(OpenAICompatible("m", base_url="http://127.0.0.2:9", proxy=proxy), path)
    assert SHOWN not in written
    assert base64.b64encode(f"user:{KEY}".encode()).decode()[:16].lower() not in written


def test_password_with_letters_that_are_not_ascii(path: Path) -> None:
    """The answer is UTF-8."""
    password = "Straße-äöü-ÄÖÜ-0123456789"
    refusal = answer(f"Who is {password}? Où ?".encode(), status=407, content_type="text/plain")
    with serve(refusal) as server:
        proxy = f"http://user:{quote(password)}@127.0.0.1:{server.port}"
        written = record(OpenAICompatible("m", base_url="http://127.0.0.2:9", proxy=proxy), path)
    assert "who is ***? où ?" in written
    assert password[:12].lower() not in written


@pytest.mark.parametrize("split", [1, 10, 20, len(KEY) - 1])
def test_key_that_two_pieces_share(split: int, path: Path) -> None:
    """The rest of the answer stays."""
    line = f'data: {{"choices": [{{"delta": {{"content": "You sent {KEY}."}}}}]}}\n\n'
    place = line.index(KEY) + split

    halves = [raw(line[:place].encode()), pause(0.05), raw(line[place:].encode())]
    with serve(answer(*halves)) as server:
        provider = OpenAICompatible("m", base_url=server.url, api_key=KEY)
        written = record(provider, path)
    assert SHOWN not in written
    assert KEY[10:].lower() not in written
    assert KEY[20:].lower() not in written
    assert Recorded(provider, path, "replay").complete("Hi").text == "You sent ***."


def test_error_that_quotes_the_key() -> None:
    """It is recorded before its secrets are removed for the caller."""
    exchange = Exchange(RecordedRequest("POST", f"http://h/{KEY}", {KEY: [KEY]}))
    exchange.note_failure(ProviderError(f"No: {KEY}"))
    exchange.hide([KEY])
    assert SHOWN not in exchange.to_line().decode().lower()
    assert str(exchange.failure()) == "No: ***"


def test_ticket_of_a_redirect(path: Path) -> None:
    """A page to log in may have one in its address; the error does not show it either."""
    with serve(redirect("http://127.0.0.1:9/login?ticket=one-time#two-time")) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        words = []
        for mode in ("record", "replay"):
            with pytest.raises(ProviderError) as caught:
                Recorded(provider, path, mode).complete("Hi")  # type: ignore[arg-type]
            words.append(str(caught.value))
    assert words[0] == words[1]
    assert "http://127.0.0.1:9/login" in words[0]
    assert "-time" not in words[0] + path.read_text(encoding="utf-8")


def test_prompt_with_the_key_is_found_again(path: Path) -> None:
    """It is written with stars, and is asked once nevertheless."""
    with serve(["Hello"]) as server:
        provider = OpenAICompatible("m", base_url=server.url, api_key=KEY)
        for prompt in (f"What is {KEY}?", f"What is {KEY}?", "What is ***?"):
            assert Recorded(provider, path).complete(prompt).text == "Hello"
        assert len(server.requests) == 1
    assert SHOWN not in path.read_text(encoding="utf-8").lower()


@pytest.mark.parametrize("key", ["ollama", "EMPTY", "lm-studio"])
def test_words_that_stand_for_a_key_are_no_secret(key: str, path: Path) -> None:
    """Guides of local servers tell to use them; answers that contain them are as they were."""
    said = f"Install {key} first."
    with serve([said]) as server:
        provider = OpenAICompatible("m", base_url=server.url, api_key=key)
        for _ in range(2):
            assert Recorded(provider, path).complete(f"What is {key}?").text == said
        assert len(server.requests) == 1


def test_secret_that_is_a_number_does_not_break_the_request(path: Path) -> None:
    """Only texts are searched."""
    provider = OpenAICompatible("m", base_url="http://127.0.0.1:9", api_key="12345")
    like = ScriptedProvider(["Hello"], like=provider)
    for _ in range(2):
        assert Recorded(like, path).complete("Hi", max_tokens=12345).text == "Hello"
    assert len(like.requests) == 1
