"""Convert any accepted input to a ``Row``: its name, messages, options and fingerprint.

>>> to_row("Hello", 1)
Row(number=1, custom_id='row-1', messages=[{'role': 'user', 'content': 'Hello'}])
>>> to_row({"prompt": "Hello", "custom_id": "a"}, 1)
Row(number=1, custom_id='a', messages=[{'role': 'user', 'content': 'Hello'}])
>>> to_row({"custom_id": "b", "body": {"model": "m", "messages": "Hi", "seed": 0}}, 1).options
{'seed': 0}
>>> str(to_row({"question": "Hello"}, 7).error)
"row 7 needs a 'prompt', 'messages', OpenAI's 'body', or a template; it has 'question'"
"""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidRequestError
from ..messages import to_messages
from ..types import Messages
from .cells import is_blank, plain_value
from .templates import Template, shown_names

_PATH = "/chat/completions"
_STREAM_KEYS = ("stream", "stream_options")
"""Keys of a body that are ignored: every answer is streamed."""
_FORBIDDEN_OPTIONS = (
    *("self", "messages", "timeouts", "retry", "headers", "cancel"),
    *("into", "repairs", "skip_invalid"),
)
"""Arguments of ``Provider.stream`` that a body must not contain."""
_REQUEST_KEYS = ("prompt", "messages", "body")
"""Keys for what is asked; a row has one of them, unless it is a single message."""
_POSITION = re.compile(r"row-([1-9][0-9]{0,17})")
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


@dataclass(frozen=True)
class Row:
    """One input, ready to send, or with the error that explains why it cannot be sent."""

    number: int
    """Position in the input, from 1."""
    custom_id: str
    messages: Messages
    input: Any = field(default=None, repr=False)
    """The input as passed to ``map``."""
    model: str | None = field(default=None, repr=False)
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    error: InvalidRequestError | None = field(default=None, repr=False)
    named: bool = field(default=False, repr=False)
    """Whether the input has its own ``custom_id``."""

    @property
    def fingerprint(self) -> str:
        """The ``id`` of its ledger line: a hash of its name, messages, model and options."""
        content = [self.custom_id, self.messages, self.model, self.options]
        try:
            text = json.dumps(content, sort_keys=True, default=repr)
        except Exception:  # noqa: BLE001 (of an object inside: it cannot be sent either)
            text = json.dumps([self.custom_id])
        return f"batch_req_{hashlib.sha256(text.encode()).hexdigest()[:32]}"


class RowNames:
    """The names of the rows of an input, to find one that is there twice."""

    def __init__(self) -> None:
        self._named: dict[str, int] = {}
        self._unnamed = bytearray()  # of each row, whether its name is row-N by its position

    def earlier(self, row: Row) -> int | None:
        """Return the number of an earlier row with this name, if any; call it for each in turn."""
        found = self._named.get(row.custom_id)
        if found is None and row.named and (match := _POSITION.fullmatch(row.custom_id)):
            position = int(match[1])
            if position <= len(self._unnamed) and self._unnamed[position - 1]:
                found = position
        self._unnamed.append(not row.named)
        if row.named:
            self._named.setdefault(row.custom_id, row.number)
        return found


class CheckedInputs:
    """Inputs whose rows were all checked before: the first one may fail alone, like any other."""

    def __init__(self, inputs: Iterable[Any]) -> None:
        self._inputs = inputs

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inputs)


def to_rows(inputs: Iterable[Any], template: Template | None) -> Generator[Row, None, None]:
    """Convert inputs to rows, lazily.

    Raises ``InvalidRequestError`` if the first row has nothing to send: it is the wrong input.
    """
    for number, value in enumerate(inputs, 1):
        row = to_row(value, number, template)
        if number == 1 and not isinstance(inputs, CheckedInputs):
            _check_first(row, template)
        yield row


