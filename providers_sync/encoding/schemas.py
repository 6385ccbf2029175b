"""Turns JSON schemas into what the schema mode of each protocol accepts.

What a protocol does not know is moved into a description, in words, so that the model still reads
it. Nothing that fits a written schema is refused by the given one, except for constraints that are
only in words.

Sources: OpenAI guide, "Structured outputs", Supported schemas; Anthropic docs, "Structured
outputs", JSON Schema limitations and schema complexity limits; Gemini API reference,
``GenerationConfig.responseJsonSchema``, and guide, "Structured output"; llama.cpp,
``json-schema-to-grammar.cpp``, which Ollama uses.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from . import schema_trees
from .schema_trees import places

_ROOT = ""
_NOT_HELD = {
    *("not", "if", "then", "else", "allOf", "patternProperties", "propertyNames", "contains"),
    *("dependentSchemas", "dependentRequired", "dependencies", "additionalItems"),
    *("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"),
}
"""Keywords that no schema mode but Ollama's takes. An ``allOf`` of one part is merged before."""
_REFERRING = ("$ref", "anyOf", "oneOf")
_OF_OBJECTS = ("properties", "required", "additionalProperties")
_OF_ARRAYS = ("items", "prefixItems")
_STRUCTURE = {*_REFERRING, *_OF_OBJECTS, *_OF_ARRAYS, "type", "enum", "const"}
_BOOKKEEPING = {
    *("$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "discriminator"),
    *("deprecated", "readOnly", "writeOnly", "title", "description"),
}
"""Keywords that say nothing about an answer, or are written elsewhere."""
_LONG_ENUM = 250
_GRAMMAR_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
_GRAMMAR_REPETITIONS = 1999
"""The longest text or list that llama.cpp's grammars count."""


@dataclass(frozen=True, eq=False)
class SchemaRules:
    """What the schema mode of a protocol knows."""

    constraints: tuple[str, ...] = ()
    """Keywords that limit a value; the others are put in words."""
    formats: tuple[str, ...] = ()
    """Values of ``format``."""
    all_required: bool = False
    """Whether each property must be required."""
    closed: bool = False
    """Whether objects must have a fixed set of properties, and lists one schema for all items."""
    recursion: Literal["any", "optional", "none"] = "none"
    """Where a schema may refer to itself: anywhere, in properties that are not required, nowhere."""
    boolean_enums: bool = True
    limits: Mapping[str, int] | None = None
    """Largest counts of what ``_Writer.counts`` counts."""
    fallback: Literal["none", "not strict", "grammar"] = "none"
    """What becomes of a schema that cannot be held; ``grammar``: of every schema."""


_NUMBERS = ("minimum", "maximum")
_TIMES = ("date-time", "date", "time")
_FORMATS = (*_TIMES, "duration", "email", "hostname", "ipv4", "ipv6", "uuid")

OPENAI = SchemaRules(
    constraints=(
        *("pattern", "format", "multipleOf", *_NUMBERS, "exclusiveMinimum", "exclusiveMaximum"),
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
    constraints=("format", *_NUMBERS, "minItems", "maxItems"),
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
    ``schema_words``. The given schema is not changed.

    Raises ``InvalidRequestError`` if it is no JSON schema of an object, is too large, or has a
    reference that leads nowhere, outside or back to itself.
    """
    root = schema_trees.checked_copy(schema)
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", root.get("title", ""))[:64] or "answer"
    detail: dict[str, Any] = {"name": name}
    try:
        if rules.fallback == "grammar":
            detail["schema"] = _for_grammar(root)
        else:
            detail |= {"schema": _Writer(rules, root).write(), "strict": True}
    except _CannotHoldError:
        if rules.fallback == "none":
            return None
        detail |= {"schema": _not_strict(root), "strict": False}
    if rules.fallback != "not strict":
        detail.pop("strict", None)
    return {"type": "json_schema", "json_schema": detail}


def answer_tool(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function in OpenAI's form whose arguments are the answer, to be forced.

    Raises ``InvalidRequestError`` as ``response_format`` does.
    """
    function = {
        "name": ANSWER_TOOL,
        "description": "Gives the answer to the user.",
        "parameters": _not_strict(schema_trees.checked_copy(schema)),
    }
    return {"type": "function", "function": function}


def schema_words(schema: Mapping[str, Any]) -> str:
    """Return an instruction for the model, where a server has no schema mode.

    >>> schema_words({"type": "object"})
    'Answer with JSON only, no other text, that follows this JSON schema: {"type":"object"}'

    Raises ``InvalidRequestError`` as ``response_format`` does.
    """
    text = _compact(schema_trees.checked_copy(schema))
    return f"Answer with JSON only, no other text, that follows this JSON schema: {text}"


class _CannotHoldError(Exception):
    """The schema mode cannot hold a schema."""


class _Writer:
    """Writes a schema for the rules of a protocol, with the definitions that it refers to."""

    def __init__(self, rules: SchemaRules, root: dict[str, Any]) -> None:
        self._rules = rules
        self._root = root
        self._counts: Counter[str] = Counter()
        self._names: dict[str, str] = {}  # by reference
        self._waiting: list[tuple[str, str]] = []
        self._definition = _ROOT  # the one that is being written
        self._levels: Counter[str] = Counter()  # of objects, in each definition
        self._links: dict[str, list[tuple[str, int, bool]]] = defaultdict(list)

    def write(self) -> dict[str, Any]:
        """Return the schema. Raises ``_CannotHoldError``."""
        written = self._schema(self._root, 0, False)
        definitions: dict[str, Any] = {}
        while self._waiting:
            self._definition, reference = self._waiting.pop()
            target = schema_trees.target_of(reference, self._root)
            definitions[self._definition] = self._schema(target, 0, False)
        self._check_recursion()
        self._counts["levels"] = self._deepest()
        if any(self._counts[name] > most for name, most in (self._rules.limits or {}).items()):
            raise _CannotHoldError
        return {**written, "$defs": definitions} if definitions else written

    def _schema(self, given: Any, level: int, optional: bool) -> dict[str, Any]:
        """``level``: objects around it; ``optional``: one of them need not have it."""
        if isinstance(given, bool):
            raise _CannotHoldError
        given = schema_trees.with_only_part(given)
        structure = given.keys() & _STRUCTURE
        referring = [keyword for keyword in _REFERRING if keyword in given]
        if given.keys() & _NOT_HELD or (referring and len(structure) > 1):
            raise _CannotHoldError
        written: dict[str, Any] = {}
        if "$ref" in given:
            written["$ref"] = self._reference(given["$ref"], level, optional)
        elif referring:
            self._counts["unions"] += 1
            options = given[referring[0]]
            written["anyOf"] = [self._schema(each, level, optional) for each in options]
        elif structure & {"enum", "const"}:
            if not structure <= {"enum", "const", "type"}:
                raise _CannotHoldError
            written |= self._enum([given["const"]] if "const" in given else given["enum"])
        else:
            written |= self._typed(given, level, optional)
        return self._described(written, given)

    def _described(self, written: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Add the title, the constraints, and in words those that the protocol does not know."""
        notes = []
        for keyword, value in given.items():
            if keyword in _STRUCTURE or keyword in _BOOKKEEPING:
                continue
            if "type" in written and "enum" not in written and self._knows(keyword, value):
                written.setdefault(keyword, value)
            elif keyword != "default" or value is not None:
                notes.append(f"{keyword}: {_compact(value)}")
        described = {"title": given["title"]} if given.get("title") else {}
        if text := _with_notes(given.get("description", ""), notes):
            described["description"] = text
        if described and "$ref" in written:  # nothing else may stand beside a reference
            self._counts["unions"] += 1
            return {**described, "anyOf": [written]}
        if "description" in written and "description" in described:
            described["description"] += f" ({written.pop('description')})"
        return {**described, **written}

    def _knows(self, keyword: str, value: Any) -> bool:
        if keyword not in self._rules.constraints:
            return False
        if keyword == "format":
            return value in self._rules.formats
        if keyword == "minItems" and "maxItems" not in self._rules.constraints:
            return value in (0, 1)
        return keyword != "pattern" or _is_plain(value)

    def _reference(self, reference: str, level: int, optional: bool) -> str:
        if reference not in self._names:
            last = reference.rpartition("/")[2] or "root"
            name = base = re.sub(r"[^A-Za-z0-9_.-]+", "_", last.replace("#", "root"))
            number = 2
            while name in self._names.values():
                name, number = f"{base}_{number}", number + 1
            self._names[reference] = name
            self._counts["characters"] += len(name)
            self._waiting.append((name, reference))
        self._links[self._definition].append((self._names[reference], level, optional))
        return f"#/$defs/{self._names[reference]}"

    def _enum(self, values: list[Any]) -> dict[str, Any]:
        """Return a union of enums, one per type, or the one."""
        by_type: dict[str, list[Any]] = defaultdict(list)
        for value in values:
            by_type[_type_of(value)].append(value)
        if by_type.keys() >= {"integer", "number"}:
            by_type["number"] += by_type.pop("integer")
        self._counts["enum values"] += len(values)
        length = sum(len(str(value)) for value in values)
        self._counts["characters"] += length
        if len(values) > _LONG_ENUM:
            longest = max(length, self._counts["characters of a long enum"])
            self._counts["characters of a long enum"] = longest
        options = [self._enum_of(kind, each) for kind, each in by_type.items()]
        self._counts["unions"] += len(options) > 1
        return options[0] if len(options) == 1 else {"anyOf": options}

    def _enum_of(self, kind: str, values: list[Any]) -> dict[str, Any]:
        if kind == "null" or (kind == "boolean" and {True, False} <= set(values)):
            return {"type": kind}
        if kind == "boolean" and not self._rules.boolean_enums:
            return {"type": kind, "description": f"enum: {_compact(values)}"}
        return {"type": kind, "enum": values}

    def _typed(self, given: dict[str, Any], level: int, optional: bool) -> dict[str, Any]:
        inferred = "object" if "properties" in given else "array" if "items" in given else None
        kinds = given.get("type", inferred)
        if kinds is None:
            raise _CannotHoldError
        written: dict[str, Any] = {"type": kinds}
        self._counts["unions"] += isinstance(kinds, list) and len(kinds) > 1
        if kinds == "object" or "object" in kinds:
            written |= self._object(given, level + 1, optional)
        if kinds == "array" or "array" in kinds:
            written |= self._array(given, level, optional)
        return written

    def _object(self, given: dict[str, Any], level: int, optional: bool) -> dict[str, Any]:
        self._levels[self._definition] = max(level, self._levels[self._definition])
        properties, more = given.get("properties"), given.get("additionalProperties")
        required = given.get("required", [])
        if self._rules.closed:
            is_open = more not in (None, False) or (properties is None and more is None)
            if is_open or not set(required) <= (properties or {}).keys():
                raise _CannotHoldError
            properties, more = properties or {}, False
        names = list(properties or ())
        if self._rules.all_required:
            required = names
        self._counts["properties"] += len(names)
        self._counts["characters"] += sum(map(len, names))
        self._counts["optional properties"] += len(set(names) - set(required))
        written: dict[str, Any] = {}
        if properties is not None:
            written["properties"] = {
                name: self._schema(each, level, optional or name not in required)
                for name, each in properties.items()
            }
        if required or self._rules.all_required:
            written["required"] = list(required)
        if more is not None:
            is_flag = isinstance(more, bool)
            written["additionalProperties"] = more if is_flag else self._schema(more, level, True)
        return written

    def _array(self, given: dict[str, Any], level: int, optional: bool) -> dict[str, Any]:
        first, items = given.get("prefixItems"), given.get("items")
        if first and not items:
            counts = {"minItems": given.get("minItems"), "maxItems": given.get("maxItems")}
            is_fixed = set(counts.values()) == {len(first)}
            if is_fixed and all(each == first[0] for each in first):
                return {"items": self._schema(first[0], level, optional)}
            items = None
        if items is None and not first:
            raise _CannotHoldError
        if first and self._rules.closed:
            raise _CannotHoldError
        written: dict[str, Any] = {}
        if first:
            written["prefixItems"] = [self._schema(each, level, optional) for each in first]
        if items is not None:
            written["items"] = self._schema(items, level, optional)
        elif given.get("items") is False:
            written["maxItems"] = len(first or ())
        return written

    def _check_recursion(self) -> None:
        rule = self._rules.recursion
        graph = {
            name: {target for target, _, optional in links if rule == "none" or not optional}
            for name, links in self._links.items()
        }
        if rule != "any" and _order(graph) is None:
            raise _CannotHoldError

    def _deepest(self) -> int:
        """Return how deep objects stand in objects; references that go round are not followed."""
        order = _order(
            {name: {link[0] for link in self._links[name]} for name in list(self._links)}
        )
        if order is None:
            return max(self._levels.values(), default=0)
        deepest: dict[str, int] = {}
        for name in order:
            below = [level + deepest[target] for target, level, _ in self._links.get(name, ())]
            deepest[name] = max(self._levels[name], *below, 0)
        return max(deepest.values(), default=self._levels[_ROOT])


def _order(graph: Mapping[str, set[str]]) -> list[str] | None:
    """Return each name after those that it refers to; ``None`` if one refers to itself."""
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError:
        return None


def _not_strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Change a schema so that OpenAI takes it where it is not strict: a list must have items."""
    if "array" in schema.get("type", ()):
        schema.setdefault("items", {})
    for holder, key, _ in places(schema):
        if isinstance(holder[key], dict):
            _not_strict(holder[key])
        elif holder[key] is True and key != "additionalProperties":
            holder[key] = {}
    return schema


def _for_grammar(schema: dict[str, Any]) -> dict[str, Any]:
    """Change a schema so that llama.cpp makes a grammar of it.

    Its patterns know few regular expressions, it reads ``items`` before ``prefixItems``, and each
    schema needs a type.
    """
    notes = []
    for keyword in list(schema):
        value = schema[keyword]
        is_long = keyword in _GRAMMAR_LENGTHS and value > _GRAMMAR_REPETITIONS
        if keyword == "pattern" or is_long:
            notes.append(f"{keyword}: {_compact(schema.pop(keyword))}")
    if text := _with_notes(schema.get("description", ""), notes):
        schema["description"] = text
    if "prefixItems" in schema:
        schema.pop("items", None)
    if not schema.keys() & {*_STRUCTURE, "allOf"}:
        schema["type"] = list(schema_trees.TYPES)
    for holder, key, _ in places(schema):
        if holder[key] is True and key != "additionalProperties":
            holder[key] = {}
        if isinstance(holder[key], dict):
            _for_grammar(holder[key])
    return schema


def _is_plain(pattern: str) -> bool:
    """Return whether a regular expression has no look-around, back references or word boundaries.

    >>> _is_plain(r"^(?:a|b)\\(?\\d{3}$"), _is_plain(r"^(?!x)"), _is_plain(r"(a)\\1")
    (True, False, False)
    """
    left = re.sub(r"\\[^0-9A-Za-z]|\\[dDwWsSnrtfv]", "", pattern)
    return "\\" not in left and re.search(r"\(\?(?!:)", left) is None


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", type(None): "null"}
    for kind, name in names.items():
        if isinstance(value, kind):
            return name
    raise _CannotHoldError  # an object or a list


def _with_notes(text: str, notes: list[str]) -> str:
    joined = ", ".join(notes)
    return f"{text} ({joined})" if text and joined else text or joined


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
