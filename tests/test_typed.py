"""Typed answers: ``into=`` gives the object of a whole answer, or an error that tells why not."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union

import pydantic
import pytest
from pydantic import BaseModel, Field, RootModel, TypeAdapter
from typing_extensions import TypedDict

from providers_sync import (
    Completion,
    InvalidAnswer,
    InvalidRequestError,
    OpenAICompatible,
    ProviderError,
    StreamCancelled,
    StreamCut,
    StreamTruncated,
    TypedCompletion,
    TypedStream,
    Usage,
)
from providers_sync.testing import (
    ScriptedProvider,
    answer,
    cut,
    error,
    finish,
    reasoning,
    refusal,
    status,
    text,
    tool_call,
    usage,
)


class Recipe(BaseModel):
    name: str
    minutes: int


class Node(BaseModel):
    name: str
    children: list[Node] = []


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Row(TypedDict):
    a: int
    b: str


class Strict(BaseModel, strict=True):
    day: datetime.date
    price: decimal.Decimal


class Recipes(RootModel[list[Recipe]]):
    pass


PAN = {"name": "Pancakes", "minutes": 10}
SOUP = {"name": "Soup", "minutes": 30}
GOOD, WRONG = json.dumps(PAN), json.dumps({**PAN, "minutes": "ten"})
PANCAKES = Recipe(name="Pancakes", minutes=10)
SCHEMA = TypeAdapter(Recipe).json_schema()


def asked(provider: ScriptedProvider) -> list[list[dict[str, Any]]]:
    """Return the messages of every request."""
    return [json.loads(request.body)["messages"] for request in provider.requests]


# --- types


@pytest.mark.parametrize(
    ("into", "said", "value"),
    [
        (Recipe, PAN, PANCAKES),
        (Point, {"x": 1}, Point(1)),
        (Row, {"a": 1, "b": "x"}, {"a": 1, "b": "x"}),
        (
            Node,
            {"name": "a", "children": [{"name": "b"}]},
            Node(name="a", children=[Node(name="b")]),
        ),
        (
            Strict,
            {"day": "2026-11-28", "price": "1.10"},
            Strict(day=datetime.date(2026, 11, 28), price=decimal.Decimal("1.10")),
        ),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (list[Recipe], {"items": [PAN]}, [PANCAKES]),
        (list[int], {"items": []}, []),
        (Sequence[int], {"items": [1]}, [1]),
        (set[int], {"items": [1, 2]}, {1, 2}),
        (tuple[int, ...], {"items": [1, 2]}, (1, 2)),
        (tuple[int, str], {"items": [1, "x"]}, (1, "x")),
        (Recipes, {"items": [PAN]}, Recipes([PANCAKES])),
        (int, {"value": 3}, 3),
        (str, {"value": "x"}, "x"),
        (bool, {"value": True}, True),
        (Color, {"value": "red"}, Color.RED),
        (datetime.date, {"value": "2026-11-28"}, datetime.date(2026, 11, 28)),
        (Literal["yes", "no"], {"value": "yes"}, "yes"),
        (int | None, {"value": None}, None),
        (Union[Recipe, Point], {"value": {"x": 1, "y": 2}}, Point(1, 2)),
        (Annotated[int, Field(ge=0)], {"value": 3}, 3),
        (Annotated[list[int], Field(min_length=1)], {"items": [3]}, [3]),
        (SCHEMA, PAN, PAN),
        ({"type": "array", "items": {"type": "integer"}}, {"items": [1]}, [1]),
        ({"enum": ["a", "b"]}, {"value": "a"}, "a"),
    ],
    ids=str,
)
def test_value_is_of_the_type(into: Any, said: Any, value: Any) -> None:
    """Every kind of type, as the model is asked to write it; and the schema that asks for it."""
    provider = ScriptedProvider(json.dumps(said))
    completion = provider.complete("Q", into=into)
    assert completion.value == value
    assert type(completion.value) is type(value)
    assert completion.text == json.dumps(said)
    assert completion.is_whole
    assert len(provider.requests) == 1
    schema = json.loads(provider.requests[0].body)["response_format"]["json_schema"]["schema"]
    assert schema["type"] == "object"


@pytest.mark.parametrize(
    ("into", "said", "value"),
    [
        (list[Recipe], [PAN], [PANCAKES]),
        (list[int], [], []),
        (int, 3, 3),
        (str, "x", "x"),
        (Color, "blue", Color.BLUE),
        (Union[Recipe, Point], {"x": 1, "y": 2}, Point(1, 2)),
        (Recipe | None, PAN, PANCAKES),
        (dict[str, int], {"items": 1}, {"items": 1}),
    ],
    ids=str,
)
def test_answer_without_its_wrapper_is_read(into: Any, said: Any, value: Any) -> None:
    """A server without a schema mode may answer with the list or the number itself."""
    provider = ScriptedProvider(json.dumps(said))
    assert provider.complete("Q", into=into, repairs=0).value == value


@pytest.mark.parametrize(
    "said",
    [
        f"```json\n{GOOD}\n```",
        f"Sure! Here it is:\n\n```\n{GOOD}\n```\nEnjoy {{your}} meal.",
        f"I use [1] and {{braces}}. {GOOD}",
        f'First an example: {{"name": 1}}. Now the answer: {GOOD}',
        f"\ufeff {GOOD}",
    ],
)
def test_prose_and_fences_are_passed_over(said: str) -> None:
    """Models without a schema mode add both."""
    assert ScriptedProvider(said).complete("Q", into=Recipe, repairs=0).value == PANCAKES


def test_other_things_that_the_model_says_stay() -> None:
    """Reasoning and calls of the program's own tools."""
    steps = [reasoning("Hm."), text(GOOD), tool_call("look", {"a": 1}), usage(3, 4)]
    completion = ScriptedProvider(steps).complete("Q", into=Recipe)
    assert completion.value == PANCAKES
    assert (completion.reasoning, completion.tool_calls[0].name) == ("Hm.", "look")
    assert completion.usage == Usage(3, 4, 7)


