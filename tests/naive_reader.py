"""A plain reading of recorded streams, to compare with: it shares nothing with the package.

It knows no framing but lines, keeps every event, and reads the JSON in the simplest way.
"""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any

DONE = "[DONE]"


@dataclass
class Reading:
    """What a stream says."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """The id, the name and the JSON of the arguments of each."""
    reason: str | None = None
    said_after_reason: bool = False
    resumed: bool = False
    """Whether something was said after a reason, ever."""
    ended: bool = False
    error: bool = False
    counts: dict[str, Any] = field(default_factory=dict)

    said: list[tuple[str, str]] = field(default_factory=list)
    """The kind and the text of each piece."""

    @property
    def is_complete(self) -> bool:
        """Whether the end marker has come, or a reason with nothing but counts after it."""
        at_reason = self.reason is not None and not self.said_after_reason
        return not self.error and (self.ended or at_reason)

    def give_reason(self, reason: str | None) -> None:
        """Note a finish reason, if it is one."""
        self.resumed |= self.reason is not None and self.said_after_reason
        if reason:
            self.reason, self.said_after_reason = reason, False

    def say_block(self, block: dict[str, Any]) -> None:
        """Add what a block of Anthropic's protocol, or a delta of one, says."""
        kinds = {"text": "text", "thinking": "reasoning", "tool_use": "call", "input_json": "call"}
        kind = kinds.get(block["type"], "")
        text = block.get(block["type"]) or ""
        self.said += [(kind, text)] if text or kind == "call" else []

    def join(self) -> None:
        """Join the pieces, and the halves of characters that stand in two of them."""
        for kind in ("text", "reasoning", "refusal"):
            pieces = "".join(text for each, text in self.said if each == kind)
            setattr(self, kind, joined(pieces))


def events_of(body: bytes) -> list[tuple[int, Any]]:
    """Return each event, its JSON or ``[DONE]``, with where its last line of data ends."""
    events: list[tuple[int, Any]] = []
    data, end = b"", 0
    for line in re.finditer(rb"([^\r\n]*)(?:\r\n|\r|\n|\Z)", body.removeprefix(b"\xef\xbb\xbf")):
        if line[1].startswith(b"data:"):
            data, end = data + line[1][5:], line.end(1)
        elif not line[1] and data:
            word = data.decode().strip()
            events.append((end, DONE if word == DONE else json.loads(word)))
            data = b""
    return events


def lines_of(body: bytes) -> list[tuple[int, Any]]:
    """Return the JSON of each line with where it ends; the last may be only a part of one."""
    lines: list[tuple[int, Any]] = []
    for line in re.finditer(rb"[^\n]+", body):
        try:
            lines.append((line.end(), json.loads(line[0])))
        except ValueError:
            break
    return lines


def read(protocol: str, events: list[Any]) -> Reading:
    """Return what the events say."""
    readers = {
        "openai": read_openai,
        "anthropic": read_anthropic,
        "responses": read_responses,
        "gemini": read_gemini,
        "ollama": read_ollama,
    }
    return readers[protocol](events)


def joined(text: str) -> str:
    """Return a text with the halves of its characters joined."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


# --- OpenAI's protocol


def read_openai(events: list[Any]) -> Reading:
    """Read chunks of OpenAI's protocol, up to the end marker or an error."""
    reading, calls = Reading(), OpenAICalls()
    for event in events:
        if event == DONE:
            reading.ended = True
            break
        for choice in event.get("choices") or []:
            if not choice.get("index"):
                read_choice(reading, calls, choice)
        groq = event.get("x_groq") or {}
        reading.counts = event.get("usage") or groq.get("usage") or reading.counts
        errors = [event.get("error") or {}, groq.get("error") or {}]
        reading.error |= any(any(error.values()) for error in errors)
        if reading.error:
            break
    reading.join()
    reading.calls = calls.calls()
    return reading


def read_choice(reading: Reading, calls: OpenAICalls, choice: dict[str, Any]) -> None:
    """Read the choice that counts."""
    delta = choice.get("delta") or {}
    if not delta and choice.get("message"):  # a repetition, except for what nobody has said
        delta = dict(choice["message"])
        if reading.said:
            delta["content"] = None
    before = len(reading.said), calls.pieces
    reading.said += [("text", text) for text in texts_of(delta, choice)]
    reading.said += [("reasoning", text) for text in reasoning_of(delta)]
    reading.said += [("refusal", text) for text in [delta.get("refusal")] if text]
    reading.said += [("media", "") for key in ("images", "audio") if delta.get(key)]
    calls.add_all(delta)
    reading.said_after_reason |= before != (len(reading.said), calls.pieces)
    reading.give_reason(choice.get("finish_reason"))
    reading.counts = choice.get("usage") or reading.counts
    reading.error = bool(choice.get("error")) or choice.get("finish_reason") == "error"


def texts_of(delta: dict[str, Any], choice: dict[str, Any]) -> list[str]:
    """Return the text of a choice."""
    content = delta.get("content")
    if isinstance(content, list):
        return [part["text"] for part in content if part["type"] in ("text", "output_text")]
    if content is None:
        content = choice.get("text") or (delta.get("audio") or {}).get("transcript")
    return [content] if content else []


