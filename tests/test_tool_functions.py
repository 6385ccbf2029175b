"""Functions as tools: the schema that a model sees, the arguments it gives, the result it reads."""

from __future__ import annotations

import array
import asyncio
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from typing_extensions import Doc, TypedDict

from providers_sync import (
    Anthropic,
    CancelToken,
    Gemini,
    InvalidRequestError,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
)
from providers_sync.testing import ScriptedProvider
from providers_sync.tools.docstrings import split_docstring
from providers_sync.tools.results import NOTHING, result_text
from providers_sync.tools.tool import InvalidArguments, Tool, as_tools

TOKEN = CancelToken()
ROOT = Path(__file__).parent.parent


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return next((each for each in cls if each.value == str(value).lower()), None)


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Place(BaseModel):
    """A place on a map."""

    name: str
    parts: list[Place] = []


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    a: int


UserId = NewType("UserId", int)


def weather(city: str, days: int = 1) -> str:
    """Return the weather.

    Args:
        city: Where.
        days: How many days.
    """
    return f"{city}: {days}"


def of_type(annotation: Any, **default: Any) -> Tool:
    """Return a tool whose only parameter ``x`` has this annotation, and which returns it."""
    got: list[Any] = []

    def show(x: Any) -> str:
        got.append(x)
        return "ok"

    show.__annotations__ = {"x": annotation}
    show.__defaults__ = tuple(default.values()) or None
    show.got = got  # type: ignore[attr-defined]
    return Tool(show)


def x_schema(annotation: Any, **default: Any) -> Any:
    return of_type(annotation, **default).parameters["properties"]["x"]


def value_of(annotation: Any, value: Any) -> Any:
    """Return what a function gets for a plain value."""
    tool = of_type(annotation)
    tool.bind({"x": value}, TOKEN)()
    return tool.function.got[0]  # type: ignore[attr-defined]


def words(tool: Tool, arguments: Any) -> str:
    """Return what the model is told about wrong arguments."""
    with pytest.raises(InvalidArguments) as caught:
        tool.bind(arguments, TOKEN)
    return str(caught.value)


def call(tool: Tool, **arguments: Any) -> str:
    return tool.bind(arguments, TOKEN)()


# --- schemas


def test_function_is_a_tool_in_the_form_of_openai() -> None:
    assert Tool(weather).schema == {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Return the weather.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where."},
                    "days": {"type": "integer", "description": "How many days.", "default": 1},
                },
                "required": ["city"],
                "additionalProperties": False,
            },
        },
    }


def test_function_without_parameters_and_docstring() -> None:
    def ping() -> None:
        pass

    assert Tool(ping).schema["function"] == {
        "name": "ping",
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
    }


STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
NULL, BOOLEAN, COLOR = {"type": "null"}, {"type": "boolean"}, {"enum": ["red", "blue"], **STRING}


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, STRING),
        (int, INTEGER),
        (float, NUMBER),
        (bool, BOOLEAN),
        (None, NULL),
        (Any, {}),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}),
        (Literal["a", 1, None], {"enum": ["a", 1, None]}),
        (Union[str, None], {"anyOf": [STRING, NULL]}),
        (Union[int, str], {"anyOf": [INTEGER, STRING]}),
        (int | None, {"anyOf": [INTEGER, NULL]}),
        (list[int], {"type": "array", "items": INTEGER}),
        (list, {"type": "array", "items": {}}),
        (Sequence[list[str]], {"type": "array", "items": {"type": "array", "items": STRING}}),
        (dict[str, float], {"type": "object", "additionalProperties": NUMBER}),
        (Mapping[str, Any], {"type": "object", "additionalProperties": True}),
        (dict, {"type": "object", "additionalProperties": True}),
        (Color, COLOR),
        (list[Color] | None, {"anyOf": [{"type": "array", "items": COLOR}, NULL]}),
        (Size, {"enum": [1, 2], "type": "integer"}),
        (UserId, INTEGER),
        (Annotated[str, "A city."], {"type": "string", "description": "A city."}),
        (Annotated[str, Doc("A city.")], {"type": "string", "description": "A city."}),
        (
            list[Annotated[str, "A city."]],
            {"type": "array", "items": {"type": "string", "description": "A city."}},
        ),
        ("int | None", {"anyOf": [INTEGER, NULL]}),
        ("list['Color']", {"type": "array", "items": COLOR}),
        # by pydantic
        (datetime.date, {"type": "string", "format": "date"}),
        (set[int], {"type": "array", "items": INTEGER, "uniqueItems": True}),
        (Annotated[int, Field(ge=1)], {"type": "integer", "minimum": 1}),
        (Annotated[int, Field(description="Days.")], {"type": "integer", "description": "Days."}),
        (Annotated[datetime.date, "A day."],
         {"type": "string", "format": "date", "description": "A day."}),
        (dict[int, str], {"type": "object", "additionalProperties": STRING}),
    ],
    ids=str,
)  # fmt: skip
def test_annotation_becomes_a_schema(annotation: Any, schema: Any) -> None:
    assert x_schema(annotation) == schema


