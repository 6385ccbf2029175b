"""How a call asks for JSON of a schema: in the protocol's schema mode, by a tool, or in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..encoding.schemas import ANSWER_TOOL, RULES, answer_tool, response_format, schema_words
from ..errors import APIStatusError, InvalidRequestError
from ..types import Decoder, Delta, Messages, ProtocolMessage, ToolCall
from .attempts import Amend

_REFUSED = re.compile(
    r"response.?format|output.?(config|format)|structured.?output|response.?(json.?)?schema"
    r"|text\.format|json.?schema|\bschema\b|grammar|tool|function|thinking",
    re.IGNORECASE,
)
"""How servers name the schema mode, or the tool, that they do not know or cannot honour."""

_STATUSES = (400, 404, 422, 501)

MakeBody = Callable[[Messages, dict[str, Any]], dict[str, Any]]


class SchemaRequest:
    """The bodies that ask for an answer of a schema, the best first; each is made when needed.

    ``mode`` names the rules of the protocol's schema mode; ``None`` if it has none.
    """

    def __init__(
        self,
        schema: Mapping[str, Any],
        mode: str | None,
        messages: Messages,
        options: dict[str, Any],
        make_body: MakeBody,
    ) -> None:
        if options.get("response_format") is not None:
            raise InvalidRequestError("into= sets response_format= itself: give one of them")
        self._schema = schema
        self._mode = mode
        self._messages = messages
        self._options = options
        self._make_body = make_body
        self._bodies = self._make_bodies()
        self._has_tool = False
        """Whether the last body forces the tool."""

    def first_body(self) -> dict[str, Any]:
        """Return the body to send."""
        return next(self._bodies)

    def amended_after(self, amend: Amend) -> Amend:
        """Return a function that amends a body as ``amend`` does, or else asks in another way."""

        def amended(body: dict[str, Any], error: APIStatusError) -> dict[str, Any] | None:
            other = amend(body, error)
            if other is None and error.status_code in _STATUSES and _REFUSED.search(error.body):
                other = next(self._bodies, None)
            return other

        return amended

    def decoder_of(self, make: Callable[[str], Decoder]) -> Callable[[str], Decoder]:
        """Return a function that makes a decoder for the answer to the last body."""

        def decoder(content_type: str) -> Decoder:
            made = make(content_type)
            return _ToolTextDecoder(made) if self._has_tool else made

        return decoder

    def _make_bodies(self) -> Iterator[dict[str, Any]]:
        if self._mode is not None:
            mode = response_format(self._schema, RULES[self._mode])
            if mode is not None:
                yield self._body({"response_format": mode})
            body = None if self._options.get("tools") else self._tool_body()
            if body is not None:
                self._has_tool = True
                yield body
                self._has_tool = False
        words = schema_words(self._schema)
        yield self._make_body(with_words(self._messages, words), self._options)

    def _tool_body(self) -> dict[str, Any] | None:
        """Return a body that forces the tool; ``None`` if the protocol can force none."""
        choice = {"type": "function", "function": {"name": ANSWER_TOOL}}
        try:
            return self._body({"tools": [answer_tool(self._schema)], "tool_choice": choice})
        except InvalidRequestError:
            return None

    def _body(self, more: dict[str, Any]) -> dict[str, Any]:
        return self._make_body(self._messages, {**self._options, **more})


class _ToolTextDecoder:
    """A decoder that returns what the model has called the tool with as the answer's text.

    What the protocol wants back is left out: it belongs to a call that is none.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def feed(self, data: bytes) -> list[Delta]:
        return _calls_as_text(self._decoder.feed(data))

    def end(self) -> list[Delta]:
        try:
            return _calls_as_text(self._decoder.end())
        except Exception as error:
            vars(error).update(deltas=_calls_as_text(vars(error).pop("deltas", [])))
            raise


def _calls_as_text(deltas: list[Delta]) -> list[Delta]:
    return [
        delta.raw if isinstance(delta, ToolCall) and delta.name == ANSWER_TOOL else delta
        for delta in deltas
        if not isinstance(delta, ProtocolMessage)
    ]


def with_words(messages: Messages, words: str) -> Messages:
    """Return messages with ``words`` at the end of the last one of the user.

    >>> with_words([{"role": "user", "content": "Why?"}], "Be brief.")
    [{'role': 'user', 'content': 'Why?\\n\\nBe brief.'}]
    """
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message["role"] != "user":
            continue
        content = message["content"]
        more: Any = [*content, {"type": "text", "text": words}]
        if isinstance(content, str):
            more = f"{content}\n\n{words}" if content else words
        return [*messages[:index], {**message, "content": more}, *messages[index + 1 :]]
    return [*messages, {"role": "user", "content": words}]
