"""Decoder for OpenAI's Responses API: event streams and single JSON answers.

Reference: OpenAI API, "Responses", streaming events. Items are added, grow and are done between
``response.created`` and ``response.completed``, ``response.incomplete`` or ``response.failed``.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ..config import TOOL_CALLS
from ..error_words import as_text
from ..errors import MalformedStream, StreamTruncated
from ..types import ToolCallStarted
from .counts import openai_usage
from .openai_parts import text_of
from .parsing import SHOWN_CHARACTERS, WRONG_SHAPE, join_surrogates, json_text, short_repr
from .responses_items import (
    CALLS,
    ITEM_KEYS,
    RESPONSE_KEYS,
    call_of,
    image_of,
    is_nameless,
    returned_items,
)
from .responses_texts import TEXT_EVENTS, TextsDecoder
from .server_errors import is_error, is_error_name, reports_error, server_error

_ENDS = ("completed", "incomplete", "failed", "cancelled")
_STARTS = ("response.created", "response.in_progress", "response.queued")
_INPUTS = ("response.function_call_arguments", "response.custom_tool_call_input")
_PARTS = ("response.content_part", "response.reasoning_summary_part")
_EVENT_KEYS = frozenset(
    {
        *("type", "sequence_number", "item_id", "output_index", "content_index", "summary_index"),
        *("delta", "text", "refusal", "part", "item", "obfuscation", "name", "arguments", "input"),
        *("annotation", "annotation_index", "response"),
    }
)
_NOT_SAID = frozenset({"type", "sequence_number", "obfuscation"})


class ResponsesDecoder(TextsDecoder):
    """Decodes one answer; it is truncated without ``response.completed`` or ``.incomplete``."""

    protocol = "responses"
    end_marker = "response.completed or response.incomplete"

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._items: dict[Hashable, dict[str, Any]] = {}
        self._inputs: dict[Hashable, list[str]] = {}
        """The pieces of calls' arguments."""

    # --- events

    def _read_done(self) -> None:
        """Ignore ``[DONE]``, which some servers send: it does not say how the answer ended."""

    def _read_value(self, value: Any) -> None:
        self._read_named_value("message", value)

    def _read_named_value(self, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise MalformedStream(f"an event is not a JSON object: {short_repr(value)}")
        kind = as_text(value.get("type") or name)
        stem, _, verb = kind.rpartition(".")
        try:
            if stem in TEXT_EVENTS:
                self._read_text_event(TEXT_EVENTS[stem], verb, value)
            elif stem in _INPUTS:
                self._read_input(verb, value)
            elif stem in _PARTS:
                index = value.get("content_index", value.get("summary_index", 0))
                self._read_part(_place(value), index, value["part"])
            elif stem == "response.output_item":
                self._read_item(_place(value), value["item"], is_done=verb == "done")
            elif kind == "response.output_text.annotation.added":
                self._cite([value["annotation"]])
            elif stem == "response" and verb in _ENDS:
                self._read_response(value.get("response") or {}, verb)
            elif kind in _STARTS:
                self._read_model((value.get("response") or {}).get("model"))
            else:
                self._read_other_kind(kind, value)
                return
        except WRONG_SHAPE as error:
            raise MalformedStream(f"a {kind} event has the wrong shape: {error}") from error
        if not value.keys() <= _EVENT_KEYS:
            self._add_extras(value, _EVENT_KEYS | {"logprobs"}, f"event.{_short(kind)}.")

    def _read_other_kind(self, kind: str, value: dict[str, Any]) -> None:
        """Read an error, or the progress of a tool that the server executes."""
        if value.get("object") == "response":
            self._read_answer(value)
            return
        if reports_error(value, is_answer=kind != "message" and not is_error_name(kind)):
            raise server_error(value)
        said = {key: each for key, each in value.items() if key not in _NOT_SAID}
        if kind not in ("keepalive", "ping"):
            self._add_extra(f"event.{_short(kind)}", said)
            if kind == "message":
                self._words = self._words or short_repr(json_text(value))

    def _read_text_event(self, kind: str, verb: str, value: dict[str, Any]) -> None:
        place = _place(value)
        index = value.get("summary_index" if kind == "summary_text" else "content_index", 0)
        if verb == "delta":
            self._add_text(place, kind, index, text_of(value["delta"]))
            if logprobs := value.get("logprobs"):
                self._add_extra(f"output[{place}].content[{index}].logprobs", logprobs)
        else:
            self._add_whole(place, kind, index, text_of(value.get("text") or value.get("refusal")))

    def _read_input(self, verb: str, value: dict[str, Any]) -> None:
        """Read a piece of a call's arguments, or all of them."""
        place = _place(value)
        if verb == "delta":
            self._inputs.setdefault(place, []).append(text_of(value["delta"]))
        elif whole := text_of(value.get("arguments") or value.get("input")):
            self._inputs[place] = [whole]
        self._deltas.append(ToolCallStarted())

    # --- items

    def _read_item(self, place: Hashable, item: dict[str, Any], *, is_done: bool) -> None:
        kind = item.get("type")
        if place not in self._items and len(self._items) >= TOOL_CALLS:
            raise MalformedStream(f"the answer has more than {TOOL_CALLS} items")
        self._items[place] = item
        self._read_item_texts(place, item)
        if kind in CALLS:
            self._deltas.append(ToolCallStarted())
        if is_done:
            self._report_item(f"output[{place}]", kind, item)

    def _report_item(self, path: str, kind: Any, item: dict[str, Any]) -> None:
        """Append what an item holds beyond texts and calls."""
        if (known := ITEM_KEYS.get(kind)) is not None:
            self._add_extras(item, known, f"{path}.")
            return
        if kind == "image_generation_call" and (image := image_of(item)) is not None:
            self._deltas.append(image)
            item = {key: value for key, value in item.items() if key != "result"}
        self._add_extra(path, item)

    # --- the end

    def _read_response(self, response: dict[str, Any], status: str) -> None:
        if response.get("status") in _ENDS:
            status = response["status"]
        self._read_model(response.get("model"))
        usage = openai_usage(response.get("usage"), None)
        if usage is not None:
            self._deltas.append(usage)
        self._read_missing_items(response.get("output") or ())
        self._add_extras(response, RESPONSE_KEYS, "response.")
        if response.get("store") is True:  # the next request may name it
            self._add_extra("response.id", response.get("id"))
        if status == "failed" or is_error(response.get("error")):
            self._flush_surrogates()
            raise server_error({"error": response.get("error") or "the response failed"})
        self._reason = status
        if status == "incomplete":
            details = response.get("incomplete_details") or {}
            self._note_reason(details.get("reason") or status)
        self.ended = True

    def _read_missing_items(self, output: Any) -> None:
        """Read the items that no event has brought; their indexes there need not be those here."""
        has_calls = any(item.get("type") in CALLS for item in self._items.values())
        has_items, has_answer = bool(self._items), self._has_answer
        for index, item in enumerate(output):
            kind = item.get("type")
            said = has_calls if kind in CALLS else has_answer if kind == "message" else False
            if not said and (not has_items or kind in ("message", *CALLS)):
                self._read_item(("response", index) if has_items else index, item, is_done=True)

    def _read_answer(self, answer: Any) -> None:
        if not isinstance(answer, dict) or "output" not in answer:
            raise server_error(answer)
        try:
            self._read_response(answer, as_text(answer.get("status") or "completed"))
        except WRONG_SHAPE as error:
            raise MalformedStream(f"the answer has the wrong shape: {error}") from error
        if self._reason not in _ENDS and not self.finished:
            self.ended = False
            raise StreamTruncated(f"the response is not complete: its status is {self._reason!r}")
        if self._format == "json":
            self._conclude()

    def _ordered_items(self) -> list[dict[str, Any]]:
        """Return the items in the order of the answer, calls with all of their arguments."""
        items = []
        for place, item in sorted(self._items.items(), key=lambda pair: _order(pair[0])):
            key = "input" if item.get("type") == "custom_tool_call" else "arguments"
            if item.get("type") in CALLS and not item.get(key) and place in self._inputs:
                item = {**item, key: "".join(self._inputs[place])}
            items.append(item)
        return items

    def _finish(self) -> None:
        calls = [item for item in self._ordered_items() if item.get("type") in CALLS]
        self._deltas.extend(call_of(item) for item in calls if not is_nameless(item))
        nameless = [short_repr(json_text(item)) for item in calls if is_nameless(item)]
        if not calls:  # arguments, and no item of their call
            nameless = [join_surrogates("".join(pieces)) for pieces in self._inputs.values()]
        if any(nameless):
            shown = next(filter(None, nameless))[:SHOWN_CHARACTERS]
            raise MalformedStream(f"the model calls a tool without naming it: {shown}")

    def _message_fields(self) -> dict[str, Any]:
        items = returned_items(self._ordered_items())
        return {"output": items} if items else {}


def _place(value: dict[str, Any]) -> Hashable:
    """Return which item an event is about; its id may be another one in each event.

    llama.cpp sends no indexes; an item stands there without the ``item_id`` of its deltas.
    """
    index = value.get("output_index")
    if isinstance(index, int):
        return index
    item = value.get("item") or {}
    return as_text(value.get("item_id") or item.get("id") or item.get("call_id") or "")


def _order(place: Hashable) -> tuple[int, int]:
    return (0, place) if isinstance(place, int) else (1, 0)


def _short(kind: str) -> str:
    return kind.removeprefix("response.")
