"""Errors in a cell: the user's own lines and the message, and all of the traceback on demand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from notebook_kit import ROOT, Cell, Kernel, kernel, no_leaks

from providers_sync import APIConnectionError, short_traceback
from providers_sync.short_traceback import HINT
from providers_sync.testing import cut, serve, status, text, tool_call

__all__ = ["kernel", "no_leaks"]
"""Fixtures."""

pytestmark = pytest.mark.filterwarnings("default:::jupyter_client", "default:::zmq")
REFUSED = (
    "APIConnectionError: cannot connect to 127.0.0.1:9: connection refused; is the server running?"
)
NOBODY = "nobody = OpenAICompatible('m', base_url='http://127.0.0.1:9/v1', retry=None)\n"


def shown(cell: Cell) -> str:
    """Return the traceback of a cell that has failed, without colours."""
    (error,) = cell.end().errors
    return re.sub(r"\x1b\[[\d;]*m", "", "\n".join(error["traceback"]))


@pytest.mark.parametrize("call", ["complete('x')", "stream('x')"])
def test_error_in_a_cell_is_the_users_line_and_the_message(kernel: Kernel, call: str) -> None:
    """No frames of ours or of libraries, although there are some."""
    found = shown(kernel.start(f"{NOBODY}nobody.{call}"))
    assert re.match(r"-+\nAPIConnectionError +Traceback", found)
    lines = found.splitlines()
    assert re.fullmatch(r"Cell In\[\d+\], line 2", lines[2])
    assert lines[4] == f"----> 2 nobody.{call}"
    assert lines[-2:] == [REFUSED, HINT]
    assert "File" not in found
    assert len(lines) < 10


def test_frames_of_the_users_functions_stay(kernel: Kernel, tmp_path: Path) -> None:
    """Those of a cell and of a module, but not of a library that lies between them."""
    (tmp_path / "mine.py").write_text("def ask(provider):\n    return provider.complete('x')\n")
    code = (
        f"{NOBODY}import sys, json; sys.path.append({str(tmp_path)!r}); import mine\n"
        "def hook(pairs):\n    return mine.ask(nobody)\n"
        "json.loads('{}', object_hook=hook)"
    )
    found = shown(kernel.start(code))
    arrows = re.findall(r"^-+> \d+ +(.*)", found, re.M)
    assert arrows == [
        "json.loads('{}', object_hook=hook)",
        "return mine.ask(nobody)",
        "return provider.complete('x')",
    ]
    assert f"File {tmp_path}/mine.py:2, in ask(provider)" in found
    assert "json/" not in found


def test_all_of_the_traceback_is_shown_on_demand(kernel: Kernel) -> None:
    """``%tb Plain`` after the error, with the causes; ``%xmode`` for every error."""
    shown(kernel.start(f"{NOBODY}nobody.complete('x')"))
    for code in ("%tb Plain", "%xmode Verbose\nnobody.complete('x')"):
        found = shown(kernel.start(code))
        assert "urllib3" in found
        assert "ConnectionRefusedError" in found
    assert shown(kernel.start("%tb Minimal")) == REFUSED
    kernel.run("%xmode Context")
    assert "urllib3" not in shown(kernel.start("%tb"))


@pytest.mark.parametrize("mode", ["Context", "Minimal", "Plain", "Verbose"])
def test_debug_begins_at_the_error(kernel: Kernel, mode: str) -> None:
    """With all of its frames, whatever was shown of it."""
    kernel.run(f"%xmode {mode}")
    shown(kernel.start(f"{NOBODY}nobody.complete('x')"))
    kernel.run("%xmode Context")
    formatter = "get_ipython().InteractiveTB"
    assert kernel.value(f"{formatter}.tb is sys.last_value.__traceback__")


def test_error_that_is_raised_again_shows_the_lines_of_its_cell(kernel: Kernel) -> None:
    """Python keeps the frames of the first time, too."""
    with serve([text("Half"), cut()]) as server:
        kernel.run(f"stream = openai({server.url!r}).stream('x')")
        assert "stream.read()  # first" in shown(kernel.start("stream.read()  # first"))
        found = shown(kernel.start("next(stream)"))
    assert "----> 1 next(stream)" in found
    assert "# first" not in found


def test_cause_in_the_users_own_code_is_shown(kernel: Kernel) -> None:
    """The exception of a function that a run called is what its author looks for."""
    code = (
        "def broken(a: int) -> int:\n    return a / 0\n"
        "run = openai({url!r}).run('x', tools=[broken], on_error='raise')\nrun.read()"
    )
    with serve([[tool_call("broken", {"a": 1})]]) as server:
        found = shown(kernel.start(code.format(url=server.url)))
    assert "----> 2     return a / 0" in found
    assert "ZeroDivisionError: division by zero" in found
    assert found.index("direct cause") < found.index("ToolError: ")
    assert "----> 4 run.read()" in found
    assert "providers_sync" not in found.partition("direct cause")[2]


def test_errors_that_cause_each_other_are_shown_once(kernel: Kernel) -> None:
    """Python lets a program say so."""
    code = (
        "first = StreamCut('one')\ndef fail(): raise first\n"
        "try: fail()\nexcept StreamCut as error: second = ValueError('two'); raised = error\n"
        "raised.__cause__, second.__cause__ = second, raised\nraise raised"
    )
    found = shown(kernel.start(code))
    kernel.run("del first, second, raised")
    assert found.count("StreamCut: one") == 1


def test_notes_are_made_visible(kernel: Kernel) -> None:
    """What ``add_note`` adds, from Python 3.11 on."""
    found = shown(kernel.start("e = StreamCut('a')\ne.__notes__ = ['b\x1b[2J']\nraise e"))
    kernel.run("del e")
    assert ("b␛[2J" in found) == (sys.version_info >= (3, 11))


def test_message_is_made_visible(kernel: Kernel) -> None:
    """Also where all of the traceback is shown."""
    with serve(status(401, "No\x1b[2J key\u202e")) as server:
        found = kernel.start(f"openai({server.url!r}, api_key='sk-secret-1234').complete('x')")
        assert "No␛[2J key<U+202E>" in shown(found)
        plain = shown(kernel.start("%tb Plain"))
        call = f"openai({server.url!r}).complete('x')"
        for mode in ("Verbose", "Docs"):  # IPython's mode Docs fails if there is a cause
            kernel.run(f"%xmode {mode}")
            alone = kernel.start(
                f"try:\n    {call}\nexcept Exception as e:\n    kept = e; raise"
            ).end()
            cause = kernel.start("raise StreamCut('b\\x1b[2J') from kept").end()
            for cell, message in ((alone, "No␛[2J"), (cause, "b␛[2J")):
                lines = "".join(cell.errors[0]["traceback"])
                assert message in lines
                assert "\x1b[2J" not in lines
                assert ("No␛[2J" in lines) == (cell is alone or mode == "Verbose")
        kernel.run("del kept\n%xmode Context")
    assert "No␛[2J key<U+202E>" in plain
    assert plain.count("sk-secret-1234") == plain.count("api_key='sk-secret-1234'")


def test_ipython_in_a_terminal_shows_the_same() -> None:
    """A program that has imported nothing but the package."""
    code = f"from providers_sync import *; {NOBODY.strip()}; nobody.complete('x')"
    options = ["--no-banner", "--simple-prompt", "--colors=nocolor", "-c", code]
    run = subprocess.run(
        [sys.executable, "-m", "IPython", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": os.devnull},
        capture_output=True,
        encoding="utf-8",
    )
    assert run.stdout.splitlines()[-2:] == [REFUSED, HINT]
    assert "nobody.complete('x')" in run.stdout
    assert "File" not in run.stdout


def test_without_ipython_the_error_is_one_line() -> None:
    """Rendering raises nothing."""
    error = APIConnectionError("no\x1b route")
    assert error._render_traceback_() == ["APIConnectionError: no␛ route"]
    assert short_traceback.render(error) == error._render_traceback_()
