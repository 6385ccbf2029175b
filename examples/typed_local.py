"""Fill a pydantic model with the small model on this machine, held to the schema by a grammar.

What it says is of a small model; that it fits the types is certain.
"""

from typing import Literal

from pydantic import BaseModel, Field

from providers_sync import OpenAICompatible, ProviderError
from providers_sync.gateway import serve


class Ingredient(BaseModel):
    name: str = Field(max_length=20)
    grams: int = Field(ge=1, le=500)


class Recipe(BaseModel):
    title: str = Field(max_length=40)
    kind: Literal["soup", "cake", "salad"]
    minutes: int = Field(ge=1, le=90)
    ingredients: list[Ingredient] = Field(min_length=1, max_length=3)


try:
    gateway = serve(engine="local")
except ProviderError as error:
    print(f"The local model cannot be started: {error}. The echo engine answers.")
    gateway = serve(engine="echo")
with gateway:
    provider = OpenAICompatible("local", base_url=gateway.url("openai"), temperature=0)
    recipe = provider.complete("A pancake recipe", into=Recipe).value
    print(recipe.model_dump_json(indent=1))