def test_parameter_without_annotation_takes_any_value() -> None:
    assert Tool(lambda x: x, name="any").parameters["properties"] == {"x": {}}


@pytest.mark.parametrize(
    ("annotation", "default", "schema"),
    [
        (str, "a", {**STRING, "default": "a"}),
        (Any, None, {"default": None}),
        (str, None, {"anyOf": [STRING, NULL], "default": None}),
        (Union[str, None], None, {"anyOf": [STRING, NULL], "default": None}),
        (list[int], (1, 2), {"type": "array", "items": INTEGER, "default": [1, 2]}),
        (Color, Color.RED, {**COLOR, "default": "red"}),
        (Any, object(), {}),
        (float, math.inf, NUMBER),
        (str, "a" * 2000, STRING),
    ],
    ids=str,
)
def test_default_value_is_told_if_json_can_and_is_not_required(
    annotation: Any, default: Any, schema: Any
) -> None:
    tool = of_type(annotation, default=default)
    assert tool.parameters["properties"]["x"] == schema
    assert "required" not in tool.parameters
    tool.bind({}, TOKEN)()
    assert tool.function.got == [default]  # type: ignore[attr-defined]


def test_definitions_of_pydantic_stand_at_the_root() -> None:
    """Two models of one name stay two; the same model stands there once."""

    def other() -> Any:
        class Place(BaseModel):
            """Another one."""

            zip: str

        class Box(BaseModel):
            place: Place

        return Box, Place

    box, place = other()

    class Road(BaseModel):
        start: Place

    def go(a: Any, b: Any, c: Any, d: Any, e: Any) -> None:
        """Go.

        Args:
            a: From here.
        """

    go.__annotations__ = {"a": Place, "b": list[Place], "c": Road, "d": box, "e": place}
    parameters = Tool(go).parameters
    properties = parameters["properties"]
    assert properties["a"] == {"$ref": "#/$defs/Place", "description": "From here."}
    assert properties["b"]["items"] == properties["c"]["properties"]["start"]
    assert properties["d"]["properties"]["place"] == {"$ref": "#/$defs/Place_2"}
    definitions = parameters["$defs"]
    assert {*definitions} == {"Place", "Place_2"}
    assert definitions["Place"]["properties"]["parts"]["items"] == {"$ref": "#/$defs/Place"}
    assert {*definitions["Place_2"]["properties"]} == {"zip"}


def test_description_next_to_the_parameter_wins() -> None:
    def find(a: Annotated[str, "Own."], b: Annotated[Point, "Own."], c: Point) -> None:
        """Find.

        :param a: docstring
        :param b: docstring
        :param c: docstring
        """

    properties = Tool(find).parameters["properties"]
    assert [properties[name]["description"] for name in "abc"] == ["Own.", "Own.", "docstring"]


# --- callables


class Station:
    """Reports."""

    needs_approval = True

    def __init__(self, name: str = "North") -> None:
        self.name = name

    def report(self, day: str, cancel: CancelToken) -> str:
        """Return a report."""
        assert cancel is TOKEN
        return f"{self.name} {day}"

    @classmethod
    def count(cls, limit: int) -> str:
        """Count."""
        return f"{cls.__name__} {limit}"

    @staticmethod
    def ping(host: str) -> str:
        """Ping."""
        return host

    def __call__(self, hour: int) -> str:
        return f"{self.name} {hour}"


def positional(a: int, b: int = 2, /, c: int = 3, *, d: int = 4) -> str:
    return f"{a}{b}{c}{d}"


