"""Writes the schemas that a protocol's schema mode holds, by the rules of the protocol.

What a protocol does not know is moved into a description, in words, so that the model still reads
it. An answer that fits what is written fits what is given, except for what is only in words.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal

from .schema_trees import target_of, with_only_part

STRUCTURE = {
    *("$ref", "anyOf", "oneOf", "type", "enum", "const"),
    *("properties", "required", "additionalProperties", "items", "prefixItems"),
}
"""Keywords that say what kind of value an answer has."""
_NOT_HELD = {
    *("not", "if", "then", "else", "allOf", "patternProperties", "propertyNames", "contains"),
    *("dependentSchemas", "dependentRequired", "dependencies", "additionalItems"),
    *("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef"),
}
"""An ``allOf`` of one part is merged before."""
_BOOKKEEPING = {
    *("$schema", "$id", "$comment", "$anchor", "$defs", "definitions", "discriminator"),
    *("deprecated", "readOnly", "writeOnly", "title", "description"),
}
"""Keywords that say nothing about an answer, or are written elsewhere."""
_LONG_ENUM = 250
_ROOT = ""


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
    """Where a schema may refer to itself: anywhere, nowhere, or in properties not required."""
    boolean_enums: bool = True
    limits: Mapping[str, int] | None = None
    """The largest counts, by their names in ``held_schema``."""
    fallback: Literal["none", "not strict", "grammar"] = "none"
    """What becomes of a schema that cannot be held; ``grammar``: of every schema."""


def held_schema(root: dict[str, Any], rules: SchemaRules) -> dict[str, Any] | None:
    """Return a checked schema as a protocol holds it; ``None`` if it cannot."""
    try:
        return _Writer(rules, root).write()
    except _CannotHoldError:
        return None


def with_notes(text: str, notes: list[str]) -> str:
    """Return a description with notes behind it.

    >>> with_notes("A name", ["minLength: 3"])
    'A name (minLength: 3)'
    """
    joined = ", ".join(notes)
    return f"{text} ({joined})" if text and joined else text or joined


def compact(value: Any) -> str:
    """Return JSON without spaces."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _CannotHoldError(Exception):
    """The schema mode cannot hold a schema."""


