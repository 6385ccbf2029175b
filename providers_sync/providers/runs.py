"""``Runs``: the calls of a provider with tools: ``run`` and ``prepare_run``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from .. import transport
from ..config import NOT_GIVEN, NotGiven, Timeouts
from ..errors import InvalidRequestError
from ..stream import CancelToken, PreparedCall
from ..types import Messages, Prompt, SystemPrompt
from .calls import Calls
from .validation import mask_argument

if TYPE_CHECKING:
    from ..tools import Run
    from ..tools.settings import Approve, DecideUnknown
    from ..tools.typed_run import TypedRun

T = TypeVar("T")


class Runs(Calls):
    """The calls of a provider, with tools and without."""

    supports_tools = True
    """Whether the protocol has tools."""

    @overload
    def run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        into: None = None,
        max_rounds: int = 10,
        parallel: int = 8,
        tool_timeout: float | None = 60,
        approve: Approve | None = None,
        journal: str | os.PathLike[str] | None = None,
        on_error: Literal["tell", "raise"] = "tell",
        on_unknown: Literal["raise"] | DecideUnknown = "raise",
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Run: ...
    @overload
    def run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        into: type[T],
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        max_rounds: int = 10,
        parallel: int = 8,
        tool_timeout: float | None = 60,
        approve: Approve | None = None,
        journal: str | os.PathLike[str] | None = None,
        on_error: Literal["tell", "raise"] = "tell",
        on_unknown: Literal["raise"] | DecideUnknown = "raise",
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> TypedRun[T]: ...
    @overload
    def run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        into: Any,
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        max_rounds: int = 10,
        parallel: int = 8,
        tool_timeout: float | None = 60,
        approve: Approve | None = None,
        journal: str | os.PathLike[str] | None = None,
        on_error: Literal["tell", "raise"] = "tell",
        on_unknown: Literal["raise"] | DecideUnknown = "raise",
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> TypedRun[Any]: ...
    def run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        into: Any = None,
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        max_rounds: int = 10,
        parallel: int = 8,
        tool_timeout: float | None = 60,
        approve: Approve | None = None,
        journal: str | os.PathLike[str] | None = None,
        on_error: Literal["tell", "raise"] = "tell",
        on_unknown: Literal["raise"] | DecideUnknown = "raise",
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Any:
        """Ask with tools, call the functions that the answer calls, and ask again with the results.

        Returns a ``Run``, which reads like a ``Stream`` over all rounds.

        - ``tools``: functions (see ``Tool``); a dict is the schema of a tool that the server runs,
          or that your program does: the run ends with a call of the latter.
        - ``into``, ``repairs``, ``skip_invalid``: as for ``stream``; the last answer is typed then.
        - ``max_rounds``: how many answers the model may give; then ``ToolError``.
        - ``parallel``: how many functions run at the same time, each in a thread.
        - ``tool_timeout``: seconds for each function; then the model is told so. A function with a
          parameter of the type ``CancelToken`` can notice it; others go on in their threads.
        - ``approve``: a function that is asked before each call: ``True``, ``False``, a reason
          against it for the model, or ``Pause``: then the run ends with the outcome ``paused``, and
          ``run(run.messages, …)`` goes on.
        - ``journal``: a file that records each call. The same question run again after a crash
          does not repeat a call in it that has ended.
        - ``on_unknown``: what to do with one in it that has begun only: ``"raise"``, or a function
          of the call that returns its result as text, or ``True`` to make it again.
        - ``on_error``: ``"tell"`` the model of wrong calls and of exceptions, three rounds in a row
          at most, or ``"raise"`` a ``ToolError``.
        - The other arguments are those of ``stream``. ``total`` is that of all rounds together, as
          is ``cancel``; ``retry`` and the other timeouts are those of each request. A
          ``tool_choice`` that forces a call holds until the first call.

        Raises ``InvalidRequestError`` before anything is sent, ``ToolError`` if the run cannot go
        on, and what ``stream`` raises.
        """
        headers, options = mask_argument(headers), transport.mask_secrets(options)
        return self.prepare_run(
            messages,
            model,
            tools=tools,
            into=into,
            repairs=repairs,
            skip_invalid=skip_invalid,
            max_rounds=max_rounds,
            parallel=parallel,
            tool_timeout=tool_timeout,
            approve=approve,
            journal=journal,
            on_error=on_error,
            on_unknown=on_unknown,
            system=system,
            timeouts=timeouts,
            retry=retry,
            headers=headers,
            cancel=cancel,
            **options,
        ).open()

    def prepare_run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        into: Any = None,
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> PreparedCall:
        """Validate the arguments of ``run`` and return the call, for adapters; send nothing."""
        from ..tools import RunSettings, prepare_run  # late: few need it

        headers, options = mask_argument(headers), transport.mask_secrets(options)
        if not self.supports_tools:
            raise InvalidRequestError(f"{type(self).__name__} has no tools: use another provider")
        names = [field.name for field in dataclasses.fields(RunSettings) if field.name in options]
        settings = RunSettings(**{name: options.pop(name) for name in names})
        choice = options.get("tool_choice")
        plan = self._planner(model, options, system, timeouts, retry, headers, cancel)

        typed = None
        if into is not None:
            from ..typed import typed_arguments

            typed = typed_arguments(into, repairs, skip_invalid)
        elif skip_invalid or repairs is not NOT_GIVEN:
            raise InvalidRequestError("repairs= and skip_invalid= need into=")

        def plan_round(messages: Messages, more: Mapping[str, Any]) -> PreparedCall:
            return plan(messages, typed and typed["target"].schema, more)

        return prepare_run(plan_round, messages, tools, choice, settings, typed)
