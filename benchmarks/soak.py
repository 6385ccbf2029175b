"""Random faults for minutes under many threads: every verdict right, memory flat, nothing leaked.

    python benchmarks/soak.py                     # ten minutes, 64 threads
    python benchmarks/soak.py --minutes 1 --threads 16 --seed 7

Each thread asks again and again, each time for a row of the fault table (``tests/faults``), over
HTTP or TLS, and compares what it sees with the table. Some calls are cancelled, dropped or closed
at a random moment; of these the text must be a beginning of the whole. The server is a process of
its own, so that the figures are the client's. Exits with 1 unless all of it holds.
"""

from __future__ import annotations

import argparse
import collections
import gc
import multiprocessing
import os
import random
import re
import resource
import ssl
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import tenacity
import trustme

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

from faults.row import ALL, MARGIN_S, Row  # noqa: E402
from faults.table import ROWS  # noqa: E402

import providers_sync  # noqa: E402
from providers_sync import (  # noqa: E402
    CancelToken,
    Provider,
    ProviderError,
    Stream,
    StreamCancelled,
    Timeouts,
)
from providers_sync.testing import Answer, Request, serve  # noqa: E402

AT_ONCE = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
STOPPED = 0.2
"""The share of calls that are stopped at a random moment."""
PATIENCE = 4
"""The table's clocks times this: under so many threads on few processors all things take longer."""
NAMED = re.compile(rb"row=(\d+) call=(\d+)")
GROWTH = 1.15
"""How much memory may grow after the first tenth of the time: an allocator is never quite still."""


def playable(row: Row) -> bool:
    """Tell whether a server that sees the request first can play the row."""
    scripts = row.script if isinstance(row.script, list) else [row.script]
    early = any(isinstance(each, Answer) and each.connect for each in scripts)
    # A flood keeps a processor busy for half a second: under 64 threads that is all there would be.
    return (
        row.target == "server"
        and not callable(row.script)
        and not early
        and "speed" not in row.name
    )


PLAYABLE = [row for row in ROWS if playable(row) and row.takes < 0.5]


class Stage:
    """The server's side: plays the row that a request names, answer by answer."""

    def __init__(self) -> None:
        self._seen: collections.Counter[bytes] = collections.Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Any:
        found = NAMED.search(request.body)
        assert found
        with self._lock:
            turn = self._seen[found[2]]
            self._seen[found[2]] += 1
            if len(self._seen) > 10_000:
                del self._seen[next(iter(self._seen))]
        script = PLAYABLE[int(found[1])].script
        if isinstance(script, list) and any(isinstance(each, Answer) for each in script):
            return script[min(turn, len(script) - 1)]
        return script


def play(ports: Any, certificate: str, stop: Any) -> None:
    """Run both servers until told to stop."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    stage = Stage()
    with serve(stage, keep=100) as plain, serve(stage, keep=100, tls=context) as secure:
        ports.put((plain.url, secure.url))
        stop.wait()


class Tally:
    """What all threads have seen."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = 0
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.late: list[float] = []

    def add(self, outcome: str, complaint: str | None, late: float) -> None:
        with self.lock:
            self.calls += 1
            self.outcomes[outcome] += 1
            self.late.append(late)
            if complaint:
                self.wrong.append(complaint)


def patient(timeouts: Timeouts) -> Timeouts:
    """Return these clocks, longer."""
    clocks = (timeouts.connect, timeouts.first_token, timeouts.idle, timeouts.total)
    return Timeouts(*(clock and clock * PATIENCE for clock in clocks))


def is_right(text: str, row: Row) -> bool:
    if isinstance(row.text, str):
        return text == row.text
    return re.fullmatch("Helx+", text) is not None  # how many there are depends on the clock


def judge(row: Row, kind: str, error: BaseException | None, text: str, outcome: Any) -> str | None:
    """Return what is wrong with what was seen, if anything is."""
    if type(error) is not (row.raises or type(None)):
        return f"{type(error).__name__}: {error}"
    if outcome != row.expected_outcome(kind):
        return f"outcome {outcome}"
    if getattr(error, "clock", None) != row.clock:
        return f"clock {getattr(error, 'clock', None)}"
    return None if is_right(text, row) else f"text {text[:100]!r}"


def is_beginning(text: str, row: Row) -> bool:
    if isinstance(row.text, str):
        return row.text.startswith(text)
    return re.fullmatch("H?e?l?x*", text) is not None


class Clocked:
    """A shared provider with a row's clocks."""

    def __init__(self, provider: Provider, timeouts: Timeouts) -> None:
        self._provider = provider
        self._timeouts = timeouts

    def stream(self, question: str, **named: Any) -> Stream:
        return self._provider.stream(question, timeouts=self._timeouts, **named)


def stopped(provider: Clocked, question: str, row: Row, dice: random.Random) -> str | None:
    """Make a call and stop it one way or another; return what is wrong."""
    token = CancelToken()
    way = dice.choice(["cancel", "drop", "close"])
    clock = threading.Timer(dice.uniform(0, 0.1), token.cancel)
    if way == "cancel":
        clock.start()
    text = ""
    try:
        stream = provider.stream(question, cancel=token)
        for chunk in stream:
            text += chunk
            if way != "cancel":
                break
        if way == "close":
            stream.close()
            text = stream.text
    except StreamCancelled as error:
        text = error.partial
    except ProviderError as error:
        text = error.partial
    finally:
        clock.cancel()
        if clock.ident:
            clock.join()
    return None if is_beginning(text, row) else f"{way}: {text[:100]!r}"


