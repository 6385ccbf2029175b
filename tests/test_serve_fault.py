"""Tests of ``providers-sync serve --fault``, a faulty server for trying an app by hand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from providers_sync import PROVIDERS, OpenAICompatible, StreamCut, Vitalentum
from providers_sync.cli import main
from providers_sync.testing import FAULTS

ROOT = Path(__file__).parent.parent

VARIABLES = list(dict.fromkeys(kind.base_url_variable for kind in PROVIDERS.values()))


def test_serve_fault_plays_the_fault_until_interrupted():
    """It prints a description and an export for every provider, and ends on Ctrl-C."""
    command = [sys.executable, "-m", "providers_sync", "serve", "--fault", "cut", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            first = process.stdout.readline()
            url = first.split(" is at ")[1].split()[0]
            exports = [process.stdout.readline() for _ in VARIABLES]
            for provider in (OpenAICompatible("m", base_url=url), Vitalentum(base_url=url)):
                with pytest.raises(StreamCut) as caught:
                    provider.complete("Hi")
                assert caught.value.partial == "Hello, "
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()
    assert (
        first == f"A server with this fault is at {url} until Ctrl-C: it {FAULTS['cut'].about}.\n"
    )
    assert exports == [f"export {variable}={url}\n" for variable in VARIABLES]
    assert (process.returncode, errors) == (130, "\n")


def test_serve_fault_list_describes_every_fault(capsys):
    """Each has one line, which fits on a terminal."""
    assert main(["serve", "--fault", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(FAULTS)
    assert all(len(line) < 80 for line in lines)
    assert "list" not in FAULTS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "x"], "unknown fault 'x'; choose one of good, silent, hang-up"),
        (
            ["--fault", "cut", "--engine", "echo"],
            "leave out --engine, --model, --context-size, --token and --token-file",
        ),
        (["--fault", "cut", "--context-size", "600"], "--fault uses no engine"),
        (["--fault", "cut", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1 port 8765"),
    ],
)
def test_serve_fault_reports_invalid_arguments(capsys, arguments, message):
    """It prints one line and returns the exit code of an error."""
    assert main(["serve", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