def loud(function: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> str:
        return function(*args, **kwargs).upper()

    return wrapper


@pytest.mark.parametrize(
    ("function", "name", "description", "arguments", "result"),
    [
        (Station().report, "report", "Return a report.", {"day": "Mon"}, "North Mon"),
        (Station.count, "count", "Count.", {"limit": 3}, "Station 3"),
        (Station.ping, "ping", "Ping.", {"host": "a"}, "a"),
        (Station("South"), "Station", "Reports.", {"hour": 3}, "South 3"),
        (functools.partial(weather, "Rome"), "weather", "Return the weather.", {"days": 2},
         "Rome: 2"),
        (functools.partial(weather, days=5), "weather", "Return the weather.", {"city": "Rome"},
         "Rome: 5"),
        (functools.partial(functools.partial(weather, days=5), city="Rome"), "weather",
         "Return the weather.", {}, "Rome: 5"),
        (functools.partial(Station().report, cancel=TOKEN), "report", "Return a report.",
         {"day": "Mon"}, "North Mon"),
        (loud(weather), "weather", "Return the weather.", {"city": "Rome", "days": 2}, "ROME: 2"),
        (positional, "positional", "", {"a": 1}, "1234"),
        (positional, "positional", "", {"a": 1, "c": 7}, "1274"),
        (positional, "positional", "", {"d": 9, "b": 8, "a": 1, "c": 7}, "1879"),
        (functools.partial(positional, 5), "positional", "", {"b": 6}, "5634"),
    ],
)  # fmt: skip
def test_callable_of_every_kind_is_a_tool(
    function: Any, name: str, description: str, arguments: dict[str, Any], result: str
) -> None:
    """Its name, its docstring; what is bound is not in the schema; and it is called."""
    tool = Tool(function)
    names = [*arguments]
    if name == "positional":
        names = ["a", "b", "c", "d"][isinstance(function, functools.partial) :]
    assert (tool.name, tool.description) == (name, description)
    assert [*tool.parameters["properties"]] == names
    assert call(tool, **arguments) == result


def test_function_in_c_is_called_by_position() -> None:
    """``math.factorial`` names its parameter differently from version to version."""
    (name,) = Tool(math.factorial).parameters["properties"]
    assert call(Tool(math.factorial), **{name: 5}) == "120"


def test_docstring_of_a_dataclass_is_no_description() -> None:
    """``Point(x: int, y: int = 0)`` is written by Python."""

    @dataclasses.dataclass
    class Adder:
        amount: int

        def __call__(self, x: int) -> int:
            return x + self.amount

    assert (Tool(Adder(2)).description, call(Tool(Adder(2)), x=1)) == ("", "3")


@pytest.mark.parametrize(
    "annotation",
    [CancelToken, CancelToken | None, Union[CancelToken, None], "CancelToken",
     Annotated[CancelToken, "stop"], "CancelToken | None"],
    ids=str,
)  # fmt: skip
def test_cancel_token_is_given_and_not_in_the_schema(annotation: Any) -> None:
    tool = of_type(annotation)
    assert tool.parameters["properties"] == {}
    tool.bind({}, TOKEN)()
    assert tool.function.got == [TOKEN]  # type: ignore[attr-defined]
    assert "x: is unknown" in words(tool, {"x": None})


def test_tool_is_pickled_and_copied() -> None:
    tool = Tool(weather, name="sky", description="D", needs_approval=True)
    own = Tool(weather, parameters={"properties": {"city": {"type": "string"}}})
    for each in (pickle.loads(pickle.dumps(tool)), copy.copy(tool), copy.deepcopy(tool)):
        assert (each.name, each.description, each.needs_approval) == ("sky", "D", True)
        assert call(each, city="Rome") == "Rome: 1"
    assert pickle.loads(pickle.dumps(own)).parameters == own.parameters
    assert repr(tool) == "<Tool sky(city, days)>"


@pytest.mark.parametrize(
    ("function", "given", "needed"),
    [
        (weather, None, None),
        (weather, True, True),
        (Station(), None, True),
        (Station(), False, False),
        (functools.partial(Station(), 3), None, True),
    ],
)
def test_approval_is_given_or_an_attribute_of_the_function(
    function: Any, given: bool | None, needed: bool | None
) -> None:
    assert Tool(function, needs_approval=given).needs_approval is needed


def test_approval_of_a_method_and_its_partial() -> None:
    def send(text: str) -> None: ...

    send.needs_approval = True  # type: ignore[attr-defined]
    assert Tool(send).needs_approval is True
    assert Tool(functools.partial(send, "a")).needs_approval is True
    assert Tool(loud(send)).needs_approval is True  # type: ignore[arg-type]


# --- refused


async def later() -> str:
    return "x"


async def many() -> Any:
    yield 1


def one_by_one() -> Iterator[int]:
    yield 1


class Waiting:
    async def __call__(self) -> None: ...


def hidden(day: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def inner_hidden(days: list[Missing]) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def starred(*cities: str) -> None: ...


def keywords(**more: str) -> None: ...


def field_default(day: int = Field(3, description="D")) -> None: ...


def socket_like(a: str, connection: object | CancelToken | subprocess.Popen[str]) -> None: ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (later, "later is async.*asyncio.run"),
        (many, "many is async"),
        (functools.partial(later), "later is async"),
        (Waiting(), "Waiting is async"),
        (one_by_one, "one_by_one is a generator: make it return a list"),
        (Station, "Station is a class"),
        (functools.partial(Station), "Station is a class"),
        ("weather", "must be a function, not str"),
        (None, "must be a function, not NoneType"),
        (lambda x: x, r"'<lambda>' is not a valid tool name: use Tool\(function, name=…\)"),
        (starred, r"tool 'starred': \*cities does not tell.*a list"),
        (keywords, r"\*\*more does not tell.*parameters="),
        (Station.report, r"Station.report has no object.*Station\(…\).report"),
        (hidden, "tool 'hidden': the parameter 'day' is annotated as 'Missing'.*import or define"),
        (inner_hidden, r"'days' is annotated as 'list\[Missing\]'"),
        (field_default, r"'day' has pydantic's Field.*Annotated"),
        (socket_like, "'connection' is annotated as.*pydantic has no JSON schema.*partial"),
        (max, r"'max': Python cannot inspect the parameters.*parameters=…"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_a_remedy(function: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        Tool(function)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"name": ""}, "'' is not a valid tool name: use 1 to 64"),
        ({"name": "a b"}, "'a b' is not a valid tool name"),
        ({"name": "a" * 65}, "is not a valid tool name"),
        ({"name": 3}, "3 is not a valid tool name"),
        ({"needs_approval": "yes"}, "needs_approval of the tool 'weather' must be True, False"),
        ({"description": 3}, "description of the tool 'weather' must be text"),
        ({"parameters": [1]}, "parameters= of the tool 'weather' must be a JSON schema"),
        ({"parameters": {"a": {1}}}, "is not JSON"),
        ({"parameters": {"a": math.nan}}, "is not JSON"),
        ({"parameters": {"type": "array"}}, "must be the schema of an object"),
        ({"parameters": {"properties": []}}, "must be the schema of an object"),
        (
            {"parameters": {"properties": {"a": {"type": "text"}}}},
            "not a valid JSON schema: 'text'",
        ),
    ],
)
def test_wrong_settings_are_refused(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        Tool(weather, **settings_)


def test_annotation_of_the_result_need_not_be_known() -> None:
    """Nor those of bound parameters: programs import types for type checkers only."""

    def show(city: str, session: Missing = None) -> Missing:  # type: ignore[name-defined]  # noqa: F821
        return city

    assert call(Tool(functools.partial(show, session=1)), city="Rome") == "Rome"


# --- arguments


@pytest.mark.parametrize(
    ("annotation", "said", "value"),
    [
        (int, 5.0, 5),
        (float, 5, 5.0),
        (float | int, 5, 5),
        (int | float, 5.0, 5.0),
        (Union[float, str], 5, 5.0),
        (Color, "red", Color.RED),
        (Color, "RED", Color.RED),
        (Color | str, "red", Color.RED),
        (Color | str, "green", "green"),
        (Size | None, 2, Size.LARGE),
        (Size, 2.0, Size.LARGE),
        (dict[str, list[Color]], {"a": ["blue"]}, {"a": [Color.BLUE]}),
        (list[int] | int, [1.0], [1]),
        (Literal[1, "1"], "1", "1"),
        (None, None, None),
        (UserId, 3, 3),
        # by pydantic
        (datetime.date, "2026-11-28", datetime.date(2026, 11, 28)),
        (Point, {"x": 1}, Point(1)),
        (list[Place], [{"name": "a"}], [Place(name="a")]),
        (Row | None, {"a": 1}, {"a": 1}),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
    ],
    ids=str,
)
def test_argument_is_of_the_type(annotation: Any, said: Any, value: Any) -> None:
    got = value_of(annotation, said)
    assert got == value
    assert type(got) is type(value)


HUGE = "x" * 10_000


@pytest.mark.parametrize(
    ("annotation", "said", "message"),
    [
        (str, 1, "x: must be a string, not an integer"),
        (int, True, "x: must be an integer, not a boolean"),
        (int, 5.5, "x: must be an integer, not a number"),
        (int, "5", "x: must be an integer, not a string"),
        (float, False, "x: must be a number, not a boolean"),
        (float, 10**400, "x: is too large a number"),
        (bool, 1, "x: must be true or false, not an integer"),
        (list[int], [1, "a"], "x[1]: must be an integer, not a string"),
        (list[int], {}, "x: must be an array, not an object"),
        (dict[str, int], {"a": None}, "x.a: must be an integer, not null"),
        (dict, [], "x: must be an object, not an array"),
        (Literal["a", 1], "b", 'x: must be one of "a", 1, not "b"'),
        (Literal[1], True, "x: must be one of 1, not a boolean"),
        (Size, True, "x: must be one of 1, 2, not a boolean"),
        (Color, HUGE, 'x: must be one of "red", "blue", not a string'),
        (Color, [], 'x: must be one of "red", "blue", not an array'),
        (int | None, "a", "x: must be an integer or null, not a string"),
        (list[int] | None, ["a"], "x[0]: must be an integer, not a string"),
        (Point, {"x": "a"}, "x.x: Input should be a valid integer, unable to parse string as an "
         "integer"),
        (list[Point], [{"x": 1}, {}], "x[1].x: Field required"),
        (Annotated[int, Field(ge=1)], 0, "x: Input should be greater than or equal to 1"),
    ],
    ids=lambda each: str(each)[:30],
)  # fmt: skip
def test_wrong_argument_is_told_where_and_why(annotation: Any, said: Any, message: str) -> None:
    assert words(of_type(annotation), {"x": said}) == message


def test_every_mistake_is_told_on_a_line_of_its_own() -> None:
    def plan(city: str, days: int, unit: str = "C") -> None: ...

    tool = Tool(plan)
    assert words(tool, {"days": "a", "unit": None, "town": HUGE}).splitlines() == [
        "town: is unknown (known: city, days, unit); leave it out",
        "city: is missing",
        "days: must be an integer, not a string",
        "unit: must be a string, not null; leave it out for the default",
    ]
    assert words(tool, [1]) == "the arguments: must be an object, not an array"


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": [HUGE] * 100},
        {"x": {HUGE: HUGE}},
        {HUGE + str(i): 1 for i in range(100)},
        {"x": [{"x": HUGE}] * 100},
    ],
)
@pytest.mark.parametrize("annotation", [list[int], dict[str, int], list[Point]])
def test_message_is_bounded(annotation: Any, arguments: dict[str, Any]) -> None:
    said = words(of_type(annotation), arguments)
    assert max(map(len, said.splitlines())) <= 301
    assert said.count("\n") <= 21
    own = Tool(print, name="own", parameters={"properties": {"x": {"type": "integer"}}})
    assert len(words(own, {"x": [HUGE] * 10})) <= 301


