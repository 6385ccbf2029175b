"""Typed answers under odd types, odd schemas, hostile answers and rounds that fail."""

from __future__ import annotations

import json
import os
import pickle
import signal
import threading
from collections.abc import Generator, Iterable, MutableSet
from typing import Annotated, Any, NamedTuple, NewType, TypeVar

import jsonschema  # type: ignore[import-untyped]
import pytest
from faults.phases import wait_until
from pydantic import BaseModel, RootModel, create_model
from typing_extensions import TypeAliasType

from providers_sync import (
    AuthenticationError,
    InvalidAnswer,
    InvalidRequestError,
    OpenAICompatible,
    ProviderError,
    StreamCancelled,
    StreamCut,
    Usage,
)
from providers_sync.stream.transcript import add_usage
from providers_sync.testing import ScriptedProvider, answer, cut, finish, serve, stall, status, text
from providers_sync.typed import Target


class Item(BaseModel):
    n: int


class Pair(NamedTuple):
    a: int
    b: str


T = TypeVar("T")
Alias = TypeAliasType("Alias", list[Item])
Generic = TypeAliasType("Generic", list[T], type_params=(T,))
New = NewType("New", list[Item])


class Root(RootModel[Alias]):
    pass


WRONG = '{"n": "x"}'
GOOD = '{"n": 1}'
LISTS_OF_LISTS = {"type": "array", "items": {"$ref": "#"}}
TREE = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"kids": {"type": "array", "items": {"$ref": "#/items"}}},
        "required": ["kids"],
    },
}
LIST_BY_REFERENCE = {
    "$ref": "#/$defs/L",
    "$defs": {"L": {"type": "array", "items": {"$ref": "#/$defs/N"}}, "N": {"type": "integer"}},
}


# --- types


@pytest.mark.parametrize(
    "into", [Alias, Generic[Item], New, Root, Annotated[Alias, "note"], Iterable[Item]], ids=str
)
def test_items_of_a_named_list_are_validated(into: Any) -> None:
    stream = ScriptedProvider('{"items": [{"n": 1}, {"n": "x"}]}').stream("Q", into=into)
    items = stream.items()
    assert next(items) == Item(n=1)
    with pytest.raises(InvalidAnswer):
        next(items)


def test_items_of_a_mutable_set_are_validated() -> None:
    stream = ScriptedProvider('{"items": [1, "x"]}').stream("Q", into=MutableSet[int])
    with pytest.raises(InvalidAnswer):
        list(stream.items())


@pytest.mark.parametrize(
    "into",
    [
        tuple[int, str],
        Pair,
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
    ],
    ids=str,
)
def test_items_of_different_types_are_refused_not_unvalidated(into: Any) -> None:
    provider = ScriptedProvider('{"items": [1, "x"]}')
    stream = provider.stream("Q", into=into)
    with pytest.raises(InvalidRequestError, match="no single item type"):
        stream.items()
    assert list(stream.value) == [1, "x"]
    with pytest.raises(InvalidRequestError, match="no single item type"):
        provider.stream("Q", into=into, skip_invalid=True)


def test_iterable_is_validated_at_once() -> None:
    """Pydantic would return an iterator that validates when it is read, once."""
    assert ScriptedProvider("[1, 2]").complete("Q", into=Iterable[int]).value == [1, 2]
    with pytest.raises(InvalidAnswer):
        ScriptedProvider('[1, "x"]').complete("Q", into=Iterable[int], repairs=0)
    with pytest.raises(InvalidRequestError, match=r"use list\[…\]"):
        ScriptedProvider("[1]").stream("Q", into=Generator[int, None, None])


