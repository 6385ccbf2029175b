"""Finds what a stream said and no delta of its decoder holds: walks every leaf of every event."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from providers_sync.types import (
    Citation,
    Extra,
    Finish,
    Media,
    ReasoningDelta,
    Refusal,
    ServedModel,
    ToolCall,
    Usage,
)

BOOKKEEPING = {
    "id": "names the answer, the event or the part; the id of a call is in the call",
    "tool_use_id": "says which server tool a result belongs to; in the Extra of the result",
    "object": "always chat.completion.chunk",
    "created": "the time of the answer",
    "system_fingerprint": "the build of the server",
    "service_tier": "the tariff",
    "obfuscation": "padding that hides the lengths of chunks",
    "index": "numbers choices, calls and blocks",
    "role": "always assistant",
    "type": "says what an object is; the event that holds it says so too",
    "token_id": "the number of a token whose text is beside it",
    "seed": "the number that sampling started from",
    "format": "the form of a reasoning part, which goes back in the message",
    "channel": "says whether the text beside it is reasoning",
    "thought": "says the same",
    "sequence_number": "numbers events",
    "item_id": "names an output item",
    "output_index": "numbers output items",
    "content_index": "numbers the parts of an item",
    "summary_index": "numbers the parts of a summary",
    "annotation_index": "numbers the annotations of a part",
    "status": "says whether an item is done; that of the answer is in its outcome",
    "created_at": "the time of the answer, or of the line",
    "completed_at": "the time of its end",
    "createTime": "the time of the answer",
    "responseId": "names the answer",
    "done": "the end marker",
    "groundingChunkIndices": "numbers sources, which are in the citations",
    "jsonPath": "a place in a call's arguments",
    "nullValue": "a null in a call's arguments",
    "willContinue": "says whether the rest of a call comes in another part",
}
"""Keys whose values need not be in any delta, and why."""

ECHOES = (
    *("background", "instructions", "max_output_tokens", "metadata", "parallel_tool_calls"),
    *("previous_response_id", "reasoning", "store", "temperature", "text", "tool_choice", "tools"),
    *("top_logprobs", "top_p", "truncation"),
)
"""Keys of a whole response of the Responses API that repeat the request."""

Leaf = tuple[str, Any]
"""The innermost key and the value."""


def leaves_of(value: Any, key: str = "") -> Iterator[Leaf]:
    """Yield every leaf of a JSON value that is not null or an empty text."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves_of(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from leaves_of(each, key)
    elif value is not None and value != "":
        yield key, value


class Said:
    """Everything that the deltas of one answer hold."""

    def __init__(self, deltas: Iterable[Any]) -> None:
        self.text = self.reasoning = self.refusal = self.audio = ""
        self.calls: list[ToolCall] = []
        self.leaves: set[str] = set()
        """The leaves of extra values, counts and citations, as JSON."""
        self.strings: list[str] = []
        for delta in deltas:
            self._add(delta)

    def _add(self, delta: Any) -> None:
        if isinstance(delta, str):
            self.text += delta
        elif isinstance(delta, ReasoningDelta):
            self.reasoning += delta.text
        elif isinstance(delta, Refusal):
            self.refusal += delta.text
        elif isinstance(delta, ToolCall):
            self.calls.append(delta)
            named = ("id", delta.id), ("call_id", delta.id), ("name", delta.name)
            self._keep([*named, *leaves_of(delta.arguments)])
        elif isinstance(delta, (Usage, Citation)):
            self._keep(leaves_of(delta.raw))
            if isinstance(delta, Citation):
                self._keep([("startIndex", delta.start), ("endIndex", delta.end)])
        elif isinstance(delta, Extra):
            self._keep(leaves_of(delta.value, delta.path.rpartition(".")[2]))
        elif isinstance(delta, Media):
            self._add_media(delta)
        elif isinstance(delta, (Finish, ServedModel)):
            value = delta.reason if isinstance(delta, Finish) else delta.name
            names = ("finish_reason", "finishReason", "blockReason", "done_reason", "reason")
            self._keep([(name, value) for name in (*names, "model", "modelVersion")])

    def _add_media(self, media: Media) -> None:
        if media.data is not None:
            self.audio += base64.b64encode(media.data).decode()
            address = f"data:{media.mime_type};base64,{base64.b64encode(media.data).decode()}"
            self._keep([("url", address), ("mimeType", media.mime_type)])
        self._keep([("url", media.url), ("fileUri", media.url)])

    def _keep(self, leaves: Iterable[Leaf]) -> None:
        for leaf in leaves:
            self.leaves.add(_as_json(leaf))
            if isinstance(leaf[1], str):
                self.strings.append(leaf[1])

    def holds(self, leaf: Leaf) -> bool:
        """Return whether a leaf is in a delta."""
        key, value = leaf
        if _as_json(leaf) in self.leaves:
            return True
        if key in ("numberValue", "boolValue"):
            return any(json.dumps(value) in call.raw for call in self.calls)
        if not isinstance(value, str):
            return False
        value = re.sub("[\ud800-\udfff]", "", value)  # the other half is in another event
        if any(value in getattr(self, where) for where in _WHERE.get(key, ())):
            return True
        if key in ("arguments", "input", "partial_json", "delta", "stringValue"):
            return any(value in call.raw for call in self.calls)
        return key in _GROWING and any(value in each for each in self.strings)


_WHERE = {
    **dict.fromkeys(("content", "text"), ("text", "reasoning")),
    **dict.fromkeys(("reasoning_content", "reasoning", "reasoning_text"), ("reasoning",)),
    **dict.fromkeys(("thinking", "summary"), ("reasoning",)),
    "transcript": ("text",),
    **dict.fromkeys(("data", "result", "images"), ("audio",)),
    "delta": ("text", "reasoning", "refusal"),
    "refusal": ("refusal",),
}
"""Keys of texts, and which texts they may be in."""
_GROWING = ("signature", "data", "content", "url", "citations", "encrypted_content")
"""Keys whose texts come in pieces, or stand under another key in a citation."""


def _as_json(leaf: Leaf) -> str:
    """Return a leaf under one name, where protocols have two, in a form that can be in a set."""
    return json.dumps(leaf).replace('["stop_reason"', '["finish_reason"', 1)


def lost_leaves(events: Iterable[Any], deltas: Iterable[Any]) -> list[Leaf]:
    """Return the leaves of the events that are in no delta and no bookkeeping."""
    said = Said(deltas)
    return [
        leaf
        for event in _with_whole_inputs(map(_without_echoes, events))
        for leaf in leaves_of(event)
        if leaf[0] not in BOOKKEEPING and not said.holds(leaf)
    ]


def _without_echoes(event: Any) -> Any:
    """Return an event without what the server repeats of the request."""
    response = event.get("response")
    if not isinstance(response, dict):
        return event
    said = {key: value for key, value in response.items() if key not in ECHOES}
    return {**event, "response": said}


def _with_whole_inputs(events: Iterable[Any]) -> Iterator[Any]:
    """Yield the events, with the inputs of Anthropic's server tools put together and parsed."""
    inputs: dict[int, str] = {}
    for event in events:
        if event.get("type") == "content_block_start":
            kind = event["content_block"]["type"]
            if kind != "tool_use":
                inputs[event["index"]] = ""
        delta = event.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        if delta.get("type") == "input_json_delta" and event["index"] in inputs:
            inputs[event["index"]] += delta["partial_json"]
        else:
            yield event
        if event.get("type") == "content_block_stop" and inputs.get(event["index"]):
            yield {"input": json.loads(inputs.pop(event["index"]))}
