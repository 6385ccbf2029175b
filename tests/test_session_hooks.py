"""``session=``: hooks, redirects, adapters and subclasses of the caller's session."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from requests.auth import HTTPDigestAuth
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from providers_sync import (
    APIConnectionError,
    APIStatusError,
    InvalidRequestError,
    MalformedStream,
    OpenAICompatible,
    Outcome,
    ProviderError,
)
from providers_sync.providers import attempts
from providers_sync.testing import (
    Server,
    answer,
    drip,
    raw,
    redirect,
    repeat,
    serve,
    status,
)

EVENTS = (
    b'data: {"choices":[{"delta":{"content":"Hello"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
HELLO = answer("Hello", framing="length")
SECRET = "sk-very-secret-key-0123456789"


pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers "Hello" on connections that stay open."""
    with serve(HELLO) as server:
        yield server


def openai(server: Server, session: requests.Session, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=server.url, session=session, **settings)


# --- hooks, redirects


def test_hooks_of_the_session_run_and_see_a_redirect(session: requests.Session) -> None:
    """Each runs once; the target of the redirect is visible to them and in the error."""
    seen: list[str | None] = []
    session.hooks["response"].append(
        lambda response, **_: seen.append(response.headers["Location"])
    )
    with serve(redirect("http://elsewhere.invalid/v2?key=1")) as server:
        with pytest.raises(
            APIStatusError, match=r"redirected to http://elsewhere\.invalid/v2;"
        ) as e:
            openai(server, session).complete("Hi")
        assert len(server.requests) == 1
    assert e.value.headers["Location"] == "http://elsewhere.invalid/v2?key=1"
    assert seen == ["http://elsewhere.invalid/v2?key=1"]
    assert len(session.hooks["response"]) == 1