def test_types_of_the_results() -> None:
    """A typed answer is a ``Stream`` and a ``Completion``, which pickles and shows its text."""
    provider = ScriptedProvider(GOOD)
    with provider.stream("Q", into=Recipe) as stream:
        assert isinstance(stream, TypedStream)
        assert stream.value is stream.value
        completion = stream.completion()
    assert isinstance(completion, TypedCompletion)
    assert isinstance(completion, Completion)
    assert str(completion) == GOOD
    assert pickle.loads(pickle.dumps(completion)) == completion
    assert "value=Recipe(" in repr(completion)


# --- bad input


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"into": object()}, "pydantic has no JSON schema for"),
        ({"into": "Recipe"}, "not a type"),
        ({"into": {"type": {1}}}, "not a JSON schema"),
        ({"into": {"type": "nonsense"}}, "not a valid JSON schema"),
        ({"into": Recipe, "response_format": {"type": "json_object"}}, "response_format="),
        ({"into": Recipe, "repairs": -1}, "repairs"),
        ({"into": Recipe, "repairs": True}, "repairs"),
        ({"into": Recipe, "repairs": "2"}, "repairs"),
        ({"into": Recipe, "skip_invalid": True}, "Recipe is not a list"),
        ({"into": list[int], "skip_invalid": 1}, "skip_invalid"),
        ({"repairs": 2}, "need into="),
        ({"skip_invalid": True}, "need into="),
    ],
)
def test_bad_input_is_refused_before_anything_is_sent(call: dict[str, Any], words: str) -> None:
    provider = ScriptedProvider(GOOD)
    with pytest.raises(InvalidRequestError, match=words):
        provider.stream("Q", **call)
    assert provider.requests == []


@pytest.mark.parametrize("name", ["into", "repairs", "skip_invalid", "cancel"])
def test_provider_refuses_what_belongs_to_a_call(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"{name}= belongs to one call"):
        OpenAICompatible("m", **{name: 1})


def test_items_of_no_list_are_refused() -> None:
    stream = ScriptedProvider(GOOD).stream("Q", into=Recipe)
    with pytest.raises(InvalidRequestError, match="Recipe is not a list"):
        stream.items()  # type: ignore[misc]
    assert stream.value == PANCAKES


