"""A real Jupyter kernel for the tests of the notebook module."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ipykernel")
from jupyter_client.manager import KernelManager

from providers_sync.testing import tool_call

ROOT = Path(__file__).parent.parent
WAIT_S = 20.0
TOOLS = """
import time
def add(a: int, b: int) -> int:
    "Add two numbers."
    return a + b
def slow(a: int, b: int, cancel: CancelToken) -> None:
    print("begun", flush=True)
    while not cancel.cancelled:
        time.sleep(0.01)
def ask(call):
    return input(f"{call.name}? ") == "y"
"""
ADD = tool_call("add", {"a": 1, "b": 2})


class Cell:
    """One execution of a cell, with the outputs and updates that a front end would show."""

    def __init__(self, client: Any, code: str) -> None:
        self._client = client
        self._id = client.execute(code)
        self.outputs: list[dict[str, Any]] = []
        self.states: list[str] = []
        """The plain text of every display and update, in order."""
        self.errors: list[dict[str, Any]] = []
        self.printed = ""
        self._positions: dict[str, int] = {}

    def wait(self, expected: str) -> Cell:
        """Read messages until a state contains the expected text."""
        while not any(expected in state for state in self.states):
            assert not self._next(), f"ended without {expected!r}: {self.outputs} {self.errors}"
        return self

    def wait_input(self) -> str:
        """Wait until the cell asks for input; return its prompt."""
        prompt: str = self._client.get_stdin_msg(timeout=WAIT_S)["content"]["prompt"]
        return prompt

    def type(self, line: str) -> None:
        """Answer the question that the cell asks."""
        self._client.input(line)

    def end(self) -> Cell:
        """Read messages until the kernel is idle and has replied, as a front end does."""
        while not self._next():
            pass
        while self._client.get_shell_msg(WAIT_S)["parent_header"].get("msg_id") != self._id:
            pass
        return self

    @property
    def plain(self) -> list[str]:
        """The current plain text of the outputs, with the line at the end of an answer apart."""
        found: list[str] = []
        for output in self.outputs:
            text, dash, line = output["text/plain"].rpartition("— ")
            found += [text.removesuffix("\n\n"), line] if dash else [line]
        return found

    def _next(self) -> bool:
        message = self._client.get_iopub_msg(timeout=WAIT_S)
        if message["parent_header"].get("msg_id") != self._id:
            return False
        kind, content = message["msg_type"], message["content"]
        if kind in ("display_data", "execute_result", "update_display_data"):
            display_id = content.get("transient", {}).get("display_id")
            if kind == "update_display_data":
                self.outputs[self._positions[display_id]] = content["data"]
            else:
                self._positions[display_id] = len(self.outputs)
                self.outputs.append(content["data"])
            self.states.append(content["data"]["text/plain"])
        elif kind == "error":
            self.errors.append(content)
        elif kind == "stream":
            self.printed += content["text"]
        return bool(kind == "status" and content["execution_state"] == "idle")


class Kernel:
    """A kernel in a separate process that uses this checkout."""

    def __init__(self, folder: Path) -> None:
        self._manager = KernelManager(transport="ipc", connection_file=str(folder / "kernel.json"))
        base = {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder), "PYTHONUTF8": "1"}
        self._manager.start_kernel(env={**os.environ, **base}, cwd=str(folder))
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=60)
        self.run(
            "import threading, psutil, asyncio\n"
            "from providers_sync import *\nfrom providers_sync.notebook import show, Stopped\n"
            "%load_ext providers_sync\n"
            "def openai(url, **more): return OpenAICompatible('m', base_url=url, **more)"
        )

    def start(self, code: str) -> Cell:
        return Cell(self._client, code)

    def run(self, code: str) -> Cell:
        """Run a cell to its end; it must not fail."""
        cell = self.start(code).end()
        assert not cell.errors, cell.errors
        return cell

    def value(self, code: str) -> Any:
        """Evaluate an expression in the kernel and return its value."""
        return eval(self.run(f"print(repr(({code})))").printed)

    def interrupt(self) -> None:
        """Press the stop button."""
        self._manager.interrupt_kernel()

    def stop(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for all tests in this file; they must leave nothing running in it."""
    kernel = Kernel(tmp_path_factory.mktemp("k"))
    yield kernel
    kernel.stop()


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Check after each test that the kernel has no threads of ours and no open connections.

    Idle connections belong to providers in variables and are closed with them.
    """
    if "kernel" not in request.fixturenames:
        yield
        return
    kernel = request.getfixturevalue("kernel")
    yield
    kernel.run(
        "import gc, sys\n"
        "for name in ('run', 'answer', 'stream', 'chat', 'other', 'early'):\n"
        "    globals().pop(name, None)\n"
        "sys.last_value = sys.last_traceback = sys.last_exc = None\n"
        "get_ipython().InteractiveTB.tb = None  # for %debug\n"
        "def leaks():\n"
        "    gc.collect()  # each time: IPython keeps an error until the next cell has ended\n"
        "    threads = [t.name for t in threading.enumerate()]\n"
        "    sockets = [c.status for c in psutil.Process().net_connections('tcp')]\n"
        "    ours = [name for name in threads if name.startswith('providers-sync')]\n"
        "    return ours + [s for s in sockets if s != 'LISTEN']  # the kernel's own debugger"
    )
    deadline = time.monotonic() + 2
    while kernel.value("leaks()") and time.monotonic() < deadline:
        pass
    assert kernel.value("leaks()") == []
