"""An answer of ours as what ``llm`` reads: text, reasoning, tool calls, usage and its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
import llm
from llm.parts import StreamEvent

from ..errors import ProviderError
from ..finish_reasons import explain_end
from ..printable import one_line
from ..returned_messages import RETURNED
from ..stream import Stream
from ..typed import TypedStream
from ..types import Citation, Media, ReasoningDelta, Refusal, TextDelta, ToolCall, Usage
from .messages import BROKEN_ARGUMENTS


def read_answer(answer: Stream, response: llm.Response) -> Iterator[str | StreamEvent]:
    """Yield the pieces of an answer, and put everything else that ``llm`` keeps into ``response``.

    Raises what ``next`` raises, and ``InvalidAnswer`` if JSON of a schema was asked for.
    """
    more: dict[str, list[dict[str, Any]]] = {"citations": [], "media": []}
    if not isinstance(answer, TypedStream):
        yield from _pieces(answer, response, more)
    elif response.prompt.tools:
        yield from _typed_or_calls(answer, response, more)
    else:
        yield from _typed(answer)
    if (returned := answer.message.get(RETURNED)) is not None:
        # What the protocol wants back with the next question, such as signed reasoning.
        yield StreamEvent(type="reasoning", chunk="", provider_metadata={RETURNED: returned})
    _complete(answer, response, more)


def _pieces(
    answer: Stream, response: llm.Response, more: dict[str, list[dict[str, Any]]]
) -> Iterator[str | StreamEvent]:
    for event in answer.events():
        if isinstance(event, (TextDelta, Refusal)):
            yield event.text
        elif isinstance(event, ReasoningDelta):
            yield StreamEvent(type="reasoning", chunk=event.text)
        elif isinstance(event, ToolCall):
            response.add_tool_call(_call(event))
        elif isinstance(event, Citation):
            more["citations"].append({"url": event.url, "title": event.title, "text": event.text})
        elif isinstance(event, Media):
            more["media"].append(
                {"kind": event.kind, "mime_type": event.mime_type, "url": event.url}
            )


def _call(call: ToolCall) -> llm.ToolCall:
    arguments = {BROKEN_ARGUMENTS: call.raw} if call.arguments is None else call.arguments
    return llm.ToolCall(name=call.name, arguments=arguments, tool_call_id=call.id or None)


def _typed(answer: TypedStream[Any]) -> Iterator[str | StreamEvent]:
    """Yield JSON that validates; what the model has said instead, before the error says so."""
    try:
        value = answer.value
    except ProviderError as error:
        yield error.partial
        raise
    if answer.reasoning:
        yield StreamEvent(type="reasoning", chunk=answer.reasoning)
    yield _json(answer.text, value)


def _typed_or_calls(
    answer: TypedStream[Any], response: llm.Response, more: dict[str, list[dict[str, Any]]]
) -> Iterator[str | StreamEvent]:
    """Yield the same, or the text beside tool calls: only the last answer is JSON."""
    try:
        yield from (
            piece for piece in _pieces(answer, response, more) if not isinstance(piece, str)
        )
        text = answer.text if answer.tool_calls else _json(answer.text, answer.value)
    except ProviderError as error:
        yield error.partial
        raise
    yield text


def _json(text: str, value: Any) -> str:
    """Return the text if it is JSON of the value, and nothing else; or else JSON of the value."""
    try:
        is_json = json.loads(text) == value
    except ValueError:
        is_json = False
    return text if is_json else json.dumps(value, ensure_ascii=False)


def _complete(
    answer: Stream, response: llm.Response, more: dict[str, list[dict[str, Any]]]
) -> None:
    if answer.model:
        response.set_resolved_model(answer.model)
    usage = answer.usage
    if usage is not None:
        response.set_usage(
            input=usage.input_tokens, output=usage.output_tokens, details=_details(usage)
        )
    response.response_json = {
        "outcome": str(answer.outcome),
        "finish_reason": answer.finish_reason,
        "request_id": answer.request_id,
        "attempts": answer.stats.attempts,
        **{name: values for name, values in more.items() if values},
    }
    is_empty = not (answer.text or answer.tool_calls or more["media"])
    note = explain_end(
        answer.outcome,
        answer.finish_reason,
        is_empty=is_empty,
        refusal=answer.refusal,
        has_reasoning=bool(answer.reasoning),
    )
    if note:
        _tell(note)
    if more["media"]:
        _tell("llm cannot show the images or the sound of the answer")


def _details(usage: Usage) -> dict[str, int] | None:
    names = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
    return {name: getattr(usage, name) for name in names if getattr(usage, name)} or None


def _tell(note: str) -> None:
    """Print a note to standard error, in a command: ``llm`` itself keeps none."""
    if click.get_current_context(silent=True) is not None:
        click.echo(f"\nproviders-sync: {one_line(note)}", err=True)
