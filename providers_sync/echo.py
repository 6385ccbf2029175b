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

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .engines import StopSequence, Yield
from .errors import InvalidRequestError
from .stream import CancelToken
from .types import Finish, Message, Messages, ReasoningDelta, ToolCall, Usage

CALL = re.compile(r"^call[ \t]+([\w.-]+)(.*)$", re.MULTILINE)
MAX_CALLS = 1000
"""Of one answer; more than anybody asks for, and each takes as long as some hundred words."""
MAX_DEPTH = 8
"""Of the JSON made for a schema: one that refers to itself would have no end."""
MAX_VALUES = 10_000
"""Made for a schema, names and references counted as well. One of 2 kB that refers to itself sixty
times asks for 13 million within the depth; OpenAI allows 5000 properties."""
MAX_CHARACTERS = 16 * 1024 * 1024
"""Of the JSON made for a schema: as many as a whole request may have. References repeat others."""


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
        limit = options.get("max_completion_tokens", options.get("max_tokens"))
        calls = _calls(messages, options)
        pieces, finish = _speech(messages, options) if not calls else ([], Finish("tool_calls"))
        said = 0
        for piece in pieces:
            if cancel.cancelled:
                return
            if said == limit:
                finish = Finish("length")
                break
            said += 1
            yield piece
        for i, (name, raw) in enumerate(calls):
            if cancel.cancelled:
                return
            said += len(raw.split())
            yield ToolCall(f"call_{len(messages)}_{i}", name, _object(raw), raw)
        yield Usage(asked, said, asked + said)
        yield finish

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


# --- text


def _speech(messages: Messages, options: Mapping[str, Any]) -> tuple[Iterable[Yield], Finish]:
    """Return the words, those that are thought before those that are said, and why they end."""
    question = _question(messages)
    thinks = question.lower().startswith("think ")
    thoughts = map(ReasoningDelta, _words("Thinking: " + question if thinks else ""))
    results = _results(messages)
    form = options.get("response_format", {})
    wanted = form.get("type", "text")
    if wanted != "text":
        given = form.get("json_schema", {}) if wanted == "json_schema" else {}
        text = _json_for(given.get("schema", {}), question)
    elif results:
        text = "The tool said: " + "\n".join(results)
    else:
        text = "You said: " + question
    stop = options.get("stop", [])
    found = [(text.index(s), s) for s in ([stop] if isinstance(stop, str) else stop) if s in text]
    if not found:
        return itertools.chain(thoughts, _words(text)), Finish("stop")
    end, sequence = min(found)
    return itertools.chain(thoughts, _words(text[:end])), StopSequence(sequence=sequence)


def _words(text: str) -> Iterator[str]:
    """Cut text after each run of white space; the pieces joined are the text.

    >>> list(_words("a  b c"))
    ['a  ', 'b ', 'c']
    """
    return (found[0] for found in re.finditer(r"\S+\s*|\s+", text))


def _text(message: Message) -> str:
    """Return what a message says; a part that is no text shows as its type.

    >>> _text({"content": [{"type": "image_url", "image_url": {}}, {"type": "text", "text": "?"}]})
    '[image_url]?'
    """
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    texts = ((part.get("text"), part["type"]) for part in content)
    return "".join(text if isinstance(text, str) else f"[{kind}]" for text, kind in texts)


def _question(messages: Messages) -> str:
    return _text(next((m for m in reversed(messages) if m["role"] == "user"), messages[-1]))


def _results(messages: Messages) -> list[str]:
    """Return the results of tools at the conversation's end."""
    results: list[str] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        results.append(_text(message))
    return results[::-1]


# --- tool calls


