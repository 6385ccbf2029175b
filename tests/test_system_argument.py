"""``system=``: on every provider, in every kind of call, before the system messages there are."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from providers_sync import PROVIDERS, Chat, Failover, InvalidRequestError, aio, batch
from providers_sync.testing import ScriptedProvider, text

USER = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "A"}
PART = {"type": "mystery"}
PARTS = [{"type": "text", "text": "S"}, {"type": "text", "text": "!"}]


def provider_of(name: str = "openai", **settings: Any) -> ScriptedProvider:
    """Return a provider that answers every request, and records it."""
    kind = PROVIDERS[name]
    model = kind.default_model or "m"
    like = kind(model, base_url="http://127.0.0.1:9", **settings)
    return ScriptedProvider(lambda _: [text("ok")], like=like)


def bodies(provider: ScriptedProvider) -> list[Any]:
    return [json.loads(request.body) for request in provider.requests]


def chat_messages(*texts: str) -> dict[str, Any]:
    """Return what OpenAI's and Ollama's bodies have."""
    system = [{"role": "system", "content": each} for each in texts]
    return {"messages": [*system, USER]}


def history(*texts: str) -> dict[str, Any]:
    """Return what Vitalentum's body has."""
    turns = [{"speaker": "bot", "text": each} for each in texts]
    value = {"history": [*turns, {"speaker": "human", "text": "Hi"}]}
    return {"conversation": json.dumps(value)}


def dialogue(*texts: str) -> dict[str, Any]:
    """Return what AI365VIP's body has."""
    lines = [*(f"System: {each}" for each in texts), "User: Hi", "Assistant:"]
    return {"messages": [{"role": "user", "content": "\n".join(lines)}]}


FORMS: dict[str, Callable[..., dict[str, Any]]] = {
    "openai": chat_messages,
    "ollama": chat_messages,
    "responses": lambda *texts: {"instructions": "\n\n".join(texts), "input": [USER]},
    "anthropic": lambda *texts: {"system": "\n\n".join(texts), "messages": [USER]},
    "gemini": lambda *texts: {
        "systemInstruction": {"parts": [{"text": each} for each in texts]},
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
    },
    "vitalentum": history,
    "codelinkava": chat_messages,
    "ai365vip": dialogue,
}
EACH = pytest.mark.parametrize("name", FORMS)


def test_every_provider_has_a_form() -> None:
    """So that a new one is tested here."""
    missing = set(PROVIDERS) - set(FORMS)
    assert not missing, f"add what they send for messages with a system prompt to FORMS: {missing}"


@EACH
@pytest.mark.parametrize(
    ("messages", "system", "texts"),
    [
        ("Hi", "S", ["S"]),
        (USER, "S", ["S"]),
        ([SYSTEM, USER], "S", ["S", "A"]),
        ([SYSTEM, USER], None, ["A"]),
        ([SYSTEM, SYSTEM, USER], "S", ["S", "A", "A"]),
    ],
)
def test_it_stands_first(name: str, messages: Any, system: str | None, texts: list[str]) -> None:
    """In the protocol's own place; system messages in ``messages`` follow."""
    provider = provider_of(name)
    provider.complete(messages, system=system)
    [body] = bodies(provider)
    assert FORMS[name](*texts).items() <= body.items()


@EACH
def test_parts_are_taken_too(name: str) -> None:
    """Their text is that of the message; OpenAI's protocol keeps the parts."""
    provider = provider_of(name)
    provider.complete("Hi", system=PARTS)
    [body] = bodies(provider)
    if name == "openai":
        assert body["messages"] == [{"role": "system", "content": PARTS}, USER]
    else:
        assert FORMS[name]("S!").items() <= body.items()


@EACH
def test_a_providers_own_is_the_default(name: str) -> None:
    """A call's takes its place; ``None`` is as if it were not given."""
    provider = provider_of(name, system="S")
    provider.complete("Hi")
    provider.complete("Hi", system="other")
    provider.complete("Hi", system=None)
    for body, expected in zip(bodies(provider), ("S", "other", "S"), strict=True):
        assert FORMS[name](expected).items() <= body.items()