def watched(provider: Clocked, question: str) -> tuple[BaseException | None, str, Any]:
    """Make a call and read it to its end."""
    try:
        stream = provider.stream(question)
        stream.read()
    except Exception as error:  # noqa: BLE001 (a foreign one is what this looks for)
        return error, getattr(error, "partial", ""), getattr(error, "outcome", None)
    return None, stream.text, stream.outcome


def fits(provider: Provider, row: Row) -> bool:
    """Tell whether a row is about such a provider, and about its wire if it is about one."""
    wire = provider.base_url.partition(":")[0]
    kind = type(provider).__name__.replace("CodeLinkAva", "Vitalentum")  # the same answers
    return kind in row.kinds and (wire in row.schemes or "http" in row.schemes)


class Caller(threading.Thread):
    """One of the threads."""

    def __init__(self, seed: int, until: float, providers: list[Provider], tally: Tally) -> None:
        super().__init__(name=f"caller-{seed}")
        self.dice = random.Random(seed)
        self.until = until
        self.providers = providers
        self.tally = tally
        self.calls = 0

    def run(self) -> None:
        while time.monotonic() < self.until:
            self.ask()

    def ask(self) -> None:
        dice = self.dice
        number = dice.randrange(len(PLAYABLE))
        row = PLAYABLE[number]
        provider = dice.choice([each for each in self.providers if fits(each, row)])
        self.calls += 1
        call = f"{self.name[7:]}{self.calls:08}"
        question, kind = f"row={number} call={call}", type(provider).__name__
        asked = Clocked(provider, patient(row.timeouts))
        began = time.monotonic()
        if dice.random() < STOPPED:
            complaint, outcome, late = stopped(asked, question, row, dice), "stopped", 0.0
        else:
            error, text, outcome = watched(asked, question)
            late = time.monotonic() - began - (row.limit - MARGIN_S) * PATIENCE
            complaint = judge(row, kind, error, text, outcome)
        self.tally.add(str(outcome), complaint and f"{row.name} ({kind}): {complaint}", late)


def memory_mb() -> float:
    """Return the memory in use by this process (Linux; elsewhere its peak)."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) / 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(os.listdir(folder)) if folder.is_dir() else -1


def all_providers(plain: str, secure: str, bundle: str) -> list[Provider]:
    """One of each kind and wire, shared by all threads."""
    made = []
    for kind in (*ALL, "CodeLinkAva"):
        for url in (plain, secure):
            model = None if kind in ("Vitalentum", "CodeLinkAva") else "gpt-4o"
            make = getattr(providers_sync, kind)
            made.append(make(model, base_url=url, verify=bundle, retry=AT_ONCE))
    return made


def report(tally: Tally, began: float) -> None:
    with tally.lock:
        line = f"{tally.calls} calls, {len(tally.wrong)} wrong"
    seconds = time.monotonic() - began
    print(f"{seconds:6.0f} s  {line}, {memory_mb():.0f} MB, {descriptors()} descriptors, "
          f"{threading.active_count()} threads", flush=True)  # fmt: skip


def soak(minutes: float, threads: int, seed: int, urls: tuple[str, str], bundle: str) -> bool:
    """Run it all; return whether all held."""
    tally, began = Tally(), time.monotonic()
    providers = all_providers(*urls, bundle)
    before = descriptors(), threading.active_count()
    until = began + minutes * 60
    callers = [Caller(seed * 1000 + n, until, providers, tally) for n in range(threads)]
    for caller in callers:
        caller.start()
    warm = 0.0
    while time.monotonic() < until:
        time.sleep(min(10.0, max(until - time.monotonic(), 0.1)))
        report(tally, began)
        if not warm and time.monotonic() - began > minutes * 6:
            warm = memory_mb()
    for caller in callers:
        caller.join(30)
    peak = memory_mb()
    del providers, callers, caller
    deadline = time.monotonic() + 5
    while (descriptors() > before[0] or threading.active_count() > before[1]) and (
        time.monotonic() < deadline
    ):
        gc.collect()
        time.sleep(0.05)
    after = descriptors(), threading.active_count()
    late = sorted(tally.late)
    print(f"calls: {tally.calls}; outcomes: {dict(tally.outcomes)}")
    print(f"wrong verdicts: {len(tally.wrong)}")
    for complaint, count in collections.Counter(tally.wrong).most_common(20):
        print(f"  {count} x {complaint}")
    print(f"late by (s): median {late[len(late) // 2]:.3f}, "
          f"99 % {late[len(late) * 99 // 100]:.3f}, worst {late[-1]:.3f}")  # fmt: skip
    print(f"memory: {warm:.0f} MB after a tenth of the time, {peak:.0f} MB at the end")
    print(f"descriptors and threads: {before} before, {after} after")
    return not tally.wrong and after <= before and peak <= warm * GROWTH + 10


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--threads", type=int, default=64)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    authority = trustme.CA()
    with tempfile.TemporaryDirectory() as folder:
        bundle, certificate = f"{folder}/ca.pem", f"{folder}/server.pem"
        authority.cert_pem.write_to_path(bundle)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        context = multiprocessing.get_context("spawn")
        ports, stop = context.Queue(), context.Event()
        server = context.Process(target=play, args=(ports, certificate, stop))
        server.start()
        try:
            held = soak(given.minutes, given.threads, given.seed, ports.get(timeout=30), bundle)
        finally:
            stop.set()
            server.join(30)
    print("all of it holds" if held else "FAILED")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