@pytest.mark.parametrize("own", [True, False], ids=["own", "caller's"])
def test_dripping_body_of_a_redirect_is_not_waited_for(
    session: requests.Session, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """requests would read it whole to reuse the connection, without end."""
    monkeypatch.setattr(attempts, "ERROR_BODY_S", 0.1)
    body = answer(
        repeat(drip(b"x", every=0.1)),
        status=302,
        headers={"Location": "/other"},
        framing="length",
        end=False,
    )
    with serve(body, protocol="plain") as server:
        settings: dict[str, Any] = {} if own else {"session": session}
        provider = OpenAICompatible("m", base_url=server.url, timeouts=5, retry=None, **settings)
        with pytest.raises(APIStatusError, match="redirected to /other"):
            provider.complete("Hi")
        server.wait_closed(timeout=1)


def raise_for_status(response: requests.Response, **_: Any) -> None:
    response.raise_for_status()


def test_hook_that_raises_for_status_gives_the_status_error(session: requests.Session) -> None:
    """With the server's message and the status, and the connection can be used again."""
    session.hooks["response"] = raise_for_status  # type: ignore[assignment]
    with serve([status(429, "Slow down"), HELLO]) as server:
        with pytest.raises(APIStatusError, match=r"429.*Slow down"):
            openai(server, session, retry=None).complete("Hi")
        assert openai(server, session).complete("Hi").text == "Hello"
        assert len(server.connections) == 1


@pytest.mark.parametrize("name", ["content", "text"])
def test_hook_may_read_the_answer_first(session: requests.Session, name: str) -> None:
    """The answer is then in the response, compressed or not."""
    read: list[Any] = []
    session.hooks["response"].append(lambda response, **_: read.append(getattr(response, name)))
    with serve([HELLO, answer("Hello", gzip=True), answer("Hello")]) as server:
        for _ in range(3):
            assert openai(server, session).complete("Hi").outcome is Outcome.COMPLETE
    assert len(read) == 3


@pytest.mark.parametrize("lines", [1, 1000], ids=["a line", "all lines"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_hook_that_takes_lines_of_the_answer_is_named(
    session: requests.Session, lines: int, framing: Any
) -> None:
    """What it has read is gone, and the rest is no answer."""

    def read(response: requests.Response, **_: Any) -> None:
        for _number, _line in zip(range(lines), response.iter_lines(), strict=False):
            pass

    session.hooks["response"].append(read)
    text = "a hook of session= read"
    with (
        serve(answer("Hello", framing=framing)) as server,
        pytest.raises(ProviderError, match=text),
    ):
        openai(server, session).complete("Hi")


@pytest.mark.parametrize("error", [LookupError, PermissionError])
def test_error_of_a_hook_is_the_cause_and_frees_the_connection(
    session: requests.Session, error: type[Exception]
) -> None:
    """The pool has one connection and blocks without it."""
    session.mount("http://", HTTPAdapter(pool_maxsize=1, pool_block=True))

    def fail(response: requests.Response, **_: Any) -> None:
        raise error("not today")

    with serve(HELLO) as server:
        session.hooks["response"].append(fail)
        for _ in range(2):
            with pytest.raises(ProviderError, match=f"session= raised {error.__name__}") as caught:
                openai(server, session, timeouts=5).complete("Hi")
            assert isinstance(caught.value.__cause__, error)
        session.hooks["response"].clear()
        assert openai(server, session, timeouts=5).complete("Hi").text == "Hello"
        assert len(server.requests) == 3


# --- adapters and subclasses


def test_retries_of_an_adapter_end_in_a_plain_error(session: requests.Session) -> None:
    """An adapter may retry by itself; its last word is in the text."""
    retries = Retry(1, status_forcelist=[503], allowed_methods=None, backoff_factor=0)
    session.mount("http://", HTTPAdapter(max_retries=retries))
    with serve(status(503)) as server:
        with pytest.raises(APIConnectionError, match="too many 503 error responses"):
            openai(server, session, retry=None).complete("Hi")
        assert len(server.requests) == 2


class TokenSession(requests.Session):
    """Adds a token in ``request``, as the session of requests-oauthlib does."""

    def request(self, method: Any, url: Any, *arguments: Any, **settings: Any) -> requests.Response:
        settings["headers"] = {**settings["headers"], "Authorization": "Bearer renewed"}
        return super().request(method, url, *arguments, **settings)


def test_session_that_adds_a_token_to_each_request(server: Server) -> None:
    """Its ``request`` is called, not only ``send``."""
    with TokenSession() as session:
        openai(server, session).complete("Hi")
    assert server.requests[0].headers["Authorization"] == "Bearer renewed"


def test_session_that_returns_something_else_is_named(server: Server) -> None:
    """The session of requests-futures returns a future."""

    class Futures(requests.Session):
        def request(self, *_: Any, **__: Any) -> Any:
            return object()

    with (
        Futures() as session,
        pytest.raises(ProviderError, match=r"requests\.Response, not object"),
    ):
        openai(server, session).complete("Hi")


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("own", [True, False], ids=["own", "caller's"])
def test_compressed_answers(session: requests.Session, coding: str, own: bool) -> None:
    """Whoever decompresses them, the connection is used again."""
    body = gzip.compress(EVENTS) if coding == "gzip" else zlib.compress(EVENTS)
    headers = {"Content-Encoding": coding}
    with serve(answer(raw(body), headers=headers, framing="length", end=False)) as server:
        settings: dict[str, Any] = {} if own else {"session": session}
        provider = OpenAICompatible("m", base_url=server.url, **settings)
        assert [provider.complete("Hi").text for _ in range(2)] == ["Hello"] * 2
        if not own:
            assert len(server.connections) == 1


@pytest.mark.parametrize("own", [True, False], ids=["own", "caller's"])
def test_compression_that_nobody_can_read_is_named(
    session: requests.Session, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session may ask for it; urllib3 reads it only with another package."""
    monkeypatch.setattr(BaseHTTPResponse, "CONTENT_DECODERS", ["gzip", "deflate"])
    headers = {"Content-Encoding": "br"}
    settings: dict[str, Any] = {} if own else {"session": session}
    script = answer(raw(b"\x0b\x02\x80"), headers=headers, end=False)
    with serve(script) as server, pytest.raises(MalformedStream, match="compressed with br"):
        OpenAICompatible("m", base_url=server.url, **settings).complete("Hi")


def test_digest_authentication(session: requests.Session) -> None:
    """Its hook answers the server's challenge with a second request."""
    session.auth = HTTPDigestAuth("me", "s3cret-word")
    challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm="SHA-256"'
    with serve([status(401, headers={"WWW-Authenticate": challenge}), HELLO]) as server:
        assert openai(server, session).complete("Hi").text == "Hello"
        assert server.requests[1].headers["Authorization"].startswith('Digest username="me"')


def test_session_that_was_closed_works_again(server: Server, session: requests.Session) -> None:
    """As requests' own sessions do; and ``close()`` of the provider leaves it open."""
    provider = openai(server, session)
    provider.complete("Hi")
    provider.close()
    provider.complete("Hi")
    assert len(server.connections) == 1
    session.close()
    server.wait_closed()
    assert provider.complete("Hi").text == "Hello"


@pytest.mark.parametrize("wrong", [requests.Session, requests, {}, "s"])
def test_wrong_session_is_refused(wrong: Any) -> None:
    """The module and the class are common mistakes."""
    with pytest.raises(InvalidRequestError, match=r"session must be a requests\.Session"):
        OpenAICompatible("m", base_url="http://127.0.0.1:1", session=wrong)
