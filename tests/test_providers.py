"""The requests of the providers; those of the historical three against captured requests."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import responses

from providers_sync import (
    AI365VIP,
    CodeLinkAva,
    Failover,
    InvalidRequestError,
    ModelNotSupportedError,
    OpenAICompatible,
    Outcome,
    Provider,
    Usage,
    Vitalentum,
)
from providers_sync.testing import ScriptedProvider, serve

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello, Vitalentum!"},
    {"role": "assistant", "content": "Hi"},
    {"role": "user", "content": 'Привет 😀 "q"\nline2'},
]
HISTORY = {
    "history": [
        {"speaker": "bot", "text": "Be brief."},
        {"speaker": "human", "text": "Hello, Vitalentum!"},
        {"speaker": "bot", "text": "Hi"},
        {"speaker": "human", "text": 'Привет 😀 "q"\nline2'},
    ]
}
PROMPT = (
    "System: Be brief.\nUser: Hello, Vitalentum!\nAssistant: Hi\n"
    'User: Привет 😀 "q"\nline2\nAssistant:'
)
BODIES: dict[type[Provider], dict[str, Any]] = {
    Vitalentum: {"conversation": HISTORY, "temperature": 0.7},
    CodeLinkAva: {"messages": MESSAGES, "temperature": 0.6, "stream": True},
    AI365VIP: {
        "model": {
            "id": "gpt-3.5-turbo-16k",  # the alias, where the capture has gpt-3.5-turbo
            "name": "GPT-3.5",
            "maxLength": 3000,
            "tokenLimit": 2048,
        },
        "messages": [{"role": "user", "content": PROMPT}],
        "key": "",
        "prompt": "You are a helpful assistant.",
        "temperature": 1,
    },
}
FETCH = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
HEADERS: dict[type[Provider], dict[str, str]] = {
    Vitalentum: {
        "Accept": "text/event-stream",
        "Accept-Language": "de,en-US;q=0.7,en;q=0.3",
        "Origin": "https://app.vitalentum.io",
        "Referer": "https://app.vitalentum.io/",
        "Content-Type": "application/json",
        **FETCH,
    },
    CodeLinkAva: {
        "Accept": "*/*",
        "Accept-Language": (
            "en,fr-FR;q=0.9,fr;q=0.8,es-ES;q=0.7,es;q=0.6,en-US;q=0.5,am;q=0.4,de;q=0.3"
        ),
        "Origin": "https://ava-ai-ef611.web.app",
        "Referer": "https://ava-ai-ef611.web.app/",
        "Content-Type": "application/json",
        **FETCH,
    },
    AI365VIP: {
        "Accept": "*/*",
        "Accept-Language": "en-US,en;q=0.9",
        "Origin": "https://chat.ai365vip.com",
        "Referer": "https://chat.ai365vip.com/en",
        "Content-Type": "application/json",
        **FETCH,
    },
}
PATHS: dict[type[Provider], str] = {
    Vitalentum: "/api/converse-edge",
    CodeLinkAva: "/api/chat",
    AI365VIP: "/api/chat",
}
THREE = pytest.mark.parametrize("kind", [Vitalentum, CodeLinkAva, AI365VIP])


def sent_body(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body with Vitalentum's inner JSON parsed."""
    if "conversation" in body:
        body["conversation"] = json.loads(body["conversation"])
    return body


@THREE
def test_request_equals_the_captured_one(kind: type[Provider]) -> None:
    """Path, body and the relevant headers match those of the historical client."""
    with serve("Hi") as server:
        answer = kind(base_url=f"{server.url}/").complete(MESSAGES, "gpt-3.5-turbo")
    [request] = server.requests
    assert answer.text == "Hi"
    assert (request.method, request.path) == ("POST", PATHS[kind])
    assert sent_body(request.json()) == BODIES[kind]
    assert {name: request.headers[name] for name in HEADERS[kind]} == HEADERS[kind]
    assert request.headers["User-Agent"].startswith("providers-sync/")
    assert "Cookie" not in request.headers


