"""The child process of ``local``: llama.cpp's HTTP server, until the parent ends.

It learns everything from one line of JSON on its standard input, which then stays open for as
long as the parent lives: a command line and an environment can be read by others.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

PARENT_S = 0.5
"""Between two looks whether the parent lives, beside the pipe that says so at once."""

CONTEXT_TOKENS = 4096
"""Question and answer together; the memory that it takes grows with it."""
ANSWER_TOKENS = 1024
"""Where the client sets no limit: small models tend to ramble on."""
MAX_THREADS = 4
"""More help a small model little. One core is left to others: llama.cpp's threads spin while they
wait for each other, so one busy neighbour makes an answer on all cores 5 to 50 times slower."""
HTTP_THREADS = 32
"""Answers under way or waiting their turn."""


def main(weights: str, key: str, parent: int) -> None:
    """Print the address when the server can answer, then live as long as the parent.

    ``weights`` is the path of a .gguf file, ``key`` what every request must carry, ``parent`` the
    parent's process id.
    """
    threading.Thread(target=_end_with_input, daemon=True).start()
    # llama.cpp may print; the pipe to the parent is for the address alone.
    pipe = os.dup(1)
    os.dup2(2, 1)
    try:
        server = _serve(weights, key)
    except Exception as error:  # noqa: BLE001 - llama.cpp has logged why; no traceback above it
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os.write(pipe, f"{server.listening_address}\n".encode())
    # Where the parent has forked, its other children hold the pipe open too.
    while os.name == "nt" or os.getppid() == parent:
        time.sleep(PARENT_S)
    os._exit(0)


def _serve(weights: str, key: str) -> Any:
    """Start llama.cpp's server in this process; it listens when this returns."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.model_alias = {Path(weights).stem}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    # Without it llama.cpp answers whoever is on this machine, and any page in its browsers. With
    # it only /health, which says no more than that the server is up, and 404 are for all.
    params.api_keys = [key]
    # No page of any origin may read even that.
    params.cors_origins = ""
    params.cors_credentials = False
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


def _end_with_input() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)