def test_function_cannot_change_what_the_model_said() -> None:
    """Its arguments are sent again with the next request, and written to a journal."""

    def spoil(a: Any, b: list, c: dict[str, list[int]]) -> None:  # type: ignore[type-arg]
        a.clear(), b[0].clear(), c["k"].clear()

    said = {"a": {"x": 1}, "b": [[1]], "c": {"k": [1]}}
    before = copy.deepcopy(said)
    Tool(spoil).bind(said, TOKEN)()
    own = Tool(lambda **all_: all_["a"].clear(), name="own", parameters={"type": "object"})
    own.bind(said, TOKEN)()
    assert said == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
TYPES = st.recursive(
    st.sampled_from([str, int, float, bool, None, Any, Color, Size, Literal["a", 1, None]]),
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: dict[str, kind]),  # type: ignore[valid-type]
        st.tuples(inner, inner).map(lambda kinds: Union[kinds]),
    ),
    max_leaves=4,
)


@settings(max_examples=150, deadline=None)
@given(kind=TYPES, value=JSON)
def test_arguments_fit_exactly_if_they_fit_the_schema(kind: Any, value: Any) -> None:
    """The model is told by jsonschema's rules what it may say; 5.0 is an integer by those."""
    import jsonschema

    tool = of_type(kind)
    fits = jsonschema.Draft202012Validator(tool.parameters).is_valid({"x": value})
    said = ""
    try:
        tool.bind({"x": value}, TOKEN)
    except InvalidArguments as error:
        said = str(error)
    assert fits == (not said)
    assert said[:1] in ("", "x")


