"""``Calls``: the methods of a provider that ask: ``stream``, ``complete`` and ``prepare``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from .. import observing, transport
from ..config import NOT_GIVEN, NotGiven, Timeouts
from ..errors import InvalidRequestError
from ..messages import to_messages
from ..stream import CancelToken, PreparedCall, Source, Stream
from ..types import Completion, Prompt, SystemPrompt
from .continuation_request import BrokenAnswer
from .continuing import ContinuedAnswer, validate_breaks
from .validation import mask_argument

if TYPE_CHECKING:
    from ..typed import TypedCompletion, TypedStream

T = TypeVar("T")


class Planner(Protocol):
    """Prepares a call of messages; ``schema`` is that of the answer, ``more`` adds options.

    ``broken`` is the answer whose rest is asked for.
    """

    def __call__(
        self,
        messages: Prompt,
        schema: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
        broken: BrokenAnswer | None = None,
    ) -> PreparedCall: ...


NOT_PER_CALL = ("base_url", "api_key", "query", "proxy", "verify", "cert", "session", "rate_limit")


class Calls:
    """The calls of a provider, over ``_plan_call``."""

    _continue_after_break = 0

    @overload
    def stream(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: None = None,
        continue_after_break: int | NotGiven = NOT_GIVEN,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Stream: ...
    @overload
    def stream(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: type[T],
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> TypedStream[T]: ...
    @overload
    def stream(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: Any,
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> TypedStream[Any]: ...
    def stream(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: Any = None,
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        continue_after_break: int | NotGiven = NOT_GIVEN,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Any:
        """Send the request and return the answer, an iterator of text, once the server responds.

        - ``messages``: a string, a message or a list of messages.
        - ``system``: the text of a system message before them, or its parts.
        - ``into``: the type of the answer, which is JSON then: a pydantic model, a dataclass, a
          ``TypedDict``, ``list[…]``, ``Literal``, ``int``, … (extra ``typed``), or a JSON schema as
          a dict. The result is a ``TypedStream`` with ``value``, ``items()`` and ``partials()``.
        - ``repairs``: how often ``value`` asks again if the answer does not validate; 1 by default.
        - ``skip_invalid``: collect items that do not validate in ``invalid`` instead of raising.
        - ``continue_after_break``: after how many breaks the rest of the answer is asked for, by
          the same iterator, when the connection breaks, the server falls silent, … after the first
          word. What the model repeats is left out; ``stats.joins`` counts the breaks, and a
          ``Join`` event marks each. Not with ``into=`` and ``tools=``.
        - ``timeouts``, ``retry``, ``headers``: as for the provider; those of the call win.
        - ``cancel``: a token whose ``cancel()`` stops the call from any thread.
        - ``options`` are added to the body; ``None`` removes a key.

        Raises ``InvalidRequestError`` before anything is sent, and other ``ProviderError`` classes
        if the server cannot be reached or rejects the request.
        """
        # Mask secrets: error reports may show local variables.
        headers, options = mask_argument(headers), transport.mask_secrets(options)
        return self.prepare(
            messages,
            model,
            into=into,
            repairs=repairs,
            skip_invalid=skip_invalid,
            continue_after_break=continue_after_break,
            system=system,
            timeouts=timeouts,
            retry=retry,
            headers=headers,
            cancel=cancel,
            **options,
        ).open()

    @overload
    def complete(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: None = None,
        continue_after_break: int | NotGiven = NOT_GIVEN,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Completion: ...
    @overload
    def complete(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: type[T],
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> TypedCompletion[T]: ...
    @overload
    def complete(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: Any,
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> TypedCompletion[Any]: ...
    def complete(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: Any = None,
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        continue_after_break: int | NotGiven = NOT_GIVEN,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Any:
        """Return the complete answer; take the same arguments as ``stream`` and raise the same.

        With ``into=`` its ``value`` is the object; ``InvalidAnswer`` is raised if it is none.
        """
        headers, options = mask_argument(headers), transport.mask_secrets(options)
        with self.stream(
            messages,
            model,
            into=into,
            repairs=repairs,
            skip_invalid=skip_invalid,
            continue_after_break=continue_after_break,
            system=system,
            timeouts=timeouts,
            retry=retry,
            headers=headers,
            cancel=cancel,
            **options,
        ) as stream:
            return stream.completion()

    def prepare(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: Any = None,
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        continue_after_break: int | NotGiven = NOT_GIVEN,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> PreparedCall:
        """Validate the arguments of ``stream`` and return the call, for adapters; send nothing."""
        headers, options = mask_argument(headers), transport.mask_secrets(options)
        plan = self._planner(model, options, system, timeouts, retry, headers, cancel)
        if into is None:
            if skip_invalid or repairs is not NOT_GIVEN:
                raise InvalidRequestError("repairs= and skip_invalid= need into=")
            if continue_after_break is NOT_GIVEN and not self._continue_after_break:
                return plan(messages)
            breaks = self._breaks_of_call(continue_after_break, options)
            if not breaks:
                return plan(messages)
            obstacle = "it has tools=" if self._has_tools(options) else ""
            return prepare_continued(plan, messages, breaks, obstacle)
        if continue_after_break is not NOT_GIVEN:
            raise InvalidRequestError(
                "continue_after_break= is for text: with into=, repairs= asks again"
            )
        from ..typed import prepare_typed  # late: few need it

        return prepare_typed(plan, messages, into, repairs, skip_invalid)

    def _breaks_of_call(self, given: int | NotGiven, options: Mapping[str, Any]) -> int:
        """Return how many breaks an answer survives; raise ``InvalidRequestError``."""
        breaks = self._continue_after_break if isinstance(given, NotGiven) else given
        breaks = validate_breaks(breaks)
        if breaks and given is not NOT_GIVEN and self._has_tools(options):
            raise InvalidRequestError(
                "continue_after_break= is for text: an answer with tools= is not continued"
            )
        return breaks

    def _has_tools(self, options: Mapping[str, Any]) -> bool:
        raise NotImplementedError

    def _planner(
        self,
        model: str | None,
        options: dict[str, Any],
        system: SystemPrompt | None,
        timeouts: Timeouts | float | NotGiven | None,
        retry: Any,
        headers: Mapping[str, str | None] | None,
        cancel: CancelToken | None,
    ) -> Planner:
        """Check the arguments; return a function that prepares a call of messages with them."""
        for name in NOT_PER_CALL:
            if name in options:
                raise InvalidRequestError(f"{name}= belongs to the provider, not to one call")
        if cancel is not None and not isinstance(cancel, CancelToken):
            raise InvalidRequestError("cancel must be a CancelToken")
        if system is not None:
            options["system"] = system

        def plan(
            messages: Prompt,
            schema: Mapping[str, Any] | None = None,
            more: Mapping[str, Any] | None = None,
            broken: BrokenAnswer | None = None,
        ) -> PreparedCall:
            source, call_timeouts, model_name = self._plan_call(
                messages,
                model,
                {**options, **(more or {})},
                timeouts=timeouts,
                retry=retry,
                headers=headers,
                schema=schema,
                broken=broken,
            )
            call = PreparedCall(source, call_timeouts, cancel, model_name)
            if observing.observe is None:
                return call
            asked = {**options, **(more or {})}
            question = observing.Question(self, model_name, messages, asked, schema)
            return replace(call, question=question)

        return plan

    def _plan_call(
        self,
        messages: Prompt,
        model: str | None,
        options: dict[str, Any],
        *,
        timeouts: Timeouts | float | NotGiven | None,
        retry: Any,
        headers: Mapping[str, str | None] | None,
        attempts: int = 1,
        schema: Mapping[str, Any] | None = None,
        broken: BrokenAnswer | None = None,
    ) -> tuple[Source, Timeouts, str]:
        raise NotImplementedError


def prepare_continued(
    plan: Planner, messages: Prompt, breaks: int, obstacle: str = ""
) -> PreparedCall:
    """Return the call whose answer goes on after so many breaks, or says why it does not."""
    question = to_messages(messages)
    call = plan(question)

    def rest(broken: BrokenAnswer) -> Source:
        return plan(question, broken=broken).source

    return replace(call, source=ContinuedAnswer(call.source, rest, breaks, obstacle))
