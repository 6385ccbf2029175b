"""What a browser posts: which messages are taken, and what it is told of the others."""

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
PICTURE = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


def user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def words(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("posted", "messages"),
    [
        ("Hi", [user("Hi")]),
        (user("Hi"), [user("Hi")]),
        ([user("Hi"), said("Yes?"), user("Why?")], [user("Hi"), said("Yes?"), user("Why?")]),
        ([user([words("a"), words("b")])], [user("ab")]),
        (
            [user(""), said(""), user("дом 🏠\0\u2028")],
            [user(""), said(""), user("дом 🏠\0\u2028")],
        ),
    ],
)
def test_a_question_becomes_messages(posted: Any, messages: Any) -> None:
    """A text, a message or a conversation; a provider takes what comes out."""
    asked = question(posted)
    assert asked == messages
    provider = ScriptedProvider([text("ok")])
    provider.prepare(asked)
    assert asked is not posted


def test_nothing_of_the_browsers_is_shared() -> None:
    """The messages are new dicts, so that whoever adds to them changes nothing else."""
    posted = [user("Hi")]
    question(posted)[0]["content"] = "changed"
    assert posted == [user("Hi")]


WRONG = [
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
    ([user("Hi"), said("Yes?")], "last message must be the user's"),
    ([user("Hi"), user("")], "last message is empty"),
    ([user([])], "last message is empty"),
    ([user(None)], r"messages\[0\]\['content'\] must be text or a list of parts, not null"),
    ([user(5)], "not a number"),
    ([user({"type": "text", "text": "Hi"})], "not an object"),
    ([user(["Hi"])], r"messages\[0\]\['content'\]\[0\] must be text"),
    ([user([words(5)])], r"\[0\]\['text'\] must be text, not a number"),
    ([user([{"type": ["text"], "text": "Hi"}])], "must be text"),
    ([user([{**words("Hi"), "cache_control": {}}])], r"\[0\] has the key 'cache_control'"),
    ([user([{"type": "tool_result", "tool_use_id": "1", "content": "4"}])], "must be text"),
    ([user("\ud800")], "half a character"),
    ([user([words("a\udfff")])], "half a character"),
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
    ([said(None, tool_calls=[{"id": "1"}]), user("Hi")], r"messages\[0\] has the key 'tool_calls'"),
]


@pytest.mark.parametrize(("posted", "told"), WRONG)
def test_what_is_not_taken_is_named(posted: Any, told: str) -> None:
    """The text says which item is wrong, and the browser may be shown it."""
    with pytest.raises(QuestionError, match=told) as caught:
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
        [user([words("")] * 10**6)],
        [user([words("")] * 100)] * 3,
        [user("x" * 150_000), said("x" * 150_000), user("x")],
        [user("Hi", **{str(n): n for n in range(10**5)})],
        [user("Hi", **{"k" * 10**6: 1})],
        [{"role": "r" * 10**6, "content": "Hi"}],
        nested(100_000),
        user(nested(100_000)),
        {"role": nested(100_000), "content": "Hi"},
    ],
    ids=lambda posted: type(posted).__name__,
)
def test_too_much_is_refused_at_once(posted: Any) -> None:
    """Sizes, counts and depths that are no question cost no time, and little text."""
    began = time.thread_time()
    with pytest.raises(QuestionError) as caught:
        question(posted)
    assert time.thread_time() - began < QUICK_S
    assert len(str(caught.value)) < 300


def test_the_limits_are_the_views_to_set() -> None:
    """Exactly so much passes, and no more; parts count as messages do."""
    limits: dict[str, int] = {"max_messages": 3, "max_characters": 6}
    assert len(question([user("ab"), said("cd"), user("ef")], **limits)) == 3
    assert question([user([words("abc"), words("def")])], **limits) == [user("abcdef")]
    for posted in ([user("ab"), said("cd"), user("efg")], [user([words("abc"), words("defg")])]):
        with pytest.raises(QuestionError, match="longer than 6 characters"):
            question(posted, **limits)
    for posted in ([user("a")] * 4, [user([words("a")] * 3)], [user("a"), user([words("a")] * 2)]):
        with pytest.raises(QuestionError, match="more than 3 messages"):
            question(posted, **limits)


# --- images


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": PICTURE},
        {"type": "image_url", "image_url": {"url": PICTURE}},
        {"type": "image_url", "image_url": PICTURE},
    ],
)
def test_images_pass_where_the_view_wants_them(part: Any) -> None:
    """As data, in the user's turn, and without a word beside them too; otherwise never."""
    assert question([user([words("What?"), part])], images=True) == [
        user([words("What?"), {"type": "image", "image": PICTURE}])
    ]
    asked = question([user([part])], images=True)
    for kind in (OpenAICompatible, Anthropic):
        provider = ScriptedProvider([text("ok")], like=kind("m", api_key="k"))
        provider.complete(asked)
        assert base64.b64encode(PNG) in provider.requests[0].body
    with pytest.raises(QuestionError, match="must be text"):
        question([user([words("What?"), part])])
    with pytest.raises(QuestionError, match="must be text"):
        question([said([part]), user("What?")], images=True)


@pytest.mark.parametrize(
    "address",
    [
        *("http://127.0.0.1/a.png", "https://example.org/a.png", "/etc/passwd", "file:///a.png"),
        *("data:image/png,x", "data:text/html;base64,aGk=", "data:image/png;base64,aGk="),
        *("data:image/svg+xml;base64,PHN2Zz4=", PICTURE + "!", PICTURE + "é", "data:x", ""),
        *(None, 5, [PICTURE], {"url": {"url": PICTURE}}, {"url": PICTURE, "detail": "low"}),
    ],
)
def test_only_data_of_a_picture_is_an_image(address: Any) -> None:
    """An address elsewhere would be fetched by the model's server; a type must be true."""
    for part in ({"type": "image", "image": address}, {"type": "image_url", "image_url": address}):
        with pytest.raises(QuestionError, match=r"messages\[0\]\['content'\]\[0\]"):
            question([user([part])], images=True)


def test_an_images_type_is_what_its_bytes_say() -> None:
    """What calls itself a PNG and is a GIF goes as a GIF."""
    gif = base64.b64encode(b"GIF89a").decode()
    part = {"type": "image", "image": f"data:image/png;base64,{gif}"}
    [message] = question([user([part])], images=True)
    assert message["content"][0]["image"] == f"data:image/gif;base64,{gif}"


def test_images_have_a_limit_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small ones weigh as one large."""
    assert config.IMAGE_BYTES == 20 * 1024 * 1024
    monkeypatch.setattr("providers_sync.web.browser_input.IMAGE_BYTES", 2 * len(PNG))
    part = {"type": "image", "image": PICTURE}
    assert question([user([part, part])], images=True)
    with pytest.raises(QuestionError, match="in all"):
        question([user([part, part]), user([part])], images=True)


def test_an_operators_mistake_is_no_question_error() -> None:
    """Such as a provider without a model: the browser gets a plain sentence."""
    with pytest.raises(ProviderError) as caught:
        OpenAICompatible(base_url="http://127.0.0.1:9").prepare(question("Hi"))
    assert not isinstance(caught.value, QuestionError)
    assert "model:" not in error_data(caught.value)["message"]
