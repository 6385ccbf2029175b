"""Errors that servers report inside an answer: every shape is recognized, with all its words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync import (
    Anthropic,
    MalformedStream,
    OpenAICompatible,
    ProviderError,
    ServerError,
    StreamTruncated,
)
from providers_sync.testing import answer, event, finish, raw, serve, text

LONG = "You asked for 170000 tokens. " * 20 + "Shorten the prompt."

SHAPES: dict[str, Any] = {
    "an error object": {"error": {"message": LONG, "code": 400}},
    "an error text": {"error": LONG},
    "nested JSON text": {"error": {"message": json.dumps({"error": {"message": LONG}})}},
    "an error text that is JSON": {"error": json.dumps({"message": LONG})},
    "a list of one error": [{"error": {"message": LONG}}],
    "object: error": {"object": "error", "message": LONG, "type": "BadRequestError"},
    "type: error": {"type": "error", "error": {"type": "x", "message": LONG}},
    "error_message": {"error_type": "context", "error_message": LONG},
    "code and message": {"code": "InvalidParameter", "message": LONG, "request_id": "r"},
    "detail": {"detail": LONG},
    "detail in a list": {"detail": [{"msg": LONG, "type": "missing"}]},
    "base_resp": {"base_resp": {"status_code": 1004, "status_msg": LONG}},
    "errors": {"errors": [{"message": LONG}]},
    "error_code": {"error_code": 17, "error_description": LONG},
    "__type": {"__type": "ThrottlingException", "Message": LONG},
    "data.error": {"type": "chat:completion", "data": {"error": {"detail": LONG}}},
    "metadata.raw": {"error": {"message": "Provider returned error", "metadata": {"raw": LONG}}},
    "failed_generation": {"error": {"message": "See it.", "failed_generation": LONG}},
}


def ask(script: Any, kind: Any = OpenAICompatible) -> ProviderError:
    """Return the error that an answer ends with."""
    with serve(script) as server, pytest.raises(ProviderError) as caught:
        kind("m", base_url=server.url, api_key="k", retry=None).complete("Hi")
    return caught.value


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", [OpenAICompatible, Anthropic], ids=lambda kind: kind.__name__)
def test_shape_of_an_error_is_recognized(name: str, kind: Any) -> None:
    """As an event after text, as an event named ``error``, and as the whole body in JSON."""
    data = json.dumps(SHAPES[name])
    named = f"event: error\ndata: {data}\n\n".encode()
    scripts = [answer(raw(named), end=False),
               answer(raw(data.encode()), content_type="application/json", end=False)]  # fmt: skip
    if kind is OpenAICompatible:
        scripts.append(answer("Hel", raw(f"data: {data}\n\n".encode()), end=False))
    for script in scripts:
        error = ask(script, kind)
        assert isinstance(error, ServerError)
        assert "Shorten the prompt." in str(error)
        assert "Shorten the prompt." in error.body
    assert error.partial == ("Hel" if kind is OpenAICompatible else "")


def test_bare_lines_in_a_stream_are_read() -> None:
    """``error:`` as a field, bare JSON, and plain text, which ends in the error of a cut answer."""
    for line in (f'error: {{"message": "{LONG}"}}', f"error: {LONG}",
                 json.dumps({"error": {"message": LONG}})):  # fmt: skip
        error = ask(answer("Hel", raw(f"{line}\n\ndata: [DONE]\n\n".encode()), end=False))
        assert (type(error), error.partial) == (ServerError, "Hel")
        assert "Shorten" in str(error)
    error = ask(answer("Hel", raw(b"upstream died\n\n"), end=False))
    assert (type(error), error.partial) == (StreamTruncated, "Hel")
    assert "upstream died" in str(error)


@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource"])
def test_finish_reason_of_a_failure_is_an_error(reason: str) -> None:
    """With the server's words if it gives any, and the text before."""
    error = ask(["Hel", finish(reason)])
    assert (type(error), error.partial) == (ServerError, "Hel")
    assert reason in str(error)
    choice = {"delta": {}, "finish_reason": reason, "error": {"code": 502, "message": LONG}}
    error = ask(["Hel", event({"choices": [choice]})])
    assert isinstance(error, ServerError)
    assert "Shorten" in str(error)
    assert error.status_code == 502


def test_text_beside_an_error_is_kept() -> None:
    """OpenRouter puts the error beside the choices."""
    chunk = {"choices": [{"delta": {"content": "lo"}}], "error": {"message": "No."}}
    assert ask(["Hel", event(chunk)]).partial == "Hello"


def test_body_is_bounded_and_the_message_is_short() -> None:
    """A server may send a megabyte."""
    error = ask([event({"error": {"message": "x" * 1_000_000}})])
    assert isinstance(error, ServerError)
    assert len(error.body) == 65_536
    assert len(str(error)) < 5000


@pytest.mark.parametrize(
    "script",
    [
        answer(raw(b"data: [DONE]\n\n"), end=False),
        answer(raw(b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n\ndata: [DONE]\n\n'),
               end=False),
        answer(raw(b'data: {"status": "queued"}\n\ndata: [DONE]\n\n'), end=False),
        answer(raw(b'{"status": "queued"}'), content_type="application/json", end=False),
        answer(raw(b'{"choices": []}'), content_type="application/json", end=False),
    ],
)  # fmt: skip
def test_answer_that_says_nothing_is_not_complete(script: Any) -> None:
    """Nothing in it means anything; what the server did say is in the error."""
    error = ask(script)
    assert isinstance(error, (StreamTruncated, MalformedStream))
    assert ("queued" in str(error)) == (b"queued" in script.steps[0].data)


def test_empty_answer_with_a_reason_or_a_count_is_complete() -> None:
    """A finish reason, a refusal, a count mean something."""
    count = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0}})
    refused = event({"choices": [{"delta": {"refusal": "No."}}]})
    for step in (finish("stop"), count, refused):
        with serve([step]) as server:
            completion = OpenAICompatible("m", base_url=server.url).complete("Hi")
        assert (completion.text, str(completion.outcome)) == ("", "complete")


def test_events_that_mean_nothing_cost_nothing() -> None:
    """Pings with or without a name, an empty object, an event nobody knows."""
    odd = (
        b'event: keepalive\ndata: {}\n\ndata: {"type": "ping"}\n\ndata: {}\n\nevent: x\ndata: y\n\n'
    )
    with serve(answer(text("Hel"), raw(odd), text("lo"))) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("Hi")
        assert (stream.read(), str(stream.outcome)) == ("Hello", "complete")
    assert [extra.path for extra in stream.extras] == ["event.x"]
