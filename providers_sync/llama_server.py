"""The child process of ``local_server``: runs llama.cpp's HTTP server until the parent ends.

The parent sends the arguments as one line of JSON on standard input, because other users can read
a command line and an environment. Standard input then stays open as long as the parent lives.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

PARENT_S = 0.5
"""Seconds between two checks that the parent lives; usually the pipe reports its end at once."""

CONTEXT_TOKENS = 4096
"""Default. Prompt and answer together; memory use grows with it."""
ANSWER_TOKENS = 1024
"""Limit if the client sets none: small models tend to ramble."""
MAX_THREADS = 4
"""More threads hardly help a small model. One core stays free: llama.cpp's threads spin while they
wait for each other, so one other busy process makes an answer on all cores 5 to 50 times slower."""
HTTP_THREADS = 32
"""Answers being generated or queued."""


def main(weights: str, key: str, parent: int, context_size: int) -> None:
    """Print the address when the server is ready, then run as long as the parent lives.

    ``weights`` is the path of a .gguf file, ``key`` the API key that every request must send,
    ``parent`` the parent's process id, ``context_size`` the tokens of prompt and answer together.
    """
    threading.Thread(target=_exit_at_eof, daemon=True).start()
    # llama.cpp may print to stdout; the pipe to the parent is only for the address.
    pipe = os.dup(1)
    os.dup2(2, 1)
    try:
        server = _serve(weights, key, context_size)
    except Exception as error:  # noqa: BLE001 - llama.cpp has logged the reason; no traceback needed
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os.write(pipe, f"{server.listening_address}\n".encode())
    # If the parent has forked, its other children also hold the pipe open.
    while os.name == "nt" or os.getppid() == parent:
        time.sleep(PARENT_S)
    os._exit(0)


def _serve(weights: str, key: str, context_size: int) -> Any:
    """Start llama.cpp's server in this process and return it, already listening."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.model_alias = {Path(weights).stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    # Without a key llama.cpp answers every user of this machine and any page in their browsers.
    # With one, all others get only 404s and /health, which just reports that the server is up.
    params.api_keys = [key]
    # No web page of any origin may read even that.
    params.cors_origins = ""
    params.cors_credentials = False
    params.ui = False
    params.endpoint_slots = False
    params.n_ctx = context_size
    params.n_predict = ANSWER_TOKENS
    params.n_threads_http = HTTP_THREADS
    threads = max(1, min(MAX_THREADS, (os.cpu_count() or 1) - 1))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    # Other answers in the same batch, or a partly cached prompt, change the last bits of floats.
    params.n_parallel = 1
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.verbosity = 2
    return xllamacpp.Server(params)


def _exit_at_eof() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)
