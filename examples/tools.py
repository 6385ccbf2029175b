"""Let the small model on this machine call a function: first it must, then it answers.

What it says is of a small model; the call fits the function's annotations, by a grammar.
"""

from typing import Literal

from providers_sync import OpenAICompatible, ProviderError, TextDelta, ToolCall, ToolResult
from providers_sync.gateway import serve


def weather(city: Literal["Oslo", "Rome"], unit: Literal["C", "F"] = "C") -> str:
    """The weather in a city now."""
    return f"It rains in {city}, at 8 °{unit}."


try:
    gateway = serve(engine="local")
except ProviderError as error:
    print(f"The local model cannot be started: {error}. The echo engine answers.")
    gateway = serve(engine="echo")
with gateway:
    provider = OpenAICompatible("local", base_url=gateway.url("openai"), temperature=0)
    question = "Do I need an umbrella in Oslo?"
    run = provider.run(question, tools=[weather], tool_choice="required", max_tokens=60)
    for event in run.events():
        if isinstance(event, TextDelta):
            print(event.text, end="", flush=True)
        elif isinstance(event, ToolCall):
            print(f"calls {event.name} {event.arguments}")
        elif isinstance(event, ToolResult):
            print(f"is told: {event.content}")
    print(f"\n{run.outcome} after {len(run.rounds)} rounds")
