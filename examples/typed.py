"""Get objects instead of text: one, and a list of which each item comes as soon as it is closed."""

from pydantic import BaseModel, Field

from providers_sync import OpenAICompatible
from providers_sync.testing import answer, serve


class Recipe(BaseModel):
    name: str
    minutes: int = Field(ge=1, description="How long it takes")


script = [
    answer('{"name": "Soup", "minutes": "ten"}'),  # does not validate: it is asked again
    answer('{"name": "Soup", "minutes": 10}'),
    answer(
        '{"items": [{"name": "Salad", "minutes": 5}, {"name": "Ca',
        'ke", "minutes": 0}, ',
        '{"name": "Tea", "minutes": 4}]}',
    ),
]

with serve(script) as server:
    provider = OpenAICompatible("qwen3", base_url=server.url)
    completion = provider.complete("A recipe", into=Recipe)
    print(f"{completion.value!r}, after {completion.stats.attempts} requests")

    stream = provider.stream("Three recipes", into=list[Recipe], skip_invalid=True)
    for recipe in stream.items():
        print(recipe.name)
    for error in stream.invalid:
        print(f"skipped {error.partial_value}: {error.errors[0]['msg']}")
