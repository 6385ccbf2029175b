"""A run with a journal under many kills at random moments: no call is made twice."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from journal_kit import words
from test_processes import FORKS

from providers_sync.clock import monotonic
from providers_sync.testing import Request, serve, text, tool_call

KILLS = 100
ROUNDS = 3
PARTS = ("a", "b")
CALLS = [f"{number}{part}" for number in range(1, ROUNDS + 1) for part in PARTS]

PROGRAM = """
import os, random, signal, sys, time
from pathlib import Path
import providers_sync.tools.journal, providers_sync.transport
from providers_sync import OpenAICompatible

def append(path, word):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{word}\\n".encode())
    os.fsync(fd)
    os.close(fd)

def run(folder):
    def book(number: int, part: str) -> str:
        time.sleep(random.uniform(0, 0.002))
        append(folder / "effects", f"{number}{part}")
        time.sleep(random.uniform(0, 0.002))
        return f"booked {number}{part}"

    def decide(call):
        name = f"{call.arguments['number']}{call.arguments['part']}"
        append(folder / "unknown", name)
        effects = folder / "effects"
        is_made = effects.exists() and name in effects.read_text().split()
        return f"booked {name}" if is_made else True

    with OpenAICompatible("m", base_url=sys.argv[1]) as provider:
        answer = provider.run(
            "Book", tools=[book], journal=folder / "run.jsonl", on_unknown=decide
        )
        (folder / "answer").write_text(answer.read())

for line in sys.stdin:
    folder, seconds = line.split()
    pid = os.fork()
    if pid == 0:
        try:
            run(Path(folder))
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(repr(error))
            os._exit(1)
    end = time.monotonic() + float(seconds)
    while not (ended := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < end:
        time.sleep(0.0005)
    if not ended[0]:
        os.kill(pid, signal.SIGKILL)
        ended = os.waitpid(pid, 0)
    print(os.waitstatus_to_exitcode(ended[1]), flush=True)
"""
"""Makes the run in a new process for each line that it reads, and kills it after a time."""

_numbers = itertools.count()


def model(request: Request) -> Any:
    """Answer by what has been said, with other ids each time, and in another order."""
    messages = request.json()["messages"]
    number = 1 + sum("tool_calls" in message for message in messages)
    results = [message["content"] for message in messages if message["role"] == "tool"]
    assert sorted(results) == [f"booked {call}" for call in CALLS[: len(results)]]
    if number > ROUNDS:
        return [text("Booked")]
    calls = [
        tool_call("book", {"number": number, "part": part}, id=f"call_{next(_numbers)}")
        for part in PARTS
    ]
    return [text(f"{number}. "), *random.Random(next(_numbers)).sample(calls, len(calls))]


@pytest.fixture
def program() -> Iterator[Any]:
    with (
        serve(model) as server,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, server.url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        yield process
        assert process.stdin is not None
        process.stdin.close()


def run_once(program: Any, folder: Path, seconds: float) -> int:
    """Run until it ends or is killed; return the exit code."""
    program.stdin.write(f"{folder} {seconds}\n")
    program.stdin.flush()
    return int(program.stdout.readline())


def states(folder: Path) -> dict[str, str]:
    """Return the last event of each call, by its name, read without the module that is tested."""
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    path = folder / "run.jsonl"
    for raw in path.read_text().splitlines(keepends=True) if path.exists() else ():
        if raw.endswith("\n"):  # not torn
            line = json.loads(raw)
            if line["event"] == "begin":
                names[line["key"]] = "{number}{part}".format_map(line["arguments"])
            found[names[line["key"]]] = line["event"]
    return found


@FORKS
def test_kills_repeat_nothing(program: Any, tmp_path: Path) -> None:
    dice = random.Random(1)
    kills, seen = 0, Counter[str]()
    longest = 0.0
    for name in ("first", "second"):  # the first one is slow
        (tmp_path / name).mkdir()
        begin = monotonic()
        assert run_once(program, tmp_path / name, 30) == 0
        longest = 1.2 * (monotonic() - begin)
    for number in itertools.count():
        folder = tmp_path / str(number)
        folder.mkdir()
        while True:
            before = states(folder)
            begun = {name for name, event in before.items() if event == "begin"}
            (folder / "unknown").unlink(missing_ok=True)
            # A later one has less to do: what has ended is found in the journal.
            code = run_once(program, folder, dice.uniform(0, longest))
            assert code in (0, -9)
            unknown = words(folder / "unknown")
            assert len(unknown) == len(set(unknown))
            assert set(unknown) <= begun
            assert len(words(folder / "effects")) == len(set(words(folder / "effects")))
            if code == 0:
                break
            kills += 1
            seen["begun"] += bool(begun)
            seen["ended"] += "end" in before.values()
        assert set(unknown) == begun  # all are reported
        assert (folder / "answer").read_text() == "1. 2. 3. Booked"
        assert sorted(words(folder / "effects")) == CALLS  # each once
        assert set(states(folder).values()) == {"end"}
        if kills >= KILLS:
            break
    assert min(seen["begun"], seen["ended"]) > 0