# --- a schema of one's own


OWN = {
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
    "required": ["city"],
}


def test_schema_of_ones_own_is_used_and_validated() -> None:
    def anything(**arguments: Any) -> Any:
        """Take anything."""
        return arguments

    tool = Tool(anything, parameters=OWN)
    assert tool.parameters == {"type": "object", **OWN}
    assert call(tool, city="Rome", days=2) == '{"city": "Rome", "days": 2}'
    assert words(tool, {"city": 1, "days": 0}).splitlines() == [
        "city: 1 is not of type 'string'",
        "days: 0 is less than the minimum of 1",
    ]
    assert words(tool, {}) == "the arguments: 'city' is a required property"


def test_schema_of_ones_own_and_a_signature() -> None:
    """The token is given; what the function does not take is the model's mistake, not a crash."""

    def report(city: str, /, cancel: CancelToken, day: Missing = None) -> str:  # type: ignore[name-defined]  # noqa: F821
        assert cancel is TOKEN
        return city

    tool = Tool(report, parameters={"type": "object"})
    assert call(tool, city="Rome") == "Rome"
    assert "unexpected keyword argument 'town'" in words(tool, {"city": "Rome", "town": 1})
    assert "missing a required" in words(tool, {})


def test_schema_of_ones_own_needs_no_jsonschema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    tool = Tool(lambda **given: given, name="own", parameters=OWN)
    assert call(tool, city=1) == '{"city": 1}'


