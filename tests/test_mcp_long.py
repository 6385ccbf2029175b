"""Tools of MCP servers in a notebook, and where a program ends without leaving ``with``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from notebook_kit import Kernel

ROOT = Path(__file__).parent.parent
SERVER = Path(__file__).with_name("mcp_server.py")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = Kernel(tmp_path_factory.mktemp("k"))
    yield kernel
    kernel.stop()


def test_notebook_calls_tools_in_any_cell(kernel):
    """The kernel's loop runs all the time; a session can stay open from cell to cell."""
    kernel.run(
        "import sys\nfrom providers_sync.tools import mcp\n"
        f"server = mcp(sys.executable, {str(SERVER)!r})\ntools = server.__enter__()\n"
        "add = next(tool for tool in tools if tool.name == 'add')\n"
        "assert asyncio.get_running_loop().is_running()"
    )
    assert kernel.value("add.bind({'a': 40, 'b': 2}, CancelToken())()") == "42"
    assert len(kernel.value("[p.pid for p in psutil.Process().children()]")) == 1
    kernel.run("server.__exit__(None, None, None)")
    assert kernel.value("[p.pid for p in psutil.Process().children()]") == []
    assert kernel.value("[t.name for t in threading.enumerate() if 'mcp' in t.name]") == []


@pytest.mark.parametrize("stubborn", [False, True])
def test_exit_without_leaving_ends_the_server(tmp_path, stubborn):
    """The exit is not delayed, except by a server that does not end when its input does."""
    server = tmp_path / "server.py"
    server.write_text(
        SERVER.read_text(encoding="utf-8").replace(
            "    server.run()",
            f"    import time\n    server.run()\n    time.sleep({60 * stubborn})",
        ),
        encoding="utf-8",
    )
    code = (
        "import sys, psutil, time\nfrom providers_sync.tools import mcp\n"
        "def hold():\n    with mcp(sys.executable, sys.argv[1]) as tools:\n        yield tools\n"
        "held = hold(); next(held)\n"
        "print(psutil.Process().children()[0].pid, time.time(), flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(server)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
    )
    ended = time.time()
    assert (done.returncode, done.stderr) == (0, "")
    pid, started = done.stdout.split()
    assert not psutil.pid_exists(int(pid))
    assert ended - float(started) < (6 if stubborn else 2)