@pytest.mark.parametrize(
    ("into", "words"),
    [
        ("int", "is a string, not a type"),
        ([Item], r"for a list use list\[…\]"),
        (Item(n=1), "give the class, not an instance"),
    ],
    ids=str,
)
def test_what_is_no_type_gets_a_remedy(into: Any, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        ScriptedProvider(GOOD).stream("Q", into=into)


# --- schemas


@pytest.mark.parametrize(
    ("schema", "value"),
    [(LISTS_OF_LISTS, [[], [[]]]), (TREE, [{"kids": [{"kids": []}]}])],
    ids=["list", "tree"],
)
def test_references_follow_a_schema_into_its_wrapper(schema: Any, value: Any) -> None:
    """``#`` is the user's schema, and not the object that its value travels in."""
    provider = ScriptedProvider(json.dumps({"items": value}))
    assert provider.complete("Q", into=schema).value == value
    assert list(provider.stream("Q", into=schema).items()) == value
    sent = json.loads(provider.requests[0].body)["response_format"]["json_schema"]["schema"]
    jsonschema.validate({"items": value}, sent)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"items": [{"items": []}]}, sent)
    stream = ScriptedProvider('{"items": [{"kids": 3}]}').stream("Q", into=schema)
    with pytest.raises(InvalidAnswer):
        list(stream.items())


def test_items_of_a_list_behind_a_reference_are_validated() -> None:
    stream = ScriptedProvider('{"items": [1, "x"]}').stream("Q", into=LIST_BY_REFERENCE)
    with pytest.raises(InvalidAnswer) as caught:
        list(stream.items())
    assert caught.value.errors[0]["loc"] == (1,)
    none = {"type": "array", "items": False}
    with pytest.raises(InvalidAnswer):
        list(ScriptedProvider("[1]").stream("Q", into=none).items())


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$ref": "#"}, "points to itself"),
        ({"$schema": 5, "type": "object"}, r"\$schema must be text"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "points outside it"),
    ],
)
def test_odd_schemas_are_refused_clearly(schema: Any, words: str) -> None:
    provider = ScriptedProvider(GOOD)
    with pytest.raises(InvalidRequestError, match=words):
        provider.stream("Q", into=schema)
    assert provider.requests == []


def test_schema_that_is_changed_later_validates_as_it_was_sent() -> None:
    kind: dict[str, Any] = {"type": "integer"}
    stream = ScriptedProvider(WRONG).stream(
        "Q", into={"type": "object", "properties": {"n": kind}}, repairs=0
    )
    kind["type"] = "string"
    with pytest.raises(InvalidAnswer):
        _ = stream.value


def test_too_many_levels_for_the_validator_are_an_invalid_answer() -> None:
    """Not a ``RecursionError`` that loses the answer."""
    inner = {"anyOf": [{"$ref": "#"}, {"type": "null"}]}
    schema = {"type": "object", "properties": {"c": inner}}
    said = '{"c":' * 195 + "{}" + "}" * 195
    with pytest.raises(InvalidAnswer, match="too many levels") as caught:
        ScriptedProvider(said).complete("Q", into=schema, repairs=0)
    assert caught.value.partial == said


@pytest.mark.parametrize("is_schema", [False, True])
def test_errors_do_not_repeat_the_answer(is_schema: bool) -> None:
    """Each missing field, or wrong value, would bring all of it along."""
    fields = {f"f{number}": (int, ...) for number in range(30)}
    model: Any = create_model("Wide", **fields)  # type: ignore[call-overload]
    said = json.dumps({"f0": "x" * 100_000 + "END"})
    into = model.model_json_schema() if is_schema else model
    with pytest.raises(InvalidAnswer) as caught:
        ScriptedProvider(said).complete("Q", into=into, repairs=0)
    assert len(caught.value.errors) == 30
    assert len(pickle.dumps(caught.value.errors)) < 10_000
    assert "integer" in str(caught.value.errors)


def test_target_that_was_pickled_validates_items() -> None:
    target = pickle.loads(pickle.dumps(Target(list[int])))
    assert target.validate_item(3) == 3


# --- rounds


