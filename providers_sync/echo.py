"""The engine that repeats the question, and everything else a test of a client asks for.

========================================  ====================================================
the last user message                     the answer
========================================  ====================================================
``Hello``                                 ``You said: Hello``
``call NAME {"a": 1}``, one call a line   those tool calls, where such tools are offered
``think of a number``                     a thought, then ``You said: think of a number``
anything, under ``response_format``       JSON of that schema; the question is its first text
a tool's result after it                  ``The tool said: …``
========================================  ====================================================

A ``tool_choice`` that wants a tool gets it, ``stop`` and ``max_tokens`` end the answer, and
``usage`` counts words. The same question gets the same answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .engines import StopSequence, Yield
from .errors import InvalidRequestError
from .stream import CancelToken
from .types import Finish, Message, Messages, ReasoningDelta, ToolCall, Usage

CALL = re.compile(r"^call[ \t]+([\w.-]+)[ \t]*(.*?)[ \t]*$", re.MULTILINE)
MAX_DEPTH = 8
"""Of the JSON made for a schema: one that refers to itself would have no end."""


class EchoEngine:
    """Repeats the last user message word by word; this module's table says what else it does.

    >>> messages = [{"role": "user", "content": "Hello there"}]
    >>> list(EchoEngine().answer(messages, {"max_tokens": 3}, CancelToken()))[1:4]
    ['You ', 'said: ', 'Hello ']
    """

    models: Sequence[str] = ("echo",)

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Yield]:
        """Yield thoughts, then text or tool calls."""
        asked = sum(len(_text(message).split()) for message in messages)
        yield Usage(asked, 0, asked)
        calls = _calls(messages, options)
        thoughts, words, finish = (
            _speech(messages, options) if not calls else ([], [], Finish("tool_calls"))
        )
        limit = options.get("max_completion_tokens", options.get("max_tokens"))
        if limit is not None and limit < len(thoughts) + len(words):
            finish = Finish("length")
            thoughts, words = thoughts[:limit], words[: max(0, limit - len(thoughts))]
        pieces: list[Yield] = [*map(ReasoningDelta, thoughts), *words, *calls]
        for piece in pieces:
            if cancel.cancelled:
                return
            yield piece
        said = len(thoughts) + len(words) + sum(len(call.raw.split()) for call in calls)
        yield Usage(asked, said, asked + said)
        yield finish

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


# --- text


def _speech(messages: Messages, options: Mapping[str, Any]) -> tuple[list[str], list[str], Finish]:
    """Return the words that are thought, those that are said, and why they end."""
    question = _question(messages)
    thoughts = _words("Thinking: " + question) if question.lower().startswith("think ") else []
    results = _results(messages)
    wanted = options.get("response_format", {}).get("type", "text")
    if wanted != "text":
        schema = options["response_format"].get("json_schema", {}).get("schema", {})
        text = _json_for(schema, question)
    elif results:
        text = "The tool said: " + "\n".join(results)
    else:
        text = "You said: " + question
    stop = options.get("stop", [])
    found = [(text.index(s), s) for s in ([stop] if isinstance(stop, str) else stop) if s in text]
    if not found:
        return thoughts, _words(text), Finish("stop")
    end, sequence = min(found)
    return thoughts, _words(text[:end]), StopSequence(sequence=sequence)


def _words(text: str) -> list[str]:
    """Cut text after each run of white space; the pieces joined are the text.

    >>> _words("a  b c")
    ['a  ', 'b ', 'c']
    """
    return re.findall(r"\S+\s*|\s+", text)


def _text(message: Message) -> str:
    """Return what a message says; a part that is no text shows as its type.

    >>> _text({"content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "?"}]})
    '[image_url]?'
    """
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", f"[{part['type']}]") for part in content)


def _question(messages: Messages) -> str:
    return _text(next((m for m in reversed(messages) if m["role"] == "user"), messages[-1]))


def _results(messages: Messages) -> list[str]:
    """Return the results of tools at the conversation's end."""
    results: list[str] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        results.insert(0, _text(message))
    return results


# --- tool calls


def _calls(messages: Messages, options: Mapping[str, Any]) -> list[ToolCall]:
    """Return the calls that the question or ``tool_choice`` asks for."""
    tools = {tool["function"]["name"]: tool["function"] for tool in options.get("tools", [])}
    choice = options.get("tool_choice", "auto")
    if choice == "none" or not tools:
        return []
    question = _question(messages)
    if isinstance(choice, dict):
        tools = {choice["function"]["name"]: tools[choice["function"]["name"]]}
    asked = [] if _results(messages) else CALL.findall(question)
    calls = [(name, raw or "{}") for name, raw in asked if name in tools]
    if not calls and choice != "auto":
        name, tool = next(iter(tools.items()))
        calls = [(name, _json_for(tool.get("parameters") or {}, question))]
    return [
        ToolCall(f"call_{len(messages)}_{i}", name, _object(raw), raw)
        for i, (name, raw) in enumerate(calls)
    ]


def _object(raw: str) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# --- JSON for a schema


def _json_for(schema: Mapping[str, Any], text: str) -> str:
    try:
        return json.dumps(_example(schema, text, schema), ensure_ascii=False)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise InvalidRequestError(f"the JSON schema cannot be read: {error!r}") from error


def _example(schema: Mapping[str, Any], text: str, root: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value that fits a JSON schema, with ``text`` wherever text may stand.

    >>> age = {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer"}}}
    >>> _example(age, "Hi", age)
    {'q': 'Hi', 'n': 0}
    """

    def inner(part: Any) -> Any:
        return _example(part, text, root, depth + 1) if isinstance(part, Mapping) else text

    if depth == 0 and "properties" not in schema and "$ref" not in schema:
        return {"answer": text}
    if depth > MAX_DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return inner(_referred(schema["$ref"], root))
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return inner(schema[several][0])
    if "properties" in schema:
        return {name: inner(part) for name, part in schema["properties"].items()}
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "array":
        return [inner(schema.get("items"))]
    rest = {"integer": schema.get("minimum", 0), "number": schema.get("minimum", 0.0)}
    return {**rest, "boolean": False, "null": None, "object": {}}.get(str(kind), text)


def _referred(name: str, root: Mapping[str, Any]) -> Any:
    """Return what ``#/$defs/Name`` means."""
    value: Any = root
    for key in str(name).lstrip("#/").split("/"):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
