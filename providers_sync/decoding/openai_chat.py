"""Decoder for OpenAI's chat completions protocol, as the servers that speak it really do.

Reference: OpenAI API, "Chat Completions", object ``chat.completion.chunk``; the stream ends with
``data: [DONE]``. What else is read: the older completions (``text``), ``message`` in place of
``delta``, DeepSeek's ``reasoning_content``, OpenRouter's ``reasoning`` and ``reasoning_details``,
Mistral's ``content`` as a list of typed parts, Groq's ``x_groq``, Perplexity's ``citations``.
"""

from __future__ import annotations

from typing import Any

from ..errors import MalformedStream
from ..types import Usage
from .counts import openai_usage
from .openai_delta import PLAIN_KEYS, DeltaDecoder
from .openai_parts import REASONING_KEYS, REASONING_LISTS
from .parsing import WRONG_SHAPE, is_empty, json_text, short_repr
from .server_errors import is_error, is_error_name, reports_error, server_error

_BOOKKEEPING = frozenset({"id", "object", "created", "model", "system_fingerprint", "service_tier"})
CHUNK_KEYS = _BOOKKEEPING | {"choices", "usage", "obfuscation"}
"""Keys of a usual event; all others are looked at."""
_READ_CHUNK_KEYS = CHUNK_KEYS | {
    *("x_groq", "citations", "search_results", "error", "type", "request_id", "response"),
}
_READ_GROQ_KEYS = frozenset({"id", "usage", "seed", "error"})
CHOICE_KEYS = frozenset({"index", "delta", "finish_reason"})
_USUAL_CHOICE_KEYS = CHOICE_KEYS | {"logprobs"}
"""OpenAI sends ``"logprobs": null`` in every chunk."""
_READ_CHOICE_KEYS = CHOICE_KEYS | {"message", "text", "usage", "error", "seed"}
_CALLS = ("tool_calls", "function_call")
_SAME = ((*REASONING_KEYS, *REASONING_LISTS), _CALLS)
"""Keys of a delta that say the same, in other words."""


