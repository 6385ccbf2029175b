"""JSON schemas of real types in the words of each protocol's schema mode."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import importlib
import json
import time
import uuid
from typing import Annotated, Any, Literal, Union

import pytest
from anthropic.lib._parse._transform import transform_schema
from openai.lib._pydantic import to_strict_json_schema
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from providers_sync import (
    Anthropic,
    Gemini,
    InvalidRequestError,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
    dialects,
)
from providers_sync.encoding.schemas import (
    ANTHROPIC,
    GEMINI,
    OLLAMA,
    OPENAI,
    answer_tool,
    response_format,
    schema_words,
)
from providers_sync.testing import ScriptedProvider, text

jsonschema: Any = importlib.import_module("jsonschema")

ALL = {"openai": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI, "ollama": OLLAMA}
OPENAI_WORDS = {
    *("title", "description", "type", "enum", "anyOf", "$ref", "$defs", "properties", "required"),
    *("additionalProperties", "items", "pattern", "format", "multipleOf", "minimum", "maximum"),
    *("exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
}
"""OpenAI guide, "Structured outputs", Supported schemas; ``title`` as its SDK sends it."""
OPENAI_FORMATS = {
    *("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"),
}
ANTHROPIC_WORDS = (
    {*OPENAI_WORDS} - {"pattern", "multipleOf", "minimum", "maximum", "maxItems"}
    - {"exclusiveMinimum", "exclusiveMaximum"}
)  # fmt: skip
GEMINI_WORDS = (
    {*OPENAI_WORDS, "prefixItems"} - {"pattern", "multipleOf"}
    - {"exclusiveMinimum", "exclusiveMaximum"}
)  # fmt: skip


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Step(BaseModel):
    """One step."""

    text: str
    minutes: int = Field(5, ge=1, le=600, description="How long")
    color: Color = Color.RED


class Recipe(BaseModel):
    title: str = Field(min_length=1, max_length=80, examples=["Пирог"])
    main: Step = Field(description="The main step")
    steps: list[Step] = Field(min_length=2)
    note: str | None = None
    default: int
    properties: list[str]
    required: bool
    ref: float = Field(alias="$ref", gt=0, multiple_of=0.5)


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Tree(BaseModel):
    left: Tree | None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, Field(pattern=r"^[A-Z]\w*$")]


class Pets(BaseModel):
    one: Annotated[Union[Cat, Dog], Field(discriminator="kind")]
    any: Union[Cat, Dog, int]
    mixed: Literal[1, "a", None, True]
    sure: Literal[True]


class Scalars(BaseModel):
    model_config = ConfigDict(extra="forbid")
    at: datetime.datetime
    day: datetime.date
    uid: uuid.UUID
    price: decimal.Decimal
    data: bytes
    pair: tuple[int, int]
    many: tuple[int, ...]
    unique: set[str]


class Empty(BaseModel):
    pass


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int


class Typed(TypedDict, total=False):
    a: int


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Box(BaseModel):
    counts: dict[str, int]


class Anything(BaseModel):
    value: Any


class Listed(BaseModel):
    values: list  # type: ignore[type-arg]


class Mixed(BaseModel):
    pair: tuple[int, str]


STEP = {"text": "Mix", "minutes": 5, "color": "red"}
HELD: dict[Any, Any] = {
    Recipe: {
        "title": "Cake", "main": STEP, "steps": [STEP, STEP], "note": None, "default": 1,
        "properties": ["a"], "required": True, "$ref": 1.5,
    },
    Node: {"name": "a", "children": [{"name": "b", "children": []}]},
    Tree: {"left": {"left": None}},
    Pets: {
        "one": {"kind": "dog", "name": "Rex"}, "any": 3, "mixed": "a", "sure": True,
    },
    Scalars: {
        "at": "2026-01-02T03:04:05Z", "day": "2026-01-02", "uid": str(uuid.UUID(int=4)),
        "price": "1.50", "data": "x", "pair": [1, 2], "many": [1], "unique": ["a"],
    },
    Empty: {},
    Typed: {"a": 1},
    Point: {"x": 1, "y": 2},
}  # fmt: skip
"""Types that OpenAI's strict mode holds, each with an answer that fits."""
NOT_HELD: list[Any] = [Open, Box, Anything, Listed, Mixed]


