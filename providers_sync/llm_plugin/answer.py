"""An answer of ours as what ``llm`` reads: text, reasoning, tool calls, usage and its end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import click
import llm
from llm.parts import ReasoningPart, StreamEvent, TextPart

from ..errors import AuthenticationError, ProviderError
from ..finish_reasons import explain_end
from ..printable import one_line, visible
from ..provider_selection import set_only_model
from ..returned_messages import RETURNED
from ..stream import Stream
from ..typed import TypedStream, rejected_texts
from ..types import ReasoningDelta, Refusal, TextDelta, ToolCall, Usage
from .messages import BROKEN_ARGUMENTS, address_before, address_kept, to_messages
from .model_names import PREFIX, command, remember
from .settings import call_options, key_advice, make_provider


class AskedModel(Protocol):
    """What ``ask`` needs of a ``ProviderModel``."""

    provider: str
    name: str | None
    model_id: str


def ask(
    model: AskedModel,
    prompt: llm.models.Prompt,
    response: llm.Response,
    key: str | None,
    *,
    is_streamed: bool,
) -> Iterator[str | StreamEvent]:
    """Yield the pieces of an answer, and put everything else that ``llm`` keeps into ``response``.

    A command of ``llm`` prints what has arrived before an error or Ctrl-C, unless ``is_streamed``
    says that it has been printed, and gets errors of click.

    Raises what ``Provider.stream`` and ``next`` raise; ``InvalidAnswer`` if a schema was given.
    """
    in_command = command() is not None
    options = prompt.options.model_dump(exclude_none=True)
    if "base_url" not in options and (address := address_before(prompt, model.provider)):
        options["base_url"] = address
    answer = None
    try:
        with make_provider(model.provider, model.name, options, key) as provider:
            if provider.model is None:
                set_only_model(provider, option=f"-m {PREFIX}{model.provider}/NAME")
            settings = call_options(prompt, options)
            with provider.stream(to_messages(prompt), **settings) as answer:
                yield from _read(answer, response)
                if kept := _kept(answer, model.provider, options):
                    yield StreamEvent(type="reasoning", chunk="", provider_metadata=kept)
    except BaseException as error:
        if in_command:
            _show_unprinted(error, answer, prompt, is_streamed=is_streamed)
        if not in_command or not isinstance(error, ProviderError):
            raise
        text = str(error)
        if isinstance(error, AuthenticationError) and key is None:
            text = key_advice(text, model.provider, options)
        raise click.ClickException(visible(text)) from error
    name = "/".join(filter(None, (model.provider, model.name or provider.model)))
    remember(name)
    if in_command:
        if name.isprintable():
            model.model_id = PREFIX + name  # ``-c`` goes on with the model that has answered
        if note := _note(answer):
            click.echo(f"\nproviders-sync: {one_line(note)}", err=True)


def _read(answer: Stream, response: llm.Response) -> Iterator[str | StreamEvent]:
    if isinstance(answer, TypedStream):
        yield from _typed(answer, may_call=bool(response.prompt.tools))
    else:
        yield from _pieces(answer)
    if answer.is_whole:
        for call in answer.tool_calls:
            response.add_tool_call(_call(call))
    _complete(answer, response)


def _kept(answer: Stream, provider: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return what the next question needs of this answer, which ``llm`` keeps in its log.

    That is what the protocol wants back, such as signed reasoning, and the address of ``-o``.
    """
    returned = answer.message.get(RETURNED)
    kept = {} if returned is None else {RETURNED: returned}
    return kept | address_kept(provider, options.get("base_url"))


def _show_unprinted(
    error: BaseException, answer: Stream | None, prompt: llm.models.Prompt, *, is_streamed: bool
) -> None:
    """Print on standard error what the model has said and ``llm`` has not printed."""
    if is_streamed and not prompt.schema:
        if answer and (answer.text or answer.reasoning) and isinstance(error, ProviderError):
            click.echo(err=True)  # ends the line of what has been printed
        return
    said = [] if is_streamed else _earlier_rounds(prompt)
    said += rejected_texts(error)
    if answer is not None:
        said += [answer.reasoning if not prompt.hide_reasoning else "", answer.text]
    for text in dict.fromkeys(filter(None, said)):
        click.echo(visible(text), err=True)


def _earlier_rounds(prompt: llm.models.Prompt) -> list[str]:
    """Return what the model has said beside its calls of tools since the question."""
    shown = (TextPart,) if prompt.hide_reasoning else (TextPart, ReasoningPart)
    said: list[str] = []
    for turn in prompt.messages:
        texts = [part.text for part in turn.parts if isinstance(part, shown)]
        if turn.role == "user" and texts:  # the results of tools may come with files
            said.clear()
        elif turn.role == "assistant":
            said += texts
    return said


def _pieces(answer: Stream) -> Iterator[str | StreamEvent]:
    for event in answer.events():
        if isinstance(event, (TextDelta, Refusal)):
            yield event.text
        elif isinstance(event, ReasoningDelta):
            yield StreamEvent(type="reasoning", chunk=event.text)


def _typed(answer: TypedStream[Any], *, may_call: bool) -> Iterator[str | StreamEvent]:
    """Yield JSON that validates.

    ``may_call``: the answer may also be tool calls, and is not asked for again then.
    """
    if may_call:
        answer.read()
    text = answer.text if answer.tool_calls else _json(answer)
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


def _complete(answer: Stream, response: llm.Response) -> None:
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
        notes.append("its tool calls were not executed")
    if answer.media:
        notes.append("llm cannot show the images or audio in the answer")
    return "; ".join(filter(None, notes))


def _details(usage: Usage) -> dict[str, int] | None:
    names = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
    return {name: getattr(usage, name) for name in names if getattr(usage, name)} or None