@THREE
def test_options_are_merged_and_none_removes_a_key(kind: type[Provider]) -> None:
    """Precedence: protocol's defaults < constructor < call; ``None`` removes a key."""
    with serve("Hi") as server:
        provider = kind(base_url=server.url, temperature=0, top_p=0.5, seed=1)
        provider.complete("Hi", top_p=0.9, seed=None, stop=["."])
    body = server.requests[0].json()
    assert (body["temperature"], body["top_p"], body["stop"]) == (0, 0.9, ["."])
    assert "seed" not in body


@THREE
def test_headers_can_be_overridden_and_dropped(kind: type[Provider]) -> None:
    """Precedence: protocol's headers < constructor < call, regardless of case."""
    with serve("Hi") as server:
        provider = kind(base_url=server.url, headers={"user-agent": "mine", "X-A": "1"})
        provider.complete("Hi", headers={"x-a": "2", "Origin": None})
    headers = server.requests[0].headers
    assert (headers["User-Agent"], headers["X-A"]) == ("mine", "2")
    assert "Origin" not in headers


@THREE
def test_api_key_is_sent_as_bearer_and_not_shown(kind: type[Provider]) -> None:
    """The body stays as published; the key is not in the repr."""
    with serve("Hi") as server:
        provider = kind(base_url=server.url, api_key="sk-secret")
        provider.complete(MESSAGES)
    [request] = server.requests
    assert request.headers["Authorization"] == "Bearer sk-secret"
    assert sent_body(request.json()) == BODIES[kind]
    assert "sk-secret" not in repr(provider)