def schema_of(kind: Any) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema()


def detail_of(schema: Any, rules: Any) -> Any:
    """Return what the option has: name, schema, strict."""
    made = response_format(schema, rules)
    assert made is not None
    assert made["type"] == "json_schema"
    return made["json_schema"]


def written(schema: Any, rules: Any = OPENAI) -> Any:
    return detail_of(schema, rules)["schema"]


def property_of(value: Any, rules: Any = OPENAI) -> Any:
    """Return what becomes of the schema of a required property."""
    root = {"type": "object", "properties": {"a": value}, "required": ["a"]}
    return written(root, rules)["properties"]["a"]


def parts(schema: Any) -> list[Any]:
    """Return a schema and all in it, as the checkers below see them."""
    inside = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    inside += [*schema.get("anyOf", ()), *schema.get("prefixItems", ())]
    inside += [schema[word] for word in ("items",) if word in schema]
    more = schema.get("additionalProperties")
    inside += [more] if isinstance(more, dict) else []
    return [schema, *(part for each in inside for part in parts(each))]


def check_strict(schema: Any, words: set[str] = OPENAI_WORDS, *, all_required: bool = True) -> None:
    """Check the rules of OpenAI's strict mode, or of another closed mode."""
    assert schema["type"] == "object"
    for part in parts(schema):
        assert part.keys() <= words, part
        if "$ref" in part:
            assert part.keys() == {"$ref"}
            assert part["$ref"].removeprefix("#/$defs/") in schema["$defs"]
            continue
        assert ("type" in part) != ("anyOf" in part)
        kinds = part.get("type", ())
        if "object" in kinds:
            assert part["additionalProperties"] is False
            assert not all_required or part["required"] == list(part["properties"])
        if "array" in kinds:
            assert "type" in part["items"] or part["items"].keys() & {"$ref", "anyOf"}


@pytest.mark.parametrize("kind", HELD)
def test_strict_schema_is_by_openais_rules(kind: Any) -> None:
    """It is strict, and an answer that fits it validates as the type."""
    given = schema_of(kind)
    before = copy.deepcopy(given)
    detail = detail_of(given, OPENAI)
    assert given == before
    assert detail["strict"] is True
    check_strict(detail["schema"])
    assert all(part.get("format", "uuid") in OPENAI_FORMATS for part in parts(detail["schema"]))
    jsonschema.Draft202012Validator.check_schema(detail["schema"])
    jsonschema.validate(HELD[kind], detail["schema"])
    TypeAdapter(kind).validate_json(json.dumps(HELD[kind]))


@pytest.mark.parametrize("kind", HELD)
def test_answers_fit_the_schemas_of_all_protocols(kind: Any) -> None:
    """Answers with all properties fit, those that are wrong do not."""
    for name, rules in ALL.items():
        made = response_format(schema_of(kind), rules)
        if made is None:
            assert (name, kind) in {("anthropic", Node), ("anthropic", Tree), ("gemini", Tree)}
            continue
        validator = jsonschema.Draft202012Validator(made["json_schema"]["schema"])
        assert validator.is_valid(HELD[kind])
        wrong = {**HELD[kind], **{name: {"wrong": [[]]} for name in HELD[kind]}}
        assert not HELD[kind] or not validator.is_valid(wrong)


@pytest.mark.parametrize("kind", [Step, Recipe, Node, Pets, Empty])
def test_as_openais_own_sdk(kind: Any) -> None:
    """The same answers are accepted as by the schema that the official SDK sends."""
    theirs = to_strict_json_schema(kind)
    ours = written(schema_of(kind))
    answer = HELD.get(kind, STEP)
    for change in ({}, *({name: [[]]} for name in answer), {"extra": 1}):
        changed = {**answer, **change}
        fits = [jsonschema.Draft202012Validator(each).is_valid(changed) for each in (theirs, ours)]
        assert fits[0] == fits[1], changed
    for name in answer:
        without = {key: value for key, value in answer.items() if key != name}
        assert not jsonschema.Draft202012Validator(ours).is_valid(without)


