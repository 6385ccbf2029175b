"""``Chat``: a conversation with its history, its size limit, and an interrupted answer."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from . import call_log
from .chat_file import InterruptedAnswer, read_chat, write_chat
from .chat_history import PERMANENT_ROLES, exchanges, messages_after, text_size, without
from .chat_stopped import StoppedAnswer, interrupted_now
from .errors import APIStatusError, FailoverError, InvalidRequestError, ProviderError
from .messages import to_messages
from .providers.base import Provider, describe
from .request_usage import RequestUsage
from .returned_messages import assistant_message
from .stream import GOOD_OUTCOMES, Stream, call_at_end, requests_of, running_functions
from .types import Messages, Outcome, Prompt

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .prices import Cost
    from .providers.keywords import CallKeywords
    from .typed import TypedStream

T = TypeVar("T")
_OF_ONE_ANSWER = ("into", "repairs", "skip_invalid")
CONTINUE = (
    "Your last message was interrupted. Continue it exactly where it stops, without repeating "
    "anything of it and without a remark."
)
_PREFIX_REFUSALS = (
    *("prefill", "end with a user message", "must start with a thinking block"),
    *("expected last role", "last message must have role"),
)
"""Words of servers that refuse a turn of the assistant as the last one (Anthropic; Mistral)."""


class _Reservation:
    """Held while a chat is being changed: by an answer until its end, or by a method."""

    def __init__(self, holder: dict[str, weakref.ref[_Reservation]]) -> None:
        def forget(reference: weakref.ref[_Reservation]) -> None:
            if holder.get("now") is reference:
                del holder["now"]

        # Weak: if Ctrl-C comes before anybody can release it, it ends when it is dropped.
        self._reference = weakref.ref(self, forget)
        self._holder = holder
        if holder.setdefault("now", self._reference) is not self._reference:  # one atomic step
            raise InvalidRequestError(
                "the last answer is still running: read it to its end, or close() it"
            )

    def release(self) -> None:
        if self._holder.get("now") is self._reference:
            del self._holder["now"]

    def __enter__(self) -> _Reservation:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()


class Chat:
    """A conversation with one provider; a plain object that can be pickled:

        chat = Chat(OpenAICompatible("qwen3"), system="Be brief.", budget=20_000)
        for chunk in chat.send("Why do cats purr?"):
            print(chunk, end="", flush=True)
        chat.send("And dogs?").read()
        chat.save("cats.json")

    One answer at a time: while it is running, ``send``, ``resume``, ``discard`` and ``undo`` raise
    ``InvalidRequestError`` and send nothing, in any thread.

    Args:
        provider: The provider to call.
        system: The text of the system message.
        model: The model; by default the provider's.
        budget: The maximum number of characters to send: the oldest exchanges are left out, each as
            a unit, but never the system message or the new question. They stay in ``history`` and
            in the file.
        history: Messages to begin with.
        **options: Added to the body of every request. If ``tools`` contains functions, these are
            the arguments of ``provider.run``: ``Chat(provider, tools=[weather], approve=…)``; each
            answer is then a ``Run``. If one fails, its finished rounds are in
            ``interrupted.question``, so that ``resume()`` repeats no call.

    Attributes:
        history: The finished exchanges only.
        interrupted: An answer that failed or was cancelled, with its question: ``resume()``
            continues it; ``discard()`` and the next question drop it.

    Raises:
        InvalidRequestError: For invalid settings.
    """

    _requests: tuple[RequestUsage, ...] = ()  # also of a chat that an earlier version has pickled

    def __init__(
        self,
        provider: Provider,
        *,
        system: str | None = None,
        model: str | None = None,
        budget: int | None = None,
        history: Prompt | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(provider, Provider):
            raise InvalidRequestError(
                f"Chat needs a provider such as OpenAICompatible(…), not {provider!r}"
            )
        if system is not None and not isinstance(system, str):
            raise InvalidRequestError("system must be text or None")
        if budget is not None and (type(budget) is not int or budget < 1):
            raise InvalidRequestError("budget must be a number of characters, 1 or more, or None")
        for name in _OF_ONE_ANSWER:
            if name in options:
                raise InvalidRequestError(f"{name}= belongs to send(), not to the chat")
        self.provider = provider
        self.system = system
        self.model = model
        self.budget = budget
        self.options = options
        self.history: Messages = to_messages(history) if history else []
        self.interrupted: InterruptedAnswer | None = None
        self._stopped: StoppedAnswer | None = None
        """What ``interrupted`` is of, if functions still ran at its end."""
        self._reservation: dict[str, weakref.ref[_Reservation]] = {}

    @property
    def cost(self) -> Cost:
        """What the answers of this object have cost by list prices (``docs/prices.md``).

        Failed answers count too, and so do those removed by ``undo()``; an answer that is still
        running does not, nor do answers from a file. Raises ``ImportError`` without the extra
        ``prices``.
        """
        from .prices import cost_of  # only a program that asks for it pays for it

        return cost_of(self._requests)

    # --- sending

    @overload
    def send(
        self, message: Prompt, *, into: None = None, **call: Unpack[CallKeywords]
    ) -> Stream: ...
    @overload
    def send(self, message: Prompt, *, into: None = None, **call: Any) -> Stream: ...
    @overload
    def send(self, message: Prompt, *, into: type[T], **call: Any) -> TypedStream[T]: ...
    @overload
    def send(self, message: Prompt, *, into: Any, **call: Any) -> TypedStream[Any]: ...
    def send(self, message: Prompt, *, into: Any = None, **call: Any) -> Any:
        """Send a question and return its ``Stream``; with ``into=``, its ``TypedStream``.

        The answer is added to the history if it ends well, even if it does not validate (``undo()``
        removes it); after repairs, only the last text is added. If this call raises
        an error, the chat is unchanged.

        Args:
            message: What ``stream()`` takes; several messages are one question, as with tool
                results.
            into: The type of a typed answer.
            **call: The other arguments of ``stream``, or of ``run`` if the chat has tools.

        Raises:
            InvalidRequestError: Another answer of this chat is running, or the question is invalid.
            ProviderError: What ``stream`` raises.
        """
        question = to_messages(message)
        if into is not None:
            call["into"] = into
        return self._send(question, "", call, _Reservation(self._reservation))

    def resume(self, **call: Any) -> Stream:
        """Continue the interrupted answer; return a stream that yields only the new text.

        The model receives the text so far as the beginning of its own answer. Most models then
        continue; if yours starts over, repeat the question instead:
        ``chat.send(chat.discard().question)``. Newer Claude models reject such a beginning (status
        400): they get a message that asks them to continue, and the log says so.

        Args:
            **call: The arguments of ``stream``, except the messages and ``into``: a typed answer
                must be requested again.

        Raises:
            InvalidRequestError: There is nothing to resume; another answer is running; or a
                function that it called is still running, and would be called twice.
            ProviderError: What ``stream`` raises.
        """
        if call.get("into") is not None:  # in a schema mode the model begins its JSON anew
            raise InvalidRequestError(
                "resume() cannot continue a typed answer: ask again, with "
                "chat.send(chat.discard().question, into=…)"
            )
        reservation = _Reservation(self._reservation)
        interrupted, running = interrupted_now(vars(self).copy())
        if running or interrupted is None:
            reservation.release()
            raise InvalidRequestError(
                f"{', '.join(running)} is still running: resume when it has ended"
                if running
                else "there is no interrupted answer to resume"
            )
        return self._send(interrupted.question, interrupted.text, call, reservation)

    def discard(self) -> InterruptedAnswer | None:
        """Drop the interrupted answer; return it, or ``None`` if there is none.

        Sending its question again may call a function a second time while it still runs.

        Raises:
            InvalidRequestError: Another answer is running.
        """
        with _Reservation(self._reservation):
            return self._drop_interrupted()

    def _drop_interrupted(self) -> InterruptedAnswer | None:
        interrupted, _ = interrupted_now(vars(self).copy())
        vars(self).update(interrupted=None, _stopped=None)
        return interrupted

    def undo(self) -> Messages:
        """Remove the last question and its answer; return them, or ``[]`` if there is none.

        Raises:
            InvalidRequestError: Another answer is running.
        """
        with _Reservation(self._reservation):
            interrupted = self._drop_interrupted()
            if interrupted is not None:
                question = interrupted.question
                answer = assistant_message(interrupted.text, ())
                return [*question, answer] if interrupted.text else question
            *_, last = [[], *exchanges(self.history)]
            self.history = without(self.history, last)
            return last

    def to_send(self, asked: Prompt) -> Messages:
        """Return the messages that a question would send, within the budget.

        Args:
            asked: The question, as for ``send``.
        """
        question = to_messages(asked)
        system = [{"role": "system", "content": self.system}] if self.system else []
        if self.budget is None:
            return [*system, *self.history, *question]
        permanent = [message for message in self.history if message["role"] in PERMANENT_ROLES]
        available = self.budget - text_size([*system, *permanent, *question])
        omitted: Messages = []
        for exchange in reversed(list(exchanges(self.history))):
            available -= text_size(exchange)
            if available < 0:
                omitted += exchange
        return [*system, *without(self.history, omitted), *question]

    def _send(
        self, question: Messages, prefix: str, call: dict[str, Any], reservation: _Reservation
    ) -> Stream:
        """Send a question; ``prefix`` is the text so far of the answer to resume, or empty."""
        try:
            sent_prefix = prefix.rstrip()  # Anthropic rejects a last turn that ends in white space
            answer = assistant_message(sent_prefix, ())
            messages = [*question, answer] if sent_prefix else question
            call = {"model": self.model, **self.options, **call}
            try:
                stream = self._ask(messages, call)
            except (APIStatusError, FailoverError) as error:
                if not (sent_prefix and _refuses_prefix(error)):
                    raise
                name, reason = describe(self.provider), call_log.reason(error)
                call_log.write("continue_in_words", provider=name, error=reason)
                messages.append({"role": "user", "content": CONTINUE})
                stream = self._ask(messages, call)
        except BaseException:
            reservation.release()
            raise
        self.interrupted = None if not prefix else self.interrupted
        call_at_end(stream, lambda ended: self._store_answer(ended, question, prefix, reservation))
        return stream

    def _ask(self, messages: Messages, call: dict[str, Any]) -> Stream:
        tools = call.get("tools")
        has_functions = isinstance(tools, (list, tuple)) and not all(
            isinstance(tool, Mapping) for tool in tools
        )
        ask: Any = self.provider.run if has_functions else self.provider.stream
        stream: Stream = ask(self.to_send(messages), **call)
        return stream

    def _store_answer(
        self, stream: Stream, question: Messages, prefix: str, reservation: _Reservation
    ) -> None:
        added, rest = messages_after(stream, prefix)
        outcome = stream.outcome or Outcome.CANCELLED
        self._requests += requests_of(stream)
        if outcome in GOOD_OUTCOMES:
            # One step: another thread may be saving the chat.
            history = [*self.history, *question, *added]
            vars(self).update(history=history, interrupted=None, _stopped=None)
        else:
            interrupted = InterruptedAnswer([*question, *added], rest, outcome)
            stopped = StoppedAnswer(interrupted, stream, question, prefix)
            vars(self).update(
                interrupted=interrupted, _stopped=stopped if running_functions(stream) else None
            )
        reservation.release()

    # --- saving

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation to a JSON file, readable by its owner only.

        It contains the system message, the history and the interrupted answer, but no provider and
        no key. The file is replaced atomically, so a failure leaves the old one.

        Args:
            path: The file.

        Raises:
            OSError: The file cannot be written.
            InvalidRequestError: JSON cannot represent the history.
        """
        state = vars(self).copy()  # one step: an answer may end in another thread
        interrupted, _ = interrupted_now(state)
        write_chat(path, state["system"], state["history"], interrupted)

    @classmethod
    def load(cls, path: str | os.PathLike[str], provider: Provider, **settings: Any) -> Chat:
        """Return the conversation in a file.

        Args:
            path: A file that ``save`` wrote.
            provider: The provider to continue it with.
            **settings: Those of ``Chat``; ``system=`` takes precedence over the file's.

        Raises:
            OSError: The file cannot be read.
            InvalidRequestError: ``save`` did not write it.
        """
        chat = cls(provider, **settings)
        system, chat.history, chat.interrupted = read_chat(path)
        if chat.system is None:
            chat.system = system
        return chat

    def __getstate__(self) -> dict[str, Any]:
        state = vars(self).copy()
        interrupted, _ = interrupted_now(state)
        return {**state, "interrupted": interrupted, "_reservation": {}, "_stopped": None}

    def __repr__(self) -> str:
        interrupted = ", an interrupted answer" if self.interrupted else ""
        return f"<Chat with {self.provider!r}: {len(self.history)} messages{interrupted}>"


def _refuses_prefix(error: ProviderError) -> bool:
    """Return whether a model (any of a ``Failover``) refuses the beginning of its own answer.

    Anthropic, "Prefill Claude's response": newer models answer with status 400.
    """
    if not isinstance(error, APIStatusError):
        return any(_refuses_prefix(failure.error) for failure in error.attempts)
    body = error.body.lower()
    return error.status_code in (400, 422) and any(words in body for words in _PREFIX_REFUSALS)