@THREE
def test_base_url_comes_from_the_environment(
    kind: type[Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``*_BASE_URL`` is read in the constructor; ``url`` keeps the published address."""
    with serve("Hi") as server:
        monkeypatch.setenv(kind.base_url_variable, f"{server.url}/prefix")
        provider = kind()
        monkeypatch.delenv(kind.base_url_variable)
        provider.complete("Hi")
    assert server.requests[0].path == "/prefix" + PATHS[kind]
    assert provider.url == kind.url


@THREE
def test_proxy_carries_the_request(kind: type[Provider], monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy receives the complete request; ``False`` ignores the environment's proxy."""
    protocol = kind.__name__.lower()
    with serve("through", protocol=protocol) as proxy, serve("direct") as server:
        for name in ("http_proxy", "https_proxy", "no_proxy", "NO_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        target = {"base_url": "http://127.0.0.2:9"}
        assert kind(**target, proxy=proxy.url).complete("Hi").text == "through"
        monkeypatch.setenv("http_proxy", proxy.url)
        assert kind(**target).complete("Hi").text == "through"
        assert [r.path for r in proxy.requests] == [f"http://127.0.0.2:9{PATHS[kind]}"] * 2
        assert kind(base_url=server.url, proxy=False).complete("Hi").text == "direct"


def test_proxy_of_the_environment_is_looked_up_for_each_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even if the provider already has a connection, to the server or to the proxy."""
    for name in ("http_proxy", "no_proxy", "NO_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serve("through") as proxy, serve("direct") as server:
        provider = OpenAICompatible("m", base_url=server.url)
        assert provider.complete("Hi").text == "direct"
        monkeypatch.setenv("http_proxy", proxy.url)
        assert provider.complete("Hi").text == "through"
        monkeypatch.delenv("http_proxy")
        assert provider.complete("Hi").text == "direct"
        assert len(server.connections) == 1


def test_one_message_is_the_prompt_unchanged() -> None:
    """AI365VIP uses its prompt form only for two or more messages."""
    with serve("Hi") as server:
        AI365VIP(base_url=server.url).complete("Just this", "gpt-4o")
    body = server.requests[0].json()
    assert body["messages"] == [{"role": "user", "content": "Just this"}]
    assert (body["model"]["id"], body["model"]["name"]) == ("gpt-4o", "GPT-4o")


@THREE
def test_text_parts_are_joined_and_others_refused(kind: type[Provider]) -> None:
    """The three protocols support only text; other parts raise before anything is sent."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    with serve("Hi") as server:
        provider = kind(base_url=server.url)
        provider.complete([{"role": "user", "content": parts}])
        assert "ab" in json.dumps(server.requests[0].json())
        with pytest.raises(InvalidRequestError, match=r"messages\[0\]\['content'\]\[2\].*image"):
            provider.stream([{"role": "user", "content": [*parts, {"type": "image_url"}]}])
        assert len(server.requests) == 1


def test_published_attributes_are_there() -> None:
    """The class attributes have the published values."""
    assert (Vitalentum.url, Vitalentum.working) == ("https://app.vitalentum.io", False)
    assert CodeLinkAva.url == "https://ava-ai-ef611.web.app"
    assert (AI365VIP.url, AI365VIP.api_endpoint) == ("https://chat.ai365vip.com", "/api/chat")
    assert AI365VIP.models == ["gpt-3.5-turbo", "gpt-3.5-turbo-16k", "gpt-4o"]
    assert AI365VIP.model_aliases == {"gpt-3.5-turbo": "gpt-3.5-turbo-16k"}
    for kind in (Vitalentum, CodeLinkAva, AI365VIP):
        assert kind.supports_gpt_35_turbo
        assert kind.default_model == "gpt-3.5-turbo"
        assert "gpt-3.5-turbo" in kind.models


@THREE
def test_unknown_model_lists_the_known_ones(kind: type[Provider]) -> None:
    """An unsupported model raises immediately, in the constructor and in the call."""
    with pytest.raises(ModelNotSupportedError, match=r"gpt-3\.5-turbo"):
        kind("gpt-99")
    with pytest.raises(ModelNotSupportedError, match="gpt-99"):
        kind().stream("Hi", "gpt-99")


@THREE
def test_discontinued_service_raises_with_the_remedy(
    kind: type[Provider], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its domain may have a new owner: nothing is resolved or sent, and a failover moves on."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was resolved or connected")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(ConnectionError) as caught:
        kind().stream("Hi")
    assert "providers-sync serve" in str(caught.value)
    assert kind.base_url_variable in str(caught.value)
    assert Failover([kind(), ScriptedProvider("Hello!")]).complete("Hi").text == "Hello!"


def test_openai_compatible_sends_and_reads_its_protocol() -> None:
    """The request has model, messages, stream and usage; the answer text, reason and usage."""
    with serve("Hello!", protocol="openai") as server:
        provider = OpenAICompatible("qwen3", base_url=f"{server.url}/v1", api_key="k")
        answer = provider.complete(MESSAGES, temperature=0.2)
    [request] = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.headers["Authorization"] == "Bearer k"
    assert request.json() == {
        "model": "qwen3",
        "messages": MESSAGES,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.2,
    }
    assert (answer.text, answer.finish_reason) == ("Hello!", "stop")
    assert answer.outcome is Outcome.COMPLETE
    assert answer.usage is None or isinstance(answer.usage, Usage)


def test_environment_key_goes_to_its_own_address_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from the environment is never sent to a different ``base_url``."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    with serve("Hi") as server:
        OpenAICompatible("m", base_url=server.url).complete("Hi")
        OpenAICompatible("m", base_url=server.url, api_key="argument").complete("Hi")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        OpenAICompatible("m").complete("Hi")
        OpenAICompatible("m", base_url=f"{server.url}/").complete("Hi")
    keys = [request.headers.get("Authorization") for request in server.requests]
    assert keys == [None, "Bearer argument", "Bearer sk-environment", "Bearer sk-environment"]


@responses.activate
def test_environment_key_goes_to_the_vendors_address_when_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default address passed as ``base_url`` is still the vendor's."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    responses.post(
        "https://api.openai.com/v1/chat/completions",
        body=b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n',
        content_type="text/event-stream",
    )
    OpenAICompatible("m", base_url="https://api.openai.com/v1/").complete("Hi")
    assert responses.calls[0].request.headers["Authorization"] == "Bearer sk-environment"


def test_model_is_required_without_a_default() -> None:
    """OpenAI's protocol has no default model."""
    with pytest.raises(InvalidRequestError, match="needs a model"):
        OpenAICompatible(base_url="http://127.0.0.1:9").stream("Hi")
