"""``TypedRun``: a run whose last answer is JSON of a type (``into=``)."""

from __future__ import annotations

from typing import Any, TypeVar

from ..errors import InvalidAnswer
from ..typed import TypedStream
from ..types import Messages
from .run import Run

T_co = TypeVar("T_co", covariant=True)


class TypedRun(Run, TypedStream[T_co]):
    """A run whose last answer is JSON: ``value``, ``items()`` and ``partials()`` are those of it.

    With ``repairs`` another round asks for it again; it may call functions, too.
    """

    _may_have_rounds = True

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._repair_questions: Messages = []
        super().__init__(*arguments, **more)

    def _answer_text(self) -> str:
        return self.text[self._marks[0] :]

    def _may_ask_again(self) -> bool:
        if self._is_last and not (self.rounds and not self.rounds[-1].tool_calls):
            self._repairs_left = 0  # it ends with calls: there is no JSON to ask for
        return super()._may_ask_again()

    def _added_messages(self) -> tuple[Messages, str]:
        added, rest = super()._added_messages()
        kept: Messages = []
        for message in added:
            if any(message is question for question in self._repair_questions):
                kept.pop()  # the answer that did not fit
            else:
                kept.append(message)
        return kept, rest

    def _repair_messages(self, failure: InvalidAnswer) -> Messages:
        question = super()._repair_messages(failure)[-1]
        with self._lock:
            self._is_last = False
            self._repair_questions.append(question)
            done = [*self.messages[len(self._question) :], question]
            self._done, self._execution = done, None
        return done
