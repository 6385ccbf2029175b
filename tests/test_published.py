"""The published interface of the historical classes: call shapes, attributes, errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from providers_sync import (
    AI365VIP,
    APIConnectionError,
    APIStatusError,
    CodeLinkAva,
    InvalidRequestError,
    MalformedStream,
    Messages,
    ModelNotSupportedError,
    OpenAICompatible,
    Provider,
    Vitalentum,
)
from providers_sync.testing import answer, event, serve, status

THREE = pytest.mark.parametrize("kind", [Vitalentum, CodeLinkAva, AI365VIP])
MESSAGES: Messages = [{"role": "user", "content": "Hello"}]
ENDS_WITH_ASSISTANT: Messages = [*MESSAGES, {"role": "assistant", "content": "Hi"}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a working server at every historical provider's address."""
    with serve(["Hel", "lo"]) as server:
        for kind in (Vitalentum, CodeLinkAva, AI365VIP):
            monkeypatch.setenv(kind.base_url_variable, server.url)
        yield server


def test_shape_1_iterates_the_call(server: Any) -> None:
    """``async for message in Vitalentum.create_async_generator(model=…, messages=…)``."""

    async def main() -> str:
        text = ""
        async for message in Vitalentum.create_async_generator(
            model="gpt-3.5-turbo", messages=MESSAGES
        ):
            text += message
        return text

    assert asyncio.run(main()) == "Hello"


def test_shape_2_keeps_the_generator_and_ends_with_an_assistant_turn(server: Any) -> None:
    """The generator is stored in a variable first."""

    async def main() -> str:
        generator = Vitalentum.create_async_generator(
            model="gpt-3.5-turbo", messages=ENDS_WITH_ASSISTANT
        )
        return "".join([message async for message in generator])

    assert asyncio.run(main()) == "Hello"
    assert '"bot"' in server.requests[0].json()["conversation"]


def test_shape_3_awaits_the_call_with_a_proxy(server: Any) -> None:
    """``generator = await AI365VIP.create_async_generator(…, proxy=proxy)``, then iterate."""

    async def main(proxy: str) -> str:
        generator = await AI365VIP.create_async_generator(
            model="gpt-4o", messages=MESSAGES, proxy=proxy, base_url="http://127.0.0.2:9"
        )
        return "".join([chunk async for chunk in generator])

    with serve("through", protocol="ai365vip") as proxy:
        assert asyncio.run(main(proxy.url)) == "through"
        [request] = proxy.requests
    assert request.path == "http://127.0.0.2:9/api/chat"
    assert "proxy" not in request.json()


def test_shape_4_awaits_the_generator_in_the_loop(server: Any) -> None:
    """``async for message in await generator``."""

    async def main() -> str:
        generator = CodeLinkAva.create_async_generator(model="gpt-3.5-turbo", messages=MESSAGES)
        return "".join([message async for message in await generator])

    assert asyncio.run(main()) == "Hello"


@THREE
def test_keywords_configure_or_enter_the_body(kind: type[Provider], server: Any) -> None:
    """``headers``, ``api_key`` and so on configure the provider; others are API parameters."""

    async def main() -> None:
        async for _ in kind.create_async_generator(
            "gpt-3.5-turbo",
            MESSAGES,
            None,
            temperature=0.1,
            top_p=0.5,
            headers={"X-A": "1"},
            api_key="sk-1",
            timeouts=5,
            retry=1,
            verify=True,
        ):
            pass

    asyncio.run(main())
    [request] = server.requests
    body = request.json()
    assert (body["temperature"], body["top_p"]) == (0.1, 0.5)
    assert not {"headers", "api_key", "timeouts", "retry", "verify", "proxy"} & set(body)
    assert (request.headers["X-A"], request.headers["Authorization"]) == ("1", "Bearer sk-1")


def test_model_is_checked_where_it_is_sent(server: Any) -> None:
    """Vitalentum and CodeLinkAva accept any name here; AI365VIP sends it, so it is validated."""

    async def ask(kind: type[Provider]) -> str:
        generator = kind.create_async_generator("llama-9000", MESSAGES)
        return "".join([chunk async for chunk in generator])

    assert asyncio.run(ask(Vitalentum)) == asyncio.run(ask(CodeLinkAva)) == "Hello"
    with pytest.raises(ModelNotSupportedError):
        asyncio.run(ask(AI365VIP))


@THREE
def test_everything_raises_at_the_first_await(kind: type[Provider], server: Any) -> None:
    """The call itself never raises, whatever its arguments."""

    async def main() -> None:
        for arguments in ({"messages": []}, {"messages": MESSAGES, "timeout": 5}):
            generator = kind.create_async_generator(model="gpt-3.5-turbo", **arguments)
            with pytest.raises(InvalidRequestError):
                await generator
        generator = kind.create_async_generator("gpt-3.5-turbo", MESSAGES, base_url="nowhere")
        with pytest.raises(InvalidRequestError, match="base_url"):
            await generator.__anext__()

    asyncio.run(main())
    assert server.requests == []


def test_http_failure_and_broken_json_have_different_types() -> None:
    """A status error, a decoding error and a connection error have different types."""

    async def ask(url: str) -> None:
        async for _ in Vitalentum.create_async_generator(
            "gpt-3.5-turbo", MESSAGES, base_url=url, retry=1
        ):
            pass

    with serve(status(418)) as server, pytest.raises(APIStatusError) as refused:
        asyncio.run(ask(server.url))
    assert refused.value.status_code == 418
    with serve(answer(event("{oops"))) as server, pytest.raises(MalformedStream) as broken:
        asyncio.run(ask(server.url))
    assert isinstance(broken.value, ValueError)
    with pytest.raises(APIConnectionError) as unreachable:
        asyncio.run(ask("http://127.0.0.1:9"))
    assert isinstance(unreachable.value, ConnectionError)


def test_published_attributes_have_their_values() -> None:
    """Every documented attribute, with its value."""
    assert Vitalentum.url == "https://app.vitalentum.io"
    assert Vitalentum.supports_gpt_35_turbo is True
    assert (CodeLinkAva.url, CodeLinkAva.working) == ("https://ava-ai-ef611.web.app", False)
    assert CodeLinkAva.supports_gpt_35_turbo is True
    assert (AI365VIP.url, AI365VIP.api_endpoint) == ("https://chat.ai365vip.com", "/api/chat")
    assert (AI365VIP.working, AI365VIP.default_model) == (False, "gpt-3.5-turbo")
    assert AI365VIP.models == ["gpt-3.5-turbo", "gpt-3.5-turbo-16k", "gpt-4o"]
    assert AI365VIP.model_aliases == {"gpt-3.5-turbo": "gpt-3.5-turbo-16k"}


def test_get_model_resolves_default_alias_and_known_names() -> None:
    """The class methods apply the default, then aliases, then the list of models."""
    assert AI365VIP.get_model() == AI365VIP.get_model("gpt-3.5-turbo") == "gpt-3.5-turbo-16k"
    assert AI365VIP.get_model("gpt-4o") == "gpt-4o"
    assert AI365VIP.get_models() == AI365VIP.models
    assert AI365VIP.get_models() is not AI365VIP.models
    assert OpenAICompatible.get_model("anything") == "anything"
    assert OpenAICompatible.get_models() == []
    with pytest.raises(ModelNotSupportedError, match="gpt-4o"):
        AI365VIP.get_model("gpt-99")
    with pytest.raises(InvalidRequestError, match="needs a model"):
        OpenAICompatible.get_model()
