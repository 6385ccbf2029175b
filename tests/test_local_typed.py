"""Tests of typed answers from the real local model, which a grammar holds to the schema."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import pytest
from gateway_kit import Recording
from pydantic import BaseModel, Field

from providers_sync import PROVIDERS, InvalidAnswer
from providers_sync.gateway import Gateway

pytestmark = pytest.mark.model


class Kind(enum.Enum):
    SOUP = "soup"
    CAKE = "cake"


class Size(BaseModel):
    persons: int
    is_large: bool


class Ingredient(BaseModel):
    name: str = Field(max_length=20)
    grams: int = Field(ge=1, le=99)


class Dish(BaseModel):
    kind: Kind
    size: Size


class Recipe(Dish):
    minutes: int = Field(ge=1, le=90)
    ingredients: list[Ingredient] = Field(min_length=1, max_length=2)


def provider(gateway: Gateway, name: str, **options: Any) -> Any:
    model = None if name == "vitalentum" else "any"
    return PROVIDERS[name](model, base_url=gateway.url(name), temperature=0, **options)


@pytest.mark.parametrize(
    ("name", "into"),
    [
        ("openai", Recipe),
        ("ollama", Recipe),
        ("anthropic", Dish),  # without bounds: its schema mode has none
    ],
)
def test_model_fills_a_type(local: tuple[Gateway, Recording], name: str, into: Any) -> None:
    """An enum, an object inside, bounds and a list, in one round: the grammar holds them all."""
    completion = provider(local[0], name).complete("A pancake recipe", into=into)
    assert type(completion.value) is into
    assert completion.is_whole
    assert completion.stats.attempts == 1
    assert local[1].last_request[0] == [{"role": "user", "content": "A pancake recipe"}]


def test_items_come_while_the_model_writes(local: tuple[Gateway, Recording]) -> None:
    """Each is valid, and the first is there before the end."""
    into = Annotated[list[Ingredient], Field(min_length=2, max_length=3)]
    with provider(local[0], "openai").stream("What is in a pancake?", into=into) as stream:
        items = stream.items()
        first = next(items)
        assert stream.outcome is None
        found = [first, *items]
    assert {type(item) for item in found} == {Ingredient}
    assert stream.value == found
    assert 2 <= len(found) <= 3


def test_historical_protocol_asks_in_words(local: tuple[Gateway, Recording]) -> None:
    """Nothing holds the model then; what it has said when a limit ends it is in the error."""
    with pytest.raises(InvalidAnswer, match="length") as caught:
        provider(local[0], "vitalentum", max_tokens=5).complete("A pancake recipe", into=Dish)
    assert caught.value.partial
    [message], _ = local[1].last_request
    assert message["content"].startswith("A pancake recipe\n\nAnswer with JSON only")
