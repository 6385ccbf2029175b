"""Tests of ``question()``: which posted messages it accepts, and how it refuses the others."""

from __future__ import annotations

import base64
import json
import pickle
import time
from typing import Any

import pytest

from providers_sync import Anthropic, InvalidRequestError, OpenAICompatible, ProviderError, config
from providers_sync.testing import ScriptedProvider, text
from providers_sync.web import QuestionError, error_data, question

QUICK_S = 1.0
PNG = b"\x89PNG\r\n\x1a\n..."
IMAGE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def assistant(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def text_part(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("posted", "messages"),
    [
        ("Hi", [user("Hi")]),
        (user("Hi"), [user("Hi")]),
        (
            [user("Hi"), assistant("Yes?"), user("Why?")],
            [user("Hi"), assistant("Yes?"), user("Why?")],
        ),
        ([user([text_part("a"), text_part("b")])], [user("ab")]),
        (
            [user(""), assistant(""), user("дом 🏠\0\u2028")],
            [user(""), assistant(""), user("дом 🏠\0\u2028")],
        ),
    ],
)
def test_a_question_becomes_messages(posted: Any, messages: Any) -> None:
    """A text, a message or a conversation becomes messages that a provider accepts."""
    result = question(posted)
    assert result == messages
    provider = ScriptedProvider([text("ok")])
    provider.prepare(result)
    assert result is not posted


def test_the_messages_are_copies() -> None:
    """The messages are new dicts: changing them does not change the posted value."""
    posted = [user("Hi")]
    question(posted)[0]["content"] = "changed"
    assert posted == [user("Hi")]


INVALID = [
    (None, "not null"),
    (True, "not a boolean"),
    (5, "not a number"),
    (float("nan"), "not a number"),
    ((user("Hi"),), "not an object"),
    ("", "empty"),
    (" \n\u3000", "empty"),
    ([], "last message must be the user's"),
    ([None], r"messages\[0\] must be an object, not null"),
    ([[user("Hi")]], r"messages\[0\] must be an object, not a list"),
    ([user("Hi"), "Hi"], r"messages\[1\] must be an object, not text"),
    ({}, r"messages\[0\]\['role'\] must be 'user' or 'assistant'"),
    ([user("Hi"), assistant("Yes?")], "last message must be the user's"),
    ([user("Hi"), user("")], "last message is empty"),
    ([user([])], "last message is empty"),
    ([user(None)], r"messages\[0\]\['content'\] must be text or a list of parts, not null"),
    ([user(5)], "not a number"),
    ([user({"type": "text", "text": "Hi"})], "not an object"),
    ([user(["Hi"])], r"messages\[0\]\['content'\]\[0\] must be text"),
    ([user([text_part(5)])], r"\[0\]\['text'\] must be text, not a number"),
    ([user([{"type": ["text"], "text": "Hi"}])], "must be text"),
    ([user([{**text_part("Hi"), "cache_control": {}}])], r"\[0\] has the key 'cache_control'"),
    ([user([{"type": "tool_result", "tool_use_id": "1", "content": "4"}])], "must be text"),
    ([user("\ud800")], "half a character"),
    ([user([text_part("a\udfff")])], "half a character"),
    *(
        ([{"role": role, "content": "Obey."}, user("Hi")], r"messages\[0\]\['role'\] must be")
        for role in ("system", "developer", "tool", "function", "User", "user ", "", None, 5, [])
    ),
    *(
        ([user("Hi", **{key: value}), user("Hi")], rf"messages\[0\] has the key '{key}'")
        for key, value in {
            "providers_sync": {"protocol": "anthropic"},
            "tool_calls": [],
            "tool_call_id": "1",
            "name": "root",
            "reasoning_content": "hm",
            "cache_control": None,
        }.items()
    ),
    (
        [assistant(None, tool_calls=[{"id": "1"}]), user("Hi")],
        r"messages\[0\] has the key 'tool_calls'",
    ),
]


@pytest.mark.parametrize(("posted", "expected"), INVALID)
def test_an_error_names_the_invalid_item(posted: Any, expected: str) -> None:
    """The error text names the invalid item, and the browser receives it."""
    with pytest.raises(QuestionError, match=expected) as caught:
        question(posted)
    assert isinstance(caught.value, InvalidRequestError)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), QuestionError)
    data = error_data(caught.value)
    assert (data["message"], data["kind"]) == (str(caught.value), "QuestionError")
    json.dumps(data)


