"""Uses of typed answers that mypy and pyright type-check; never executed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union

from pydantic import BaseModel
from typing_extensions import TypedDict, assert_type

from providers_sync import (
    Chat,
    Completion,
    InvalidAnswer,
    OpenAICompatible,
    Stream,
    TypedCompletion,
    TypedStream,
    aio,
    batch,
)


class Recipe(BaseModel):
    name: str


@dataclass
class Point:
    x: int


class Row(TypedDict):
    a: int


provider = OpenAICompatible("qwen3", base_url="http://127.0.0.1:8000/v1")


def values() -> None:
    assert_type(provider.complete("Q", into=Recipe), TypedCompletion[Recipe])
    assert_type(provider.complete("Q", into=Recipe).value, Recipe)
    assert_type(provider.complete("Q", into=Point).value, Point)
    assert_type(provider.complete("Q", into=Row).value, Row)
    assert_type(provider.complete("Q", into=int, temperature=0.5).value, int)
    assert_type(provider.complete("Q", into=list[Recipe]).value, list[Recipe])
    assert_type(provider.complete("Q", into=dict[str, int], repairs=0).value, dict[str, int])
    assert_type(provider.complete("Q", into=Literal["a", "b"]).value, Any)
    assert_type(provider.complete("Q", into=Union[Recipe, Point]).value, Any)
    assert_type(provider.complete("Q", into={"type": "object"}).value, Any)


def streams() -> None:
    with provider.stream("Q", into=list[Recipe], skip_invalid=True) as stream:
        assert_type(stream, TypedStream[list[Recipe]])
        assert_type(stream.items(), Iterator[Recipe])
        assert_type(stream.partials(), Iterator[Any])
        assert_type(stream.value, list[Recipe])
        assert_type(stream.invalid, list[InvalidAnswer])
    for item in provider.stream("Q", into=list[int]).items():
        assert_type(item, int)
    for chunk in provider.stream("Q", into=Recipe):
        assert_type(chunk, str)
    provider.stream("Q", into=Recipe).items()  # type: ignore[misc]  # no list
    for anything in provider.stream("Q", into={"type": "array"}).items():
        assert_type(anything, Any)


def without_into() -> None:
    assert_type(provider.stream("Q"), Stream)
    assert_type(provider.complete("Q", seed=1), Completion)


def chats() -> None:
    chat = Chat(provider)
    assert_type(chat.send("Q"), Stream)
    assert_type(chat.send("Q", into=Recipe).value, Recipe)
    assert_type(chat.send("Q", into=list[Recipe], temperature=0).items(), Iterator[Recipe])


async def event_loop() -> None:
    assert_type(await aio.complete(provider, "Q"), Completion)
    assert_type((await aio.complete(provider, "Q", into=Recipe)).value, Recipe)
    stream = aio.stream(provider, "Q", into=list[Recipe])
    assert_type(await stream.value(), list[Recipe])


def batches() -> None:
    for result in batch.map(provider, ["Q"], into=Recipe):
        assert_type(result.value, Any)
    records = batch.to_records(batch.map(provider, ["Q"], into=Recipe))
    assert_type(records, list[dict[str, Any]])