def test_dict_schema_needs_no_pydantic_and_no_jsonschema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without jsonschema the object is what the model said; a type names what to install."""
    monkeypatch.setitem(sys.modules, "pydantic", None)
    assert ScriptedProvider(GOOD).complete("Q", into=SCHEMA).value == PAN
    with pytest.raises(InvalidAnswer) as caught:
        ScriptedProvider(WRONG).complete("Q", into=SCHEMA)
    assert caught.value.errors == [
        {"type": "type", "loc": ("minutes",), "msg": "'ten' is not of type 'integer'"}
    ]
    with pytest.raises(InvalidRequestError, match=r"pip install 'providers-sync\[typed\]'"):
        ScriptedProvider(GOOD).complete("Q", into=Recipe)
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    assert ScriptedProvider(WRONG).complete("Q", into=SCHEMA).value == json.loads(WRONG)


def test_no_pydantic_is_imported_unless_into_is_used() -> None:
    program = (
        "import sys; from providers_sync.testing import ScriptedProvider; "
        "p = ScriptedProvider('{\"value\": 1}'); p.complete('Q'); "
        "heavy = {'pydantic', 'pydantic_core', 'jsonschema', 'providers_sync.typed'}; "
        "assert not heavy & {*sys.modules}, heavy & {*sys.modules}; "
        "print(p.complete('Q', into=int).value, 'pydantic' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "True"]


# --- repairs


def test_wrong_answer_is_asked_again_with_the_words_of_the_validator() -> None:
    """Both rounds count: their tokens and their requests."""
    provider = ScriptedProvider([answer(WRONG, usage(3, 4)), answer(GOOD, usage(20, 4))])
    with provider.stream([{"role": "user", "content": "Q"}], system="S", into=Recipe) as stream:
        assert stream.value == PANCAKES
    assert stream.text == GOOD
    assert stream.usage == Usage(23, 8, 31)
    assert stream.stats.attempts == 2
    assert stream.outcome == "complete"
    first, second = asked(provider)
    assert second[: len(first)] == first
    turn, question = second[len(first) :]
    assert turn == {"role": "assistant", "content": WRONG}
    assert question["role"] == "user"
    assert "minutes: Input should be a valid integer" in question["content"]
    formats = [json.loads(request.body)["response_format"] for request in provider.requests]
    assert formats[0] == formats[1]


def test_completion_repairs_too() -> None:
    completion = ScriptedProvider([answer(WRONG), answer(GOOD)]).complete("Q", into=Recipe)
    assert (completion.value, completion.text) == (PANCAKES, GOOD)
    assert completion.stats.attempts == 2


@pytest.mark.parametrize("repairs", [0, 1, 3])
def test_answer_that_stays_wrong_raises(repairs: int) -> None:
    provider = ScriptedProvider(lambda _: [text(WRONG)])
    with pytest.raises(InvalidAnswer, match="does not validate as Recipe: minutes") as caught:
        provider.complete("Q", into=Recipe, repairs=repairs)
    assert len(provider.requests) == 1 + repairs
    failure = caught.value
    assert (failure.partial, failure.partial_value) == (WRONG, json.loads(WRONG))
    assert failure.outcome == "complete"
    assert [(each["type"], each["loc"]) for each in failure.errors] == [
        ("int_parsing", ("minutes",))
    ]
    assert isinstance(failure.__cause__, pydantic.ValidationError)
    assert isinstance(failure, ValueError)
    copy = pickle.loads(pickle.dumps(failure))
    assert (copy.errors, copy.partial_value, str(copy)) == (
        failure.errors,
        failure.partial_value,
        str(failure),
    )


@pytest.mark.parametrize("said", ["I cannot.", "", GOOD[:-1], "[1]", '"x"', "null"])
def test_answer_that_is_no_such_json_is_asked_again(said: str) -> None:
    provider = ScriptedProvider([answer(said, finish("stop")), answer(GOOD)])
    assert provider.complete("Q", into=Recipe).value == PANCAKES
    assert len(provider.requests) == 2
    with pytest.raises(InvalidAnswer) as caught:
        ScriptedProvider(answer(said, finish("stop"))).complete("Q", into=Recipe, repairs=0)
    assert caught.value.partial == said


def read_chunk(stream: TypedStream[Any]) -> None:
    next(stream)


def read_item(stream: TypedStream[Any]) -> None:
    next(stream.items())


def read_partial(stream: TypedStream[Any]) -> None:
    next(stream.partials())


@pytest.mark.parametrize("read", [read_chunk, read_item, read_partial])
def test_answer_that_somebody_has_read_is_not_asked_again(read: Any) -> None:
    provider = ScriptedProvider([answer(f"[{GOOD},", f"{WRONG}]"), answer(f"[{GOOD}]")])
    with provider.stream("Q", into=list[Recipe]) as stream:
        read(stream)
        with pytest.raises(InvalidAnswer):
            _ = stream.value
    assert len(provider.requests) == 1


def test_waiting_does_not_read() -> None:
    provider = ScriptedProvider([answer(WRONG), answer(GOOD)])
    with provider.stream("Q", into=Recipe) as stream:
        while not stream.wait(5):
            pass
        assert stream.value == PANCAKES


@pytest.mark.parametrize("reason", ["length", "content_filter"])
def test_answer_ended_by_a_limit_is_not_asked_again(reason: str) -> None:
    """Not even if what there is would validate: more was to come."""
    for said in (GOOD, GOOD[:-5]):
        provider = ScriptedProvider(answer(said, finish(reason)))
        with pytest.raises(InvalidAnswer, match=reason) as caught:
            provider.complete("Q", into=Recipe)
        assert len(provider.requests) == 1
        assert caught.value.partial == said
        assert caught.value.partial_value["name"] == "Pancakes"


def test_refusal_is_not_asked_again() -> None:
    provider = ScriptedProvider([refusal("No.")])
    with pytest.raises(InvalidAnswer, match="refusal"):
        provider.complete("Q", into=Recipe)
    assert len(provider.requests) == 1


def test_retry_is_not_touched_by_repairs() -> None:
    """A repair is retried as any request; and a failure of its own is raised as it is."""
    script = [answer(WRONG), status(503, headers={"retry-after-ms": "1"}), answer(GOOD)]
    provider = ScriptedProvider(script)
    completion = provider.complete("Q", into=Recipe)
    assert (completion.value, completion.stats.attempts) == (PANCAKES, 3)
    provider = ScriptedProvider([answer(WRONG), status(400, "too long")])
    with pytest.raises(ProviderError, match="too long") as caught:
        provider.complete("Q", into=Recipe)
    assert caught.value.__class__.__name__ == "APIStatusError"
    assert len(provider.requests) == 2


def test_bug_in_a_validator_of_the_program_is_raised_as_it_is() -> None:
    class Buggy(BaseModel):
        name: str

        @pydantic.field_validator("name")
        @classmethod
        def check(cls, value: str) -> str:
            raise KeyError("bug")

    provider = ScriptedProvider(GOOD)
    stream = provider.stream("Q", into=Buggy)
    with pytest.raises(KeyError, match="bug"):
        _ = stream.value
    assert stream.outcome is not None


# --- bound to the outcome


@pytest.mark.parametrize(
    ("steps", "kind", "outcome"),
    [
        ([cut()], StreamCut, "cut"),
        ([error("overloaded")], ProviderError, "failed"),
    ],
)
@pytest.mark.parametrize("tail", ["", GOOD[-6:]])
def test_broken_answer_never_validates(
    steps: list[Any], kind: type[ProviderError], outcome: str, tail: str
) -> None:
    """It raises its own error with what had arrived, also if that is valid JSON already."""
    said = GOOD[:-6] + tail
    for read in (lambda s: s.value, lambda s: s.completion(), lambda s: [*s.partials()], list):
        stream = ScriptedProvider([text(said), *steps]).stream("Q", into=Recipe, retry=1)
        with pytest.raises(kind) as caught:
            read(stream)
        assert not isinstance(caught.value, InvalidAnswer)
        assert caught.value.outcome == stream.outcome == outcome
        assert caught.value.partial == said
        assert caught.value.partial_value == (PAN if tail else {"name": "Pancakes"})


def test_truncated_answer_never_validates() -> None:
    stream = ScriptedProvider(answer(GOOD, end=False)).stream("Q", into=Recipe)
    with pytest.raises(StreamTruncated) as caught:
        _ = stream.value
    assert caught.value.partial_value == PAN


def test_answer_that_was_stopped_has_no_value() -> None:
    stream = ScriptedProvider([text(GOOD)]).stream("Q", into=Recipe)
    next(stream)
    stream.close()
    with pytest.raises(StreamCancelled, match="before its end") as caught:
        _ = stream.value
    assert caught.value.partial == GOOD
    stream = ScriptedProvider([text(GOOD)]).stream("Q", into=Recipe)
    stream.cancel()
    with pytest.raises(StreamCancelled):
        _ = stream.value


def test_hostile_answers_are_bounded() -> None:
    """Deep, endless and odd JSON gives an error of ours, in no time."""
    digits = "9" * 5000
    for said in ("[" * 100_000, '{"a":' * 100_000, f'{{"minutes": {digits}}}', "{" * 100_000):
        with pytest.raises(InvalidAnswer):
            ScriptedProvider(answer(said, finish("stop"))).complete("Q", into=Recipe, repairs=0)
    lone = '{"name": "\\ud800", "minutes": 1}'
    with pytest.raises(InvalidAnswer):
        ScriptedProvider(lone).complete("Q", into=Recipe, repairs=0)


def test_secrets_of_the_call_stay_hidden() -> None:
    """An error of a typed call shows no key: neither its text nor its chain."""
    provider = OpenAICompatible("m", base_url="http://127.0.0.1:9", api_key="sk-secret-123")
    with pytest.raises(InvalidRequestError) as caught:
        provider.stream("Q", into=object(), headers={"Authorization": "Bearer sk-secret-456"})
    shown = "".join(map(repr, (caught.value, caught.value.__cause__, caught.value.__context__)))
    assert "sk-secret" not in shown