@pytest.mark.parametrize("kind", [Step, Recipe, Pets, Scalars, Empty, Typed, Point])
def test_anthropics_schema(kind: Any) -> None:
    """By its limitations; what is required and accepted is as in the official SDK's schema."""
    ours = written(schema_of(kind), ANTHROPIC)
    check_strict(ours, ANTHROPIC_WORDS, all_required=False)
    theirs = transform_schema(schema_of(kind))
    assert sorted(ours.get("required", ())) == sorted(theirs.get("required", ()))
    answer = HELD.get(kind, STEP)
    for change in ({}, *({name: [[]]} for name in answer), {"extra": 1}):
        changed = {**answer, **change}
        fits = [jsonschema.Draft202012Validator(each).is_valid(changed) for each in (theirs, ours)]
        assert fits[0] or not fits[1], changed


@pytest.mark.parametrize("kind", [*HELD, Box, Mixed, Open])
def test_geminis_schema(kind: Any) -> None:
    """By the keywords that its reference lists, nothing beside ``$ref``; enums of no booleans."""
    if kind is Tree:
        return
    for part in parts(written(schema_of(kind), GEMINI)):
        assert part.keys() <= GEMINI_WORDS
        assert "$ref" not in part or part.keys() == {"$ref"}
        assert not any(isinstance(value, bool) for value in part.get("enum", ()))
        assert part.get("format", "date") in ("date", "date-time", "time")


@pytest.mark.parametrize("kind", NOT_HELD)
def test_not_strict_where_strict_cannot_hold_the_type(kind: Any) -> None:
    """OpenAI gets the type's schema without ``strict``, Anthropic none."""
    detail = detail_of(schema_of(kind), OPENAI)
    assert detail["strict"] is False
    assert detail["schema"]["properties"].keys() == schema_of(kind)["properties"].keys()
    assert response_format(schema_of(kind), ANTHROPIC) is None
    assert (response_format(schema_of(kind), GEMINI) is None) is (kind in (Anything, Listed))


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        {},
        {"description": "any"},
        {"not": {"type": "null"}},
        {"type": "string", "if": {}, "then": {}},
        {"type": "object", "properties": {}, "patternProperties": {"a": {}}},
        {"type": "object"},
        {"type": "object", "properties": {}, "required": ["b"]},
        {"allOf": [{"type": "string"}, {"minLength": 1}]},
        {"type": "string", "allOf": [{"type": "integer"}]},
        {"anyOf": [{"type": "string"}], "type": "string"},
        {"$ref": "#/$defs/A", "properties": {}},
        {"enum": [{"a": 1}]},
        {"enum": ["a"], "properties": {}},
        {"type": "array", "items": False},
        {"type": "array", "prefixItems": [{"type": "null"}, {"type": "null"}]},
    ],
)
def test_not_strict_where_strict_cannot_hold_a_schema(value: Any) -> None:
    """Whatever JSON schema has that OpenAI's strict mode has not."""
    root = {"type": "object", "properties": {"a": value}, "$defs": {"A": {"type": "string"}}}
    assert detail_of(root, OPENAI)["strict"] is False
    assert response_format(root, ANTHROPIC) is None