def reasoning_of(delta: dict[str, Any]) -> list[str]:
    """Return the reasoning of a delta, which may be in it twice, under two names."""
    for key in ("reasoning_content", "reasoning", "reasoning_text"):
        if found := delta.get(key):
            return [found] if isinstance(found, str) else [found.get("text") or ""]
    parts = delta.get("reasoning_details") or delta.get("thinking_blocks") or []
    found = [part.get(key) for part in parts for key in ("text", "summary", "thinking")]
    content = delta.get("content")
    for part in content if isinstance(content, list) else []:
        if part["type"] in ("thinking", "reasoning"):
            inner = part.get("thinking") or part.get("summary")
            found += [inner] if isinstance(inner, str) else [each["text"] for each in inner]
    return [text for text in found if text]


class OpenAICalls:
    """Puts tool calls together by the rule of the documentation."""

    def __init__(self) -> None:
        self.order: list[dict[str, str]] = []
        self.pieces = 0
        self._open: dict[Any, dict[str, str]] = {}

    def add_all(self, delta: dict[str, Any]) -> None:
        """Add the pieces of a delta."""
        pieces = delta.get("tool_calls") or []
        if delta.get("function_call"):
            pieces = [{"index": "old", "function": delta["function_call"]}]
        for place, piece in enumerate([pieces] if isinstance(pieces, dict) else pieces):
            self._add(piece.get("index", place), piece)

    def _add(self, index: Any, piece: dict[str, Any]) -> None:
        function = piece.get("function") or piece.get("custom") or {}
        name, call_id = function.get("name") or "", piece.get("id") or ""
        more = function.get("arguments", function.get("input"))
        more = more if isinstance(more, str) else json.dumps(more) if more else ""
        call = self._open.get(index)
        if call is None or self._is_next(call, name, call_id, more):
            call = self._open[index] = {"id": "", "name": "", "raw": ""}
            self.order.append(call)
        call["id"] = call["id"] or call_id
        call["name"] = call["name"] or name
        call["raw"] += more
        self.pieces += bool(name or more)

    @staticmethod
    def _is_next(call: dict[str, str], name: str, call_id: str, more: str) -> bool:
        if not name or not is_json(call["raw"]):
            return False
        other = name != call["name"] or (bool(call_id) and call_id != call["id"])
        return other or (not call_id and more.startswith("{"))

    def calls(self) -> list[tuple[str, str, str]]:
        """Return the calls that have a name."""
        return [(c["id"], c["name"], joined(c["raw"])) for c in self.order if c["name"]]


def is_json(text: str) -> bool:
    """Return whether a text is whole JSON."""
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


# --- Anthropic's protocol


def read_anthropic(events: list[Any]) -> Reading:
    """Read events of Anthropic's protocol, up to ``message_stop`` or an error."""
    reading = Reading()
    blocks: list[dict[str, Any]] = []
    for event in events:
        kind, delta = event.get("type"), event.get("delta") or {}
        if kind in ("error", "message_stop"):
            reading.error, reading.ended = kind == "error", kind == "message_stop"
            break
        before = len(reading.said)
        if kind == "message_start":
            reading.counts = {**reading.counts, **(event["message"].get("usage") or {})}
        elif kind == "content_block_start":
            blocks.append({**event["content_block"], "index": event["index"], "json": ""})
            reading.say_block(event["content_block"])
        elif kind == "content_block_delta":
            reading.say_block({**delta, "type": delta["type"].removesuffix("_delta")})
            block = [block for block in blocks if block["index"] == event["index"]][-1:]
            for each in block:
                each["json"] += delta.get("partial_json") or ""
        elif kind == "message_delta":
            reading.counts = {**reading.counts, **(event.get("usage") or {})}
            reading.give_reason(delta.get("stop_reason"))
        reading.said_after_reason |= len(reading.said) > before
    reading.join()
    reading.calls = [
        (b["id"], b["name"], b["json"] or (json.dumps(b["input"]) if b.get("input") else ""))
        for b in blocks
        if b["type"] == "tool_use"
    ]
    return reading


# --- the Responses API


