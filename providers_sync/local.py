"""A local model: llama.cpp's HTTP server in a child process, and an engine that uses it.

::

    with LocalServer() as server:
        provider = OpenAICompatible(
            server.model, base_url=server.base_url, api_key=server.api_key
        )
        print(provider.complete("Hello"))
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .error_words import body_message
from .errors import APIConnectionError, APIStatusError, InvalidRequestError, ProviderError
from .local_calls import read_calls, rendered
from .local_grammar import PROBE, Grammar, check_form, grammar_for, must_call, offered_tools
from .local_server import LocalServer, find_weights
from .stream import CancelToken
from .types import Event, Messages

__all__ = ["LocalEngine", "LocalServer", "find_weights"]

PARSE_FAILURE = "Failed to parse"
"""Start of llama.cpp's messages that come with status 500 although the request is wrong."""
ACCEPTED_GRAMMARS = 256
"""How many are remembered, so that an agent's loop does not check its tools again every time."""

FORWARDED = frozenset(
    [
        *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "logit_bias"),
        *("max_tokens", "max_completion_tokens", "reasoning_effort"),
        *("presence_penalty", "frequency_penalty", "repeat_penalty"),
    ]
)
"""Options passed on to llama.cpp unchanged. Others are left out: they are hints for OpenAI's own
service (``user``, ``store``, …), or could collide with parameters of ``stream``."""


class LocalEngine:
    """A gateway engine that runs its own ``LocalServer``, with the same arguments and errors.

    Args:
        model: As for ``LocalServer``.
        context_size: As for ``LocalServer``.
    """

    def __init__(self, model: str | None = None, *, context_size: int | None = None) -> None:
        # Imported here: the package's public API loads modules that only a started model needs.
        from . import OpenAICompatible

        self.server = LocalServer(model, context_size=context_size)
        self.models: Sequence[str] = (self.server.model,)
        # No timeouts and no retries: the gateway's client has both, and closes the connection.
        self._provider = OpenAICompatible(
            self.server.model,
            headers={"Connection": "close"},  # no pooled connection is left open at the end
            base_url=self.server.base_url,
            api_key=self.server.api_key,
            proxy=False,
            timeouts=None,
            retry=None,
        )
        self._accepted: set[str] = set()

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Event]:
        """Yield the model's deltas as they arrive, complete tool calls, usage and finish reason.

        A grammar enforces tools, ``tool_choice`` and ``response_format``, whatever the model's chat
        template supports (``local_grammar``). ``stop`` does not apply where a call is required.

        Args:
            messages: As for ``Engine.answer``.
            options: As for ``Engine.answer``.
            cancel: As for ``Engine.answer``.

        Raises:
            InvalidRequestError: The model cannot answer such a request.
            APIConnectionError: The server of the model has ended.
        """
        _check_text_only(messages)
        forwarded = {name: value for name, value in options.items() if name in FORWARDED}
        functions = offered_tools(options)
        turns = rendered(messages, functions)
        try:
            if grammar := grammar_for(options):
                self._check_grammar(grammar, cancel)
                forwarded["grammar"] = grammar.text
            if must_call(options):
                forwarded.pop("stop", None)
            with self._provider.stream(turns, cancel=cancel, **forwarded) as stream:
                events: Iterator[Event] = stream.events()
                if functions:
                    events = read_calls(events, f"call_{secrets.token_hex(8)}")
                if grammar and "stop" not in forwarded:
                    events = check_form(events, grammar)
                yield from events
        except APIStatusError as error:
            raise _explained(error) from error
        except APIConnectionError as error:
            raise APIConnectionError(
                f"the local model {self.server.model} does not answer: its server has stopped, "
                "so start the gateway again"
            ) from error

    def _check_grammar(self, grammar: Grammar, cancel: CancelToken) -> None:
        """Raise ``InvalidRequestError`` if llama.cpp cannot hold the model to a grammar."""
        if grammar.rules in self._accepted:
            return
        answer = self._provider.complete(
            "Hi", cancel=cancel, grammar=grammar.probe, max_tokens=1, temperature=0
        )
        if not answer.text.startswith(PROBE):
            raise InvalidRequestError(
                f"{grammar.subject}: llama.cpp cannot enforce this JSON schema. It does not "
                "support not, if, contains or dependentRequired. propertyNames must be a list or "
                "a pattern, and patterns cannot use look-around. uniqueItems is ignored, and "
                "refused with strict: true. Options of oneOf must differ in a required property"
            )
        if len(self._accepted) >= ACCEPTED_GRAMMARS:
            self._accepted.clear()
        self._accepted.add(grammar.rules)

    def close(self) -> None:
        """Stop the server."""
        self.server.close()


def _explained(error: APIStatusError) -> ProviderError:
    """Return an error of llama.cpp as the caller's mistake, if it is one, with its remedy."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        words = json.loads(error.body)["error"]
        if words["type"] == "exceed_context_size_error":
            return InvalidRequestError(
                f"the prompt has {words['n_prompt_tokens']} tokens, but prompt and answer together "
                f"may have {words['n_ctx']}: shorten the conversation, or give the local model a "
                "larger context (serve --context-size N, serve(context_size=N))"
            )
    if error.status_code == 400 or (error.status_code == 500 and PARSE_FAILURE in error.body):
        return InvalidRequestError(f"the local model: {body_message(error.body)}")
    return error


def _check_text_only(messages: Messages) -> None:
    """Refuse content other than text, which llama.cpp would answer with a 500."""
    for i, message in enumerate(messages):
        content = message.get("content")
        allowed = ("text", "refusal") if message["role"] == "assistant" else ("text",)
        for part in content if isinstance(content, list) else ():
            if part["type"] not in allowed:
                raise InvalidRequestError(
                    f"messages[{i}].content: the local model reads text, not {part['type']}"
                )
