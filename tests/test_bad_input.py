"""Tests for invalid arguments: the error names the argument, and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from providers_sync import (
    CancelToken,
    InvalidRequestError,
    OpenAICompatible,
    Provider,
    Timeouts,
    Vitalentum,
)
from providers_sync.testing import serve

NAN = float("nan")
CALLS: dict[str, tuple[Callable[[Provider], Any], str]] = {
    "empty-list": (lambda p: p.stream([]), "messages is empty"),
    "none": (lambda p: p.stream(None), "messages must be"),
    "bytes": (lambda p: p.stream(b"Hi"), "messages must be .* not bytes"),
    "generator": (lambda p: p.stream(m for m in ()), "messages must be .* not generator"),
    "item": (lambda p: p.stream(["Hi"]), r"messages\[0\] must be a dict"),
    "no-role": (lambda p: p.stream([{"content": "Hi"}]), r"messages\[0\] has no 'role'"),
    "role-number": (lambda p: p.stream([{"role": 1, "content": ""}]), r"messages\[0\]\['role'\]"),
    "no-content": (
        lambda p: p.stream([{"role": "user"}]),
        r"\['content'\] is missing",
    ),
    "content-number": (
        lambda p: p.stream([{"role": "user", "content": "a"}, {"role": "user", "content": 5}]),
        r"messages\[1\]\['content'\].*int",
    ),
    "content-none": (lambda p: p.stream({"role": "user", "content": None}), "is None"),
    "part": (lambda p: p.stream({"role": "user", "content": ["a"]}), r"\['content'\]\[0\]"),
    "model-number": (lambda p: p.stream("Hi", 5), "model must be a string"),
    "unknown-model": (lambda p: p.stream("Hi", "gpt-99"), "gpt-99"),
    "header-newline": (lambda p: p.stream("Hi", headers={"X": "a\nb"}), "header 'X'.*line break"),
    "header-space": (lambda p: p.stream("Hi", headers={"X": "a "}), "header 'X'.*space"),
    "header-number": (lambda p: p.stream("Hi", headers={"X": 5}), "header 'X'"),
    "header-unicode": (lambda p: p.stream("Hi", headers={"X": "ш"}), "header 'X'"),
    "header-name": (
        lambda p: p.stream("Hi", headers={"X Y": "a"}),
        "'X Y' is not a valid header",
    ),
    "headers-list": (lambda p: p.stream("Hi", headers=["X"]), "headers must be a dict"),
    "timeout": (lambda p: p.stream("Hi", timeout=5), "timeout= .*timeouts="),
    "max-retries": (lambda p: p.stream("Hi", max_retries=5), "max_retries= .*retry="),
    "proxies": (lambda p: p.stream("Hi", proxies={}), "proxies= .*proxy="),
    "base-url-per-call": (lambda p: p.stream("Hi", base_url="http://x"), "base_url= belongs"),
    "api-key-per-call": (lambda p: p.stream("Hi", api_key="secret"), "api_key= belongs"),
    "timeouts-zero": (lambda p: p.stream("Hi", timeouts=0), "timeouts .*above 0"),
    "timeouts-text": (lambda p: p.stream("Hi", timeouts="5"), "timeouts must be a number"),
    "timeouts-true": (lambda p: p.stream("Hi", timeouts=True), "timeouts must be a number"),
    "retry-zero": (lambda p: p.stream("Hi", retry=0), "retry must be"),
    "retry-true": (lambda p: p.stream("Hi", retry=True), "retry must be"),
    "retry-fraction": (lambda p: p.stream("Hi", retry=1.5), "retry must be"),
    "cancel": (lambda p: p.stream("Hi", cancel=True), "cancel must be"),
    "option-object": (lambda p: p.stream("Hi", logit_bias=object()), "logit_bias cannot be sent"),
    "option-nan": (lambda p: p.stream("Hi", temperature=NAN), "temperature cannot be sent"),
    "option-bytes": (lambda p: p.complete("Hi", stop=[b"x"]), "stop cannot be sent"),
}


@pytest.mark.parametrize(("call", "text"), CALLS.values(), ids=CALLS)
def test_call_with_bad_input_names_the_item(call: Callable[[Provider], Any], text: str) -> None:
    """The error is an ``InvalidRequestError`` and a ``ValueError``; nothing reaches the server."""
    with serve("Hi") as server:
        provider = Vitalentum(base_url=server.url)
        with pytest.raises(InvalidRequestError, match=text) as caught:
            call(provider)
        assert isinstance(caught.value, ValueError)
        assert "secret" not in str(caught.value)
        assert (server.requests, server.connections) == ([], [])


CONSTRUCTORS: dict[str, tuple[Callable[[], Any], str]] = {
    "no-scheme": (lambda: Vitalentum(base_url="x"), "base_url must be an http"),
    "host-and-port": (lambda: Vitalentum(base_url="127.0.0.1:80"), "base_url must be an http"),
    "ftp": (lambda: Vitalentum(base_url="ftp://x"), "base_url must be an http"),
    "no-host": (lambda: Vitalentum(base_url="http://"), "base_url must be an http"),
    "port": (lambda: Vitalentum(base_url="http://x:99999"), "base_url must be an http"),
    "space": (lambda: Vitalentum(base_url="http://a b"), "base_url must be an http"),
    "empty": (lambda: Vitalentum(base_url=""), "base_url must be a non-empty"),
    "number": (lambda: Vitalentum(base_url=5), "base_url must be a non-empty"),  # type: ignore[arg-type]
    "user": (lambda: Vitalentum(base_url="http://u:secret@x"), "base_url must not contain a user"),
    "query": (lambda: Vitalentum(base_url="http://x/?key=secret"), "base_url must not contain"),
    "key-newline": (lambda: Vitalentum(api_key="secret\n"), "api_key contains a line break"),
    "key-empty": (lambda: Vitalentum(api_key=""), "api_key must be a non-empty"),
    "header": (lambda: Vitalentum(headers={"X": "a\r\nY: secret"}), "header 'X'"),
    "verify": (lambda: Vitalentum(verify="/no/such/file"), "verify must be an existing"),
    "verify-number": (lambda: Vitalentum(verify=5), "verify must be"),  # type: ignore[arg-type]
    "proxy": (lambda: Vitalentum(proxy="localhost:3128"), "proxy must be an address"),
    "proxy-true": (lambda: Vitalentum(proxy=True), "proxy must be"),  # type: ignore[arg-type]
    "timeout": (lambda: Vitalentum(timeout=5), "timeouts="),
    "retry": (lambda: Vitalentum(retry=-1), "retry must be"),
    "model": (lambda: Vitalentum("gpt-99"), "gpt-3.5-turbo"),
    "model-number": (lambda: OpenAICompatible(5), "model must be"),  # type: ignore[arg-type]
    "zero": (lambda: Timeouts(0), "Timeouts.connect .*above 0"),
    "negative": (lambda: Timeouts(idle=-1), "Timeouts.idle"),
    "nan": (lambda: Timeouts(total=NAN), "Timeouts.total .*finite"),
    "infinity": (lambda: Timeouts(first_token=float("inf")), "Timeouts.first_token .*finite"),
    "boolean": (lambda: Timeouts(total=True), "Timeouts.total must be a number"),
    "huge": (lambda: Timeouts(total=10**400), "Timeouts.total .*finite"),
    "option-nan": (lambda: Vitalentum(temperature=NAN), "temperature cannot be sent"),
    "option-object": (lambda: Vitalentum(stop=object()), "stop cannot be sent"),
    "text": (lambda: Timeouts(total="5"), "Timeouts.total must be a number"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("make", "text"), CONSTRUCTORS.values(), ids=CONSTRUCTORS)
def test_object_with_bad_input_is_refused_at_once(make: Callable[[], Any], text: str) -> None:
    """The constructor raises, and the error never shows a possible secret."""
    with pytest.raises(InvalidRequestError, match=text) as caught:
        make()
    assert "secret" not in str(caught.value)


def test_bad_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error for a value from the environment names the variable."""
    monkeypatch.setenv("VITALENTUM_BASE_URL", "nowhere")
    with pytest.raises(InvalidRequestError, match="VITALENTUM_BASE_URL"):
        Vitalentum()
    monkeypatch.setenv("OPENAI_API_KEY", "secret\n")
    with pytest.raises(InvalidRequestError, match="OPENAI_API_KEY") as caught:
        OpenAICompatible("m")
    assert "secret" not in str(caught.value)


def test_odd_but_good_input_is_accepted() -> None:
    """Empty text, unknown roles, a single dict, a tuple and a last assistant turn are fine."""
    good: list[Any] = [
        "",
        {"role": "narrator", "content": ""},
        ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}),
        [{"role": "user", "content": [{"type": "text", "text": ""}]}],
    ]
    with serve("Hi") as server:
        provider = OpenAICompatible("m", base_url=server.url)
        for messages in good:
            assert provider.complete(messages, cancel=CancelToken()).text == "Hi"
        messages = [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]
        provider.complete(messages)
    assert server.requests[-1].json()["messages"] == messages