def test_failure_of_the_second_round_keeps_the_first_answer() -> None:
    provider = ScriptedProvider([answer(WRONG), status(401, "no")])
    with pytest.raises(AuthenticationError) as caught:
        provider.complete("Q", into=Item)
    first = caught.value.__context__
    assert isinstance(first, InvalidAnswer)
    assert (first.partial, first.partial_value) == (WRONG, {"n": "x"})
    assert first.outcome == "complete"


def test_each_invalid_round_is_kept() -> None:
    said = ['{"n": "a"}', '{"n": "b"}', '{"n": "c"}']
    with pytest.raises(InvalidAnswer) as caught:
        ScriptedProvider([answer(each) for each in said]).complete("Q", into=Item, repairs=2)
    found, error = [], caught.value
    while isinstance(error, InvalidAnswer):
        found.append(error.partial)
        error = error.__context__  # type: ignore[assignment]
    assert found == said[::-1]


def test_error_with_a_cause_of_its_own_keeps_the_first_answer() -> None:
    provider = ScriptedProvider([answer(WRONG), answer(cut())])
    with pytest.raises(StreamCut) as caught:
        provider.complete("Q", into=Item, retry=1)
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__context__, InvalidAnswer)


def test_invalid_item_is_raised_again() -> None:
    """A second loop must not look like a list that has ended."""
    stream = ScriptedProvider('{"items": [{"n": 1}, {"n": "x"}]}').stream("Q", into=list[Item])
    with pytest.raises(InvalidAnswer) as first:
        list(stream.items())
    with pytest.raises(InvalidAnswer) as second:
        list(stream.items())
    with pytest.raises(InvalidAnswer) as third:
        _ = stream.value
    assert first.value is second.value is third.value
    assert first.value.outcome == stream.outcome == "cancelled"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_value_in_a_forked_child_does_not_wait_for_a_thread_of_the_parent() -> None:
    with serve([text('{"n":'), stall()]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("Q", into=Item)

        def read() -> None:
            with pytest.raises(StreamCancelled):
                _ = stream.value

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda: stream.text != "")
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            try:
                _ = stream.value
            except ProviderError as error:
                os._exit(0 if "parent process" in str(error) else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        stream.close()
        reader.join()


def test_empty_answer_is_asked_again_without_an_empty_turn() -> None:
    """Anthropic refuses a turn without text."""
    provider = ScriptedProvider([answer(finish("stop")), answer(GOOD)])
    assert provider.complete("Q", into=Item).value == Item(n=1)
    roles = [each["role"] for each in json.loads(provider.requests[1].body)["messages"]]
    assert roles == ["user", "user"]


def test_second_loop_over_items_lists_invalid_ones_once() -> None:
    stream = ScriptedProvider('{"items": [1, "x"]}').stream("Q", into=list[int], skip_invalid=True)
    assert [list(stream.items()), list(stream.items())] == [[1], [1]]
    assert len(stream.invalid) == 1


def test_model_is_told_a_bounded_number_of_mistakes() -> None:
    provider = ScriptedProvider([answer(json.dumps({"items": ["x"] * 1000})), answer("[1]")])
    assert provider.complete("Q", into=list[int]).value == [1]
    question = json.loads(provider.requests[1].body)["messages"][-1]["content"]
    assert "0: Input should be a valid integer" in question
    assert len(question) < 2200


def test_usage_that_only_one_round_reports_is_kept() -> None:
    first, second = Usage(1, 2, 3, cached_tokens=4), Usage(10, 20, 30, reasoning_tokens=5)
    assert add_usage(first, second) == Usage(11, 22, 33, cached_tokens=4, reasoning_tokens=5)


def test_errors_are_those_of_the_likeliest_value() -> None:
    """Of the list inside the wrapper, not of the wrapper taken for a list."""
    with pytest.raises(InvalidAnswer) as caught:
        ScriptedProvider('{"items": ["x"]}').complete("Q", into=list[int], repairs=0)
    assert [each["loc"] for each in caught.value.errors] == [(0,)]
    assert caught.value.partial_value == ["x"]
