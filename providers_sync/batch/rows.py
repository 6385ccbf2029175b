"""Any accepted input → a row: its name, what is asked, and the fingerprint of both.

>>> to_row("Hello", 1)
Row(number=1, custom_id='row-1', messages=[{'role': 'user', 'content': 'Hello'}])
>>> to_row({"prompt": "Hello", "custom_id": "a"}, 1)
Row(number=1, custom_id='a', messages=[{'role': 'user', 'content': 'Hello'}])
>>> to_row({"custom_id": "b", "body": {"model": "m", "messages": "Hi", "seed": 0}}, 1).options
{'seed': 0}
>>> str(to_row({"question": "Hello"}, 7).error)
"row 7 needs a 'prompt', 'messages', or OpenAI's 'body'; it has 'question'"
"""

from __future__ import annotations

import hashlib
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..errors import InvalidRequestError
from ..messages import conversation
from ..types import Messages

_PATH = "/chat/completions"
_OURS = ("stream", "stream_options")
"""Every answer is streamed, whatever the body says."""
_NOT_OPTIONS = ("self", "messages", "timeouts", "retry", "headers", "cancel")
"""Words of ``Provider.stream`` that no body may bring."""
_KEYS_SHOWN = 10
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


@dataclass(frozen=True)
class Row:
    """One input, ready to be asked, or with the error that says why it cannot be."""

    number: int
    """Counted from 1."""
    custom_id: str
    messages: Messages
    input: Any = field(default=None, repr=False)
    """As it was given."""
    model: str | None = field(default=None, repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    error: InvalidRequestError | None = field(default=None, repr=False)
    named: bool = field(default=False, repr=False)
    """Whether the input brought its own ``custom_id``."""

    @property
    def fingerprint(self) -> str:
        """The ``id`` of its line in the ledger: another question has another one."""
        asked = [self.custom_id, self.messages, self.model, self.options]
        try:
            text = json.dumps(asked, sort_keys=True, default=repr)
        except (TypeError, ValueError, RecursionError):  # it cannot be sent, so it has no answer
            text = json.dumps([self.custom_id])
        return f"batch_req_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def to_row(value: Any, number: int) -> Row:
    """Return the ``number``-th input as a row; what is wrong with it is in the row's ``error``."""
    own: str | None = None
    asked, model = value, None
    options: dict[str, Any] = {}
    error = None
    try:
        if isinstance(value, Mapping) and "role" not in value:
            own = _custom_id(value)
            asked, model, options = _asked(value, f"row {number}")
        messages = conversation(asked)
    except InvalidRequestError as wrong:
        # Without its traceback, whose frames would keep the row alive until the next collection.
        messages, error = [], wrong.with_traceback(None)
    name = own or f"row-{number}"
    return Row(number, name, messages, value, model, options, error, named=own is not None)


def _custom_id(value: Mapping[str, Any]) -> str | None:
    given = value.get("custom_id")
    if given is None or given == "":
        return None
    if not isinstance(given, str):
        raise InvalidRequestError(f"custom_id must be text, not {type(given).__name__}")
    return given


def _asked(value: Mapping[str, Any], name: str) -> tuple[Any, str | None, dict[str, Any]]:
    """Return messages, model and options; other keys of a row are the caller's own."""
    for key in ("prompt", "messages"):
        if key in value:
            return value[key], None, {}
    if "body" not in value:
        has = ", ".join(map(_short.repr, islice(value, _KEYS_SHOWN))) or "nothing"
        raise InvalidRequestError(
            f"{name} needs a 'prompt', 'messages', or OpenAI's 'body'; it has {has}"
        )
    return _batch_request(value, name)


def _batch_request(value: Mapping[str, Any], name: str) -> tuple[Any, str | None, dict[str, Any]]:
    """Read a line of OpenAI's batch input: ``custom_id``, ``method``, ``url``, ``body``."""
    method, url, body = value.get("method", "POST"), value.get("url", _PATH), value["body"]
    if method != "POST" or not isinstance(url, str) or not url.endswith(_PATH):
        wanted = " ".join(
            part if isinstance(part, str) and len(part) <= 60 else _short.repr(part)
            for part in (method, url)
        )
        raise InvalidRequestError(f"{name} wants {wanted}; only POST …{_PATH} can be asked")
    if not isinstance(body, Mapping) or "messages" not in body:
        raise InvalidRequestError(f"{name} has a 'body' without 'messages'")
    options = {key: item for key, item in body.items() if key not in ("model", *_OURS)}
    asked = options.pop("messages")
    for key in _NOT_OPTIONS:
        if key in options:
            raise InvalidRequestError(f"{name} has {key!r} in its 'body', which is no option")
    return asked, body.get("model"), options
