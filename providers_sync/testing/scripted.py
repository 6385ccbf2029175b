"""A provider that plays a script: a real one, but for the network it does not need."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import ATTEMPTS, NotGiven, Timeouts
from ..errors import InvalidRequestError
from ..messages import conversation
from ..providers.base import Provider
from ..providers.openai import OpenAICompatible
from ..stream import Channel, Source
from ..types import Delta, Messages, Prompt
from .answers import Script
from .in_memory import InMemoryTransport
from .records import Request

MODEL = "scripted-model"
ADDRESS = "http://scripted.invalid/v1"
"""A name that is promised never to exist (RFC 2606)."""
_PUBLISHED = (
    *("url", "working", "supports_gpt_35_turbo", "default_model", "models", "model_aliases"),
    *("api_endpoint", "get_model", "get_models"),
)


@dataclass(frozen=True)
class Asked:
    """One call: what the program under test has asked for."""

    messages: Messages
    """As a list, whatever shape they were given in."""
    model: str
    options: dict[str, Any]
    """What was given with the call itself, such as ``temperature``."""
    headers: dict[str, str | None]
    timeouts: Timeouts
    """The clocks that hold for the call."""


class ScriptedProvider(Provider):
    """A provider that plays a script, without a socket; as real as over a network otherwise.

    ::

        provider = ScriptedProvider([text("Hel"), text("lo"), cut()])
        with pytest.raises(StreamCut) as caught:
            provider.complete("Hi", temperature=0)
        assert caught.value.partial == "Hello"
        assert provider.asked[0].options == {"temperature": 0}

    Streams, errors, verdicts, clocks, retries and ``cancel()`` are those of the package itself, and
    the scripts are those of ``serve()``.

    - ``script``: see ``Script``; ``play()`` puts another in its place.
    - ``like``: the provider whose protocol and settings it takes over (never its connections); by
      default an ``OpenAICompatible``, which gets the ``settings``: ``timeouts=``, ``retry=``, ….
    - ``protocol``: as in ``serve()``, for a ``like`` whose paths do not tell it.

    Only a real connection has TLS, gzip and framing as bytes: for faults in those use ``serve()``.
    """

    url = api_endpoint = default_base_url = base_url_variable = ""

    def __init__(
        self,
        script: Script = "Hello!",
        *,
        like: Provider | None = None,
        protocol: str | None = None,
        **settings: Any,
    ) -> None:
        if like is None:
            like = OpenAICompatible(**{"model": MODEL, "base_url": ADDRESS, **settings})
        elif settings:
            raise InvalidRequestError(f"{', '.join(settings)}: settings are those of like=")
        elif not isinstance(like, Provider) or type(like)._plan_call is not Provider._plan_call:
            raise InvalidRequestError(
                f"like= must be one provider of its own, not {like!r}; "
                "for a Failover make a ScriptedProvider of each"
            )
        self.asked: list[Asked] = []
        """Every call, in order, each once, however often it was tried."""
        self._memory = InMemoryTransport(script, protocol)
        self._like = copy.copy(like)
        # In place of its method: what it sends goes here, from whatever process. The service of a
        # provider whose own is gone is the script.
        vars(self._like).update(_transport=lambda: self._memory, _uses_default_url=False)
        self.model, self.base_url = like.model, like.base_url
        # Attributes of the class elsewhere; here they follow the one that is played.
        vars(self).update({name: getattr(like, name) for name in _PUBLISHED if hasattr(like, name)})

    def play(self, script: Script) -> None:
        """Play another script from the next request on."""
        self._memory.play(script)

    @property
    def requests(self) -> list[Request]:
        """Every request as it would have been sent, in order, retries included."""
        return self._memory.log.requests()

    @property
    def errors(self) -> list[Exception]:
        """What went wrong in the script itself."""
        return self._memory.errors

    def wait_request(self, n: int = 1, timeout: float = 5.0) -> Request:
        """Wait until ``n`` requests have been made, and return the ``n``-th (from 1).

        Raises ``TimeoutError`` after so many seconds.
        """
        return self._memory.log.wait_request(n, timeout)

    def wait_closed(self, n: int = 1, timeout: float = 5.0) -> float:
        """Wait until the answer to request ``n`` (from 1) was let go of: read, closed or cancelled.

        Returns the seconds this call waited. Raises ``TimeoutError``.
        """
        return self._memory.log.wait_closed(n, timeout)

    def _plan_call(
        self,
        messages: Prompt,
        model: str | None,
        options: dict[str, Any],
        *,
        timeouts: Timeouts | float | NotGiven | None,
        retry: Any,
        headers: Mapping[str, str | None] | None,
        attempts: int = ATTEMPTS,
    ) -> tuple[Source, Timeouts, str]:
        """Prepare what the played provider does, and note the call when it begins."""
        source, clocks, wanted = self._like._plan_call(
            messages,
            model,
            options,
            timeouts=timeouts,
            retry=retry,
            headers=headers,
            attempts=attempts,
        )
        asked = Asked(conversation(messages), wanted, dict(options), dict(headers or {}), clocks)

        def noted(pipe: Channel) -> Iterator[Delta]:
            self.asked.append(asked)
            yield from source(pipe)

        return noted, clocks, wanted

    def __getattr__(self, name: str) -> Any:
        """Return what the played provider has beyond a ``Provider``, such as ``list_models``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._like, name)

    def __repr__(self) -> str:
        return f"ScriptedProvider(like={self._like!r})"
