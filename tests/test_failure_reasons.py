"""Why a call has failed, in a word, and what a ``Failover`` makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from providers_sync import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    Failover,
    FailoverError,
    InvalidRequestError,
    MalformedStream,
    ModelNotSupportedError,
    ProviderError,
    ServerError,
    StreamCancelled,
    StreamCut,
)
from providers_sync.testing import ScriptedProvider, answer, cut, error, stall, status

REJECTED = {
    "gemini filter": (
        400,
        {"error": {"code": 400, "message": "The prompt was blocked due to: SAFETY"}},
        "content_filter",
    ),
    "bedrock model": (
        400,
        {"message": "The provided model identifier is invalid."},
        "unknown_model",
    ),
    # As the vendors' references and the issues of their clients show them.
    "openai filter": (
        400,
        {"error": {"code": "content_policy_violation", "type": "invalid_request_error"}},
        "content_filter",
    ),
    "azure filter": (
        400,
        {
            "error": {
                "code": "content_filter",
                "message": "The response was filtered",
                "status": 400,
            }
        },
        "content_filter",
    ),
    "dashscope filter": (
        400,
        {
            "code": "DataInspectionFailed",
            "message": "Input data may contain inappropriate content.",
        },
        "content_filter",
    ),
    "anthropic filter": (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Output blocked by content filtering policy",
            },
        },
        "content_filter",
    ),
    "xai filter": (
        403,
        {"error": "Content violates usage guidelines."},
        "content_filter",
    ),
    "openai context": (
        400,
        {"error": {"code": "context_length_exceeded", "type": "invalid_request_error"}},
        "context_length",
    ),
    "vllm context": (
        400,
        {
            "message": "This model's maximum context length is 4096 tokens.",
            "type": "BadRequestError",
        },
        "context_length",
    ),
    "llama.cpp context": (
        400,
        {"error": {"code": 400, "type": "exceed_context_size_error", "message": "too large"}},
        "context_length",
    ),
    "anthropic context": (
        400,
        {
            "error": {
                "type": "invalid_request_error",
                "message": "prompt is too long: 210000 tokens > 200000 maximum",
            }
        },
        "context_length",
    ),
    "anthropic size": (413, {"error": {"type": "request_too_large"}}, "context_length"),
    "gemini context": (
        400,
        {
            "error": {
                "code": 400,
                "status": "INVALID_ARGUMENT",
                "message": "The input token count (9) exceeds the maximum number of tokens"
                " allowed (8).",
            }
        },
        "context_length",
    ),
    "openai model": (
        404,
        {"error": {"code": "model_not_found", "message": "The model `x` does not exist"}},
        "unknown_model",
    ),
    "ollama model": (404, {"error": "model 'x' not found"}, "unknown_model"),
    "gemini model": (
        404,
        {"error": {"code": 404, "status": "NOT_FOUND", "message": "models/x is not found for v1"}},
        "unknown_model",
    ),
    "openai quota": (429, {"error": {"code": "insufficient_quota"}}, "quota"),
    "deepseek quota": (402, {"error": {"message": "Insufficient Balance"}}, "quota"),
    "rate limit": (429, {"error": {"code": "rate_limit_exceeded"}}, "rate_limit"),
    "key": (401, {"error": {"code": "invalid_api_key"}}, "authentication"),
    "forbidden": (403, {"error": {"message": "Country not supported"}}, "authentication"),
    "prefill": (
        400,
        {"error": {"message": "This model does not support assistant message prefill."}},
        "invalid_request",
    ),
    "parameter": (
        400,
        {"error": {"code": "unsupported_value", "message": "temperature does not support 0.2"}},
        "invalid_request",
    ),
    "address": (404, {"detail": "Not Found"}, "invalid_request"),
    "overloaded": (529, {"error": {"type": "overloaded_error"}}, "server"),
    "down": (503, {}, "server"),
    "conflict": (409, {}, "server"),
}


def told(
    status_code: int, message: str, reason: str, **names: Any
) -> tuple[int, dict[str, Any], str]:
    return status_code, {"error": {"message": message, **names}}, reason


WORDS = {
    "deepseek filter": told(400, "Content Exists Risk", "content_filter"),
    "openrouter filter": told(
        403,
        'openai/gpt-4o requires moderation on OpenAI. Your input was flagged for "violence".',
        "content_filter",
    ),
    "anthropic sum": told(
        400,
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000",
        "context_length",
    ),
    "moonshot context": told(
        400, "Invalid request: Your request exceeded model token limit: 8192", "context_length"
    ),
    "dashscope context": told(
        400, "<400> InternalError: Range of input length should be [1, 129024]", "context_length"
    ),
    "new vllm context": told(
        400,
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "context_length",
    ),
    "xai context": told(
        400,
        "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
        "context_length",
    ),
    "zhipu context": told(400, "Prompt \u8d85\u957f", "context_length", code="1261"),
    "zhipu model": told(400, "\u6a21\u578b", "unknown_model", code="1211"),
    "zhipu filter": told(400, "\u654f\u611f", "content_filter", code="1301"),
    "deepseek model": told(400, "Model Not Exist", "unknown_model"),
    "moonshot model": told(404, "Not found the model x or Permission denied", "unknown_model"),
    "anthropic model": told(404, "model: claude-9", "unknown_model", type="not_found_error"),
    "azure model": told(404, "The API deployment …", "unknown_model", code="DeploymentNotFound"),
    "groq model": told(400, "No longer supported", "unknown_model", code="model_decommissioned"),
    "openrouter model": told(400, "foo/bar is not a valid model ID", "unknown_model"),
    "no openrouter model": told(404, "No endpoints found for foo/bar.", "unknown_model"),
    "anthropic credit": told(
        400, "Your credit balance is too low to access the Anthropic API.", "quota"
    ),
    "anthropic limit": told(
        400, "You have reached your specified API usage limits. You will regain …", "quota"
    ),
    "dashscope arrears": (400, {"code": "Arrearage", "message": "Access denied"}, "quota"),
    "dashscope free tier": (403, {"code": "AllocationQuota.FreeTierOnly"}, "quota"),
    # Words of that kind in requests that are wrong.
    "images": told(400, "This model does not support images", "invalid_request"),
    "max_tokens": told(
        400,
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens",
        "invalid_request",
    ),
    "anthropic max_tokens": told(
        400,
        "max_tokens: 10000 > 8192, which is the maximum allowed number of output tokens for x",
        "invalid_request",
    ),
    "no max_tokens": told(400, "maximum tokens must be at least 1", "invalid_request"),
    "image": told(400, "image exceeds the maximum size of 5 MB", "invalid_request"),
    "temperature": told(400, "temperature exceeds the maximum of 2", "invalid_request"),
    "tool": told(400, "model called tool 'x' but the tool was not found", "invalid_request"),
    "quoted words": told(
        400, "Invalid value: 'What is a content filter?'. Expected 'auto'", "invalid_request"
    ),
    "echoed words": (
        422,
        {"detail": [{"msg": "Field required", "input": {"x": "Which model was not found?"}}]},
        "invalid_request",
    ),
    "safety settings": told(
        400, "safety_settings[0].category: bad", "invalid_request", status="INVALID_ARGUMENT"
    ),
}
REJECTED.update(WORDS)


def rejection(name: str) -> Any:
    code, body, _ = REJECTED[name]
    return answer(
        json.dumps(body).encode(),
        status=code,
        content_type="application/json",
        framing="length",
        end=False,
    )


@pytest.mark.parametrize("name", REJECTED)
def test_reason_of_a_rejection(name: str) -> None:
    with pytest.raises(APIStatusError) as caught:
        ScriptedProvider(rejection(name)).complete("Hi", retry=None)
    assert caught.value.reason == REJECTED[name][2]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (InvalidRequestError("x"), "invalid_request"),
        (ModelNotSupportedError("x"), "unknown_model"),
        (APIConnectionError("x"), "connection"),
        (APITimeoutError("x", clock="idle"), "timeout"),
        (StreamCut("x"), "broken"),
        (MalformedStream("x"), "broken"),
        (StreamCancelled("x"), "other"),
        (ServerError("x", type="overloaded_error", status_code=529), "server"),
        (ServerError("x", code="content_filter"), "content_filter"),
        (ServerError("x", code="insufficient_quota"), "quota"),
        (ServerError("x", code="context_length_exceeded"), "context_length"),
        (ServerError("x"), "other"),
        (ServerError("x", type="overloaded_error"), "server"),
        (ServerError("x", type="api_error"), "server"),
        (ServerError("x", type="rate_limit_error"), "rate_limit"),
        (ServerError("x", type="authentication_error"), "authentication"),
        (ServerError("x", type="invalid_request_error"), "invalid_request"),
        (ServerError("x", type="something_else"), "other"),
        (FailoverError("x"), "other"),
        (ProviderError("x"), "other"),
    ],
)
def test_reason_of_an_error(failure: ProviderError, reason: str) -> None:
    assert failure.reason == reason


@pytest.mark.parametrize("name", REJECTED)
def test_all_but_a_content_filter_move_on(name: str) -> None:
    first, second = ScriptedProvider([rejection(name)] * 3), ScriptedProvider("Hello")
    provider = Failover([first, second])
    if REJECTED[name][2] == "content_filter":
        with pytest.raises(APIStatusError) as caught:
            provider.complete("Hi")
        assert caught.value.attempts == ()
        assert second.requests == []
    else:
        assert provider.complete("Hi").text == "Hello"
    assert len(first.requests) == 1


def test_content_filter_as_the_first_event() -> None:
    filtered = ScriptedProvider(answer(error("No", "content_filter")))
    with pytest.raises(ServerError):
        Failover([filtered, ScriptedProvider("Hello")]).complete("Hi")


def test_failures_before_it_are_told() -> None:
    providers = [ScriptedProvider(status(503)), ScriptedProvider(rejection("azure filter"))]
    with pytest.raises(APIStatusError) as caught:
        Failover([*providers, ScriptedProvider("Hello")]).complete("Hi")
    assert [failure.provider for failure in caught.value.attempts] == providers[:1]


@pytest.mark.parametrize(
    ("move_on", "texts"),
    [
        (["server"], ["Hello", None, None]),
        (["content_filter"], [None, "Hello", None]),
        (lambda failure: getattr(failure, "status_code", 0) == 404, [None, None, "Hello"]),
        ([], [None, None, None]),
    ],
)
def test_rule_can_be_given(move_on: Any, texts: list[str | None]) -> None:
    found: list[str | None] = []
    for name in ("down", "azure filter", "ollama model"):
        providers = [ScriptedProvider(rejection(name)), ScriptedProvider("Hello")]
        try:
            found.append(Failover(providers, move_on=move_on).complete("Hi").text)
        except APIStatusError:
            found.append(None)
    assert found == texts


def test_rule_of_an_inner_failover_is_its_own() -> None:
    inner = Failover([ScriptedProvider(status(503))], move_on=["server"])
    assert Failover([inner, ScriptedProvider("Hello")], move_on=[]).complete("Hi").text == "Hello"


def test_no_rule_moves_on_after_the_first_word_or_the_total() -> None:
    second = ScriptedProvider("Hello")
    provider = Failover([ScriptedProvider(answer("Hel", cut())), second], move_on=lambda _: True)
    with pytest.raises(StreamCut):
        provider.complete("Hi")
    provider = Failover([ScriptedProvider(answer(stall())), second], move_on=lambda _: True)
    with pytest.raises(APITimeoutError):
        provider.complete("Hi", timeouts=0.2)
    assert second.requests == []


@pytest.mark.parametrize(
    ("move_on", "words"),
    [
        ("server", "not 'server'"),
        (["busy"], "'busy' is not a reason; use content_filter, quota"),
        (3, "a list of reasons or a function that takes the error, not 3"),
    ],
)
def test_wrong_rule_is_refused(move_on: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        Failover([ScriptedProvider("x")], move_on=move_on)


def test_rejected_content_is_no_sign_of_a_broken_provider() -> None:
    first = ScriptedProvider([*[rejection("openai filter")] * 3, answer("Hello")])
    provider = Failover([first, ScriptedProvider("other")], failures=1)
    for _ in range(3):
        with pytest.raises(APIStatusError):
            provider.complete("Hi")
    assert provider.complete("Hi").text == "Hello"
