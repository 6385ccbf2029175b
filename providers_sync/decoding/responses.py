"""Decoder for OpenAI's Responses API: event streams and single JSON answers.

Reference: OpenAI API, "Responses", streaming events. Items are added, grow and are done between
``response.created`` and ``response.completed``, ``response.incomplete`` or ``response.failed``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..error_words import as_text
from ..errors import MalformedStream, StreamTruncated
from ..types import ToolCallStarted
from .counts import openai_usage
from .parsing import WRONG_SHAPE, json_text, short_repr
from .responses_items import (
    EVENT_KEYS,
    RESPONSE_KEYS,
    call_of,
    input_text,
    is_nameless,
    normalized,
    part_kind,
    returned_items,
    text_length,
)
from .responses_outputs import CALL, OutputItem, OutputItems, family_of
from .responses_texts import FAMILIES, TEXT_EVENTS, TextsDecoder
from .server_errors import is_error, is_error_name, reports_error, server_error

_ENDS = ("completed", "incomplete", "failed", "cancelled")
_STARTS = ("response.created", "response.in_progress", "response.queued")
_INPUTS = {
    "response.function_call_arguments": "function_call",
    "response.custom_tool_call_input": "custom_tool_call",
}
_PARTS = {
    "response.content_part": "output_text",
    "response.reasoning_part": "reasoning_text",
    "response.reasoning_summary_part": "summary_text",
}
"""What a part is that does not tell its type."""
_NOT_SAID = frozenset({"type", "sequence_number", "obfuscation"})
_PINGS = ("keepalive", "ping", "heartbeat")


class ResponsesDecoder(TextsDecoder):
    """Decodes one answer; it is truncated without ``response.completed`` or ``.incomplete``."""

    protocol = "responses"
    end_marker = "response.completed or response.incomplete"

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._items = OutputItems()
        self._is_stored = False
        self.response_id: str | None = None
        self.sequence_number: int | None = None
        """That of the last event."""
        self.is_kept = False
        """Whether the server keeps the events, so that their rest can be had later."""

    def reopened(self, content_type: str = "") -> ResponsesDecoder:
        """Return this decoder, ready to read a body with the events after the last one."""
        self._restart(content_type)
        self.goes_on = True
        return self

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
        if self.goes_on and self._was_read(value):
            return
        try:
            if (part := TEXT_EVENTS.get(stem)) is not None:
                item = self._items.of_event(value, FAMILIES[part])
                self._read_text_event(item, part, verb, value)
            elif stem in _INPUTS:
                self._read_input(_INPUTS[stem], verb, value)
            elif stem in _PARTS:
                self._read_part_event(_PARTS[stem], value)
            elif stem == "response.output_item":
                self._read_item_event(value, is_done=verb == "done")
            elif kind == "response.output_text.annotation.added":
                self._cite([value.get("annotation")])
            elif stem == "response" and verb in (*_ENDS, "done"):
                self._read_response(value.get("response") or {}, verb)
            elif kind in _STARTS:
                self._read_start(value.get("response") or {})
            else:
                self._read_other_kind(kind, value)
                self._note_number(value)
                return
        except WRONG_SHAPE as error:
            raise MalformedStream(f"a {kind} event has the wrong shape: {error}") from error
        self._note_number(value)
        if not value.keys() <= EVENT_KEYS:
            self._add_extras(value, EVENT_KEYS, f"event.{_short(kind)}.")

    def _was_read(self, value: dict[str, Any]) -> bool:
        """Return whether the event came before the break: a server may send all of them again."""
        number, last = value.get("sequence_number"), self.sequence_number
        return isinstance(number, int) and last is not None and number <= last

    def _note_number(self, value: dict[str, Any]) -> None:
        number = value.get("sequence_number")
        if isinstance(number, int):
            self.sequence_number = number

    def _read_start(self, response: dict[str, Any]) -> None:
        if is_error(response.get("error")):
            raise server_error({"error": response["error"]})
        if isinstance(response.get("id"), str):
            self.response_id = response["id"]
        self.is_kept = response.get("background") is True
        self._read_model(response.get("model"))

    def _read_other_kind(self, kind: str, value: dict[str, Any]) -> None:
        """Read an error, or the progress of a tool that the server executes."""
        if value.get("object") == "response":
            self._read_answer(value)
            return
        if reports_error(value, is_answer=kind != "message" and not is_error_name(kind)):
            raise server_error(value)
        said = {key: each for key, each in value.items() if key not in _NOT_SAID}
        if kind not in _PINGS:
            self._add_extra(f"event.{_short(kind)}", said)
            if kind == "message":
                self._words = self._words or short_repr(json_text(value))

    def _read_part_event(self, default: str, value: dict[str, Any]) -> None:
        part = value.get("part") or {}
        kind = part_kind(part, default)
        index = value.get("content_index", value.get("summary_index", 0))
        item = self._items.of_event(value, FAMILIES.get(kind) or FAMILIES[default])
        self._read_part(item, index, part, kind)

    def _read_input(self, kind: str, verb: str, value: dict[str, Any]) -> None:
        """Read a piece of a call's arguments, or all of them."""
        item = self._items.of_event(value, CALL)
        told = {key: value[key] for key in ("name", "call_id") if value.get(key)}
        item.head = {"type": kind, "call_id": value.get("item_id"), **item.head, **told}
        if verb == "delta":
            item.input.append(input_text(value.get("delta")))
        elif whole := input_text(value.get("arguments") or value.get("input")):
            item.input = [whole]
        self._deltas.append(ToolCallStarted())

    # --- items

    def _read_item_event(self, event: dict[str, Any], *, is_done: bool) -> None:
        value = normalized(event["item"])
        item = self._items.of_item(event, value, is_done)
        self._read_item(item, value, is_done=is_done)

    def _read_item(
        self, item: OutputItem, value: dict[str, Any], *, is_done: bool, is_said: bool = False
    ) -> None:
        self._read_item_texts(item, value, is_said=is_said)
        if item.family == CALL:
            self._deltas.append(ToolCallStarted())
        if is_done and self._is_new(item.path, value):
            self._report_item(item.path, value)

    # --- the end

    def _read_response(self, response: dict[str, Any], status: str) -> None:
        if response.get("status") in _ENDS:
            status = response["status"]
        self._read_model(response.get("model"))
        usage = openai_usage(response.get("usage"), None)
        if usage is not None:
            self._deltas.append(usage)
        self._read_output(response)
        self._add_extras(response, RESPONSE_KEYS, "response.")
        self._is_stored = response.get("store") is True
        if self._is_stored:  # the next request may name it
            self._add_extra("response.id", response.get("id"))
        if status == "failed" or is_error(response.get("error")):
            self._flush_surrogates()
            raise server_error({"error": response.get("error") or "the response failed"})
        self._reason = "completed" if status == "done" else status
        if status == "incomplete":
            details = response.get("incomplete_details") or {}
            self._note_reason(details.get("reason") or status)
        self.ended = True

    def _read_output(self, response: dict[str, Any]) -> None:
        """Read what no event has brought; the items may be divided in another way there."""
        output = [normalized(value) for value in response.get("output") or ()]
        lengths = Counter[str]()
        for value in output:
            lengths[family_of(value)] += text_length(value)
        for item, value in self._items.of_output(output):
            family = family_of(value)
            is_said = 0 < lengths[family] <= self._characters[family]
            if item is None and is_said and text_length(value):
                item = OutputItem(0, family, is_done=True)  # the text is in other items
            is_done = item is not None and item.is_done
            item = self._items.ended(item, value)
            self._read_item(item, value, is_done=not is_done, is_said=is_said)
        if isinstance(text := response.get("output_text"), str) and not self._characters["message"]:
            self._read_text(text)

    def _read_answer(self, answer: Any) -> None:
        if not isinstance(answer, dict) or "output" not in answer:
            raise server_error(answer)
        status = as_text(answer.get("status") or "completed")
        try:
            if status not in _ENDS and self._format == "stream":
                self._read_start(answer)
                return
            self._read_response(answer, status)
        except WRONG_SHAPE as error:
            raise MalformedStream(f"the answer has the wrong shape: {error}") from error
        if status not in _ENDS:
            self.ended = False
            raise StreamTruncated(f"the response is not complete: its status is {status!r}")
        if self._format == "json":
            self._conclude()

    def _finish(self) -> None:
        calls = [item.whole() for item in self._items.ordered() if item.family == CALL]
        self._deltas.extend(call_of(item) for item in sorted(calls, key=is_nameless))

    def _message_fields(self) -> dict[str, Any]:
        items = [whole for item in self._items.ordered() if (whole := item.whole())]
        returned = returned_items(items, is_stored=self._is_stored)
        return {"output": returned} if returned else {}


def _short(kind: str) -> str:
    return kind.removeprefix("response.")