def to_row(value: Any, number: int, template: Template | None = None) -> Row:
    """Convert the ``number``-th input to a row; an invalid one gets an ``error``."""
    custom_id: str | None = None
    model = error = None
    options: dict[str, Any] = {}
    where = f"row {number}"
    try:
        prompt = plain_value(value)
        if template is not None:
            columns = _columns(value, where)
            custom_id = _custom_id(columns)
            prompt = template.fill(columns, where)
        elif isinstance(value, Mapping) and not is_message(value):
            custom_id = _custom_id(value)
            prompt, model, options = _request(value, where)
        if is_blank(prompt):
            raise InvalidRequestError(f"{where} has no prompt (it is empty): leave it out")
        messages = to_messages(prompt)
    except InvalidRequestError as invalid:
        # Without the traceback, whose frames would keep the row alive until a garbage collection.
        messages, error = [], invalid.with_traceback(None)
    name = custom_id or f"row-{number}"
    return Row(number, name, messages, value, model, options, error, named=custom_id is not None)


def check_columns(names: Iterable[Any], template: Template | None, where: str) -> None:
    """Raise ``InvalidRequestError`` if rows with these columns have nothing to ask."""
    found = list(names)
    if template is not None:
        template.check(found, where)
    elif not any(key in found for key in _REQUEST_KEYS):
        raise InvalidRequestError(
            f"{where} needs a 'prompt', 'messages', OpenAI's 'body', or a template; it has "
            f"{shown_names(found)}"
        )


def _check_first(row: Row, template: Template | None) -> None:
    if row.error is None:
        return
    if not isinstance(row.input, Mapping):
        check_columns(["prompt"], template, "row 1")
    elif template is not None or not is_message(row.input):
        check_columns(row.input, template, "row 1")


def _columns(value: Any, where: str) -> Mapping[str, Any]:
    """Return the columns of a row for a template; those of a text are ``prompt``."""
    if isinstance(value, Mapping):
        return value
    prompt = plain_value(value)
    if prompt is not None and not isinstance(prompt, str):
        raise InvalidRequestError(
            f"{where} must be a dict or text for a template, not {type(value).__name__}"
        )
    return {"prompt": prompt}


def is_message(value: Mapping[str, Any]) -> bool:
    """Return whether an input is one message; in a row with a prompt, ``role`` is data."""
    return "role" in value and not any(key in value for key in _REQUEST_KEYS)


def _custom_id(value: Mapping[str, Any]) -> str | None:
    custom_id = plain_value(value.get("custom_id"))
    if custom_id is None or custom_id == "":
        return None
    if isinstance(custom_id, int) and not isinstance(custom_id, bool):
        try:
            return str(custom_id)  # pandas makes numbers of them when reading a CSV
        except ValueError as error:
            raise InvalidRequestError("custom_id has too many digits: write it as text") from error
    if not isinstance(custom_id, str):
        raise InvalidRequestError(f"custom_id must be text, not {type(custom_id).__name__}")
    return custom_id


def _request(value: Mapping[str, Any], name: str) -> tuple[Any, str | None, dict[str, Any]]:
    """Return prompt or messages, model and options; other keys of a row are not sent."""
    for key in ("prompt", "messages"):
        if key in value:
            return plain_value(value[key]), None, {}
    check_columns(value, None, name)
    return _batch_request(value, name)


def _batch_request(value: Mapping[str, Any], name: str) -> tuple[Any, str | None, dict[str, Any]]:
    """Return the same for a line of OpenAI's batch input (``method``, ``url``, ``body``)."""
    method, url, body = value.get("method", "POST"), value.get("url", _PATH), value["body"]
    if method != "POST" or not isinstance(url, str) or not url.endswith(_PATH):
        target = " ".join(
            part if isinstance(part, str) and len(part) <= 60 else _short.repr(part)
            for part in (method, url)
        )
        raise InvalidRequestError(f"{name} requests {target}; only POST …{_PATH} is supported")
    if not isinstance(body, Mapping) or "messages" not in body:
        raise InvalidRequestError(f"{name} has a 'body' without 'messages'")
    options = {key: item for key, item in body.items() if key not in ("model", *_STREAM_KEYS)}
    messages = options.pop("messages")
    for key in _FORBIDDEN_OPTIONS:
        if key in options:
            raise InvalidRequestError(f"{name} has {key!r} in its 'body': remove it")
    return messages, body.get("model"), options
