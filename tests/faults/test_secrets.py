"""Tests that keys are sent only where they belong and never appear in errors or logs."""

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
"""The first characters of the key, in lower case; they must not appear either."""


def everything(failure: BaseException, caplog: pytest.LogCaptureFixture) -> str:
    """Return all text that may end up on a screen or in a log, in lower case."""
    texts = [str(failure), repr(failure), repr(vars(failure)), *traceback.format_exception(failure)]
    texts.append(repr(pickle.dumps(failure)))
    texts += [logging.Formatter().format(record) for record in caplog.records]
    return "\n".join(texts).lower()


def long(size: int) -> str:
    return "x" * size + KEY


ECHOES: dict[str, Any] = {
    "401 with JSON": status(401, f"Incorrect API key provided: {KEY}"),
    "400 with JSON": status(400, f"Bad header: Bearer {KEY}"),
    "503 with JSON": status(503, f"Busy: {KEY}"),
    "truncated JSON": status(400, long(1985)),
    "plain text": answer(f"No: {KEY}".encode(), status=403, content_type="text/plain"),
    "truncated plain text": answer(long(285).encode(), status=403, content_type="text/plain"),
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
    "truncated broken JSON": ["Hel", event(f'{{"{long(62)}')],
    "JSON with unexpected structure": ["Hel", event([KEY, KEY])],
    "truncated JSON with unexpected structure": ["Hel", event([long(970), KEY])],
    "words outside the protocol": answer(event({"oops": KEY}), end=False),
    "content of the wrong type": ["Hel", event({"choices": [{"delta": {"content": [KEY]}}]})],
    "a chunk size": ["Hel", wire(f"{KEY}\r\n".encode()), cut()],
}  # fmt: skip


HEADERS = {OpenAICompatible: ("Authorization", f"Bearer {KEY}"), Anthropic: ("x-api-key", KEY)}
UNKNOWN = {"content of the wrong type"}
"""Ignored in Anthropic's protocol: events of unknown types are skipped."""