@EACH
def test_a_batch_takes_that_of_its_provider(name: str) -> None:
    """For every row."""
    provider = provider_of(name, system="S")
    results = list(batch.map(provider, ["Hi", {"messages": [SYSTEM, USER]}], concurrency=1))
    assert [result.text for result in results] == ["ok", "ok"]
    for body, expected in zip(bodies(provider), (["S"], ["S", "A"]), strict=True):
        assert FORMS[name](*expected).items() <= body.items()


# --- every kind of call


def by_stream(provider: Any) -> Iterable[str]:
    with provider.stream("Hi", system="S") as stream:
        return [stream.read()]


def by_prepare(provider: Any) -> Iterable[str]:
    with provider.prepare("Hi", system="S").open() as stream:
        return [stream.read()]


def by_aio(provider: Any) -> Iterable[str]:
    """Both functions of ``aio``."""

    async def run() -> list[str]:
        chunks = [chunk async for chunk in aio.stream(provider, "Hi", system="S")]
        completion = await aio.complete(provider, "Hi", system="S")
        return ["".join(chunks), completion.text]

    return asyncio.run(run())


def by_rows(provider: Any) -> Iterable[str]:
    """Rows of a batch, with a body of their own."""
    rows = [{"custom_id": "1", "body": {"messages": [USER], "system": "S"}}]
    return [result.text for result in batch.map(provider, rows)]


def by_chat(provider: Any) -> Iterable[str]:
    """The chat's own, and that of one question."""
    chat = Chat(provider, system="S")
    with chat.send("Hi") as stream:
        first = stream.read()
    with Chat(provider).send("Hi", system="S") as stream:
        return [first, stream.read()]


def by_failover(provider: Any) -> Iterable[str]:
    return [Failover([provider]).complete("Hi", system="S").text]


CALLS = (by_stream, by_prepare, by_aio, by_rows, by_chat, by_failover)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "responses", "ollama"])
def test_every_call_takes_it(call: Callable[[Any], Iterable[str]], name: str) -> None:
    """With the same body."""
    provider = provider_of(name)
    answers = list(call(provider))
    assert answers == ["ok"] * len(answers)
    assert len(bodies(provider)) == len(answers) > 0
    for body in bodies(provider):
        assert FORMS[name]("S").items() <= body.items()


def test_chat_keeps_its_own_before_that_of_a_question() -> None:
    """The history has neither."""
    provider = provider_of()
    chat = Chat(provider, system="C")
    with chat.send("Hi", system="Q") as stream:
        stream.read()
    assert bodies(provider)[0]["messages"] == chat_messages("Q", "C")["messages"]
    assert [turn["role"] for turn in chat.history] == ["user", "assistant"]


# --- mistakes


@pytest.mark.parametrize(
    ("system", "message"),
    [
        (5, "system must be text, a list of parts, or None"),
        ("", "system must be text, a list of parts, or None"),
        ([], "system must be text, a list of parts, or None"),
        ({"type": "text", "text": "S"}, "system must be text, a list of parts, or None"),
        (["S"], r"system\[0\] must be a dict with a 'type'"),
        ([{"type": "text"}], r"system\[0\]\['text'\] must be a string"),
        ([{"type": "image", "image": "/etc/passwd"}], r"system\[0\]\['image'\] must be an http"),
    ],
)
def test_what_is_no_system_message_is_refused(system: Any, message: str) -> None:
    """The error names the argument, and nothing is sent by any provider."""
    for name in FORMS:
        provider = provider_of(name)
        with pytest.raises(InvalidRequestError, match=message):
            provider.stream("Hi", system=system)
        assert provider.requests == []


@pytest.mark.parametrize("name", [name for name in FORMS if name not in ("openai", "anthropic")])
@pytest.mark.parametrize(
    ("system", "place"), [("S", "messages[1]['content'][0]"), ([PART], "system['content'][0]")]
)
def test_errors_count_the_callers_own_messages(name: str, system: Any, place: str) -> None:
    """The message for ``system=`` is none of them; the two left out pass unknown parts on."""
    provider = provider_of(name)
    messages = [USER, {"role": "user", "content": [PART]}]
    with pytest.raises(InvalidRequestError, match=re.escape(place)):
        provider.stream(messages, system=system)
    assert provider.requests == []