def test_not_strict_schemas_have_no_mistake_that_openai_always_refuses() -> None:
    """Lists have items, objects properties, and the root is no reference; else as it is."""
    pair = {"type": "array", "prefixItems": [{"type": "string"}, True], "minItems": 2}
    node = {"type": "object", "properties": {"pair": pair, "more": {"type": "object"}}}
    made = written({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
    assert made["properties"] == {
        "pair": {**pair, "prefixItems": [{"type": "string"}, {}], "items": {}},
        "more": {"type": "object", "properties": {}},
    }
    assert made["type"] == "object"
    assert "required" not in made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "string", "minLength": 3, "default": "abc"},
         {"type": "string", "description": 'minLength: 3, default: "abc"'}),
        ({"type": "string", "description": "A name", "x-unit": "é"},
         {"type": "string", "description": 'A name (x-unit: "é")'}),
        ({"type": "integer", "default": None, "minimum": 0, "multipleOf": 2},
         {"type": "integer", "minimum": 0, "multipleOf": 2}),
        ({"type": "string", "format": "uri"}, {"type": "string", "description": 'format: "uri"'}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "pattern": "^(?:a|b){2}$"},
         {"type": "string", "pattern": "^(?:a|b){2}$"}),
        ({"type": "string", "pattern": "^(?!a)"},
         {"type": "string", "description": 'pattern: "^(?!a)"'}),
        ({"oneOf": [{"type": "string"}, {"type": "null"}], "discriminator": {}},
         {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"allOf": [{"type": "string"}], "title": "A", "description": "b"},
         {"title": "A", "description": "b", "type": "string"}),
        ({"enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
        ({"const": 3}, {"type": "integer", "enum": [3]}),
        ({"enum": [1, 2.5]}, {"type": "number", "enum": [2.5, 1]}),
        ({"enum": ["a", 1, None]},
         {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "integer", "enum": [1]},
                    {"type": "null"}]}),
        ({"enum": [False, True]}, {"type": "boolean"}),
        ({"type": ["string", "null"], "deprecated": True}, {"type": ["string", "null"]}),
        ({"properties": {}}, {"type": "object", "properties": {}, "required": [],
                              "additionalProperties": False}),
        ({"items": {"type": "null"}}, {"type": "array", "items": {"type": "null"}}),
        ({"type": "array", "prefixItems": [{"type": "null"}] * 2, "minItems": 2, "maxItems": 2},
         {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 2}),
    ],
)  # fmt: skip
def test_keywords_for_openai(given: Any, expected: Any) -> None:
    """What it does not know is in words."""
    assert property_of(given) == expected


@pytest.mark.parametrize(
    ("given", "rules", "expected"),
    [
        ({"type": "integer", "minimum": 1}, ANTHROPIC,
         {"type": "integer", "description": "minimum: 1"}),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1}, ANTHROPIC,
         {"type": "array", "items": {"type": "null"}, "minItems": 1}),
        ({"type": "array", "items": {"type": "null"}, "minItems": 2}, ANTHROPIC,
         {"type": "array", "items": {"type": "null"}, "description": "minItems: 2"}),
        ({"type": "string", "format": "uri"}, ANTHROPIC, {"type": "string", "format": "uri"}),
        ({"const": True, "description": "Yes"}, GEMINI,
         {"type": "boolean", "description": "Yes (enum: [true])"}),
        ({"type": "number", "exclusiveMinimum": 1, "maximum": 2}, GEMINI,
         {"type": "number", "description": "exclusiveMinimum: 1", "maximum": 2}),
        ({"type": "array", "prefixItems": [{"type": "null"}], "items": False}, GEMINI,
         {"type": "array", "prefixItems": [{"type": "null"}], "maxItems": 1}),
        ({"type": "object", "additionalProperties": {"const": "a"}}, GEMINI,
         {"type": "object", "additionalProperties": {"type": "string", "enum": ["a"]}}),
        ({"type": "string", "pattern": "a", "maxLength": 5}, OLLAMA,
         {"type": "string", "description": 'pattern: "a"', "maxLength": 5}),
        ({"type": "string", "maxLength": 2000}, OLLAMA,
         {"type": "string", "description": "maxLength: 2000"}),
        ({"type": "array", "prefixItems": [True], "items": False}, OLLAMA,
         {"type": "array", "prefixItems": [{}]}),
        ({"title": "Any"}, OLLAMA,
         {"title": "Any", "type": ["object", "array", "string", "integer", "number", "boolean",
                                   "null"]}),
        ({"type": "object", "additionalProperties": True}, OLLAMA,
         {"type": "object", "additionalProperties": True}),
        ({"oneOf": [{"const": 1}], "default": 1}, OLLAMA, {"oneOf": [{"const": 1}], "default": 1}),
    ],
)  # fmt: skip
def test_keywords_for_the_others(given: Any, rules: Any, expected: Any) -> None:
    """By their own lists of keywords."""
    if given.get("prefixItems") == [True]:
        expected = {**expected, "prefixItems": [property_of({}, OLLAMA)]}
    assert property_of(given, rules) == expected


