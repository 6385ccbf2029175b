"""``TypedStream``: an answer that is JSON, as objects: at its end, one by one, or as it grows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextvars import copy_context
from typing import Any, Generic, TypeVar, cast

from ..errors import InvalidAnswer, ProviderError, StreamCancelled
from ..finish_reasons import explain_end, is_whole
from ..json_reader import InvalidJSON
from ..stream import CancelToken, Channel, PreparedCall, Stream
from ..types import Delta, Messages, Outcome
from .reading import ItemReader, PartialReader, not_json, partial_value, read_value
from .rounds import TypedCompletion, asking
from .targets import Target, describe_errors

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
C = TypeVar("C")
MAX_WORDS = 2000
"""Characters of the validator's words that a model is told."""
_UNREAD = object()


class TypedStream(Stream, Generic[T_co]):
    """A typed answer (``into=``): a ``Stream`` of its JSON, and the objects in it.

    Read one of: ``value``, ``items()``, ``partials()``, or the text as with any ``Stream``.
    """

    _may_have_rounds = False
    """Whether text may turn out to be a remark before tool calls, and not the answer."""

    def __init__(
        self,
        channel: Channel,
        cancel: CancelToken | None,
        model: str | None,
        *,
        target: Target[T_co],
        repair: Callable[[Messages], PreparedCall],
        repairs: int,
        skip_invalid: bool,
        **more: Any,
    ) -> None:
        super().__init__(channel, cancel, model, **more)
        self.invalid: list[InvalidAnswer] = []
        """With ``skip_invalid=True`` the items that do not validate, each as an error."""
        self._target = target
        self._repair = repair
        self._repairs = repairs
        self._skip_invalid = skip_invalid
        self._repairs_left = 0
        self._round_has_ended = False
        self._is_claimed = False
        """Whether somebody reads items or partials."""
        self._value_lock = threading.RLock()
        self._value: Any = _UNREAD
        self._failure: InvalidAnswer | None = None
        self._earlier_failure: InvalidAnswer | None = None
        """What was wrong with the round before."""
        self._item_failure: InvalidAnswer | None = None
        """The invalid item that has ended the stream."""

    # --- the object, at the end

    @property
    def value(self) -> T_co:
        """The object; reads the rest of the answer.

        If the answer does not validate, the model is asked again up to ``repairs`` times, with the
        validation errors; but not if text, items or partials have been read.

        Raises:
            InvalidAnswer: The answer does not validate; after a repair its ``__context__`` is the
                ``InvalidAnswer`` before it.
            ProviderError: What ``next`` raises.
        """
        with self._value_lock:  # a second thread gets the same object
            steps = self._value_steps()
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    return cast(T_co, end.value)

    def completion(self) -> TypedCompletion[T_co]:
        """Read the rest and return the complete answer with its ``value``.

        Raises:
            InvalidAnswer: The answer does not validate.
            ProviderError: What ``next`` raises.
        """
        value = self.value
        invalid = tuple(self.invalid)
        return TypedCompletion(**vars(super().completion()), value=value, invalid=invalid)

    def _value_steps(self) -> Generator[None, None, T_co]:
        """Yield before each wait for a batch; return the object."""
        try:
            self._allow_repairs()
            while True:
                batch = self._read_batch()
                yield
                if self._fetch_batch(batch) and not self._round_has_ended:
                    continue
                if not self._next_round():
                    return self._result()
        except BaseException as error:  # Ctrl-C, or thrown in; no effect after the end
            self.close()
            if self._earlier_failure is not None:
                error.__context__ = self._earlier_failure
            raise

    def _allow_repairs(self) -> None:
        """Let the answer be asked again, if nobody has read any of it."""
        is_unread = self._outcome is None and not self._is_claimed and not self.stats.chunks
        self._repairs_left = self._repairs if is_unread else 0

    def _may_ask_again(self) -> bool:
        self._round_has_ended = self._repairs_left > 0 and self._channel.error is None
        return self._round_has_ended

    def _next_round(self) -> bool:
        """Ask again if the round that has ended was no good; return whether another one runs."""
        if self._repairs_left == 0 or self._outcome is not None:
            return False
        failure = self._evaluate()
        if failure is not None and self._is_whole_round:
            self._repairs_left -= 1
            self._round_has_ended = False
            source = asking(self._repair, self._repair_messages(failure))
            self._describe(failure, Outcome.COMPLETE)
            failure.__context__ = self._earlier_failure
            self._earlier_failure = failure
            self._failure = None
            self._ask_again(source, copy_context())
            return True
        self._repairs_left = 0
        self._round_has_ended = False
        self._fetch_batch(self._unread)  # the end that was held back
        return False

    @property
    def _is_whole_round(self) -> bool:
        """Whether the model has ended the round that has ended well."""
        return is_whole(Outcome.COMPLETE, self.finish_reason, self.refusal)

    def _result(self) -> T_co:
        if self._outcome is Outcome.CANCELLED:
            error: ProviderError = StreamCancelled("the answer was stopped before its end")
            error.partial = self.text
            error.partial_value = partial_value(self._target, self._answer_text())
            raise self._item_failure or self._error or error
        if self._value is _UNREAD and self._failure is None:
            self._evaluate()
        if self._failure is not None:
            self._describe(self._failure, self._outcome)
            raise self._failure
        return cast(T_co, self._value)

    def _evaluate(self) -> InvalidAnswer | None:
        """Validate what the round has brought; return what is wrong with it."""
        self._value, self._failure = _UNREAD, None
        try:
            self._check_end()
            invalid = self.invalid if self._skip_invalid else None
            self._value = read_value(self._target, self._answer_text(), invalid)
        except InvalidAnswer as failure:
            self._failure = failure
        return self._failure

    def _check_end(self) -> None:
        """Raise ``InvalidAnswer`` if the model has not ended the answer by itself."""
        outcome = self._outcome if self._outcome is Outcome.PAUSED else Outcome.COMPLETE
        if is_whole(outcome, self.finish_reason, self.refusal):
            return
        reason = explain_end(outcome, self.finish_reason, refusal=self.refusal)
        failure = InvalidAnswer(f"{reason}, so it was not validated")
        failure.partial_value = partial_value(self._target, self._answer_text())
        raise failure

    def _answer_text(self) -> str:
        """Return the text that holds the object."""
        return self.text

    def _repair_messages(self, failure: InvalidAnswer) -> Messages:
        answer = self._answer_text().strip()
        words = "\n".join(f"- {line}" for line in describe_errors(failure.errors).splitlines())
        question = (
            f"Your answer does not fit:\n{words[:MAX_WORDS]}\n"
            "Answer again with the complete corrected JSON, and nothing else."
        )
        turn = [{"role": "assistant", "content": answer}] if answer else []
        return [*turn, {"role": "user", "content": question}]

    # --- as it grows

    def items(self: TypedStream[Sequence[C]]) -> Iterator[C]:
        """Yield the items of a list (``into=list[…]``) one by one, each as soon as it is complete.

        Raises:
            InvalidAnswer: An item does not validate, unless ``skip_invalid=True`` collects it in
                ``invalid``.
            ProviderError: What ``next`` raises.
        """
        return (step[0] for step in self._item_steps() if step)

    def partials(self) -> Iterator[Any]:
        """Yield the plain object as it grows, from the beginning: dicts, lists, strings, ….

        At most one for each batch of received events, and the last one is complete. Each is a new
        object, but shares its finished parts with the others: do not change them. A list is yielded
        without the object that contains it in the JSON. The type is not validated.

        Raises:
            InvalidAnswer: At the end, if the JSON is incomplete.
            ProviderError: What ``next`` raises.
        """
        return (step[0] for step in self._object_steps(PartialReader(self._target)) if step)

    def _item_steps(self) -> Iterator[tuple[Any, ...]]:
        self._target.prepare_items("items()")
        self.invalid.clear()
        invalid = self.invalid if self._skip_invalid else None
        return self._object_steps(ItemReader(self._target, invalid))

    def _object_steps(
        self, reader: ItemReader[Any] | PartialReader[Any]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield each object in a tuple, and an empty tuple before each wait for a batch."""
        try:
            self._is_claimed = True
            text = self._answer_text()  # what was handed over before
            number, failure = self._round_number, None
            while True:
                batch = self._unread
                if number != self._round_number:  # of a run: this is the answer that counts
                    number, failure = self._round_number, None
                    reader = reader.restarted()
                text += self._take_text(batch)
                try:
                    for item in reader.feed(text if failure is None else ""):
                        if self._outcome is Outcome.CANCELLED:  # stopped: it ends at once
                            break
                        yield (item,)
                except InvalidAnswer as error:
                    if not self._may_have_rounds:
                        raise
                    failure = error
                text = ""
                yield ()
                if not self._fetch_batch(batch):
                    break
            if failure is not None:
                raise failure
            yield from ((item,) for item in self._last_objects(reader))
        except GeneratorExit:  # the caller has left the loop, and may go on with ``value``
            raise
        except BaseException as failure:  # Ctrl-C, too; no effect after the end
            self.close()
            if isinstance(failure, InvalidAnswer):
                self._describe(failure, self._outcome)
                self._item_failure = failure
            raise

    def _take_text(self, batch: Iterator[Delta]) -> str:
        """Read a batch; return its text."""
        deltas: list[Any] = list(batch)
        try:
            return "".join(deltas)
        except TypeError:  # not only text
            for delta in deltas:
                if not isinstance(delta, str):
                    self._record(delta)
            return "".join(delta for delta in deltas if isinstance(delta, str))

    def _last_objects(self, reader: ItemReader[Any] | PartialReader[Any]) -> Iterator[Any]:
        """Yield what the end of the answer brings."""
        if self._outcome is Outcome.CANCELLED:  # closed: the iterator ends, as ``next`` does
            if self._item_failure is not None:
                raise self._item_failure
            return
        self._check_end()
        try:
            yield from reader.end()
        except InvalidJSON as error:
            raise not_json(self._target, error, self._answer_text()) from error

    def _describe(self, failure: InvalidAnswer, outcome: Outcome | None) -> None:
        failure.partial, failure.attempts = self.text, self.attempts
        failure.outcome = outcome or Outcome.FAILED

    def _abandon(self, reason: str) -> None:
        self._value_lock = threading.RLock()  # another thread of the parent may hold the old one
        super()._abandon(reason)

    def _fetch_batch(self, read: Iterator[Delta]) -> bool:
        try:
            return super()._fetch_batch(read)
        except ProviderError as error:
            if error is self._error and error.partial_value is None:
                error.partial_value = partial_value(self._target, self._answer_text())
            raise


# --- internal functions for the adapters: not part of the public API of a TypedStream


def value_steps(stream: TypedStream[T_co]) -> Generator[None, None, T_co]:
    """Yield before each wait for a batch; return what ``value`` is."""
    return stream._value_steps()


def item_steps(stream: TypedStream[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield each item in a tuple, and an empty tuple before each wait for a batch."""
    return stream._item_steps()


def partial_steps(stream: TypedStream[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield each partial object in a tuple, and an empty tuple before each wait for a batch."""
    return stream._object_steps(PartialReader(stream._target))


def plain_so_far(stream: TypedStream[Any]) -> Any:
    """Return the plain object as far as it has been handed over; ``None`` if nothing of it has."""
    return partial_value(stream._target, stream._answer_text())
