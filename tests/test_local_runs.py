"""Tests of ``provider.run`` with the real local model, whose calls a grammar holds to a schema."""

from __future__ import annotations

import json
from typing import Any, Literal, get_args

import pytest
from gateway_kit import Recording

from providers_sync import PROVIDERS, Outcome
from providers_sync.gateway import Gateway

pytestmark = pytest.mark.model

Colour = Literal["red", "blue"]
QUESTION = "What is the code of the blue locker 5?"


class Codes:
    """A function whose result no model can guess, and what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def locker_code(self, colour: Colour, number: int) -> str:
        """The code of a locker."""
        self.calls.append((colour, number))
        return "The code is 7391."


def check_run(local: tuple[Gateway, Recording], name: str, messages: Any, **options: Any) -> None:
    """Ask over a protocol; assert that a function was called, and that the model read its result.

    Two rounds of a small model: the first is one call, the second is text.
    """
    codes = Codes()
    provider = PROVIDERS[name]("any", base_url=local[0].url(name), temperature=0, max_tokens=50)
    run = provider.run(messages, tools=[codes.locker_code], max_rounds=2, **options)
    run.read()
    first, second = run.rounds
    (call,) = first.tool_calls
    (asked,) = codes.calls
    assert call.arguments == dict(zip(("colour", "number"), asked, strict=True))
    assert asked[0] in get_args(Colour)
    assert isinstance(asked[1], int)
    assert (first.text, second.tool_calls) == ("", ())
    assert "7391" in run.text
    assert "<tool" not in run.text
    assert run.outcome is Outcome.COMPLETE
    assert [message["role"] for message in run.messages[-3:]] == ["assistant", "tool", "assistant"]


@pytest.mark.parametrize("name", ["openai", "responses", "anthropic", "gemini"])
def test_model_calls_a_function_and_reads_its_result(
    local: tuple[Gateway, Recording], name: str
) -> None:
    """It has to call in the first round, and may do as it likes in the second one."""
    check_run(local, name, QUESTION, tool_choice="required")
    messages, options = local[1].last_request
    assert [message["role"] for message in messages] == ["user", "assistant", "tool"]
    assert options.get("tool_choice", "auto") == "auto"


def test_model_that_may_answer_calls_a_function(local: tuple[Gateway, Recording]) -> None:
    """Ollama's protocol has no ``tool_choice``: a small model follows the calls before."""
    messages: list[dict[str, Any]] = []
    for number, colour in enumerate([*get_args(Colour), "red"], 1):
        arguments = json.dumps({"colour": colour, "number": number})
        function = {"name": "locker_code", "arguments": arguments}
        call = {"id": f"c{number}", "type": "function", "function": function}
        messages += [
            {"role": "user", "content": f"The code of the {colour} locker {number}?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ]
    messages.append({"role": "user", "content": "The code of the blue locker 7?"})
    check_run(local, "ollama", messages)