@pytest.mark.parametrize(
    ("kind", "echo"),
    [(kind, echo) for kind in HEADERS for echo in ECHOES if kind is OpenAICompatible
     or echo not in UNKNOWN],
)  # fmt: skip
def test_key_that_the_server_echoes_is_not_shown(
    kind: type[Provider], echo: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Check the error, its attributes, causes and traceback, and the log at level DEBUG."""
    caplog.set_level(logging.DEBUG)
    with serve(ECHOES[echo]) as server:
        provider = kind("m", base_url=server.url, api_key=KEY, retry=1)
        with pytest.raises(ProviderError) as caught:
            provider.complete("Hi")
        shown = everything(caught.value, caplog) + error_report(caught.value)
        name, value = HEADERS[kind]
        assert server.requests[0].headers[name] == value
    assert SHOWN not in shown


@pytest.mark.parametrize("name", ["Authorization", "X-Auth-Token", "Ocp-Apim-Subscription-Key",
                                  "Cookie", "CF-Access-Client-Secret"])  # fmt: skip
@pytest.mark.parametrize("is_setting", [True, False], ids=["provider", "call"])
def test_secret_header_that_the_server_echoes_is_not_shown(
    name: str, is_setting: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Any header may contain it, passed to the provider or to the call."""
    caplog.set_level(logging.DEBUG)
    headers = {name: f"Token {KEY}"}
    with serve(status(401, f"Bad credentials: {KEY}")) as server:
        provider = OpenAICompatible(
            "m", base_url=server.url, headers=headers if is_setting else None
        )
        with pytest.raises(ProviderError) as caught:
            provider.complete("Hi", headers=None if is_setting else headers)
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


@pytest.mark.parametrize("defect", BROKEN)
@pytest.mark.parametrize("source", ["api_key", "headers", "call", "environment", "Anthropic"])
def test_broken_key_fails_without_showing_itself(
    defect: str, source: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """``InvalidRequestError`` is raised and nothing is sent."""
    caplog.set_level(logging.DEBUG)
    key = BROKEN[defect]

    def call(url: str) -> None:
        if source == "environment":
            monkeypatch.setenv("OPENAI_BASE_URL", url)
            monkeypatch.setenv("OPENAI_API_KEY", key)
            OpenAICompatible("m").complete("Hi")
        elif source == "Anthropic":
            Anthropic("m", base_url=url, api_key=key).complete("Hi")
        elif source == "call":
            headers = {"Authorization": f"Bearer {key}"}
            OpenAICompatible("m", base_url=url).complete("Hi", headers=headers)
        else:
            value = key if source == "api_key" else {"X-Api-Key": key}
            OpenAICompatible("m", base_url=url, **{source: value}).complete("Hi")

    if source == "environment" and "\0" in key:
        pytest.skip("an environment variable cannot contain NUL")
    with serve("Hello") as server:
        with pytest.raises(InvalidRequestError) as caught:
            call(server.url)
        assert server.requests == []
    assert SHOWN not in everything(caught.value, caplog)


def providers(url: str) -> list[Provider]:
    kinds = [(OpenAICompatible, "m"), (Anthropic, "m"), (Vitalentum, None), (CodeLinkAva, None),
             (AI365VIP, None)]  # fmt: skip
    return [kind(model, base_url=url, api_key=KEY) for kind, model in kinds]


def test_key_is_not_in_reprs_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    """Check provider, stream, completion, requests and the log at DEBUG, including urllib3's."""
    caplog.set_level(logging.DEBUG)
    with serve(["Hello"]) as server:
        for provider in providers(server.url):
            with provider.stream("Hi") as stream:
                stream.read()
                shown = [repr(provider), str(provider), repr(stream), repr(stream.completion())]
            assert SHOWN not in "".join(shown).lower()
        sent = "".join(str(request.headers.pairs) for request in server.requests)
    assert sent.count(KEY) == 5
    assert any(record.name.startswith("urllib3") for record in caplog.records)
    for record in caplog.records:
        assert SHOWN not in logging.Formatter().format(record).lower()
    caplog.clear()  # records keep their arguments; sseclient's contain the complete stream


def test_key_is_not_in_connection_errors(
    refused: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Requests attaches the complete request to its exceptions; it is removed from the causes."""
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
    """Check an unreachable proxy and one that refuses."""
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


def error_report(failure: BaseException) -> str:
    """Return what error reporters show: local variables, and the attributes of every cause."""
    report = traceback.TracebackException.from_exception(failure, capture_locals=True)
    shown, waiting, seen = list(report.format()), [failure], set[int]()
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            waiting += [error.__cause__, error.__context__, *error.args, *vars(error).values()]
            shown.append(repr(error.args))
            for value in vars(error).values():
                shown += [repr(value), repr(getattr(value, "__dict__", ""))]
    return "\n".join(shown).lower()


PROXY_SECRETS = [SHOWN, base64.b64encode(f"user:{KEY}".encode()).decode()[:16].lower()]
QUOTES: dict[str, Any] = {
    "the password": lambda request: f"user:{KEY}",
    "the header": lambda request: request.headers["Proxy-Authorization"],
}


@pytest.mark.parametrize("name", QUOTES)
def test_password_that_a_proxy_echoes_is_not_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The proxy comes from the environment; in the header its password is in base64."""

    def quoting(request: Any) -> Any:
        return status(407, QUOTES[name](request), headers={"X-Quoted": QUOTES[name](request)})

    with serve(quoting) as server:
        monkeypatch.setenv("http_proxy", f"http://user:{KEY}@127.0.0.1:{server.port}")
        with pytest.raises(APIStatusError) as caught:
            OpenAICompatible("m", base_url="http://127.0.0.2:9").complete("Hi", retry=1)
    shown = everything(caught.value, caplog) + error_report(caught.value)
    assert "***" in caught.value.body
    assert not [secret for secret in PROXY_SECRETS if secret in shown]


@pytest.mark.parametrize(
    "address", ["http://user:{}@127.0.0.1:99999", "htp://user:{}@127.0.0.1:9", "user:{}@[",
                "http://user:{}#@127.0.0.1:9", "http://user:{}@127.0.0.1:9"]
)  # fmt: skip
def test_password_in_an_invalid_proxy_address_is_not_shown(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """urllib3's messages contain the complete address."""
    monkeypatch.setenv("http_proxy", address.format(KEY))
    with pytest.raises(ProviderError) as caught:
        OpenAICompatible("m", base_url="http://127.0.0.2:9").complete("Hi", retry=1)
    shown = everything(caught.value, caplog) + error_report(caught.value)
    assert not [secret for secret in PROXY_SECRETS if secret in shown]


@pytest.mark.parametrize("kind", HEADERS)
def test_key_is_not_in_what_error_reporters_show(
    kind: type[Provider], refused: tuple[str, int]
) -> None:
    """Check a refused connection, a server that echoes the key, and an error inside an answer."""
    shown = []
    with serve([status(401, f"No: {KEY}"), answer("Hel", error(f"Bad key {KEY}"))]) as server:
        for url in ("http://{}:{}".format(*refused), server.url, server.url):
            provider = kind("m", base_url=url, api_key=KEY, headers={"X-Api-Token": KEY})
            with pytest.raises(ProviderError) as caught:
                provider.complete("Hi", retry=1, headers={"X-Auth": KEY})
            shown.append(error_report(caught.value))
        assert [request.headers["X-Api-Token"] for request in server.requests] == [KEY, KEY]
        assert [request.headers["X-Auth"] for request in server.requests] == [KEY, KEY]
    assert not [text for text in shown if SHOWN in text]
    assert "line" in shown[0]  # the report still shows where the error was raised


def test_key_is_not_in_what_error_reporters_show_of_a_wrong_setting() -> None:
    """The constructor raises after it has received the key."""
    with pytest.raises(InvalidRequestError) as caught:
        OpenAICompatible(
            "m", api_key=KEY, headers={"Authorization": KEY}, proxy=f"http://u:{KEY}@h:1",
            base_url="oops",
        )  # fmt: skip
    assert SHOWN not in error_report(caught.value)


def test_key_is_not_in_the_attributes_of_a_provider() -> None:
    """Nor is a proxy's password; both are sent, and are kept when the provider is copied."""
    provider = OpenAICompatible(
        "m", base_url="http://127.0.0.1:9", api_key=KEY, headers={"X-Token": KEY, "X-Title": "me"},
        proxy=f"http://user:{KEY}@127.0.0.1:9",
    )  # fmt: skip
    for each in (provider, pickle.loads(pickle.dumps(provider)), copy.deepcopy(provider)):
        assert SHOWN not in repr(vars(each)).lower()
        assert "'X-Title': 'me'" in repr(vars(each))
        assert each._api_key == KEY


def test_error_of_the_caller_keeps_its_local_variables() -> None:
    """An exception that the caller is handling is the context of ours; it must not be changed."""

    def fail(kept: str) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        fail("mine")
    error = ProviderError(f"No: {KEY}")
    error.__context__ = caught.value
    transport.redact([KEY], error)
    assert str(error) == "No: ***"
    assert caught.traceback[-1].locals["kept"] == "mine"


def test_exception_of_the_caller_keeps_its_attributes() -> None:
    """The caller may be handling an exception of requests while an answer fails."""
    with pytest.raises(requests.RequestException) as caught:
        requests.get(f"http://127.0.0.1:99999/{KEY}", timeout=1)
    caught.value.request = "kept"
    error = ProviderError(f"No: {KEY}")
    error.__context__ = caught.value
    transport.redact([KEY], error)
    assert str(error) == "No: ***"
    assert caught.value.request == "kept"
    assert KEY in str(caught.value)


def our_locals(failure: BaseException) -> str:
    """Return the local variables of every frame outside the tests, for every cause."""
    shown = []
    for each in error_chain(failure):
        report = traceback.TracebackException.from_exception(each, capture_locals=True)
        shown += [repr(frame.locals) for frame in report.stack if "/tests/" not in frame.filename]
    assert shown
    return "\n".join(shown).lower()


ENCODINGS = {
    "PHP's JSON": lambda key: json.dumps(key).replace("/", "\\/"),
    "URL": lambda key: quote(key, ""),
    "JSON": lambda key: json.dumps(key),
    "HTML": html.escape,
    "truncated": lambda key: key[:-3],
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_key_in_another_encoding_is_not_shown(encoding: str) -> None:
    """Nor is the part after the encoded character."""
    key = 'sk-Never-Shown/ABC"def&0123456789'
    body = f"No: Bearer {ENCODINGS[encoding](key)}".encode()
    with serve(answer(body, status=401, content_type="text/plain")) as server:
        provider = OpenAICompatible("m", base_url=server.url, api_key=key, retry=1)
        with pytest.raises(APIStatusError) as caught:
            provider.complete("Hi")
    shown = repr((str(caught.value), vars(caught.value))).lower()
    assert "***" in shown
    assert not [part for part in ("sk-never", "shown", "abc", "def", "01234") if part in shown]


SHORT_KEYS = ["token", "ollama", "EMPTY", "local-key", "sk-1234", "pa$$w0rd"]
HIDDEN = [
    "Incorrect API key provided: {}.", "Incorrect API key provided: {}. You can find it at x",
    "No: Bearer {}", "Bearer {}, no", '{{"key": "{}"}}', "'{}'", "b'{}'", "key={}", "key={}&a=b",
    "?auth=Bearer%20{}", "%22{}%22", "({})", "<{}>", "&quot;{}&quot;", "`{}`", "{}", "user:{}@host",
    "Bad:\n{}\n", '{{"message": "Bad:\\n{}\\n"}}', "{}, {}", "x/{}/y",
]  # fmt: skip
SHOWN_WORDS = [
    "max_{}", "max_{}s", "{}s", "{}_id", "_{}", "x-{}", "{}-based", "--{}", "un{}", "{}2", "é{}",
    "Bearer {}s", "Bearer {}_x", "Bearer {}-x", "bearer {}ization",
]  # fmt: skip


@pytest.mark.parametrize("key", SHORT_KEYS)
@pytest.mark.parametrize("header", ["Authorization", "x-api-key"])
def test_short_key_is_hidden_as_a_word_and_never_inside_one(key: str, header: str) -> None:
    """Local servers accept any key, such as "token": ``max_token`` must stay readable."""
    value = f"Bearer {key}" if header == "Authorization" else key
    secrets = transport.collect_secrets({header: value})
    for quoted in HIDDEN:
        error = ProviderError(quoted.format(key, key))
        transport.redact(secrets, error)
        assert str(error) == quoted.format("***", "***")
    for word in SHOWN_WORDS:
        error = ProviderError(word.format(key))
        transport.redact(secrets, error)
        assert str(error) == word.format(key)


def test_short_key_that_a_server_echoes_is_hidden_and_its_words_are_not() -> None:
    """As a server with OpenAI's protocol writes it."""
    message = "max_tokens and max_token are too large for token. Incorrect API key provided: token."
    with serve(status(400, message)) as server:
        provider = OpenAICompatible("m", base_url=server.url, api_key="token", retry=1)
        with pytest.raises(APIStatusError) as caught:
            provider.complete("Hi")
    assert "max_tokens and max_token are too large for ***." in str(caught.value)
    assert "provided: ***." in str(caught.value)


def test_long_key_is_hidden_wherever_it_stands() -> None:
    """Inside a word, in other letter case, and cut off."""
    secrets = transport.collect_secrets({"Authorization": f"Bearer {KEY}"})
    for quoted in (f"max_{KEY}", f"{KEY}s", f"x-{KEY.upper()}-y", f"a{KEY[:-5]}", f"{KEY[:12]}…"):
        error = ProviderError(quoted)
        transport.redact(secrets, error)
        assert SHOWN not in str(error).lower()
        assert "***" in str(error)


@pytest.mark.parametrize("body", [f"oops {KEY}", f'{{"{KEY}'])
def test_key_in_broken_json_is_not_in_what_error_reporters_show(body: str) -> None:
    """The JSON module's errors contain the complete text; check an answer and a model list."""
    with serve([[event(body)], answer(body.encode(), content_type="application/json")]) as server:
        provider = OpenAICompatible("m", base_url=server.url, api_key=KEY, retry=1)
        for call in (lambda: provider.complete("Hi"), provider.list_models):
            with pytest.raises(MalformedStream) as caught:
                call()
            assert SHOWN not in our_locals(caught.value)
            assert SHOWN not in repr(vars(caught.value.__cause__)).lower()


WRONG_CALLS: dict[str, Any] = {
    "a header's name": lambda p: p(headers={"Authorization": KEY, "X y": "z"}),
    "a header's value": lambda p: p(headers={"X-Token": f"{KEY}\n"}),
    "a proxy without a scheme": lambda p: p(proxy=f"me:{KEY}@127.0.0.1"),
    "an address with a password": lambda p: p(base_url=f"http://me:{KEY}@127.0.0.1"),
    "an option": lambda p: p(timeout=1, access_token=KEY),
    "a preset": lambda p: OpenAICompatible.preset("unknown", api_key=KEY),
    "a preset's setting": lambda p: OpenAICompatible.preset("groq", api_key=KEY, retry=0),
    "a key for stream()": lambda p: p().stream("Hi", api_key=KEY),
    "a key for complete()": lambda p: p().complete("Hi", api_key=KEY),
    "a proxy for a call": lambda p: p().complete("Hi", proxy=f"http://me:{KEY}@h"),
    "a header for a call": lambda p: p().complete("Hi", headers={"X-Token": KEY, "X y": "z"}),
    "the published spelling": lambda p: asyncio.run(
        anext(aiter(OpenAICompatible.create_async_generator("m", "Hi", api_key=KEY, retry=0)))
    ),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_key_is_not_in_what_error_reporters_show_of_a_wrong_call(name: str) -> None:
    """The local variables of our functions contain it masked; the caller's are not checked."""
    with pytest.raises(InvalidRequestError) as caught:
        WRONG_CALLS[name](functools.partial(OpenAICompatible, "m"))
    assert SHOWN not in our_locals(caught.value)


@pytest.mark.parametrize(
    "header", [f"Bearer {KEY}\r\nX: y", f"Bearer {KEY}\u2026", (KEY,), KEY.encode(), None]
)
def test_custom_authorization_is_checked(header: Any) -> None:
    """An invalid header is refused before anything is sent, without showing the key."""

    class Custom(OpenAICompatible):
        def authorization(self, api_key: str) -> dict[str, str]:
            return {"Authorization": header} if header else [("Authorization", KEY)]  # type: ignore[return-value]

    with serve(status(401, f"No: {KEY}")) as server:
        with pytest.raises(InvalidRequestError) as caught:
            Custom("m", base_url=server.url, api_key=KEY).complete("Hi")
        assert server.requests == []
    assert SHOWN not in our_locals(caught.value)


def test_key_is_not_in_errors_of_a_custom_decoder() -> None:
    """Any exception of the decoder passes through our functions."""

    class Failing:
        def feed(self, data: bytes) -> list[Any]:
            raise KeyError(data.decode())

        def end(self) -> list[Any]:
            return []

    class Custom(OpenAICompatible):
        def decoder(self, content_type: str = "") -> Any:
            return Failing()

    with serve(answer(KEY.encode())) as server, pytest.raises(ProviderError) as caught:
        Custom("m", base_url=server.url, api_key=KEY, retry=1).complete("Hi")
    assert "KeyError" in str(caught.value)
    assert SHOWN not in repr(caught.value.__cause__).lower()


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Create a ``.netrc`` with an entry for 127.0.0.1."""
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login somebody password else\ndefault login a password b\n")
    monkeypatch.setenv("NETRC", str(path))


@pytest.mark.usefixtures("netrc")
def test_netrc_never_replaces_a_key() -> None:
    """The provider's key is sent; without one, none is sent."""
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
def test_redirect_sends_neither_key_nor_prompt(kind: type[Provider]) -> None:
    """The other host receives no connection; the error names it."""
    with serve("Hello") as other, serve(redirect(f"{other.url}/v1/elsewhere")) as server:
        with pytest.raises(ProviderError, match=str(other.port)):
            kind("m", base_url=server.url, api_key=KEY).complete("My prompt")
        assert len(server.requests) == 1
        assert other.connections == []


@pytest.mark.parametrize("code", [200, 401])
def test_cookies_of_one_stream_never_reach_another(code: int) -> None:
    """A cookie is not sent again, not even on the same connection."""
    cookie = {"Set-Cookie": "session=somebody; Path=/; Domain=127.0.0.1"}
    script = status(401, "No", headers=cookie) if code == 401 else answer("Hello", headers=cookie)
    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url, retry=1)
        for _ in range(3):
            if code == 401:
                with pytest.raises(ProviderError):
                    provider.complete("Hi")
            else:
                provider.complete("Hi")
        assert len(server.requests) == 3
        assert not any("Cookie" in request.headers for request in server.requests)
