"""Tests that the lists of calls in CONTRIBUTING.md are true: of a request, and of one chunk."""

from __future__ import annotations

import gc
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from providers_sync import OpenAICompatible
from providers_sync.testing import serve, text, wait

ROOT = Path(__file__).parent.parent
PACKAGE = str(ROOT / "providers_sync")
READER = "providers-sync-reader"
READER_WAITS, CALLER_WAITS = "stream/reader:_wait_s", "stream/wakeup:_caller_wait"
MAX_CALLS = 15
"""Of our functions for one chunk."""


def listed(heading: str) -> list[str]:
    """Return the functions of the list that follows this paragraph of the page."""
    blocks = (ROOT / "CONTRIBUTING.md").read_text().split("\n\n")
    found = next(index for index, block in enumerate(blocks) if block.startswith(heading))
    return [simple(name) for name in re.findall(r"^\d+\. `([\w.]+)`", blocks[found + 1], re.M)]


def simple(name: str) -> str:
    """Return a function's module and name, without its class."""
    parts = name.split(".")
    return "/".join(part for part in parts[:-1] if part.islower()) + ":" + parts[-1]


class Calls:
    """The calls of our functions in each thread."""

    def __init__(self) -> None:
        self.made: list[tuple[str, str]] = []
        """Name of the thread, and function."""
        self.waits = threading.Condition()

    def record(self, frame: FrameType, event: str, argument: Any) -> None:
        """Serve as a profile function."""
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(PACKAGE) and "testing" not in path:
            name = f"{path[len(PACKAGE) + 1 : -3]}:{frame.f_code.co_name}"
            if not frame.f_code.co_name.startswith("<"):  # a comprehension, up to Python 3.11
                with self.waits:
                    self.made.append((threading.current_thread().name, name))
                    self.waits.notify_all()

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the calls of this thread, and of those that start meanwhile."""
        gc.collect()  # no finalizer of an earlier test may be recorded
        gc.disable()
        threading.setprofile(self.record)
        sys.setprofile(self.record)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)  # type: ignore[arg-type]
            gc.enable()

    def since(self, mark: int, thread: str) -> list[str]:
        return [name for each, name in self.made[mark:] if each == thread]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self.waits:
            assert self.waits.wait_for(condition, 10)


def is_idle(calls: Calls, mark: int) -> bool:
    """Return whether a chunk has been read since ``mark``, and both threads wait again."""
    in_reader, in_caller = calls.since(mark, READER), calls.since(mark, "caller")
    return (
        "stream/stream:__next__" in in_caller
        and in_caller[-1] == CALLER_WAITS
        and in_reader[-1:] == [READER_WAITS]
    )


def test_request_takes_the_calls_that_the_page_lists() -> None:
    """In this order; others are between them."""
    calls = Calls()
    names = listed("A request, in")
    more = threading.Event()
    with serve([text("a"), wait(more)]) as server, calls.recording():
        with OpenAICompatible("m", base_url=server.url).stream("Hi") as stream:
            assert next(stream) == "a"
            calls.wait_until(lambda: names[-1] in [name for _, name in calls.made])
        more.set()
    made = iter([name for thread, name in calls.made if thread != READER])
    assert names
    assert [name for name in names if name not in made] == []


def test_chunk_takes_the_calls_that_the_page_lists() -> None:
    """These and no others, past the tenth chunk; only one change of thread is between them."""
    calls = Calls()
    chunks = [threading.Event() for _ in range(15)]
    script = [step for chunk in chunks for step in (wait(chunk), text("a"))]
    in_reader, in_caller = listed("A chunk, in"), listed("and in the caller")
    assert in_caller
    assert len(in_reader) + len(in_caller) <= MAX_CALLS

    read_text: list[str] = []
    with serve(script) as server, calls.recording():
        provider = OpenAICompatible("m", base_url=server.url)
        caller = threading.Thread(
            target=lambda: read_text.extend(provider.stream("Hi")), name="caller"
        )
        caller.start()
        for index, chunk in enumerate(chunks[:-1]):
            mark = len(calls.made)
            chunk.set()
            calls.wait_until(lambda mark=mark: is_idle(calls, mark))
            if index >= 10:
                assert calls.since(mark, READER) == [*in_reader, READER_WAITS]
                returned = calls.since(mark, "caller").index("stream/stream:__next__")
                assert calls.since(mark, "caller")[:returned] == in_caller
        chunks[-1].set()
        caller.join(10)
    assert read_text == ["a"] * len(chunks)
