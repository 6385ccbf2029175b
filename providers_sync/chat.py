"""A conversation: what was said, what is sent of it, and the answer that broke off."""

from __future__ import annotations

import errno
import json
import os
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .errors import InvalidRequestError
from .messages import conversation
from .providers.base import Provider
from .stream import Stream, call_at_end
from .types import Message, Messages, Outcome, Prompt, ToolCall

VERSION = 1
"""Of the file that ``save`` writes."""
_LASTING = ("system", "developer")
_GOOD = (Outcome.COMPLETE, Outcome.UNVERIFIED)


@dataclass(frozen=True)
class InterruptedAnswer:
    """An answer that did not end well, kept apart from the history."""

    question: Messages
    """The turns it answers."""
    text: str
    """What had arrived; may be empty."""
    outcome: Outcome


class Chat:
    """A conversation with one provider; a plain object that pickles.

    ::

        chat = Chat(Vitalentum(), system="Be brief.", budget=20_000)
        for chunk in chat.send("Why do cats purr?"):
            print(chunk, end="", flush=True)
        chat.send("And dogs?").read()
        chat.save("cats.json")

    - ``history`` holds finished turns only. An answer that failed or was stopped is kept in
      ``interrupted`` with its question: ``resume()`` continues it; ``discard()`` and the next
      question forget it.
    - ``budget`` limits the characters sent: the oldest exchanges stay behind, as wholes, but never
      the system message or the new question. They stay in ``history`` and in the file.
    - ``options`` enter the body of every request.
    - One answer at a time: ``send`` raises ``InvalidRequestError`` while another one is running.
    """

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
            raise InvalidRequestError(f"Chat needs a provider, such as Vitalentum(): {provider!r}")
        if system is not None and not isinstance(system, str):
            raise InvalidRequestError("system must be text or None")
        if budget is not None and (type(budget) is not int or budget < 1):
            raise InvalidRequestError("budget must be a number of characters, 1 or more, or None")
        self.provider = provider
        self.system = system
        self.model = model
        self.budget = budget
        self.options = options
        self.history: Messages = conversation(history) if history else []
        self.interrupted: InterruptedAnswer | None = None
        self._running: weakref.ref[Stream] | None = None

    # --- talking

    def send(self, message: Prompt, **call: Any) -> Stream:
        """Ask, and return the answer as a ``Stream``; it enters the history when it ended well.

        ``message`` is what ``stream()`` takes (several messages are one question, as results of
        tools are); ``call`` are its options. What raises from here leaves the chat as it was.
        """
        return self._ask(conversation(message), "", call)

    def resume(self, **call: Any) -> Stream:
        """Go on with the answer that was cut; the stream yields what is new.

        The model gets its own words as the beginning of its turn. Most models then go on; one
        that starts anew is better asked again: ``chat.send(chat.discard().question)``.
        """
        self._check_idle()
        if self.interrupted is None:
            raise InvalidRequestError("there is no cut answer to resume")
        return self._ask(self.interrupted.question, self.interrupted.text, call)

    def discard(self) -> InterruptedAnswer | None:
        """Forget the answer that was cut, and return it."""
        self._check_idle()
        cut, self.interrupted = self.interrupted, None
        return cut

    def undo(self) -> Messages:
        """Take back the last question with its answer; return them, or ``[]`` if there is none."""
        cut = self.discard()
        if cut is not None:
            return [*cut.question, _assistant(cut.text)] if cut.text else cut.question
        *_, last = [[], *_exchanges(self.history)]
        self.history = _without(self.history, last)
        return last

    def to_send(self, asked: Prompt) -> Messages:
        """Return the messages that a question would send: all that is within the budget."""
        question = conversation(asked)
        system = [{"role": "system", "content": self.system}] if self.system else []
        if self.budget is None:
            return [*system, *self.history, *question]
        lasting = [message for message in self.history if message["role"] in _LASTING]
        room = self.budget - _size([*system, *lasting, *question])
        left: Messages = []
        for exchange in reversed(list(_exchanges(self.history))):
            room -= _size(exchange)
            if room < 0:
                left += exchange
        return [*system, *_without(self.history, left), *question]

    def _ask(self, asked: Messages, begun: str, call: dict[str, Any]) -> Stream:
        self._check_idle()
        said = begun.rstrip()  # Anthropic refuses a last turn that ends in white space
        turns = [*asked, _assistant(said)] if said else asked
        model = call.pop("model", self.model)
        stream = self.provider.stream(self.to_send(turns), model, **{**self.options, **call})
        self.interrupted = None if not begun else self.interrupted
        self._running = weakref.ref(stream)
        call_at_end(stream, lambda ended: self._ended(ended, asked, begun))
        return stream

    def _ended(self, stream: Stream, asked: Messages, begun: str) -> None:
        self._running = None
        text = stream.text
        if begun and text[:1].isspace():
            begun = begun.rstrip()
        text = begun + text
        outcome = stream.outcome or Outcome.CANCELLED
        if outcome in _GOOD:
            self.history += [*asked, _assistant(text or stream.refusal, stream.tool_calls)]
            self.interrupted = None
        else:
            self.interrupted = InterruptedAnswer(asked, text, outcome)

    def _check_idle(self) -> None:
        if self._running is not None and self._running() is not None:
            raise InvalidRequestError(
                "the last answer is still running: read it to its end, or close() it"
            )

    # --- keeping

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation to a JSON file, readable by its owner only.

        It holds the system message, the history and the cut answer: no provider, no key. The file
        is replaced at once, so a failure leaves the old one. Raises ``OSError``.
        """
        data: dict[str, Any] = {
            "version": VERSION,
            "system": self.system,
            "history": self.history,
            "interrupted": None,
        }
        if self.interrupted is not None:
            data["interrupted"] = {
                **self.interrupted.__dict__,
                "outcome": str(self.interrupted.outcome),
            }
        try:
            text = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
            encoded = text.encode("utf-8", "backslashreplace")  # half a character: JSON's escape
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequestError(f"the history cannot be saved as JSON: {error}") from error
        try:
            _replace(os.path.realpath(path), encoded)
        except OSError as error:  # it names the draft
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], provider: Provider, **settings: Any) -> Chat:
        """Return the conversation of a file, to go on with ``provider``.

        ``settings`` are those of ``Chat``; ``system=`` wins over the file's. Raises ``OSError``,
        and ``InvalidRequestError`` for a file that ``save`` has not written.
        """
        chat = cls(provider, **settings)
        with open(path, "rb") as file:
            content = file.read()
        try:
            data = json.loads(content.decode("utf-8"))
            if data["version"] != VERSION:
                raise ValueError(f"its version is {data['version']!r}, not {VERSION}")
            history, cut, system = data["history"], data["interrupted"], data["system"]
            if not isinstance(history, list) or not isinstance(system, (str, type(None))):
                raise ValueError("history must be a list, and system text or null")
            chat.history = conversation(history) if history else []
            if cut is not None:
                chat.interrupted = InterruptedAnswer(
                    conversation(cut["question"]), str(cut["text"]), Outcome(cut["outcome"])
                )
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise InvalidRequestError(f"{path} holds no saved chat: {error}") from error
        if chat.system is None:
            chat.system = system
        return chat

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_running": None}

    def __repr__(self) -> str:
        cut = ", an answer cut" if self.interrupted else ""
        return f"<Chat with {self.provider!r}: {len(self.history)} turns{cut}>"


def _replace(target: str, content: bytes) -> None:
    import tempfile

    if os.path.exists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        # To replace a device or a pipe would take it from everybody else.
        raise OSError(errno.EINVAL, "it is no regular file")
    handle, draft = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".chat-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(draft, target)
    except BaseException:
        os.unlink(draft)
        raise


def _without(history: Messages, left: Messages) -> Messages:
    gone = set(map(id, left))
    return [message for message in history if id(message) not in gone]


def _assistant(text: str, calls: Iterable[ToolCall] = ()) -> Message:
    wanted = [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.raw}}
        for c in calls
    ]
    if not wanted:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": text or None, "tool_calls": wanted}


def _exchanges(history: Messages) -> Iterator[Messages]:
    """Yield the turns by question: each begins where a user speaks after the assistant.

    Results of tools stay with the call they answer. System messages belong to none.

    >>> roles = ["system", "user", "assistant", "tool", "assistant", "user", "user", "assistant"]
    >>> [[m["role"] for m in e] for e in _exchanges([{"role": role} for role in roles])]
    [['user', 'assistant', 'tool', 'assistant'], ['user', 'user', 'assistant']]
    """
    exchange: Messages = []
    for message in history:
        if message["role"] in _LASTING:
            continue
        if message["role"] == "user" and exchange and exchange[-1]["role"] != "user":
            yield exchange
            exchange = []
        exchange.append(message)
    if exchange:
        yield exchange


def _size(messages: Messages) -> int:
    """Count the characters of text, those of tool calls included.

    >>> _size([{"role": "user", "content": "Hi"}, {"role": "user", "content": [{"text": "you"}]}])
    5
    """
    count = 0
    for message in messages:
        content = message.get("content") or ""
        if isinstance(content, str):
            count += len(content)
        else:
            count += sum(len(str(part.get("text") or "")) for part in content)
        if message.get("tool_calls"):
            count += len(json.dumps(message["tool_calls"], default=str))
    return count
