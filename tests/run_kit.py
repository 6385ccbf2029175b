"""What the tests of ``provider.run`` share: a function as a tool, and scripted providers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from providers_sync import CancelToken
from providers_sync.testing import ScriptedProvider, tool_call

OSLO = tool_call("weather", {"city": "Oslo"}, id="call_1")
BERGEN = tool_call("weather", {"city": "Bergen"}, id="call_2")
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "rain in Oslo"}


class Weather:
    """A function as a tool, and what it was asked."""

    def __init__(self) -> None:
        self.cities: list[str] = []

    def weather(self, city: str) -> str:
        """The weather in a city now."""
        self.cities.append(city)
        return f"rain in {city}"


def scripted(*answers: Any, **settings: Any) -> ScriptedProvider:
    return ScriptedProvider(list(map(list, answers)), **settings)


def hanging() -> tuple[Callable[..., str], threading.Event, list[CancelToken]]:
    """Return a function that hangs until the event is set, and the tokens that it was given."""
    go, tokens = threading.Event(), []

    def weather(city: str, cancel: CancelToken) -> str:
        tokens.append(cancel)
        go.wait(20)
        return "late"

    return weather, go, tokens