def test_property_names_are_no_keywords() -> None:
    """Nor are definitions' names, nor values of enums and defaults."""
    names = ["default", "title", "properties", "$ref", "required", "$defs", "anyOf", "enum", "not"]
    root = {
        "type": "object",
        "properties": {name: {"$ref": "#/$defs/properties"} for name in names},
        "required": ["title"],
        "$defs": {"properties": {"type": "string", "default": {"$ref": "#/nowhere"}}},
    }
    made = written(root)
    check_strict(made)
    assert list(made["properties"]) == names
    assert written(root, ANTHROPIC)["required"] == ["title"]
    assert written(root, OLLAMA) == root


def test_descriptions_and_titles_survive_beside_references() -> None:
    """A reference of its own stands for what cannot have siblings."""
    made = written(schema_of(Recipe))
    assert made["title"] == "Recipe"
    assert made["properties"]["main"] == {
        "description": "The main step", "anyOf": [{"$ref": "#/$defs/Step"}],
    }  # fmt: skip
    step = made["$defs"]["Step"]
    assert (step["title"], step["description"]) == ("Step", "One step.")
    assert step["properties"]["minutes"]["description"] == "How long (default: 5)"
    title = made["properties"]["title"]
    assert title["description"] == 'examples: ["Пирог"], maxLength: 80, minLength: 1'


def test_definitions_are_found_wherever_they_are() -> None:
    """By any pointer in the schema; those that nothing refers to are left out."""
    root = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/definitions/a~1b c"},
            "b": {"$ref": "#/$defs/a~1b c"},
            "c": {"$ref": "#/properties/li%73t/anyOf/1"},
            "list": {"anyOf": [{"type": "null"}, {"type": "string"}]},
            "self": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        },
        "definitions": {"a/b c": {"const": "one"}, "unused": {}},
        "$defs": {"a/b c": {"const": "two"}},
    }
    made = written(root)
    check_strict(made)
    found = {
        name: made["$defs"][made["properties"][name]["$ref"].removeprefix("#/$defs/")]
        for name in ("a", "b", "c")
    }
    assert [found[name]["type"] for name in found] == ["string"] * 3
    assert (found["a"]["enum"], found["b"]["enum"]) == (["one"], ["two"])
    assert len(made["$defs"]) == 4