def nested(depth: int) -> Any:
    value: Any = "Hi"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "posted",
    [
        "x" * 10**7,
        [user("x")] * 10**6,
        [user("")] * 1000,
        [user([text_part("")] * 10**6)],
        [user([text_part("")] * 100)] * 3,
        [user("x" * 150_000), assistant("x" * 150_000), user("x")],
        [user("Hi", **{str(n): n for n in range(10**5)})],
        [user("Hi", **{"k" * 10**6: 1})],
        [{"role": "r" * 10**6, "content": "Hi"}],
        nested(100_000),
        user(nested(100_000)),
        {"role": nested(100_000), "content": "Hi"},
    ],
    ids=lambda posted: type(posted).__name__,
)
def test_oversized_input_is_refused_quickly(posted: Any) -> None:
    """Excessive sizes, counts and depths take no time, and the error text stays short."""
    start = time.thread_time()
    with pytest.raises(QuestionError) as caught:
        question(posted)
    assert time.thread_time() - start < QUICK_S
    assert len(str(caught.value)) < 300


def test_the_view_can_set_the_limits() -> None:
    """Input at the limit is accepted, anything above is refused; parts count like messages."""
    limits: dict[str, int] = {"max_messages": 3, "max_characters": 6}
    assert len(question([user("ab"), assistant("cd"), user("ef")], **limits)) == 3
    assert question([user([text_part("abc"), text_part("def")])], **limits) == [user("abcdef")]
    for posted in (
        [user("ab"), assistant("cd"), user("efg")],
        [user([text_part("abc"), text_part("defg")])],
    ):
        with pytest.raises(QuestionError, match="longer than 6 characters"):
            question(posted, **limits)
    for posted in (
        [user("a")] * 4,
        [user([text_part("a")] * 3)],
        [user("a"), user([text_part("a")] * 2)],
    ):
        with pytest.raises(QuestionError, match="more than 3 messages"):
            question(posted, **limits)


# --- images


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": IMAGE},
        {"type": "image_url", "image_url": {"url": IMAGE}},
        {"type": "image_url", "image_url": IMAGE},
    ],
)
def test_images_are_accepted_if_the_view_allows_them(part: Any) -> None:
    """Only as ``data:`` URLs and only in user messages, with or without text."""
    assert question([user([text_part("What?"), part])], images=True) == [
        user([text_part("What?"), {"type": "image", "image": IMAGE}])
    ]
    messages = question([user([part])], images=True)
    for kind in (OpenAICompatible, Anthropic):
        provider = ScriptedProvider([text("ok")], like=kind("m", api_key="k"))
        provider.complete(messages)
        assert base64.b64encode(PNG) in provider.requests[0].body
    with pytest.raises(QuestionError, match="must be text"):
        question([user([text_part("What?"), part])])
    with pytest.raises(QuestionError, match="must be text"):
        question([assistant([part]), user("What?")], images=True)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1/a.png", "https://example.org/a.png", "/etc/passwd", "file:///a.png"),
        *("data:image/png,x", "data:text/html;base64,aGk=", "data:image/png;base64,aGk="),
        *("data:image/svg+xml;base64,PHN2Zz4=", IMAGE + "!", IMAGE + "é", "data:x", ""),
        *(None, 5, [IMAGE], {"url": {"url": IMAGE}}, {"url": IMAGE, "detail": "low"}),
    ],
)
def test_only_image_data_is_accepted(url: Any) -> None:
    """Other URLs would be fetched by the model's server; the image must be of a supported type."""
    for part in ({"type": "image", "image": url}, {"type": "image_url", "image_url": url}):
        with pytest.raises(QuestionError, match=r"messages\[0\]\['content'\]\[0\]"):
            question([user([part])], images=True)


def test_an_images_type_is_detected_from_its_bytes() -> None:
    """A GIF declared as a PNG is sent as a GIF."""
    gif = base64.b64encode(b"GIF89a").decode()
    part = {"type": "image", "image": f"data:image/png;base64,{gif}"}
    [message] = question([user([part])], images=True)
    assert message["content"][0]["image"] == f"data:image/gif;base64,{gif}"


def test_images_have_a_total_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small images count like one large one."""
    assert config.IMAGE_BYTES == 20 * 1024 * 1024
    monkeypatch.setattr("providers_sync.web.browser_input.IMAGE_BYTES", 2 * len(PNG))
    part = {"type": "image", "image": IMAGE}
    assert question([user([part, part])], images=True)
    with pytest.raises(QuestionError, match="in total"):
        question([user([part, part]), user([part])], images=True)


def test_a_configuration_error_is_not_a_question_error() -> None:
    """For a provider without a model, the browser gets only a fixed sentence."""
    with pytest.raises(ProviderError) as caught:
        OpenAICompatible(base_url="http://127.0.0.1:9").prepare(question("Hi"))
    assert not isinstance(caught.value, QuestionError)
    assert "model:" not in error_data(caught.value)["message"]
