"""``Calls``: the methods of a provider that ask: ``stream``, ``complete`` and ``prepare``.

The keyword arguments of all calls have one definition, ``Calls._planned``; ``keywords`` has their
types for type checkers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from .. import observing, option_hints, transport
from ..config import NOT_GIVEN, NotGiven, Timeouts
from ..errors import InvalidRequestError
from ..messages import to_messages
from ..retry import Retry
from ..stream import CancelToken, PreparedCall, Source, Stream
from ..types import Completion, Prompt, SystemPrompt
from .continuation_request import BrokenAnswer
from .continuing import ContinuedAnswer, validate_breaks

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..typed import TypedCompletion, TypedStream
    from .keywords import CallKeywords

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


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


def with_keywords_of(function: Callable[..., Any], *but: str) -> Callable[[F], F]:
    """Show the keyword arguments of a function, ``but`` for some, in place of ``**call``."""
    shown = inspect.signature(function).parameters.values()

    def decorate(called: F) -> F:
        own = inspect.signature(called)
        parameters = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        parameters += [
            each
            for each in shown
            if each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD)
            and each.name not in (*own.parameters, *but)
        ]
        called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        return called

    return decorate


class Calls:
    """The calls of a provider, over ``_plan_call``."""

    _continue_after_break = 0

    def _planned(
        self,
        model: str | None = None,
        *,
        into: Any = None,
        repairs: int | NotGiven = NOT_GIVEN,
        skip_invalid: bool = False,
        system: SystemPrompt | None = None,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Retry | NotGiven = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> tuple[Planner, dict[str, Any] | None]:
        """Check the arguments that all calls take: here are their names and defaults.

        Returns a function that prepares a call of messages with them, and the arguments of a typed
        answer if ``into`` is given.
        """
        for name in NOT_PER_CALL:
            if name in options:
                raise InvalidRequestError(f"{name}= belongs to the provider, not to one call")
        if cancel is not None and not isinstance(cancel, CancelToken):
            raise InvalidRequestError("cancel must be a CancelToken")
        added = {"system": system, "extra_body": extra_body}
        options |= {name: value for name, value in added.items() if value is not None}
        typed = None
        if into is not None:
            from ..typed import typed_arguments  # late: few need it

            typed = typed_arguments(into, repairs, skip_invalid)
        elif skip_invalid or repairs is not NOT_GIVEN:
            raise InvalidRequestError("repairs= and skip_invalid= need into=")

        is_told = False

        def plan(
            messages: Prompt,
            schema: Mapping[str, Any] | None = None,
            more: Mapping[str, Any] | None = None,
            broken: BrokenAnswer | None = None,
        ) -> PreparedCall:
            nonlocal is_told
            with option_hints.silent(is_told):
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
            is_told = True
            call = PreparedCall(source, call_timeouts, cancel, model_name)
            if observing.observe is None:
                return call
            asked = {**options, **(more or {})}
            question = observing.Question(self, model_name, messages, asked, schema)
            return replace(call, question=question)

        return plan, typed

    @with_keywords_of(_planned)
    def prepare(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        continue_after_break: int | NotGiven = NOT_GIVEN,
        **call: Any,
    ) -> PreparedCall:
        """Return the call without sending it; the arguments are those of ``stream``.

        For adapters, such as those for web frameworks. Calling ``open()`` on the result sends the
        request.

        Raises:
            InvalidRequestError: An argument is invalid.
        """
        call = transport.mask_secrets(call)
        plan, typed = self._planned(model, **call)
        if typed is None:
            if continue_after_break is NOT_GIVEN and not self._continue_after_break:
                return plan(messages)
            breaks = self._breaks_of_call(continue_after_break, call)
            if not breaks:
                return plan(messages)
            obstacle = "it has tools=" if self._has_tools(call) else ""
            return prepare_continued(plan, messages, breaks, obstacle)
        if continue_after_break is not NOT_GIVEN:
            raise InvalidRequestError(
                "continue_after_break= is for text: with into=, repairs= asks again"
            )
        from ..typed import prepare_typed

        return prepare_typed(plan, messages, typed)

    # The second overload of each is for options that no ``TypedDict`` lists.

    @overload
    def stream(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: None = None,
        **call: Unpack[CallKeywords],
    ) -> Stream: ...
    @overload
    def stream(
        self, messages: Prompt, model: str | None = None, *, into: None = None, **call: Any
    ) -> Stream: ...
    @overload
    def stream(
        self, messages: Prompt, model: str | None = None, *, into: type[T], **call: Any
    ) -> TypedStream[T]: ...
    @overload
    def stream(
        self, messages: Prompt, model: str | None = None, *, into: Any, **call: Any
    ) -> TypedStream[Any]: ...
    @with_keywords_of(prepare)
    def stream(self, messages: Prompt, model: str | None = None, **call: Any) -> Stream:
        """Send the request and return the answer, an iterator of text, once the server responds.

        Args:
            messages: A string, a message or a list of messages.
            model: The model; by default the provider's.
            into: The type of the answer, which is then requested as JSON: a pydantic model, a
                dataclass, a ``TypedDict``, ``list[…]``, ``Literal``, ``int``, … (extra ``typed``),
                or a JSON schema as a dict. The result is a ``TypedStream`` with ``value``,
                ``items()`` and ``partials()``.
            repairs: How many times ``value`` asks again if the answer does not validate; 1 by
                default.
            skip_invalid: Whether to collect items that do not validate in ``invalid``; by default
                the first one raises an error.
            continue_after_break: How many times the same iterator asks for the rest of the answer
                if it breaks off after the first word (the connection breaks, the server falls
                silent, …); 0 by default. Text that the model repeats is left out; ``stats.joins``
                counts the breaks, and a ``Join`` event marks each. Not with ``into`` or ``tools``.
            system: The text (or the parts) of a system message, which is put before the others.
            timeouts: ``Timeouts(connect=…, first_token=…, idle=…, total=…)`` or a number (the
                total), in seconds; ``None`` for none. Without it, the provider's: 10, 120, 60 and
                600.
            retry: The number of attempts, or a ``tenacity.Retrying``; ``None`` sends one request.
                Without it, the provider's: 3 attempts.
            headers: Added to the request; ``None`` as a value removes one. They take precedence
                over the provider's.
            cancel: A ``CancelToken`` whose ``cancel()`` stops the call from any thread.
            extra_body: A dict, added to the body last and unchanged; ``None`` as a value removes a
                key. It takes precedence over the provider's, key by key, but cannot replace the
                messages or ``stream``.
            **options: Added to the body, after the provider's own; ``None`` removes one. The
                options of each protocol are in ``providers_sync.options``. A name that is
                probably misspelt causes a ``UserWarning``.

        Raises:
            InvalidRequestError: An argument is invalid; nothing has been sent.
            ProviderError: Another subclass, if the server cannot be reached or rejects the
                request. A failure after the first event is raised by ``next()``.
        """
        call = transport.mask_secrets(call)  # error reports may show local variables
        return self.prepare(messages, model, **call).open()

    @overload
    def complete(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        into: None = None,
        **call: Unpack[CallKeywords],
    ) -> Completion: ...
    @overload
    def complete(
        self, messages: Prompt, model: str | None = None, *, into: None = None, **call: Any
    ) -> Completion: ...
    @overload
    def complete(
        self, messages: Prompt, model: str | None = None, *, into: type[T], **call: Any
    ) -> TypedCompletion[T]: ...
    @overload
    def complete(
        self, messages: Prompt, model: str | None = None, *, into: Any, **call: Any
    ) -> TypedCompletion[Any]: ...
    @with_keywords_of(prepare)
    def complete(self, messages: Prompt, model: str | None = None, **call: Any) -> Completion:
        """Wait for the whole answer and return it; the arguments are those of ``stream``.

        With ``into`` its ``value`` is the object.

        Raises:
            InvalidRequestError: An argument is invalid; nothing has been sent.
            InvalidAnswer: The answer does not validate as the type ``into``.
            ProviderError: Another subclass, as for ``stream``; ``partial`` is the text that
                arrived.
        """
        call = transport.mask_secrets(call)
        with self.stream(messages, model, **call) as stream:
            completion: Completion = stream.completion()
            return completion

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

    def _plan_call(
        self,
        messages: Prompt,
        model: str | None,
        options: dict[str, Any],
        *,
        timeouts: Timeouts | float | NotGiven | None,
        retry: Retry | NotGiven,
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
