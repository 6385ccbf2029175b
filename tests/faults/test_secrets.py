"""Keys: where they go, and that they are nowhere to be seen."""

from __future__ import annotations

import asyncio
import base64
import copy
import functools
import html
import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from providers_sync import (
    AI365VIP,
    Anthropic,
    APIStatusError,
    CodeLinkAva,
    InvalidRequestError,
    MalformedStream,
    OpenAICompatible,
    Provider,
    ProviderError,
    Vitalentum,
    transport,
)
from providers_sync.testing import answer, cut, error, event, redirect, serve, status, wire
from providers_sync.transport.errors import error_chain

KEY = "sk-Never-Shown-ABCdef0123456789"
SHOWN = KEY[:12].lower()
"""As much of it as would already be too much."""


def everything(failure: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    """All that may end up on a screen or in a log, in lower case."""
    told = [str(failure), repr(failure), repr(vars(failure)), *traceback.format_exception(failure)]
    told.append(repr(pickle.dumps(failure)))
    told += [logging.Formatter().format(record) for record in caplog.records]
    return "\n".join(told).lower()


def long(size: int) -> str:
    return "x" * size + KEY


ECHOES: dict[str, Any] = {
    "401 with JSON": status(401, f"Incorrect API key provided: {KEY}"),
    "400 with JSON": status(400, f"Bad header: Bearer {KEY}"),
    "503 with JSON": status(503, f"Busy: {KEY}"),
    "JSON cut off": status(400, long(1985)),
    "plain text": answer(f"No: {KEY}".encode(), status=403, content_type="text/plain"),
    "plain text cut off": answer(long(285).encode(), status=403, content_type="text/plain"),
    "a list": answer(f'["{KEY}"]'.encode(), status=400, content_type="application/json"),
    "a header": status(401, "No", headers={"X-Echo": f"Bearer {KEY}"}),
    "the request id": status(401, "No", headers={"X-Request-Id": KEY}),
    "the reason phrase": answer(before=[
        wire(f"HTTP/1.1 401 Bad key {KEY}\r\nContent-Length: 0\r\n\r\n".encode()), cut()
    ]),
    "the status line": answer(before=[wire(f"{KEY} what?\r\n".encode()), cut()]),
    "a redirect": redirect(f"http://127.0.0.1:9/{KEY}"),
    "the content type": answer("Hi", content_type=f"image/{KEY}"),
    "an error event": ["Hel", error(f"Bad key {KEY}")],
    "an error's type and code": ["Hel", error("No", KEY, KEY)],
    "an error event as text": ["Hel", event(long(1985), "error")],
    "broken JSON": ["Hel", event(f'{{"oops {KEY}')],
    "broken JSON cut off": ["Hel", event(f'{{"{long(62)}')],
    "JSON of the wrong shape": ["Hel", event({"oops": KEY})],
    "JSON of the wrong shape cut off": ["Hel", event({"oops": long(58)})],
    "content of the wrong type": ["Hel", event({"choices": [{"delta": {"content": [KEY]}}]})],
    "a chunk size": ["Hel", wire(f"{KEY}\r\n".encode()), cut()],
}  # fmt: skip


HEADERS = {OpenAICompatible: ("Authorization", f"Bearer {KEY}"), Anthropic: ("x-api-key", KEY)}
UNKNOWN = {
    "JSON of the wrong shape",
    "JSON of the wrong shape cut off",
    "content of the wrong type",
}
"""To Anthropic's protocol, which passes over events of an unknown type."""


@pytest.mark.parametrize(
    ("kind", "where"),
    [(kind, where) for kind in HEADERS for where in ECHOES if kind is OpenAICompatible
     or where not in UNKNOWN],
)  # fmt: skip
def test_key_that_the_server_echoes_is_not_shown(
    kind: type[Provider], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the error, its attributes, its causes, its traceback or a log at DEBUG."""
    caplog.set_level(logging.DEBUG)
    with serve(ECHOES[where]) as server:
        provider = kind("m", base_url=server.url, api_key=KEY, retry=1)
        with pytest.raises(ProviderError) as caught:
            provider.complete("Hi")
        told = everything(caught.value, caplog) + behind(caught.value)
        name, value = HEADERS[kind]
        assert server.requests[0].headers[name] == value
    assert SHOWN not in told


@pytest.mark.parametrize("name", ["Authorization", "X-Auth-Token", "Ocp-Apim-Subscription-Key",
                                  "Cookie", "CF-Access-Client-Secret"])  # fmt: skip
@pytest.mark.parametrize("own", [True, False], ids=["provider", "call"])
def test_secret_header_that_the_server_echoes_is_not_shown(
    name: str, own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever header it goes in, given to the provider or to the call."""
    caplog.set_level(logging.DEBUG)
    headers = {name: f"Token {KEY}"}
    with serve(status(401, f"Bad credentials: {KEY}")) as server:
        provider = OpenAICompatible("m", base_url=server.url, headers=headers if own else None)
        with pytest.raises(ProviderError) as caught:
            provider.complete("Hi", headers=None if own else headers)
        assert server.requests[0].headers[name] == f"Token {KEY}"
    assert SHOWN not in everything(caught.value, caplog)


BROKEN = {
    "newline": f"{KEY}\n",
    "newline in front": f"\n{KEY}",
    "CRLF": f"{KEY}\r\nX-Injected: 1",
    "NUL": f"{KEY}\0",
    "space": f"{KEY} ",
    "typographic dash": f"{KEY}\u2013",
    "emoji": f"{KEY}\U0001f511",
    "lone surrogate": f"{KEY}\udc80",
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("way", ["api_key", "headers", "call", "environment", "Anthropic"])
def test_broken_key_fails_without_showing_itself(
    how: str, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error says what to do; nothing is sent."""
    caplog.set_level(logging.DEBUG)
    key = BROKEN[how]

    def ask(url: str) -> None:
        if way == "environment":
            monkeypatch.setenv("OPENAI_BASE_URL", url)
            monkeypatch.setenv("OPENAI_API_KEY", key)
            OpenAICompatible("m").complete("Hi")
        elif way == "Anthropic":
            Anthropic("m", base_url=url, api_key=key).complete("Hi")
        elif way == "call":
            headers = {"Authorization": f"Bearer {key}"}
            OpenAICompatible("m", base_url=url).complete("Hi", headers=headers)
        else:
            given = key if way == "api_key" else {"X-Api-Key": key}
            OpenAICompatible("m", base_url=url, **{way: given}).complete("Hi")

    if way == "environment" and "\0" in key:
        pytest.skip("the environment cannot hold it")
    with serve("Hello") as server:
        with pytest.raises(InvalidRequestError) as caught:
            ask(server.url)
        assert server.requests == []
    assert SHOWN not in everything(caught.value, caplog)


def providers(url: str) -> list[Provider]:
    kinds = [(OpenAICompatible, "m"), (Anthropic, "m"), (Vitalentum, None), (CodeLinkAva, None),
             (AI365VIP, None)]  # fmt: skip
    return [kind(model, base_url=url, api_key=KEY) for kind, model in kinds]


def test_key_is_not_in_reprs_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Of the provider, the stream, the completion and the request, at DEBUG, urllib3's too."""
    caplog.set_level(logging.DEBUG)
    with serve(["Hello"]) as server:
        for provider in providers(server.url):
            with provider.stream("Hi") as stream:
                stream.read()
                told = [repr(provider), str(provider), repr(stream), repr(stream.completion())]
            assert SHOWN not in "".join(told).lower()
        sent = "".join(str(request.headers.pairs) for request in server.requests)
    assert sent.count(KEY) == 5
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    for record in caplog.records:
        assert SHOWN not in logging.Formatter().format(record).lower()
    caplog.clear()  # a record holds what it was given: sseclient's the whole stream


def test_key_is_not_in_connection_errors(
    refused: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Though the exceptions behind them carry the whole request."""
    caplog.set_level(logging.DEBUG)
    for provider in providers("http://{}:{}".format(*refused)):
        with pytest.raises(ProviderError) as caught:
            provider.complete("Hi", retry=1)
        assert SHOWN not in everything(caught.value, caplog)
        inner: Any = caught.value
        while inner is not None:
            assert getattr(inner, "request", None) is None
            inner = inner.__cause__ or inner.__context__


def test_password_of_a_proxy_is_not_shown(
    refused: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither where the proxy is gone nor where it refuses."""
    caplog.set_level(logging.DEBUG)
    secret = base64.b64encode(f"user:{KEY}".encode()).decode().lower()
    with serve(status(407, f"Who is user:{KEY}?")) as server:
        for port in (refused[1], server.port):
            provider = OpenAICompatible(
                "m", base_url="http://127.0.0.2:9", proxy=f"http://user:{KEY}@127.0.0.1:{port}"
            )
            assert SHOWN not in repr(provider).lower()
            with pytest.raises(ProviderError) as caught:
                provider.complete("Hi", retry=1)
            assert SHOWN not in everything(caught.value, caplog)
            assert secret not in everything(caught.value, caplog)
        assert len(server.requests) == 1


def behind(failure: BaseException) -> str:
    """All that error reporters show: the local variables, and the attributes of every cause."""
    report = traceback.TracebackException.from_exception(failure, capture_locals=True)
    told, waiting, seen = list(report.format()), [failure], set[int]()
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            waiting += [error.__cause__, error.__context__, *error.args, *vars(error).values()]
            told.append(repr(error.args))
            for value in vars(error).values():
                told += [repr(value), repr(getattr(value, "__dict__", ""))]
    return "\n".join(told).lower()


PROXY_SECRETS = [SHOWN, base64.b64encode(f"user:{KEY}".encode()).decode()[:16].lower()]
QUOTES: dict[str, Any] = {
    "the password": lambda request: f"user:{KEY}",
    "the header": lambda request: request.headers["Proxy-Authorization"],
}


@pytest.mark.parametrize("name", QUOTES)
def test_password_that_a_proxy_quotes_is_not_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That of an environment's proxy neither; in the header it is base64."""

    def quoting(request: Any) -> Any:
        return status(407, QUOTES[name](request), headers={"X-Quoted": QUOTES[name](request)})

    with serve(quoting) as server:
        monkeypatch.setenv("http_proxy", f"http://user:{KEY}@127.0.0.1:{server.port}")
        with pytest.raises(APIStatusError) as caught:
            OpenAICompatible("m", base_url="http://127.0.0.2:9").complete("Hi", retry=1)
    told = everything(caught.value, caplog) + behind(caught.value)
    assert "***" in caught.value.body
    assert not [secret for secret in PROXY_SECRETS if secret in told]


@pytest.mark.parametrize(
    "address", ["http://user:{}@127.0.0.1:99999", "htp://user:{}@127.0.0.1:9", "user:{}@[",
                "http://user:{}#@127.0.0.1:9", "http://user:{}@127.0.0.1:9"]
)  # fmt: skip
def test_password_in_a_proxy_address_that_is_wrong_is_not_shown(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """urllib3's own words quote the whole address."""
    monkeypatch.setenv("http_proxy", address.format(KEY))
    with pytest.raises(ProviderError) as caught:
        OpenAICompatible("m", base_url="http://127.0.0.2:9").complete("Hi", retry=1)
    told = everything(caught.value, caplog) + behind(caught.value)
    assert not [secret for secret in PROXY_SECRETS if secret in told]


@pytest.mark.parametrize("kind", HEADERS)
def test_key_is_not_in_what_error_reporters_show(
    kind: type[Provider], refused: tuple[str, int]
) -> None:
    """Where nobody answers, where the server quotes the key, and in the middle of an answer."""
    told = []
    with serve([status(401, f"No: {KEY}"), answer("Hel", error(f"Bad key {KEY}"))]) as server:
        for url in ("http://{}:{}".format(*refused), server.url, server.url):
            provider = kind("m", base_url=url, api_key=KEY, headers={"X-Api-Token": KEY})
            with pytest.raises(ProviderError) as caught:
                provider.complete("Hi", retry=1, headers={"X-Auth": KEY})
            told.append(behind(caught.value))
        assert [request.headers["X-Api-Token"] for request in server.requests] == [KEY, KEY]
        assert [request.headers["X-Auth"] for request in server.requests] == [KEY, KEY]
    assert not [text for text in told if SHOWN in text]
    assert "line" in told[0]  # where it was is told


def test_key_is_not_in_what_error_reporters_show_of_a_wrong_setting() -> None:
    """The constructor fails with the key in hand."""
    with pytest.raises(InvalidRequestError) as caught:
        OpenAICompatible(
            "m", api_key=KEY, headers={"Authorization": KEY}, proxy=f"http://u:{KEY}@h:1",
            base_url="oops",
        )  # fmt: skip
    assert SHOWN not in behind(caught.value)


def test_key_is_not_in_the_attributes_of_a_provider() -> None:
    """Nor is a proxy's password; both are sent, and travel with the provider."""
    provider = OpenAICompatible(
        "m", base_url="http://127.0.0.1:9", api_key=KEY, headers={"X-Token": KEY, "X-Title": "me"},
        proxy=f"http://user:{KEY}@127.0.0.1:9",
    )  # fmt: skip
    for one in (provider, pickle.loads(pickle.dumps(provider)), copy.deepcopy(provider)):
        assert SHOWN not in repr(vars(one)).lower()
        assert "'X-Title': 'me'" in repr(vars(one))
        assert one._api_key == KEY


def test_error_of_the_caller_keeps_its_local_variables() -> None:
    """Where the caller handles one of its own meanwhile, it is behind ours and stays as it is."""

    def fail(kept: str) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as own:
        fail("mine")
    error = ProviderError(f"No: {KEY}")
    error.__context__ = own.value
    transport.redact([KEY], error)
    assert str(error) == "No: ***"
    assert own.traceback[-1].locals["kept"] == "mine"


def test_exception_of_the_caller_keeps_its_attributes() -> None:
    """One of requests' own, which the caller handles while an answer fails."""
    with pytest.raises(requests.RequestException) as own:
        requests.get(f"http://127.0.0.1:99999/{KEY}", timeout=1)
    own.value.request = "kept"
    error = ProviderError(f"No: {KEY}")
    error.__context__ = own.value
    transport.redact([KEY], error)
    assert str(error) == "No: ***"
    assert own.value.request == "kept"
    assert KEY in str(own.value)


def our_locals(failure: BaseException) -> str:
    """The local variables of all functions but those of the tests, of every cause."""
    told = []
    for each in error_chain(failure):
        report = traceback.TracebackException.from_exception(each, capture_locals=True)
        told += [repr(frame.locals) for frame in report.stack if "/tests/" not in frame.filename]
    assert told
    return "\n".join(told).lower()


SPELLED = {
    "in JSON of PHP": lambda key: json.dumps(key).replace("/", "\\/"),
    "in an address": lambda key: quote(key, ""),
    "in JSON": lambda key: json.dumps(key),
    "in HTML": html.escape,
    "cut off": lambda key: key[:-3],
}


@pytest.mark.parametrize("how", SPELLED)
def test_key_that_is_spelled_otherwise_is_not_shown(how: str) -> None:
    """Nor is its end, behind the character that is."""
    key = 'sk-Never-Shown/ABC"def&0123456789'
    body = f"No: Bearer {SPELLED[how](key)}".encode()
    with serve(answer(body, status=401, content_type="text/plain")) as server:
        provider = OpenAICompatible("m", base_url=server.url, api_key=key, retry=1)
        with pytest.raises(APIStatusError) as caught:
            provider.complete("Hi")
    told = repr((str(caught.value), vars(caught.value))).lower()
    assert "***" in told
    assert not [part for part in ("sk-never", "shown", "abc", "def", "01234") if part in told]


def test_short_key_does_not_garble_other_words() -> None:
    """Local servers want any; what is hidden is the word itself."""
    error = ProviderError('Bad token: max_tokens is 5, tokens are 7, "token"')
    transport.redact(transport.collect_secrets({"Authorization": "Bearer token"}), error)
    assert str(error) == 'Bad ***: max_tokens is 5, tokens are 7, "***"'


@pytest.mark.parametrize("said", [f"oops {KEY}", f'{{"{KEY}'])
def test_key_in_broken_json_is_not_in_what_error_reporters_show(said: str) -> None:
    """The JSON module's errors keep the whole text; so would a list of models."""
    with serve([[event(said)], answer(said.encode(), content_type="application/json")]) as server:
        provider = OpenAICompatible("m", base_url=server.url, api_key=KEY, retry=1)
        for ask in (lambda: provider.complete("Hi"), provider.list_models):
            with pytest.raises(MalformedStream) as caught:
                ask()
            assert SHOWN not in our_locals(caught.value)
            assert SHOWN not in repr(vars(caught.value.__cause__)).lower()


WRONG_CALLS: dict[str, Any] = {
    "a header's name": lambda p: p(headers={"Authorization": KEY, "X y": "z"}),
    "a header's value": lambda p: p(headers={"X-Token": f"{KEY}\n"}),
    "a proxy without a scheme": lambda p: p(proxy=f"me:{KEY}@127.0.0.1"),
    "an address with a password": lambda p: p(base_url=f"http://me:{KEY}@127.0.0.1"),
    "an option": lambda p: p(timeout=1, access_token=KEY),
    "a preset": lambda p: OpenAICompatible.preset("nobody", api_key=KEY),
    "a preset's setting": lambda p: OpenAICompatible.preset("groq", api_key=KEY, retry=0),
    "a key for a call": lambda p: p().stream("Hi", api_key=KEY),
    "a key for a whole call": lambda p: p().complete("Hi", api_key=KEY),
    "a proxy for a call": lambda p: p().complete("Hi", proxy=f"http://me:{KEY}@h"),
    "a header for a call": lambda p: p().complete("Hi", headers={"X-Token": KEY, "X y": "z"}),
    "the published spelling": lambda p: asyncio.run(
        anext(aiter(OpenAICompatible.create_async_generator("m", "Hi", api_key=KEY, retry=0)))
    ),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_key_is_not_in_what_error_reporters_show_of_a_wrong_call(name: str) -> None:
    """The local variables of our functions hold it masked; those of the caller are its own."""
    with pytest.raises(InvalidRequestError) as caught:
        WRONG_CALLS[name](functools.partial(OpenAICompatible, "m"))
    assert SHOWN not in our_locals(caught.value)


@pytest.mark.parametrize(
    "header", [f"Bearer {KEY}\r\nX: y", f"Bearer {KEY}\u2026", (KEY,), KEY.encode(), None]
)
def test_authorization_of_ones_own_is_checked(header: Any) -> None:
    """What is no header is refused before anything is sent, without showing the key."""

    class Own(OpenAICompatible):
        def authorization(self, api_key: str) -> dict[str, str]:
            return {"Authorization": header} if header else [("Authorization", KEY)]  # type: ignore[return-value]

    with serve(status(401, f"No: {KEY}")) as server:
        with pytest.raises(InvalidRequestError) as caught:
            Own("m", base_url=server.url, api_key=KEY).complete("Hi")
        assert server.requests == []
    assert SHOWN not in our_locals(caught.value)


def test_key_is_not_in_errors_of_a_decoder_of_ones_own() -> None:
    """Whatever it raises, it comes through our functions."""

    class Own(OpenAICompatible):
        def decode(self, chunks: Any, content_type: str) -> Any:
            raise KeyError(b"".join(chunks).decode())
            yield

    with serve(answer(KEY.encode())) as server, pytest.raises(ProviderError) as caught:
        Own("m", base_url=server.url, api_key=KEY, retry=1).complete("Hi")
    assert "KeyError" in str(caught.value)
    assert SHOWN not in repr(caught.value.__cause__).lower()


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``.netrc`` that knows this machine."""
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login somebody password else\ndefault login a password b\n")
    monkeypatch.setenv("NETRC", str(path))


@pytest.mark.usefixtures("netrc")
def test_netrc_never_replaces_a_key() -> None:
    """The key given is the key sent; without one none is sent."""
    with serve(["Hello"]) as server:
        OpenAICompatible("m", base_url=server.url, api_key=KEY).complete("Hi")
        OpenAICompatible("m", base_url=server.url).complete("Hi")
        Anthropic("m", base_url=server.url, api_key=KEY).complete("Hi")
        first, second, third = (request.headers for request in server.requests)
        assert first.all("Authorization") == [f"Bearer {KEY}"]
        assert "Authorization" not in second
        assert "Authorization" not in third
        assert third["x-api-key"] == KEY


@pytest.mark.parametrize("kind", HEADERS)
def test_redirect_takes_neither_key_nor_prompt_along(kind: type[Provider]) -> None:
    """The other host hears nothing; the error names it."""
    with serve("Hello") as other, serve(redirect(f"{other.url}/v1/elsewhere")) as server:
        with pytest.raises(ProviderError, match=str(other.port)):
            kind("m", base_url=server.url, api_key=KEY).complete("My prompt")
        assert len(server.requests) == 1
        assert other.connections == []


@pytest.mark.parametrize("code", [200, 401])
def test_cookies_of_one_stream_never_reach_another(code: int) -> None:
    """Not on the same connection, and not in another thread's call."""
    cookie = {"Set-Cookie": "session=somebody; Path=/; Domain=127.0.0.1"}
    said = status(401, "No", headers=cookie) if code == 401 else answer("Hello", headers=cookie)
    with serve(said) as server:
        provider = OpenAICompatible("m", base_url=server.url, retry=1)
        for _ in range(3):
            if code == 401:
                with pytest.raises(ProviderError):
                    provider.complete("Hi")
            else:
                provider.complete("Hi")
        assert len(server.requests) == 3
        assert not any("Cookie" in request.headers for request in server.requests)