class _Writer:
    """Writes a schema, with the definitions that it refers to."""

    def __init__(self, rules: SchemaRules, root: dict[str, Any]) -> None:
        self._rules = rules
        self._root = root
        self._counts: Counter[str] = Counter()
        self._names: dict[str, str] = {}  # of definitions, by reference
        self._taken: Counter[str] = Counter()  # the same names
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
            target = target_of(reference, self._root)
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
        given = with_only_part(given)
        structure = given.keys() & STRUCTURE
        is_alone = len(structure) == 1
        if given.keys() & _NOT_HELD or (structure & {"$ref", "anyOf", "oneOf"} and not is_alone):
            raise _CannotHoldError
        if "$ref" in given:
            written: dict[str, Any] = {"$ref": self._reference(given["$ref"], level, optional)}
        elif options := given.get("anyOf") or given.get("oneOf"):
            self._counts["unions"] += 1
            written = {"anyOf": [self._schema(each, level, optional) for each in options]}
        elif structure & {"enum", "const"}:
            if not structure <= {"enum", "const", "type"}:
                raise _CannotHoldError
            written = self._enum([given["const"]] if "const" in given else given["enum"])
        else:
            written = self._typed(given, level, optional)
        return self._described(written, given)

    def _described(self, written: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        """Add the title, the constraints, and in words those that the protocol does not know."""
        notes = [written.pop("description")] if "description" in written else []
        for keyword, value in given.items():
            if keyword in STRUCTURE or keyword in _BOOKKEEPING:
                continue
            if "type" in written and "enum" not in written and self._knows(keyword, value):
                written.setdefault(keyword, value)
            elif keyword != "default" or value is not None:
                notes.append(f"{keyword}: {compact(value)}")
        described = {"title": given["title"]} if given.get("title") else {}
        if text := with_notes(given.get("description", ""), notes):
            described["description"] = text
        if described and "$ref" in written:  # nothing else may stand beside a reference
            self._counts["unions"] += 1
            written = {"anyOf": [written]}
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
            last = reference.rpartition("/")[2].replace("#", "root")
            name = base = re.sub(r"[^A-Za-z0-9_.-]+", "_", last) or "definition"
            while self._taken[name]:
                self._taken[base] += 1
                name = f"{base}_{self._taken[base]}"
            self._taken[name] += 1
            self._names[reference] = name
            self._counts["characters"] += len(name)
            self._waiting.append((name, reference))
        self._links[self._definition].append((self._names[reference], level, optional))
        return f"#/$defs/{self._names[reference]}"

    def _enum(self, values: list[Any]) -> dict[str, Any]:
        """Return an enum with its type; a union of enums if the values differ in type."""
        by_type: dict[str, list[Any]] = defaultdict(list)
        for value in values:
            by_type[_type_of(value)].append(value)
        if by_type.keys() >= {"integer", "number"}:
            by_type["number"] += by_type.pop("integer")
        length = sum(len(str(value)) for value in values)
        self._counts["enum values"] += len(values)
        self._counts["characters"] += length
        if len(values) > _LONG_ENUM:
            longest = max(length, self._counts["characters of a long enum"])
            self._counts["characters of a long enum"] = longest
        options = [self._enum_of(kind, each) for kind, each in by_type.items()]
        self._counts["unions"] += len(options) > 1
        return options[0] if len(options) == 1 else {"anyOf": options}

    def _enum_of(self, kind: str, values: list[Any]) -> dict[str, Any]:
        if kind == "null" or (kind == "boolean" and len(set(values)) > 1):
            return {"type": kind}
        if kind == "boolean" and not self._rules.boolean_enums:
            return {"type": kind, "description": f"enum: {compact(values)}"}
        return {"type": kind, "enum": values}

    def _typed(self, given: dict[str, Any], level: int, optional: bool) -> dict[str, Any]:
        inferred = "object" if "properties" in given else "array" if "items" in given else None
        kinds = given.get("type", inferred)
        if kinds is None:
            raise _CannotHoldError
        written: dict[str, Any] = {"type": kinds}
        self._counts["unions"] += isinstance(kinds, list) and len(kinds) > 1
        if "object" in kinds:
            written |= self._object(given, level + 1, optional)
        if "array" in kinds:
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
        required = dict.fromkeys(names if self._rules.all_required else required)
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
        if first is None:
            if items is None:
                raise _CannotHoldError
            return {"items": self._schema(items, level, optional)}
        counts = {given.get("minItems"), given.get("maxItems")}
        if counts == {len(first)} and first and all(each == first[0] for each in first):
            return {"items": self._schema(first[0], level, optional)}
        if self._rules.closed:
            raise _CannotHoldError
        written: dict[str, Any] = {
            "prefixItems": [self._schema(each, level, optional) for each in first]
        }
        if items is False:
            written["maxItems"] = len(first)
        elif items is not None:
            written["items"] = self._schema(items, level, optional)
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
        """Return how deep objects stand in objects; of recursive schemas, without references."""
        order = _order({name: {link[0] for link in links} for name, links in self._links.items()})
        if order is None:
            return max(self._levels.values())
        deepest = Counter(self._levels)
        for name in order:
            below = [level + deepest[target] for target, level, _ in self._links.get(name, ())]
            deepest[name] = max(deepest[name], *below, 0)
        return deepest[_ROOT]


def _order(graph: Mapping[str, set[str]]) -> list[str] | None:
    """Return each name after those that it refers to; ``None`` if one refers to itself."""
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError:
        return None


def _is_plain(pattern: str) -> bool:
    r"""Return whether a regular expression has no look-around, back references or word boundaries.

    >>> _is_plain(r"^(?:a|b)\(?\d{3}$"), _is_plain(r"^(?!x)"), _is_plain(r"(a)\1")
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
