"""The echo engine: repeats the last user message, and can call tools, reason and write JSON.

========================================  ====================================================
the last user message                     the answer
========================================  ====================================================
``Hello``                                 ``You said: Hello``
``call NAME {"a": 1}``, one per line      those tool calls, if the tools are offered
``think of a number``                     reasoning, then ``You said: think of a number``
anything, with ``response_format``        JSON that fits the schema; its text is the message
followed by a tool's result               ``The tool said: …``
========================================  ====================================================

A ``tool_choice`` that requires a tool gets a call, ``stop`` and ``max_tokens`` end the answer, and
``usage`` counts words. The same request always gets the same answer.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .engines import EngineEvent, StopSequence
from .errors import InvalidRequestError
from .server_json import load_json
from .stream import CancelToken
from .types import Finish, Message, Messages, ReasoningDelta, ToolCall, Usage

CALL = re.compile(r"^call[ \t]+([\w.-]+)(.*)$", re.MULTILINE)
MAX_CALLS = 1000
"""Limit for one answer; more than any test needs. Each takes as long as a few hundred words."""
MAX_DEPTH = 8
"""Limit for the nesting of the JSON made for a schema: a recursive schema would never end."""
MAX_VALUES = 10_000
"""Limit for the values made for a schema; names and references count too. A recursive schema of
2 kB with sixty references expands to 13 million values within ``MAX_DEPTH``; OpenAI allows 5000
properties."""
TELLING = {"properties", "$ref", "const", "enum", "anyOf", "oneOf", "allOf"}
"""Keywords of a schema that tell which value fits."""
MAX_CHARACTERS = 16 * 1024 * 1024
"""Limit for the JSON made for a schema, the same as for a request: references can repeat large
parts."""


class EchoEngine:
    """Repeats the last user message word by word; the module's table lists what else it does.

    >>> messages = [{"role": "user", "content": "Hello there"}]
    >>> list(EchoEngine().answer(messages, {"max_tokens": 3}, CancelToken()))[1:4]
    ['You ', 'said: ', 'Hello ']
    """

    models: Sequence[str] = ("echo",)

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[EngineEvent]:
        """Yield reasoning, then text or tool calls."""
        prompt_words = sum(len(_text(message).split()) for message in messages)
        yield Usage(prompt_words, 0, prompt_words)
        limit = options.get("max_completion_tokens", options.get("max_tokens"))
        calls = _calls(messages, options)
        deltas, finish = (
            _text_answer(messages, options) if not calls else ([], Finish("tool_calls"))
        )
        answer_words = 0
        for delta in deltas:
            if cancel.cancelled:
                return
            if answer_words == limit:
                finish = Finish("length")
                break
            answer_words += 1
            yield delta
        for i, (name, raw) in enumerate(calls):
            if cancel.cancelled:
                return
            answer_words += len(raw.split())
            yield ToolCall(f"call_{len(messages)}_{i}", name, _parse_object(raw), raw)
        yield Usage(prompt_words, answer_words, prompt_words + answer_words)
        yield finish

    def close(self) -> None:
        """Do nothing: the echo holds no resources."""


# --- text


def _text_answer(
    messages: Messages, options: Mapping[str, Any]
) -> tuple[Iterable[EngineEvent], Finish]:
    """Return the answer's words, reasoning first, and the finish reason."""
    prompt = _last_user_text(messages)
    should_reason = prompt.lower().startswith("think ")
    reasoning = map(ReasoningDelta, _words("Thinking: " + prompt if should_reason else ""))
    results = _tool_results(messages)
    response_format = options.get("response_format", {})
    kind = response_format.get("type", "text")
    if kind != "text":
        wrapper = response_format.get("json_schema", {}) if kind == "json_schema" else {}
        text = _json_for(wrapper.get("schema", {}), prompt)
    elif results:
        text = "The tool said: " + "\n".join(results)
    else:
        text = "You said: " + prompt
    stop = options.get("stop", [])
    found = [(text.index(s), s) for s in ([stop] if isinstance(stop, str) else stop) if s in text]
    if not found:
        return itertools.chain(reasoning, _words(text)), Finish("stop")
    end, sequence = min(found)
    return itertools.chain(reasoning, _words(text[:end])), StopSequence(sequence=sequence)


def _words(text: str) -> Iterator[str]:
    """Split text after each run of white space; joined, the parts are the text.

    >>> list(_words("a  b c"))
    ['a  ', 'b ', 'c']
    """
    return (found[0] for found in re.finditer(r"\S+\s*|\s+", text))


def _text(message: Message) -> str:
    """Return the text of a message; a part that is not text is replaced by its type.

    >>> _text({"content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "?"}]})
    '[image_url]?'
    """
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    texts = ((part.get("text"), part["type"]) for part in content)
    return "".join(text if isinstance(text, str) else f"[{kind}]" for text, kind in texts)