def _calls(messages: Messages, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the calls that the question or ``tool_choice`` asks for: names and arguments."""
    tools = {tool["function"]["name"]: tool["function"] for tool in options.get("tools", [])}
    choice = options.get("tool_choice", "auto")
    if choice == "none" or not tools:
        return []
    question = _question(messages)
    if isinstance(choice, dict):
        tools = {choice["function"]["name"]: tools[choice["function"]["name"]]}
    asked = [] if _results(messages) else CALL.findall(question)
    calls = [(name, raw.strip(" \t") or "{}") for name, raw in asked if name in tools]
    if not calls and choice != "auto":
        name, tool = next(iter(tools.items()))
        calls = [(name, _json_for(tool.get("parameters") or {}, question))]
    if len(calls) > MAX_CALLS:
        raise InvalidRequestError(f"{len(calls)} tool calls are asked for; {MAX_CALLS} is the most")
    return calls


def _object(raw: str) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# --- JSON for a schema


def _json_for(schema: Mapping[str, Any], text: str) -> str:
    try:
        return json.dumps(_Example(schema, text).of(schema), ensure_ascii=False)
    except InvalidRequestError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise InvalidRequestError(f"the JSON schema cannot be read: {error!r}") from error


class _Example:
    """Makes values that fit a JSON schema, with ``text`` wherever text may stand.

    >>> age = {"type": "object", "properties": {"q": {"type": "string"}, "n": {"type": "integer"}}}
    >>> _Example(age, "Hi").of(age)
    {'q': 'Hi', 'n': 0}
    """

    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._text = text
        self._values_left = MAX_VALUES
        self._characters_left = MAX_CHARACTERS

    def of(self, schema: Any, depth: int = 0) -> Any:
        """Return a value for a part of the schema; ``InvalidRequestError`` beyond the bounds."""
        if not isinstance(schema, Mapping):
            return self._leaf(self._text)
        if depth == 0 and "properties" not in schema and "$ref" not in schema:
            return {"answer": self._text}
        if depth > MAX_DEPTH:
            return None
        if "const" in schema:
            return self._leaf(schema["const"])
        if schema.get("enum"):
            return self._leaf(schema["enum"][0])
        if "$ref" in schema:
            return self.of(self._referred(schema["$ref"]), depth + 1)
        for several in ("anyOf", "oneOf", "allOf"):
            if schema.get(several):
                return self.of(schema[several][0], depth + 1)
        if "properties" in schema:
            return self._object(schema["properties"], depth)
        return self._plain(schema, depth)

    def _object(self, properties: Mapping[str, Any], depth: int) -> dict[str, Any]:
        value = {}
        for name, part in properties.items():
            self._spend(len(name))
            value[name] = self.of(part, depth + 1)
        return value

    def _plain(self, schema: Mapping[str, Any], depth: int) -> Any:
        kind = schema.get("type", "string")
        kind = kind[0] if isinstance(kind, list) and kind else kind
        if kind == "array":
            return [self.of(schema.get("items"), depth + 1)]
        if kind in ("integer", "number"):
            return self._leaf(schema.get("minimum", 0 if kind == "integer" else 0.0))
        known: dict[str, Any] = {"boolean": False, "null": None, "object": {}}
        return known[kind] if isinstance(kind, str) and kind in known else self._leaf(self._text)

    def _leaf(self, value: Any) -> Any:
        self._spend(len(value if isinstance(value, str) else json.dumps(value)))
        return value

    def _spend(self, characters: int) -> None:
        self._values_left -= 1
        self._characters_left -= characters
        if self._values_left < 0 or self._characters_left < 0:
            raise InvalidRequestError(
                f"the JSON schema asks for more than {MAX_VALUES} values or {MAX_CHARACTERS} "
                "characters: refer to fewer parts"
            )

    def _referred(self, name: Any) -> Any:
        """Return what ``#/$defs/Name`` means."""
        if not isinstance(name, str):
            return None
        self._spend(len(name))
        value: Any = self._root
        for key in name.lstrip("#/").split("/"):
            value = value.get(key) if isinstance(value, Mapping) else None
        return value
