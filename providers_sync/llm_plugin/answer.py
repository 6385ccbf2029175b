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
from ..printable import one_line, visible
from ..returned_messages import RETURNED
from ..stream import Stream
from ..typed import TypedStream
from ..types import ReasoningDelta, Refusal, TextDelta, ToolCall, Usage
from .messages import BROKEN_ARGUMENTS

AnyResponse = llm.Response | llm.AsyncResponse


def read_answer(
    answer: Stream, response: AnyResponse, *, in_command: bool
) -> Iterator[str | StreamEvent]:
    """Yield the pieces of an answer, and put everything else that ``llm`` keeps into ``response``.

    ``in_command``: tell on standard error what ``llm`` has no place for.

    Raises what ``next`` raises, and ``InvalidAnswer`` if JSON of a schema was asked for.
    """
    if isinstance(answer, TypedStream):
        yield from _typed(answer, may_call=bool(response.prompt.tools))
    else:
        yield from _pieces(answer)
    if (returned := answer.message.get(RETURNED)) is not None:
        # What the protocol wants back with the next question, such as signed reasoning.
        yield StreamEvent(type="reasoning", chunk="", provider_metadata={RETURNED: returned})
    if answer.is_whole:
        for call in answer.tool_calls:
            response.add_tool_call(_call(call))
    _complete(answer, response)
    if in_command and (note := _note(answer)):
        click.echo(f"\nproviders-sync: {one_line(note)}", err=True)


def show_partial(error: ProviderError, *, is_printed: bool) -> None:
    """Print what had arrived before an error, if ``llm`` has not; or else end its line."""
    if error.partial:
        click.echo("" if is_printed else visible(error.partial), err=True)


def _pieces(answer: Stream) -> Iterator[str | StreamEvent]:
    for event in answer.events():
        if isinstance(event, (TextDelta, Refusal)):
            yield event.text
        elif isinstance(event, ReasoningDelta):
            yield StreamEvent(type="reasoning", chunk=event.text)


def _typed(answer: TypedStream[Any], *, may_call: bool) -> Iterator[str | StreamEvent]:
    """Yield JSON that validates; what the model has said instead, before the error says so.

    ``may_call``: the answer may also be tool calls, and is not asked for again then.
    """
    try:
        if may_call:
            answer.read()
        text = answer.text if answer.tool_calls else _json(answer)
    except ProviderError as error:
        yield error.partial
        raise
    if answer.reasoning:
        yield StreamEvent(type="reasoning", chunk=answer.reasoning)
    yield text


def _json(answer: TypedStream[Any]) -> str:
    """Return the text if it is JSON of the value, and nothing else; or else JSON of the value."""
    value = answer.value
    try:
        is_json = json.loads(answer.text) == value
    except ValueError:
        is_json = False
    return answer.text if is_json else json.dumps(value, ensure_ascii=False)


def _call(call: ToolCall) -> llm.ToolCall:
    arguments = {BROKEN_ARGUMENTS: call.raw} if call.arguments is None else call.arguments
    return llm.ToolCall(name=call.name, arguments=arguments, tool_call_id=call.id or None)


def _complete(answer: Stream, response: AnyResponse) -> None:
    if answer.model:
        response.set_resolved_model(answer.model)
    if (usage := answer.usage) is not None:
        response.set_usage(
            input=usage.input_tokens, output=usage.output_tokens, details=_details(usage)
        )
    response.response_json = {
        "outcome": str(answer.outcome),
        "finish_reason": answer.finish_reason,
        "request_id": answer.request_id,
        "citations": [{"url": each.url, "title": each.title} for each in answer.citations],
    }


def _note(answer: Stream) -> str:
    """Return in words what ``llm`` does not show: why an answer is not whole, and what is left."""
    notes = [
        explain_end(
            answer.outcome,
            answer.finish_reason,
            is_empty=not (answer.text or answer.tool_calls or answer.media),
            refusal=answer.refusal,
            has_reasoning=bool(answer.reasoning),
        )
    ]
    if answer.tool_calls and not answer.is_whole:
        notes.append("its tool calls are not made")
    if answer.media:
        notes.append("llm cannot show the images or the sound of the answer")
    return "; ".join(filter(None, notes))


def _details(usage: Usage) -> dict[str, int] | None:
    names = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
    return {name: getattr(usage, name) for name in names if getattr(usage, name)} or None