# --- results


class Pair(NamedTuple):
    a: int
    b: str


class Loop(list[Any]):
    pass


LOOP = Loop()
LOOP += [1, LOOP, LOOP]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("plain \n text", "plain \n text"),
        (None, NOTHING),
        (True, "true"),
        (1.5, "1.5"),
        (math.nan, "nan"),
        ([math.inf, None], '["inf", null]'),
        ({"a": 1, 2: "é", None: 3, Color.RED: 4}, '{"a": 1, "2": "é", "null": 3, "red": 4}'),
        ((1, 2), "[1, 2]"),
        ({3, 1, 2}, "[1, 2, 3]"),
        ({1, "a"}, '["a", 1]'),
        (Pair(1, "x"), '{"a": 1, "b": "x"}'),
        ([Point(1), Place(name="a")], '[{"x": 1, "y": 0}, {"name": "a", "parts": []}]'),
        (datetime.datetime(2026, 11, 28, 9, 30), "2026-11-28T09:30:00"),
        ([datetime.timedelta(hours=1)], '["1:00:00"]'),
        ([decimal.Decimal("1.10"), Path("/a")], '["1.10", "/a"]'),
        (Color.RED, "red"),
        (Size.LARGE, "2"),
        (b"text", "text"),
        (b"\xff\xfe", "//4="),
        (collections.deque([1]), "[1]"),
        ({"a": 1}.values(), "[1]"),
        (map(str, [1]), '["1"]'),
        (collections.OrderedDict(a=1), '{"a": 1}'),
        (ValueError("bad"), "ValueError: bad"),
        (LOOP, '[1, "…", "…"]'),
        ("file\udcff", "file\\udcff"),
        (complex(1, 2), "(1+2j)"),
        (Point, f"{Point!s}"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_result_becomes_text(result: Any, text: str) -> None:
    assert Tool(lambda: result, name="t").bind({}, TOKEN)() == text


def test_array_becomes_a_list() -> None:
    """One of NumPy has the same method."""
    assert result_text([array.array("d", [1.5])], "t") == "[[1.5]]"


def test_result_of_any_depth_becomes_text() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert result_text(deep, "t").startswith("[[[")
    while deep:
        deep = deep.pop()  # else freeing it takes Python's stack


def test_exception_of_the_function_passes_through() -> None:
    def fail() -> None:
        raise KeyError("here")

    with pytest.raises(KeyError, match="here"):
        Tool(fail).bind({}, TOKEN)()


@pytest.mark.parametrize("made", [later, many, lambda: asyncio.Future(loop=LOOP_OF_EVENTS)])
def test_awaitable_result_is_an_error_that_says_async(made: Any) -> None:
    """A function that hides that it is async; Python's warning would fail this test."""
    with pytest.raises(TypeError, match=r"the tool 'hiding' returned a \w+.*is async.*asyncio.run"):
        Tool(lambda: made(), name="hiding").bind({}, TOKEN)()


class _Events:
    """Of an event loop, what a ``Future`` asks for when it is made."""

    def get_debug(self) -> bool:
        return False


LOOP_OF_EVENTS: Any = _Events()


# --- docstrings


NAMES = ("city", "days", "mode", "unit", "x", "y")


@pytest.mark.parametrize(
    ("doc", "kept", "found"),
    [
        ("Only text.", "Only text.", {}),
        ("", "", {}),
        # Google
        (
            """Get it.

            More text.

            Args:
                city (str, optional): The city,
                    such as "Paris: France".
                days (Optional[Dict[str, Tuple[int, (int)]]]) : How many.
                mode: One of:
                    - "fast": quick results
                    - "deep": a
                      long scan
                unit:
                    On the next line.

                    Second paragraph.

            Returns:
                str: The weather.

            Raises:
                ValueError: city: is unknown.
            """,
            "Get it.\n\nMore text.\n\nReturns:\n    str: The weather.\n\nRaises:\n"
            "    ValueError: city: is unknown.",
            {
                "city": 'The city, such as "Paris: France".',
                "days": "How many.",
                "mode": 'One of:\n- "fast": quick results\n- "deep": a long scan',
                "unit": "On the next line.\nSecond paragraph.",
            },
        ),
        ("Get it.\nArgs:\n    city: A.\n    days: B.\nReturns:\n    C.",  # no blank lines
         "Get it.\nReturns:\n    C.", {"city": "A.", "days": "B."}),
        ("Get it.\n\n\tArgs:\n\t\tcity (str): A\n\t\t\tB\n\t\tdays: C\n\tReturns:\n\t\tD",  # tabs
         "Get it.\n\nReturns:\n        D", {"city": "A B", "days": "C"}),
        ("Get it.\n\nArgs:\ncity: A\ndays (int): B\n\nMore.", "Get it.\n\nMore.",  # not indented
         {"city": "A", "days": "B"}),
        ("Args:\n    city: A\n    old (int): gone\n    days: B", "", {"city": "A", "days": "B"}),
        ("G.\nParameters:\n  - `city`: A\n  - **days** (int): B\n  * mode - C", "G.",
         {"city": "A", "days": "B", "mode": "C"}),
        ("G.\nArgs:\n  unit: `C` or `F`\n  city: Example: x\n  Note: y", "G.",
         {"unit": "`C` or `F`", "city": "Example: x Note: y"}),
        ("G.\nArgs:\n    None\n", "G.", {}),
        ("G.\n\nArgs:\n\nMore.", "G.\n\nMore.", {}),
        ("G.\n\nExample:\n    Args:\n        city: no",
         "G.\n\nExample:\n    Args:\n        city: no", {}),
        ("G.\n\nKeyword Arguments:\n    city: A", "G.", {"city": "A"}),
        ("G.\n\nArguments: city and days.", "G.\n\nArguments: city and days.", {}),
        # NumPy
        (
            """Get it.

            Parameters
            ----------
            city : str, optional
                The city,
                such as Paris.
            days: {1, 2}, default 1
                How many.

                Not more.
            x, y : int
                Where.
            unit
            old : int
                Gone.

            Returns
            -------
            str
                The weather.
            """,
            "Get it.\n\nReturns\n-------\nstr\n    The weather.",
            {
                "city": "The city, such as Paris.",
                "days": "How many.\nNot more.",
                "x": "Where.",
                "y": "Where.",
            },
        ),
        ("G.\nParameters\n----------\ncity : str\n    A\n\nSome more text.", "G.\nSome more text.",
         {"city": "A"}),
        ("G.\n\nParameters:\n-----------\n    city : str\n        A\n", "G.", {"city": "A"}),
        # reST
        (
            """Get it.

            :param city: The city,
                such as Paris.
            :type city: str
            :param dict[str, int] days: How many.
            :parameter mode: One of: a
            or b
            :keyword unit: U
            :param old: gone
            :returns: The weather.
            :raises ValueError: if not.
            """,
            "Get it.\n\n:returns: The weather.\n:raises ValueError: if not.",
            {
                "city": "The city, such as Paris.",
                "days": "How many.",
                "mode": "One of: a or b",
                "unit": "U",
            },
        ),
        ("G.\n\n@param city: A\n@return: B", "G.\n\n@return: B", {"city": "A"}),
    ],
)  # fmt: skip
def test_docstring_describes_the_parameters(doc: str, kept: str, found: dict[str, str]) -> None:
    assert split_docstring(doc, NAMES) == (kept, found)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["Args:", "Parameters", "-----", "", "  ", "    city: A", "city: B", "text",
             ":param x: C", "        deep", "\tTab", "Returns:", "x, y : int", "    - z"]
        ),
        max_size=12,
    )
)  # fmt: skip
def test_no_docstring_is_too_odd(lines: list[str]) -> None:
    kept, found = split_docstring("\n".join(lines), NAMES)
    assert {*found} <= {*NAMES}
    assert kept.count("text") + sum(each.count("text") for each in found.values()) <= lines.count(
        "text"
    ) + ("x, y : int" in lines) * lines.count("text")