def read_responses(events: list[Any]) -> Reading:
    """Read events of the Responses API, up to the end of the response or an error."""
    reading = Reading()
    parts: set[tuple[Any, ...]] = set()
    """Those that have said something; what is whole repeats them."""
    items: dict[Any, dict[str, Any]] = {}
    inputs: dict[Any, str] = {}

    def say(kind: str, text: str, *part: Any) -> None:
        if text:
            reading.said.append((kind, text))
            parts.add((kind, *part))

    def say_item(place: Any, item: dict[str, Any]) -> None:
        items[place] = item
        for name in ("summary", "content"):
            for index, part in enumerate(item.get(name) or []):
                kind = kind_of(part["type"])
                if (kind, place, index) not in parts:
                    say(kind, part.get("text") or part.get("refusal") or "", place, index)

    for event in events:
        if event == DONE:
            continue
        item = event.get("item") or {}
        named = event.get("item_id") or item.get("id") or item.get("call_id")
        kind, place = event["type"], event.get("output_index", named)
        _, _, verb = kind.rpartition(".")
        part = place, event.get("content_index", event.get("summary_index", 0))
        if kind in ("error", "response.failed"):
            reading.error = True
            break
        if kind in ("response.completed", "response.incomplete"):
            response = event["response"]
            for index, item in enumerate(response["output"]):
                if index in items or not items:
                    say_item(index, item)
            reading.counts = response["usage"]
            details = response.get("incomplete_details") or {}
            reading.reason, reading.ended = details.get("reason") or verb, True
            break
        if (verb == "delta" and "text" in kind) or kind == "response.refusal.delta":
            say(kind_of(kind), event["delta"], *part)
        elif kind.startswith(("response.function_call_arg", "response.custom_tool_call_input")):
            inputs[place] = inputs.get(place, "") + event.get("delta", "")
        elif kind.startswith("response.output_item."):
            say_item(place, event["item"])
    reading.join()
    for place, item in sorted(items.items(), key=lambda pair: isinstance(pair[0], int) and pair[0]):
        if item["type"] in ("function_call", "custom_tool_call"):
            raw = item.get("arguments") or item.get("input") or inputs.get(place, "")
            reading.calls.append((item["call_id"], item["name"], raw))
    return reading


def kind_of(name: str) -> str:
    """Return what the name of an event or of a part says about its text."""
    if "refusal" in name:
        return "refusal"
    return "reasoning" if "reasoning" in name or "summary" in name else "text"


# --- Gemini's protocol


def read_gemini(events: list[Any]) -> Reading:
    """Read answers of Gemini's protocol, each of which adds to those before, up to an error."""
    reading = Reading()
    calls: list[tuple[str, str, dict[str, Any]]] = []
    for event in events:
        if event.get("error"):
            reading.error = True
            break
        counts = event.get("usageMetadata") or {}
        reading.counts = {**reading.counts, **counts}
        feedback = event.get("promptFeedback") or {}
        reading.give_reason(feedback.get("blockReason"))
        for candidate in event.get("candidates") or []:
            if candidate.get("index"):
                continue
            before = len(reading.said)
            for part in (candidate.get("content") or {}).get("parts") or []:
                if part.get("text"):
                    reading.said.append(("reasoning" if part.get("thought") else "text",
                                         part["text"]))  # fmt: skip
                if "functionCall" in part:
                    add_gemini_call(calls, part["functionCall"], event["responseId"])
                if "functionCall" in part or "inlineData" in part:
                    reading.said.append(("other", ""))
            reading.said_after_reason |= len(reading.said) > before
            reading.give_reason(candidate.get("finishReason"))
    reading.join()
    reading.calls = [
        (call_id, name, json.dumps(arguments, ensure_ascii=False))
        for call_id, name, arguments in calls
    ]
    return reading


def add_gemini_call(
    calls: list[tuple[str, str, dict[str, Any]]], piece: dict[str, Any], answer: str
) -> None:
    """Begin a call, or add to the last one what a part without a name brings."""
    if "name" in piece:
        call_id = piece.get("id") or f"call_{answer}_{len(calls)}"
        calls.append((call_id, piece["name"], dict(piece.get("args") or {})))
    for part in piece.get("partialArgs") or []:
        steps = re.findall(r"[^.\[\]$']+", part["jsonPath"])
        at: Any = calls[-1][2]
        for step, after in itertools.pairwise(steps):
            at = child(at, step, [] if after.isdecimal() else {})
        last = steps[-1]
        values = [value for key, value in part.items() if key.endswith("Value")]
        if "nullValue" in part:
            at[last] = None
        elif values and isinstance(values[0], str):
            at[last] = at.get(last, "") + values[0]
        elif values:
            at[last] = values[0]


def child(at: Any, step: str, empty: Any) -> Any:
    """Return what is at a step of a path; where nothing is, put ``empty`` there."""
    if isinstance(at, dict):
        return at.setdefault(step, empty)
    if int(step) == len(at):
        at.append(empty)
    return at[int(step)]


# --- Ollama's protocol


def read_ollama(events: list[Any]) -> Reading:
    """Read lines of Ollama's protocol, up to the one that is done or an error."""
    reading = Reading()
    for event in events:
        if event.get("error"):
            reading.error = True
            break
        message = event.get("message") or {}
        for kind, key in (("reasoning", "thinking"), ("text", "content")):
            reading.said += [(kind, message[key])] if message.get(key) else []
        for call in message.get("tool_calls") or []:
            function, created = call["function"], re.sub(r"\W", "", events[0]["created_at"])
            call_id = call.get("id") or f"call_{created}_{len(reading.calls)}"
            raw = json.dumps(function["arguments"], ensure_ascii=False)
            reading.calls.append((call_id, function["name"], raw))
        if event["done"]:
            reading.counts, reading.reason = event, event.get("done_reason")
            reading.ended = True
            break
    reading.join()
    return reading