def _last_user_text(messages: Messages) -> str:
    return _text(next((m for m in reversed(messages) if m["role"] == "user"), messages[-1]))


def _tool_results(messages: Messages) -> list[str]:
    """Return the tool results at the end of the conversation."""
    results: list[str] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        results.append(_text(message))
    return results[::-1]


# --- tool calls


def _calls(messages: Messages, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the calls requested by the prompt or ``tool_choice``, as names and arguments."""
    tools = {tool["function"]["name"]: tool["function"] for tool in options.get("tools", [])}
    choice = options.get("tool_choice", "auto")
    if choice == "none" or not tools:
        return []
    prompt = _last_user_text(messages)
    if isinstance(choice, dict):
        tools = {choice["function"]["name"]: tools[choice["function"]["name"]]}
    matches = [] if _tool_results(messages) else CALL.findall(prompt)
    calls = [(name, raw.strip(" \t") or "{}") for name, raw in matches if name in tools]
    if not calls and choice != "auto":
        name, tool = next(iter(tools.items()))
        calls = [(name, _json_for(tool.get("parameters") or {}, prompt))]
    if options.get("parallel_tool_calls") is False:
        del calls[1:]
    if len(calls) > MAX_CALLS:
        raise InvalidRequestError(f"{len(calls)} tool calls requested; the limit is {MAX_CALLS}")
    return calls


def _parse_object(raw: str) -> dict[str, Any] | None:
    try:
        value = load_json(raw)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


# --- JSON for a schema


def _json_for(schema: Mapping[str, Any], text: str) -> str:
    try:
        return json.dumps(_SchemaExample(schema, text).value_for(schema), ensure_ascii=False)
    except InvalidRequestError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise InvalidRequestError(f"the JSON schema cannot be read: {error!r}") from error


class _SchemaExample:
    """Makes values that fit a JSON schema, with ``text`` wherever a string is allowed.

    >>> age = {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer"}}}
    >>> _SchemaExample(age, "Hi").value_for(age)
    {'q': 'Hi', 'n': 0}
    """

    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._text = text
        self._values_remaining = MAX_VALUES
        self._characters_remaining = MAX_CHARACTERS

    def value_for(self, schema: Any, depth: int = 0) -> Any:
        """Return a value for a subschema; raise ``InvalidRequestError`` beyond the limits."""
        if not isinstance(schema, Mapping):
            return self._leaf(self._text)
        if depth == 0 and not schema.keys() & TELLING and schema.get("type", "object") == "object":
            return {"answer": self._text}
        if depth > MAX_DEPTH:
            return None
        if "const" in schema:
            return self._leaf(schema["const"])
        if schema.get("enum"):
            return self._leaf(schema["enum"][0])
        if "$ref" in schema:
            return self.value_for(self._resolve(schema["$ref"]), depth + 1)
        for keyword in ("anyOf", "oneOf", "allOf"):
            if schema.get(keyword):
                return self.value_for(schema[keyword][0], depth + 1)
        if "properties" in schema:
            return self._object(schema["properties"], depth)
        return self._value_by_type(schema, depth)

    def _object(self, properties: Mapping[str, Any], depth: int) -> dict[str, Any]:
        value = {}
        for name, part in properties.items():
            self._spend(len(name))
            value[name] = self.value_for(part, depth + 1)
        return value

    def _value_by_type(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "string")
        kind = kind[0] if isinstance(kind, list) and kind else kind
        if kind == "array":
            return [self.value_for(schema.get("items"), depth + 1)]
        if kind in ("integer", "number"):
            return self._leaf(schema.get("minimum", 0 if kind == "integer" else 0.0))
        constants: dict[str, Any] = {"boolean": False, "null": None, "object": {}}
        return (
            constants[kind]
            if isinstance(kind, str) and kind in constants
            else self._leaf(self._text)
        )

    def _leaf(self, value: Any) -> Any:
        self._spend(len(value if isinstance(value, str) else json.dumps(value)))
        return value

    def _spend(self, characters: int) -> None:
        self._values_remaining -= 1
        self._characters_remaining -= characters
        if self._values_remaining < 0 or self._characters_remaining < 0:
            raise InvalidRequestError(
                f"the JSON schema expands to more than {MAX_VALUES} values or {MAX_CHARACTERS} "
                "characters: use fewer properties and references"
            )

    def _resolve(self, name: Any) -> Any:
        """Return the subschema that ``#/$defs/Name`` refers to."""
        if not isinstance(name, str):
            return None
        self._spend(len(name))
        value: Any = self._root
        for key in name.lstrip("#/").split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value