# --- tools= of a run


def test_tools_of_a_run() -> None:
    ready, search = Tool(weather, name="ready"), {"type": "web_search"}
    flat = {"type": "function", "name": "flat"}
    made = as_tools((weather, ready, search, flat, Station().report))
    assert [each.name for each in made if isinstance(each, Tool)] == ["weather", "ready", "report"]
    assert made[1] is ready
    assert (made[2], made[3]) == (search, flat)
    assert as_tools([search, search]) == [search, search]


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        (weather, r"tools must be a list of functions, not function: write tools=\[…\]"),
        (None, "tools must be a list"),
        ([weather, "x"], r"tools\[1\]: a tool must be a function, not str"),
        ([weather, starred], r"tools\[1\]: tool 'starred'"),
        ([{"type": "function", "function": {}}], r"tools\[0\]\['function'\]\['name'\] must be"),
        ([weather, Tool(weather)], r"tools\[0\] and tools\[1\] have the same name, 'weather'"),
        ([{"type": "function", "function": {"name": "weather"}}, weather], "the same name"),
        ([weather, {"type": "function", "name": "weather"}], "the same name"),
    ],
)
def test_wrong_tools_of_a_run_are_named(tools: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        as_tools(tools)


# --- the protocols


@pytest.mark.parametrize(
    "kind",
    [OpenAICompatible, OpenAIResponses, Anthropic, Gemini, Ollama],
    ids=lambda kind: kind.url,
)
def test_every_protocol_carries_the_schema(kind: Any) -> None:
    """With definitions, unions, enums and default values, as it is."""

    def plan(a: Place, b: Color | None = None, c: list[Point] | None = None, d: Any = 1) -> None:
        """Plan."""

    tool = Tool(plan)
    provider = ScriptedProvider("ok", like=kind("m", api_key="k"))
    provider.complete("Q", tools=[tool.schema])
    body = json.loads(provider.requests[0].body)
    (sent,) = body["tools"]
    sent = sent.get("functionDeclarations", [sent])[0]
    sent = sent.get("function", sent)
    keys = {"parameters", "input_schema", "parametersJsonSchema"} & {*sent}
    assert [sent[key] for key in keys] == [tool.parameters]
    assert (sent["name"], sent["description"]) == ("plan", "Plan.")


# --- what is imported


def run(program: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.splitlines()


def test_simple_types_need_no_pydantic() -> None:
    """It is not imported; where it is missing, other types are refused with the remedy."""
    printed = run(
        "import sys, providers_sync\n"
        "print([each for each in sys.modules if each.startswith('providers_sync.tools')])\n"
        "from providers_sync.tools import Tool\n"
        "from providers_sync import CancelToken\n"
        "import enum, datetime, typing\n"
        "class Color(enum.Enum): RED = 'red'\n"
        "def f(a: str, b: list[int], c: typing.Optional[Color] = None): return [a, b, c]\n"
        "print(Tool(f).bind({'a': 'x', 'b': [1], 'c': 'red'}, CancelToken())())\n"
        "heavy = {'pydantic', 'pydantic_core', 'jsonschema', 'providers_sync.typed'}\n"
        "print(heavy & {*sys.modules})\n"
        "sys.modules['pydantic'] = None\n"
        "def g(day: datetime.date): ...\n"
        "try: Tool(g)\n"
        "except providers_sync.InvalidRequestError as error: print(error)\n"
    )
    assert printed[:3] == ["[]", '["x", [1], "red"]', "set()"]
    assert (
        "'day' is annotated as date, which needs pydantic 2: pip install 'providers-sync[typed]'"
        in (printed[3])
    )
