"""``ScriptedProvider``: a provider that plays a script instead of using the network."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..config import Timeouts
from ..errors import InvalidRequestError
from ..messages import to_messages
from ..providers.attempts import Readings
from ..providers.base import Provider
from ..providers.openai import OpenAICompatible
from ..stream import Channel, Source
from ..types import Messages, Prompt
from .answers import Script
from .in_memory import InMemoryTransport
from .records import Request

MODEL = "scripted-model"
ADDRESS = "http://scripted.invalid/v1"
"""A name that is guaranteed not to exist (RFC 2606)."""
_PUBLISHED = (
    *("url", "working", "supports_gpt_35_turbo", "default_model", "models", "model_aliases"),
    *("api_endpoint", "get_model", "get_models"),
)


@dataclass(frozen=True)
class Asked:
    """One call that the program under test made.

    Attributes:
        messages: Always a list, also if the call passed a string.
        model: The name of the model.
        options: Options of the call itself, such as ``temperature``.
        headers: Headers of the call itself.
        timeouts: The timeouts in effect for the call.
    """

    messages: Messages
    model: str
    options: dict[str, Any]
    headers: dict[str, str | None]
    timeouts: Timeouts


class ScriptedProvider(Provider):
    """A provider that plays a script without a socket and otherwise works like a real one:

        provider = ScriptedProvider([text("Hel"), text("lo"), cut()])
        with pytest.raises(StreamCut) as caught:
            provider.complete("Hi", temperature=0)
        assert caught.value.partial == "Hello"
        assert provider.asked[0].options == {"temperature": 0}

    Streams, errors, outcomes, timeouts, retries and ``cancel()`` are handled by the same code as
    over a network, and the scripts are those of ``serve()``. TLS, gzip and framing exist as bytes
    on a real connection only: for faults in those use ``serve()``.

    Args:
        script: See ``Script``; ``play()`` replaces it.
        like: The provider whose protocol and settings are copied (never its connections); by
            default an ``OpenAICompatible`` created with ``settings``.
        protocol: As in ``serve()``, for a ``like`` whose request paths do not identify it.
        **settings: ``timeouts=``, ``retry=``, …

    Raises:
        InvalidRequestError: ``like`` is not a single provider, or ``settings`` are given too.
        ScriptError: The script cannot be sent.
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
            raise InvalidRequestError(f"{', '.join(settings)}: pass settings to the like= provider")
        elif not isinstance(like, Provider) or type(like)._plan_call is not Provider._plan_call:
            raise InvalidRequestError(
                f"like= must be a single provider, not {like!r}; "
                "for a Failover create a ScriptedProvider for each member"
            )
        self.asked: list[Asked] = []
        """Every call, in order, recorded once even if it was retried."""
        self._memory = InMemoryTransport(script, protocol)
        self._like = copy.copy(like)
        # Replace its ``_transport()``, so that it uses the script in any process. The script also
        # works for a provider whose own service has shut down.
        vars(self._like).update(_transport=lambda: self._memory, _uses_default_url=False)
        self.model, self.base_url = like.model, like.base_url
        # Other providers have these as class attributes; here they are copied from ``like``.
        vars(self).update({name: getattr(like, name) for name in _PUBLISHED if hasattr(like, name)})

    def play(self, script: Script) -> None:
        """Play another script from the next request on.

        Args:
            script: See ``Script``.
        """
        self._memory.play(script)

    def close(self) -> None:
        """Do nothing: there are no connections."""

    @property
    def requests(self) -> list[Request]:
        """Every request that would have been sent, in order, including retries."""
        return self._memory.log.requests()

    @property
    def errors(self) -> list[Exception]:
        """Exceptions caused by mistakes in the script itself."""
        return self._memory.errors

    def wait_request(self, n: int = 1, timeout: float = 5.0) -> Request:
        """Wait until ``n`` requests have been made, and return the ``n``-th.

        Args:
            n: The number of the request, from 1.
            timeout: Seconds.

        Raises:
            TimeoutError: It took longer than ``timeout``.
        """
        return self._memory.log.wait_request(n, timeout)

    def wait_closed(self, n: int = 1, timeout: float = 5.0) -> float:
        """Wait until the answer to a request was read, closed or cancelled.

        Args:
            n: The number of the request, from 1.
            timeout: Seconds.

        Returns:
            The seconds this call waited.

        Raises:
            TimeoutError: It took longer than ``timeout``.
        """
        return self._memory.log.wait_closed(n, timeout)

    def _plan_call(
        self,
        messages: Prompt,
        model: str | None,
        options: dict[str, Any],
        **settings: Any,
    ) -> tuple[Source, Timeouts, str]:
        """Plan the call of the ``like`` provider, and record it when it starts."""
        source, effective_timeouts, resolved_model = self._like._plan_call(
            messages, model, options, **settings
        )
        call = Asked(
            to_messages(messages),
            resolved_model,
            dict(options),
            dict(settings["headers"] or {}),
            effective_timeouts,
        )

        def recorded(channel: Channel) -> Readings:
            self.asked.append(call)
            yield from source(channel)

        return recorded, effective_timeouts, resolved_model

    def _has_tools(self, options: Mapping[str, Any]) -> bool:
        return self._like._has_tools(options)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute that only the ``like`` provider has, such as ``list_models``."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._like, name)

    def __repr__(self) -> str:
        return f"ScriptedProvider(like={self._like!r})"
