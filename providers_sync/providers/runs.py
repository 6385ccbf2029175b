"""``Runs``: the calls of a provider with tools: ``run`` and ``prepare_run``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, overload

from .. import transport
from ..errors import InvalidRequestError
from ..stream import PreparedCall
from ..types import Messages, Prompt
from .calls import Calls, with_keywords_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..tools import Run
    from ..tools.settings import Approve, DecideUnknown
    from ..tools.typed_run import TypedRun
    from .keywords import AnyRun

T = TypeVar("T")


class Runs(Calls):
    """The calls of a provider, with tools and without."""

    supports_tools = True
    """Whether the protocol has tools."""

    @with_keywords_of(Calls.prepare, "continue_after_break")
    def prepare_run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        max_rounds: int = 10,
        parallel: int = 8,
        tool_timeout: float | None = 60,
        approve: Approve | None = None,
        journal: str | os.PathLike[str] | None = None,
        on_error: Literal["tell", "raise"] = "tell",
        on_unknown: Literal["raise"] | DecideUnknown = "raise",
        **call: Any,
    ) -> PreparedCall:
        """Return the call without sending it; the arguments are those of ``run``.

        Raises:
            InvalidRequestError: An argument is invalid.
        """
        from ..tools import RunSettings, prepare_run  # late: few need it

        call = transport.mask_secrets(call)
        if not self.supports_tools:
            raise InvalidRequestError(
                f"{type(self).__name__} does not support tools: use another provider"
            )
        settings = RunSettings(
            max_rounds=max_rounds,
            parallel=parallel,
            tool_timeout=tool_timeout,
            approve=approve,
            journal=journal,
            on_error=on_error,
            on_unknown=on_unknown,
        )
        plan, typed = self._planned(model, **call)

        def plan_round(messages: Messages, more: Mapping[str, Any]) -> PreparedCall:
            return plan(messages, typed and typed["target"].schema, more)

        return prepare_run(plan_round, messages, tools, call.get("tool_choice"), settings, typed)

    @overload
    def run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        into: None = None,
        **call: Unpack[AnyRun],
    ) -> Run: ...
    @overload
    def run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        into: None = None,
        **call: Any,
    ) -> Run: ...
    @overload
    def run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        into: type[T],
        **call: Any,
    ) -> TypedRun[T]: ...
    @overload
    def run(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        tools: Sequence[Any],
        into: Any,
        **call: Any,
    ) -> TypedRun[Any]: ...
    @with_keywords_of(prepare_run)
    def run(
        self, messages: Prompt, model: str | None = None, *, tools: Sequence[Any], **call: Any
    ) -> Run:
        """Ask with tools, call the functions that the answer calls, and ask again with the results.

        The other arguments are those of ``stream``: ``total`` and ``cancel`` apply to all rounds
        together; ``retry`` and the other timeouts apply to each request. A ``tool_choice`` that
        forces a call applies until the first call.

        Args:
            messages: A string, a message or a list of messages, such as those of a paused run.
            model: The model; by default the provider's.
            tools: Functions (see ``Tool``); a dict is the schema of a tool that the server runs, or
                that your program handles: a call to the latter ends the run.
            into: As for ``stream``; then the last answer is typed.
            repairs: As for ``stream``.
            skip_invalid: As for ``stream``.
            max_rounds: How many answers the model may give; 10 by default.
            parallel: How many functions run at the same time, each in a thread; 8 by default.
            tool_timeout: Seconds for each function, 60 by default; then the model is told that it
                took too long. A function with a parameter of the type ``CancelToken`` can notice
                this and stop; others keep running in their threads.
            approve: A function that is called before each tool call. It returns ``True``,
                ``False``, a string (a reason against the call, for the model), or ``Pause``: then
                the run ends with the outcome ``paused``, and ``run(run.messages, …)`` continues it.
            journal: A file that records each call. If you ask the same question again after a
                crash, calls that have ended are not repeated.
            on_unknown: What to do with a call in the journal that began but did not end:
                ``"raise"``, or a function that gets the call and returns its result as text, or
                ``True`` to make it again.
            on_error: ``"tell"`` the model about invalid calls and exceptions, for at most three
                rounds in a row, or ``"raise"`` a ``ToolError``.

        Returns:
            A ``Run``, which reads like a ``Stream`` over all rounds.

        Raises:
            InvalidRequestError: An argument is invalid; nothing has been sent.
            ToolError: The run cannot continue, for example because its rounds are used up.
            ProviderError: What ``stream`` raises.
        """
        call = transport.mask_secrets(call)
        return cast("Run", self.prepare_run(messages, model, tools=tools, **call).open())
