"""Calls for which no thread can start: the system refuses, the exit, a subinterpreter."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from providers_sync import CancelToken, OpenAICompatible, ProviderError, aio
from providers_sync.stream import open_streams, workers
from providers_sync.testing import serve
from providers_sync.web import plain

STARTER = next(
    name
    for name in ("_start_joinable_thread", "_start_new_thread")  # since Python 3.13, and before
    if hasattr(threading, name)
)


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], None]:
    """Return a function that lets the start of every new thread of the package fail."""

    def refuse(error: Exception) -> None:
        real = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if not thread.name.startswith("providers-sync"):
                return real(thread)

            def starter(*arguments: Any, **options: Any) -> Any:
                raise error

            with monkeypatch.context() as patch:
                patch.setattr(threading, STARTER, starter)
                return real(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
        monkeypatch.setattr(workers, "_idle", [])

    return refuse


@pytest.mark.parametrize(
    ("make_error", "message"),
    [
        (partial(RuntimeError, "can't start new thread"), r"can't start new thread.*ulimit -u"),
        (MemoryError, r"MemoryError.*memory"),
        (
            partial(RuntimeError, "can't create new thread at interpreter shutdown"),
            r"shuts down.*not in an atexit handler",
        ),
        (
            partial(RuntimeError, "daemon threads are disabled in this (sub)interpreter"),
            r"use the main interpreter",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["stream", "aio", "web"])
def test_call_without_a_thread_fails_with_the_remedy_and_holds_nothing(
    refuse: Callable[[Exception], None],
    monkeypatch: pytest.MonkeyPatch,
    make_error: Callable[[], Exception],
    message: str,
    kind: str,
) -> None:
    """Nothing is sent, no stream stays open, the token is released; the next call works."""
    error, token = make_error(), CancelToken()
    with serve(["Hello"]) as server:
        provider = OpenAICompatible("m", base_url=server.url)

        def call() -> str:
            if kind == "aio":
                with contextlib.closing(asyncio.new_event_loop()) as loop:
                    # Not asyncio.run(), which starts a thread to end the executor.
                    return loop.run_until_complete(aio.complete(provider, "x", cancel=token)).text
            if kind == "web":
                return b"".join(plain(provider.prepare("x", cancel=token))).decode()
            return provider.stream("x", cancel=token).read()

        with monkeypatch.context() as patch:
            refuse(error)
            with pytest.raises(ProviderError, match=message) as caught:
                call()
            patch.undo()
        monkeypatch.undo()
        assert caught.value.__cause__ is error
        assert caught.value.outcome == "failed"
        assert not server.requests
        assert not open_streams()
        assert not token._streams
        assert call() == "Hello"


def run_python(script: str) -> str:
    """Run a script in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=Path(__file__).parent,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout


AT_EXIT = """
import atexit, threading
from providers_sync import OpenAICompatible, ProviderError, batch
from providers_sync.stream import open_streams
from providers_sync.testing import serve, text, wait

go = threading.Event()
server = serve([[text("Hel"), wait(go), text("lo")]])
server.__enter__()
provider = OpenAICompatible("m", base_url=server.url)
stream = provider.stream("x")
assert next(stream) == "Hel"

def refused(*arguments, **options):
    raise RuntimeError("can't create new thread at interpreter shutdown")

def last():
    while any("request" in thread.name for thread in threading.enumerate()):
        threading.Event().wait(0.01)  # an idle one would take the next call
    threading.{starter} = refused  # as Python 3.12 does; other versions start threads here
    for call in (
        lambda: provider.complete("x"),
        lambda: next(batch.map(provider, ["x"])),
    ):
        try:
            print("no error:", call())
        except ProviderError as error:
            print("atexit" in str(error), len(open_streams()), len(server.requests))
    go.set()
    print(stream.read(), stream.outcome)

atexit.register(last)
"""


def test_call_at_the_exit_fails_and_an_open_stream_can_still_be_read() -> None:
    """In an atexit handler, also in a batch."""
    assert run_python(AT_EXIT.format(starter=STARTER)) == "True 1 1\n" * 2 + "lo complete\n"


SUBINTERPRETER = """
import os, sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
script = '''
import sys, warnings
sys.path[:] = PATH
warnings.simplefilter("ignore")  # of requests, about modules that cannot be loaded here
from providers_sync import OpenAICompatible, ProviderError, batch
from providers_sync.stream import open_streams
provider = OpenAICompatible("m", base_url="http://127.0.0.1:9", retry=1)
for call in (lambda: provider.complete("x"), lambda: next(batch.map(provider, ["x"]))):
    for _ in range(2):
        try:
            print("no error", call())
        except ProviderError as error:
            print("use the main interpreter" in str(error), len(open_streams()))
'''
if hasattr(interpreters, "exec"):
    print(interpreters.exec(interpreters.create("isolated"), script))
else:
    print(interpreters.run_string(interpreters.create(isolated=True), script))
sys.stdout.flush()
os._exit(0)  # ending a subinterpreter that has loaded ssl crashes some versions
"""


def test_call_in_an_isolated_subinterpreter_fails_with_the_remedy() -> None:
    """No daemon thread can start there: the call says so instead of hanging."""
    script = SUBINTERPRETER.replace("PATH", repr(sys.path))
    assert run_python(script) == "True 0\n" * 4 + "None\n"
