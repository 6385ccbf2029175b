"""Turns JSON schemas into what the schema mode of each protocol accepts.

Sources: OpenAI guide, "Structured outputs", Supported schemas; Anthropic docs, "Structured
outputs", JSON Schema limitations and schema complexity limits; Gemini API reference,
``GenerationConfig.responseJsonSchema``, and guide, "Structured output"; llama.cpp,
``json-schema-to-grammar.cpp``, which Ollama uses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .schema_trees import TYPES, checked_copy, places
from .schema_writer import STRUCTURE, SchemaRules, compact, held_schema, with_notes

_BOUNDS = ("minimum", "maximum")
_TIMES = ("date-time", "date", "time")
_FORMATS = (*_TIMES, "duration", "email", "hostname", "ipv4", "ipv6", "uuid")
_GRAMMAR_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
_GRAMMAR_REPETITIONS = 1999
"""The longest text or list that llama.cpp's grammars count."""

OPENAI = SchemaRules(
    constraints=(
        *("pattern", "format", "multipleOf", *_BOUNDS, "exclusiveMinimum", "exclusiveMaximum"),
        *("minItems", "maxItems"),
    ),
    formats=_FORMATS,
    all_required=True,
    closed=True,
    recursion="any",
    limits={
        "properties": 5000,
        "levels": 10,
        "characters": 120_000,
        "enum values": 1000,
        "characters of a long enum": 15_000,
    },
    fallback="not strict",
)
"""For Chat Completions and the Responses API."""
ANTHROPIC = SchemaRules(
    constraints=("format", "minItems"),
    formats=(*_FORMATS, "uri"),
    closed=True,
    limits={"optional properties": 24, "unions": 16},
)
GEMINI = SchemaRules(
    constraints=("format", *_BOUNDS, "minItems", "maxItems"),
    formats=_TIMES,
    recursion="optional",
    boolean_enums=False,
)
OLLAMA = SchemaRules(fallback="grammar")
RULES = {"openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}
ANSWER_TOOL = "answer"
"""The name of the function that ``answer_tool`` returns."""


def response_format(schema: Mapping[str, Any], rules: SchemaRules) -> dict[str, Any] | None:
    """Return the option ``response_format`` for answers that follow an object's schema.

    ``None``: the protocol's schema mode cannot hold the schema; use ``answer_tool`` or
    ``schema_words``. OpenAI gets such a schema with ``strict: false``, as a wish. The given schema
    is not changed.

    Raises ``InvalidRequestError`` if it is not a JSON schema of an object, is too large, or has a
    reference that leads nowhere, outside or back to itself.
    """
    root = checked_copy(schema)
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", root.get("title", ""))[:64]
    detail: dict[str, Any] = {"name": name or "answer"}
    if rules.fallback == "grammar":
        detail["schema"] = _for_grammar(root)
    else:
        held = held_schema(root, rules)
        if held is None and rules.fallback == "none":
            return None
        detail["schema"] = _not_strict(root) if held is None else held
        if rules.fallback == "not strict":
            detail["strict"] = held is not None
    return {"type": "json_schema", "json_schema": detail}


def answer_tool(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function in OpenAI's form whose arguments are the answer, to be forced.

    Raises ``InvalidRequestError`` as ``response_format`` does.
    """
    function = {
        "name": ANSWER_TOOL,
        "description": "Gives the answer to the user.",
        "parameters": _not_strict(checked_copy(schema)),
    }
    return {"type": "function", "function": function}


def schema_words(schema: Mapping[str, Any]) -> str:
    """Return an instruction for the model, where a server has no schema mode.

    >>> schema_words({"type": "object"})
    'Answer with JSON only, no other text, that follows this JSON schema: {"type":"object"}'

    Raises ``InvalidRequestError`` as ``response_format`` does.
    """
    text = compact(checked_copy(schema))
    return f"Answer with JSON only, no other text, that follows this JSON schema: {text}"


def _not_strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Change a schema so that OpenAI takes it where it is not strict.

    Even there a list must have ``items``, and an object ``properties``.
    """
    if "array" in schema.get("type", ()):
        schema.setdefault("items", {})
    if "object" in schema.get("type", ()):
        schema.setdefault("properties", {})
    for holder, key, _ in places(schema):
        if holder[key] is True and key != "additionalProperties":
            holder[key] = {}
        elif isinstance(holder[key], dict):
            _not_strict(holder[key])
    return schema


def _for_grammar(schema: dict[str, Any]) -> dict[str, Any]:
    """Change a schema so that llama.cpp makes a grammar of it.

    Its patterns know few regular expressions, it reads ``items`` before ``prefixItems``, and each
    schema needs a type.
    """
    is_long = [word for word in _GRAMMAR_LENGTHS if schema.get(word, 0) > _GRAMMAR_REPETITIONS]
    unknown = ["pattern"] * ("pattern" in schema) + is_long
    notes = [f"{keyword}: {compact(schema.pop(keyword))}" for keyword in unknown]
    if text := with_notes(schema.get("description", ""), notes):
        schema["description"] = text
    if "prefixItems" in schema:
        schema.pop("items", None)
    if not schema.keys() & {*STRUCTURE, "allOf"}:
        schema["type"] = list(TYPES)
    for holder, key, _ in places(schema):
        if holder[key] is True and key != "additionalProperties":
            holder[key] = {}
        if isinstance(holder[key], dict):
            _for_grammar(holder[key])
    return schema