class OpenAIDecoder(DeltaDecoder):
    """Decodes one answer; it is truncated without ``[DONE]`` or a finish reason."""

    protocol = "openai-chat"
    end_marker = "[DONE] or a finish reason"

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        self._usage: Usage | None = None
        self._choice_index: Any = None
        self._reads_messages = False
        """Whether choices have a ``message`` in place of a delta."""
        self._message: dict[str, Any] = {}
        """The last one that stood beside a delta, which mostly repeats what the deltas said."""
        self._has_text = False

    # --- one event

    def _read_value(self, value: Any) -> None:
        if value.__class__ is not dict:
            if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
                value = value[0]
            else:
                raise MalformedStream(f"an event is not a JSON object: {short_repr(value)}")
        choices = value.get("choices")
        if self._model is None and "model" in value:
            self._read_model(value["model"])
        if choices:
            try:
                if len(choices) > 1:
                    self._read_choices(choices)
                else:
                    self._read_choice(choices[0])
            except WRONG_SHAPE as error:
                raise MalformedStream(
                    f"an event's 'choices' has the wrong shape: {error}"
                ) from error
        if usage := value.get("usage"):
            self._read_usage(usage)
        if not value.keys() <= CHUNK_KEYS or "choices" not in value:
            self._read_other_keys(value)
        if self.finished:
            self._note_failure(value)

    def _read_named_value(self, name: str, value: Any) -> None:
        if isinstance(value, dict) and any(value.get(k) for k in ("choices", "error", "usage")):
            self._read_value(value)
        elif isinstance(value, dict) and reports_error(value, is_answer=not is_error_name(name)):
            raise server_error(value)
        else:
            self._add_extra(f"event.{name}", value)
            self._words = self._words or short_repr(json_text(value))

    def _read_choices(self, choices: list[dict[str, Any]]) -> None:
        """Read the first choice; the others are of no use to a reader of one answer.

        Copilot puts the text into the first choice of a whole answer, and the tool calls into the
        second one.
        """
        indexes = [choice.get("index") for choice in choices]
        first = indexes.index(self._choice_index) if self._choice_index in indexes else 0
        self._read_choice(choices[first])
        is_whole = isinstance(choices[first].get("message"), dict)
        for position, choice in enumerate(choices):
            if position != first:
                calls = (choice.get("message") or {}).get("tool_calls")
                if is_whole and calls and not self._calls.calls:
                    self._read_calls(calls)
                self._add_extra(f"choices[{position}]", choice)

    def _read_choice(self, choice: dict[str, Any]) -> None:
        if (index := choice.get("index")) != self._choice_index and index is not None:
            if self._choice_index is not None:
                self._add_extra(f"choices[{index}]", choice)
                return
            self._choice_index = index
        before = len(self._deltas)
        delta = choice.get("delta")
        if not delta or (isinstance(choice.get("message"), dict) and _is_silent(delta)):
            delta = self._other_delta(choice)
        text = delta.get("content")
        if not delta.keys() <= PLAIN_KEYS:
            self._read_delta(delta)
        if text.__class__ is str and text.isascii() and not self._text.held:
            if text:
                if not self._has_text:
                    self._has_text = not text.isspace()
                self._deltas.append(text)
            elif "text" in choice:
                self._read_content(choice["text"] or "")
        elif text:
            self._has_text = True
            self._read_content(text)
        elif "text" in choice:
            self._read_content(choice["text"] or "")
        if choice.get("logprobs") is not None or not choice.keys() <= _USUAL_CHOICE_KEYS:
            self._read_usage(choice.get("usage"))
            self._add_extras(choice, _READ_CHOICE_KEYS, "choices[0].")
            if is_error(error := choice.get("error")):
                raise server_error({"error": error})
            if choice.get("delta") is delta:
                self._note_message(choice.get("message"))
        if self.finished:
            self._note_resumption(before)
        if reason := choice.get("finish_reason"):
            self._note_reason(reason)

    def _note_message(self, message: Any) -> None:
        """Keep the message that stands beside a delta."""
        if isinstance(message, dict):
            self._message, self._reads_messages = message, False
        else:
            self._add_extra("choices[0].message", message)

    def _other_delta(self, choice: dict[str, Any]) -> dict[str, Any]:
        """Return what stands in place of a delta, without what the deltas have said."""
        message = choice.get("message") or {}
        if not isinstance(message, dict):
            message = {"content": message}
        if not (self._reads_messages or self._has_text or self._said):
            self._reads_messages = not _is_silent(message)
        return message if self._reads_messages else self._unsaid(message)

    def _unsaid(self, message: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of a message that no delta has had."""
        said = self._said | {"content"} if self._has_text else set(self._said)
        for keys in _SAME:
            if not said.isdisjoint(keys):
                said.update(keys)
        unsaid = {key: value for key, value in message.items() if key not in said}
        calls = message.get("tool_calls")
        if "tool_calls" not in unsaid and isinstance(calls, list):
            ids = {call.id for call in self._calls.calls}
            if more := [call for call in calls if call.get("id") and call["id"] not in ids]:
                unsaid["tool_calls"] = more
        return unsaid

    # --- what stands beside the choices

    def _read_usage(self, counts: Any) -> None:
        usage = openai_usage(counts, self._usage)
        if usage is not None:
            self._usage = usage
            self._deltas.append(usage)
        else:
            self._add_extra("usage", counts)

    def _read_other_keys(self, value: dict[str, Any]) -> None:
        is_answer = bool(value.get("choices") or value.get("usage"))
        if reports_error(value, is_answer=is_answer):
            raise server_error(value)
        groq = value.get("x_groq")
        if isinstance(groq, dict):
            if is_error(groq.get("error")):
                raise server_error(groq)
            self._read_usage(groq.get("usage"))
            self._add_extras(groq, _READ_GROQ_KEYS, "x_groq.")
        else:
            self._add_extra("x_groq", groq)
        if not is_answer and isinstance(value.get("response"), str):  # Cloudflare Workers AI
            self._read_text(value["response"])
            is_answer = True
        for key in ("search_results", "citations"):
            self._cite(value.get(key) or [])
        self._add_extras(value, _READ_CHUNK_KEYS)
        if not (is_answer or value.get("type") in ("ping", "keepalive")):
            self._words = self._words or short_repr(json_text(value))

    # --- the end

    def _read_answer(self, answer: Any) -> None:
        self._read_value(answer)
        self._conclude()

    def _finish(self) -> None:
        if rest := self._unsaid(self._message):
            self._read_choice({"delta": rest})
            self._flush_surrogates()
        self._flush_audio()
        self._deltas.extend(self._calls.finished())


def _is_silent(delta: Any) -> bool:
    """Return whether a delta, or a message, says no more than whose it is."""
    return isinstance(delta, dict) and is_empty({k: v for k, v in delta.items() if k != "role"})