def test_root_reference_is_inlined() -> None:
    """As pydantic writes recursive models; what stands beside it is kept."""
    root = {**schema_of(Node), "description": "A tree"}
    assert "properties" not in root
    for rules in (OPENAI, GEMINI, OLLAMA):
        detail = detail_of(root, rules)
        assert detail["name"] == "Node"
        assert detail["schema"]["description"] == "A tree"
        assert detail["schema"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
        assert detail["schema"]["$defs"]["Node"]["properties"].keys() == {"name", "children"}
    old = {"allOf": [{"$ref": "#/$defs/Node"}], "$defs": root["$defs"]}
    assert written(old) == written(schema_of(Node))


def test_recursion() -> None:
    """Anthropic has none; Gemini only in properties that are not required."""
    assert detail_of(schema_of(Tree), OPENAI)["strict"] is True
    assert response_format(schema_of(Node), ANTHROPIC) is None
    assert response_format(schema_of(Tree), GEMINI) is None
    assert response_format(schema_of(Node), GEMINI) is not None


def object_with(number: int, value: Any, *, required: bool = True) -> dict[str, Any]:
    names = [f"p{i}" for i in range(number)]
    root = {"type": "object", "properties": dict.fromkeys(names, value)}
    return {**root, "required": names} if required else root


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    for _ in range(levels - 1):
        schema = object_with(1, schema)
    return schema


def chained(levels: int) -> dict[str, Any]:
    """Return objects in objects, by references."""
    definitions: dict[str, Any] = {
        f"D{i}": object_with(1, {"type": "array", "items": {"$ref": f"#/$defs/D{i + 1}"}})
        for i in range(1, levels)
    }
    definitions[f"D{levels}"] = {"type": "object", "properties": {}}
    return {"$ref": "#/$defs/D1", "$defs": definitions}


STRING = {"type": "string"}
NULLABLE = {"anyOf": [STRING, {"type": "null"}]}


@pytest.mark.parametrize(
    ("rules", "inside", "outside"),
    [
        (OPENAI, nested(10), nested(11)),
        (OPENAI, chained(10), chained(11)),
        (OPENAI, object_with(5000, STRING), object_with(5001, STRING)),
        (OPENAI, object_with(2, {"enum": list(range(500))}),
         object_with(2, {"enum": list(range(501))})),
        (OPENAI, object_with(1, {"enum": [f"{i:060}" for i in range(250)]}),
         object_with(1, {"enum": [f"{i:060}" for i in range(251)]})),
        (OPENAI, object_with(1, {"const": "a" * 119_998}),
         object_with(1, {"const": "a" * 120_000})),
        (ANTHROPIC, object_with(24, STRING, required=False),
         object_with(25, STRING, required=False)),
        (ANTHROPIC, object_with(16, NULLABLE), object_with(17, NULLABLE)),
        (ANTHROPIC, object_with(16, {"type": ["string", "null"]}),
         object_with(17, {"type": ["string", "null"]})),
    ],
)  # fmt: skip
def test_limits(rules: Any, inside: Any, outside: Any) -> None:
    """Of levels, properties, values of enums, characters, optional properties and unions."""

    def is_held(schema: Any) -> bool:
        made = response_format(schema, rules)
        return made is not None and made["json_schema"].get("strict", True)

    assert is_held(inside)
    assert not is_held(outside)


def defined(value: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": value},
            **more}  # fmt: skip


def deep(levels: int) -> Any:
    schema: Any = STRING
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return defined(schema)


def doubled() -> Any:
    """Return a small object of 2**40 values, by sharing."""
    schema: Any = {"type": "object", "properties": {}}
    for _ in range(40):
        schema = {"type": "object", "properties": {"a": schema, "b": schema}}
    return schema


def endless() -> Any:
    schema: dict[str, Any] = {"type": "object"}
    schema["properties"] = {"a": schema}
    return schema


LONG = {f"A{i}": {"$ref": f"#/$defs/A{i + 1}"} for i in range(200)}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "schema must be a dict, not list"),
        (defined({"$ref": "#/$defs/A"}), "'#/\\$defs/A', which points to itself"),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/A"}}}, "points to itself"),
        ({"$ref": "#"}, "points to itself"),
        ({"allOf": [{"$ref": "#"}]}, "root"),
        (defined({"$ref": "#/$defs/B"}), "'#/\\$defs/B', which points to nothing: add 'B'"),
        (defined({"$ref": "#/properties/a/x"}), "points to nothing"),
        (defined({"$ref": "https://example.com/a"}), "points outside.*#/\\$defs/"),
        (defined({"$ref": "#A"}), "points outside"),
        (defined({"$ref": 5}), "reference 5"),
        ({**defined(STRING), "$defs": {**LONG, "A": LONG["A0"]}}, "to too many others"),
        (deep(100), "more than 100 levels.*\\$defs"),
        (endless(), "more than 100 levels"),
        ({"type": "array"}, "type 'object' at its root"),
        ({"anyOf": [{"type": "object"}]}, "type 'object' at its root"),
        (defined(5), r"#/\$defs/A must be a JSON schema"),
        (defined({"type": "text"}), "type must be one of object"),
        (defined({"type": []}), "type must not be empty"),
        (defined({"type": [["a"]]}), "type must be one of"),
        (defined({"anyOf": []}), "anyOf must not be empty"),
        (defined({"anyOf": {}}), "anyOf must be a list"),
        (defined({"enum": "a"}), "enum must be a list"),
        (defined({"properties": []}), "properties must be a dict"),
        (defined({"required": [1]}), "required must be a list of names"),
        (defined({"items": [STRING]}), "prefixItems"),
        (defined({"maxLength": "3"}), "maxLength must be a number"),
        (defined({"title": 3}), "title must be text"),
        (defined({"default": float("nan")}), r"schema.\$defs.A.default must be a JSON value"),
        (defined({"default": b"a"}), "must be a JSON value"),
        (defined({"default": {1: 2}}), "keys must be text"),
    ],
)
def test_wrong_and_hostile_schemas(schema: Any, message: str) -> None:
    """The error names the item, whatever becomes of the schema, and comes soon."""
    started = time.monotonic()
    uses = [schema_words, answer_tool]
    uses += [lambda given, rules=rules: response_format(given, rules) for rules in ALL.values()]
    for use in uses:
        with pytest.raises(InvalidRequestError, match=message):
            use(schema)
    assert time.monotonic() - started < 5


