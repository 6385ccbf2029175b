"""Forks processes that make calls with a journal, and kills them at random moments."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import traceback
from collections import Counter
from pathlib import Path

from providers_sync.clock import monotonic
from providers_sync.tools.journal import Journal, call_keys
from providers_sync.types import Message, ToolCall

HERE = Path(__file__).parent
QUESTION: list[Message] = [{"role": "user", "content": "Book the seats."}]


def call(seat: str, id: str = "call_1") -> ToolCall:
    """Return a call of the model that books a seat."""
    return ToolCall(id, "book", {"seat": seat}, json.dumps({"seat": seat}))


CALLS = [call(f"{i}A") for i in range(4)]
KEYS = dict(zip(call_keys(QUESTION, CALLS), CALLS, strict=True))


def append(path: Path, word: str) -> None:
    """Append a line in one write: a process that is killed has written it or not."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{word}\n".encode())
    finally:
        os.close(fd)


def words(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def states(path: Path) -> dict[str, str]:
    """Return the last event of each key, read without the module that is tested."""
    found = {}
    for raw in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):  # a torn line
            line = json.loads(raw)
            found[line["key"]] = line["event"]
    return found


def make_call(folder: Path, journal: Journal, key: str) -> None:
    """Make a call as a run does; report an unknown one, and find out whether it was made."""
    seat = KEYS[key].raw
    entry = journal.find(key)
    if entry is not None and entry.has_ended:
        assert entry.content == f"booked {seat}"
        append(folder / "found", key)
        return
    if entry is not None:
        append(folder / "unknown", key)
    if entry is None or key not in words(folder / "effects"):
        journal.begin(key, KEYS[key])
        append(folder / "effects", key)
    journal.end(key, f"booked {seat}", False, 0.1)


def make_calls(folder: Path, threads: int) -> None:
    with (
        Journal.open(folder / "run.jsonl") as journal,
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
    ):
        list(pool.map(lambda key: make_call(folder, journal, key), KEYS))


def start(folder: Path, threads: int) -> int:
    """Fork a process that makes all calls; return its id."""
    pid = os.fork()
    if pid == 0:
        try:
            make_calls(folder, threads)
            os._exit(0)
        except Exception:  # noqa: BLE001 (there is nobody to catch it)
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid


def run_with_kills(folder: Path, kills: int, threads: int = 1) -> Counter[str]:
    """Run until the calls are done, again and again, until so many processes have been killed.

    Asserts what a journal promises; returns how often what was found after a kill.
    """
    dice = random.Random(kills)
    seen: Counter[str] = Counter()
    begin = monotonic()
    for runs in itertools.count():
        run = folder / str(runs)
        run.mkdir()
        if runs == 0:
            assert run_once(run, threads, 30)
            longest = 1.2 * (monotonic() - begin)
        while not run_once(run, threads, dice.uniform(0, longest), seen):
            pass
        assert sorted(words(run / "effects")) == sorted(KEYS)  # each once
        if seen["killed"] >= kills:
            return seen
    raise AssertionError


def run_with_kills_elsewhere(folder: Path, kills: int, threads: int) -> Counter[str]:
    """Do the same in a small process: the larger a process, the longer it takes to fork it."""
    program = (
        "import json, pathlib, sys; from journal_kit import run_with_kills; folder = sys.argv[1]; "
        f"print(json.dumps(run_with_kills(pathlib.Path(folder), {kills}, {threads})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, os.fspath(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.fspath, (HERE.parent, HERE)))},
        stdout=subprocess.PIPE,
        timeout=55,
        check=True,
    )
    return Counter(json.loads(done.stdout))


def run_once(folder: Path, threads: int, seconds: float, seen: Counter[str] | None = None) -> bool:
    """Start a process, kill it after this time; return whether it has made all calls.

    Asserts that it has found what had ended, and has reported what had begun only.
    """
    before = states(folder / "run.jsonl")
    for name in ("found", "unknown"):
        (folder / name).unlink(missing_ok=True)
    pid = start(folder, threads)
    end = monotonic() + seconds
    while (ended := os.waitpid(pid, os.WNOHANG))[0] == 0:
        if monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
            break
    status = os.waitstatus_to_exitcode(ended[1])
    assert status in (0, -signal.SIGKILL)
    begun = {key for key, event in before.items() if event == "begin"}
    found, unknown = set(words(folder / "found")), set(words(folder / "unknown"))
    assert unknown <= begun
    assert found <= before.keys() - begun
    if status == 0:
        assert (unknown, found) == (begun, before.keys() - begun)
        return True
    after = states(folder / "run.jsonl")
    if seen is not None:
        seen["killed"] += 1
    if seen is not None and before != after:
        open_calls = {key for key, event in after.items() if event == "begin"}
        made = set(words(folder / "effects"))
        seen["between calls"] += not open_calls
        seen["before the effect"] += bool(open_calls - made)
        seen["after the effect"] += bool(open_calls & made)
    return False