def test_small_objects_that_are_huge_as_json() -> None:
    """The error comes before the copy is made."""
    with pytest.raises(InvalidRequestError, match="more than 100000 values"):
        schema_words(doubled())


def test_references_are_never_expanded() -> None:
    """A schema that would be huge when expanded stays small; a union of itself ends."""
    definitions: dict[str, Any] = {
        f"A{i}": object_with(2, {"$ref": f"#/$defs/A{i + 1}", "description": "d"})
        for i in range(60)
    }
    definitions["A60"] = {"anyOf": [{"$ref": "#/$defs/A60"}, {"type": "null"}]}
    root = {"$ref": "#/$defs/A0", "$defs": definitions}
    for rules in ALL.values():
        made = response_format(root, rules)
        assert len(json.dumps(made)) < 20_000


@pytest.mark.parametrize(
    ("title", "name"),
    [("Recipe", "Recipe"), ("Box[int]", "Box_int_"), ("", "answer"), ("a" * 70, "a" * 64)],
)
def test_name(title: str, name: str) -> None:
    """Letters, digits, underscores and dashes; 64 at most."""
    assert detail_of({"type": "object", "title": title}, OPENAI)["name"] == name


def test_words() -> None:
    """The schema is compact, in its own letters, without a reference at its root."""
    words = schema_words({"type": "object", "description": "Пирог", "properties": {"a": STRING}})
    assert words.startswith("Answer with JSON only")
    assert words.endswith(
        '{"type":"object","description":"Пирог","properties":{"a":{"type":"string"}}}'
    )
    assert '"$ref":"#/$defs/Node"' in schema_words(schema_of(Node))
    assert ': {"$' not in schema_words(schema_of(Node))


KINDS = {
    OpenAICompatible: (OPENAI, dialects.OPENAI),
    OpenAIResponses: (OPENAI, dialects.RESPONSES),
    Anthropic: (ANTHROPIC, dialects.ANTHROPIC),
    Gemini: (GEMINI, dialects.GEMINI),
    Ollama: (OLLAMA, dialects.OLLAMA),
}


@pytest.mark.parametrize("kind", KINDS)
def test_gateway_reads_what_providers_send(kind: Any) -> None:
    """Each schema goes through the provider and the gateway as it is, so does the tool."""
    rules, dialect = KINDS[kind]
    for given in map(schema_of, [*HELD, *NOT_HELD]):
        answer = response_format(given, rules)
        tool = answer_tool(given)
        options: dict[str, Any] = {"response_format": answer} if answer else {"tools": [tool]}
        provider = ScriptedProvider([text("ok")], like=kind("m", api_key="k"))
        provider.complete("Hi", **options)
        path = {"call": "m:streamGenerateContent"} if kind is Gemini else {}
        read = dialect.read(json.loads(provider.requests[0].body), **path)
        if answer:
            sent = read.options["response_format"]["json_schema"]["schema"]
            assert sent == answer["json_schema"]["schema"]
        else:
            function = read.options["tools"][0]["function"]
            assert function["parameters"] == tool["function"]["parameters"]
