"""Soak test: random faults under many threads; checks every outcome, memory and leaks.

    python benchmarks/soak.py                     # ten minutes, 64 threads
    python benchmarks/soak.py --minutes 1 --threads 16 --seed 7

Each thread makes one call after another, each for a random row of the fault table
(``tests/faults``), over HTTP or TLS, and compares the result with the table: its text is what the
server sent before the fault. Some calls are cancelled, dropped or closed at a random moment; their
text must be a prefix of the full answer. Others are stopped inside bursts of events of one size, by
a timeout or a cancel: every whole event in the bytes received must be in the text, and no half one
(``tests/event_bursts.py``). The server runs in its own process, so that the measurements are the
client's. Exits with 1 if anything is wrong.
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

import event_bursts  # noqa: E402
from event_bursts import BurstServer  # noqa: E402
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
STOPPED_SHARE = 0.2
"""The share of calls that are stopped at a random moment."""
BURST_SHARE = 0.05
"""The share of calls that are stopped inside a burst; each decodes thousands of events."""
TIMEOUT_FACTOR = 4
"""Multiplies the table's timeouts, as everything is slower with many threads on few processors."""
ROW_AND_CALL = re.compile(rb"row=(\d+) call=(\d+)")
GROWTH = 1.15
"""Allowed growth of memory after the first tenth of the time, for the allocator's noise."""


def playable(row: Row) -> bool:
    """Return whether a server that reads the request first can play the row."""
    scripts = row.script if isinstance(row.script, list) else [row.script]
    early = any(isinstance(each, Answer) and each.connect for each in scripts)
    # A flood of data takes half a second of CPU, which would dominate a run with 64 threads.
    return (
        row.target == "server"
        and not callable(row.script)
        and not early
        and "speed" not in row.name
    )


PLAYABLE = [row for row in ROWS if playable(row) and row.takes < 0.5]


class RowPlayer:
    """The server's script: plays the row that a request names, one answer per attempt."""

    def __init__(self) -> None:
        self._seen: collections.Counter[bytes] = collections.Counter()
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> Any:
        match = ROW_AND_CALL.search(request.body)
        assert match
        with self._lock:
            attempt = self._seen[match[2]]
            self._seen[match[2]] += 1
            if len(self._seen) > 10_000:
                del self._seen[next(iter(self._seen))]
        script = PLAYABLE[int(match[1])].script
        if isinstance(script, list) and any(isinstance(each, Answer) for each in script):
            return script[min(attempt, len(script) - 1)]
        return script


def play(ports: Any, certificate: str, stop: Any) -> None:
    """Run both servers until ``stop`` is set."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    player = RowPlayer()
    bursts = BurstServer(0)
    with serve(player, keep=100) as plain, serve(player, keep=100, tls=context) as secure:
        ports.put((plain.url, secure.url, bursts.url))
        stop.wait()
    bursts.close()


class Tally:
    """The results of all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.calls = 0
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.wrong: list[str] = []
        self.late: list[float] = []

    def add(self, outcome: str, problem: str | None, late: float) -> None:
        with self.lock:
            self.calls += 1
            self.outcomes[outcome] += 1
            self.late.append(late)
            if problem:
                self.wrong.append(problem)


def extended(timeouts: Timeouts) -> Timeouts:
    """Return these timeouts multiplied by ``TIMEOUT_FACTOR``."""
    values = (timeouts.connect, timeouts.first_token, timeouts.idle, timeouts.total)
    return Timeouts(*(value and value * TIMEOUT_FACTOR for value in values))


def is_right(text: str, row: Row) -> bool:
    if isinstance(row.text, str):
        return text == row.text
    return re.fullmatch("Helx*", text) is not None  # their number depends on the timing


def problem_of(
    row: Row, kind: str, error: BaseException | None, text: str, outcome: Any
) -> str | None:
    """Return how the result of a call differs from its row, or ``None``."""
    if type(error) is not (row.raises or type(None)):
        return f"{type(error).__name__}: {error}"
    if outcome != row.expected_outcome(kind):
        return f"outcome {outcome}"
    if getattr(error, "clock", None) != row.clock:
        return f"clock {getattr(error, 'clock', None)}"
    return None if is_right(text, row) else f"text {text[:100]!r}"


def is_prefix(text: str, row: Row) -> bool:
    if isinstance(row.text, str):
        return row.text.startswith(text)
    return re.fullmatch("H?e?l?x*", text) is not None


class ProviderWithTimeouts:
    """A shared provider with the timeouts of one row."""

    def __init__(self, provider: Provider, timeouts: Timeouts) -> None:
        self._provider = provider
        self._timeouts = timeouts

    def stream(self, prompt: str, **options: Any) -> Stream:
        return self._provider.stream(prompt, timeouts=self._timeouts, **options)


def stopped_call(
    provider: ProviderWithTimeouts, prompt: str, row: Row, rng: random.Random
) -> str | None:
    """Make a call, then cancel, drop or close it; return what is wrong, or ``None``."""
    token = CancelToken()
    how = rng.choice(["cancel", "drop", "close"])
    timer = threading.Timer(rng.uniform(0, 0.1), token.cancel)
    if how == "cancel":
        timer.start()
    text = ""
    try:
        stream = provider.stream(prompt, cancel=token)
        for chunk in stream:
            text += chunk
            if how != "cancel":
                break
        if how == "close":
            stream.close()
            text = stream.text
    except StreamCancelled as error:
        text = error.partial
    except ProviderError as error:
        text = error.partial
    finally:
        timer.cancel()
        if timer.ident:
            timer.join()
    return None if is_prefix(text, row) else f"{how}: {text[:100]!r}"


def full_call(provider: ProviderWithTimeouts, prompt: str) -> tuple[BaseException | None, str, Any]:
    """Make a call and read it to its end."""
    try:
        stream = provider.stream(prompt)
        stream.read()
    except Exception as error:  # noqa: BLE001 (unexpected ones are what this test looks for)
        return error, getattr(error, "partial", ""), getattr(error, "outcome", None)
    return None, stream.text, stream.outcome


def fits(provider: Provider, row: Row) -> bool:
    """Return whether a row applies to this provider, and to its URL scheme if it names one."""
    scheme = provider.base_url.partition(":")[0]
    kind = type(provider).__name__.replace("CodeLinkAva", "Vitalentum")  # the same answers
    return kind in row.kinds and (scheme in row.schemes or "http" in row.schemes)


class Caller(threading.Thread):
    """A thread that makes one call after another."""

    def __init__(
        self, seed: int, until: float, providers: list[Provider], bursts: str, tally: Tally
    ) -> None:
        super().__init__(name=f"caller-{seed}")
        self.bursts = bursts
        self.rng = random.Random(seed)
        self.until = until
        self.providers = providers
        self.tally = tally
        self.calls = 0

    def run(self) -> None:
        while time.monotonic() < self.until:
            if self.rng.random() < BURST_SHARE:
                self.burst()
            else:
                self.call()

    def burst(self) -> None:
        each = event_bursts.random_round(self.rng.randrange(10**9), 0)
        self.tally.add(f"burst, {each.stop}", event_bursts.play(self.bursts, each), 0.0)

    def call(self) -> None:
        rng = self.rng
        number = rng.randrange(len(PLAYABLE))
        row = PLAYABLE[number]
        provider = rng.choice([each for each in self.providers if fits(each, row)])
        self.calls += 1
        call = f"{self.name[7:]}{self.calls:08}"
        prompt, kind = f"row={number} call={call}", type(provider).__name__
        client = ProviderWithTimeouts(provider, extended(row.timeouts))
        started = time.monotonic()
        if rng.random() < STOPPED_SHARE:
            problem, outcome, late = stopped_call(client, prompt, row, rng), "stopped", 0.0
        else:
            error, text, outcome = full_call(client, prompt)
            late = time.monotonic() - started - (row.limit - MARGIN_S) * TIMEOUT_FACTOR
            problem = problem_of(row, kind, error, text, outcome)
        self.tally.add(str(outcome), problem and f"{row.name} ({kind}): {problem}", late)


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
    """Return one provider of each kind for HTTP and TLS, shared by all threads."""
    providers = []
    for kind in (*ALL, "CodeLinkAva"):
        for url in (plain, secure):
            model = None if kind in ("Vitalentum", "CodeLinkAva") else "gpt-4o"
            make = getattr(providers_sync, kind)
            providers.append(make(model, base_url=url, verify=bundle, retry=AT_ONCE))
    return providers


def report(tally: Tally, started: float) -> None:
    with tally.lock:
        line = f"{tally.calls} calls, {len(tally.wrong)} wrong"
    seconds = time.monotonic() - started
    print(f"{seconds:6.0f} s  {line}, {memory_mb():.0f} MB, {descriptors()} descriptors, "
          f"{threading.active_count()} threads", flush=True)  # fmt: skip


def soak(minutes: float, threads: int, seed: int, urls: tuple[str, str, str], bundle: str) -> bool:
    """Run all threads and print a summary; return whether everything was right."""
    tally, started = Tally(), time.monotonic()
    providers = all_providers(*urls[:2], bundle)
    before = descriptors(), threading.active_count()
    until = started + minutes * 60
    callers = [Caller(seed * 1000 + n, until, providers, urls[2], tally) for n in range(threads)]
    for caller in callers:
        caller.start()
    warm = 0.0
    while time.monotonic() < until:
        time.sleep(min(10.0, max(until - time.monotonic(), 0.1)))
        report(tally, started)
        if not warm and time.monotonic() - started > minutes * 6:
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
    print(f"wrong outcomes: {len(tally.wrong)}")
    for problem, count in collections.Counter(tally.wrong).most_common(20):
        print(f"  {count} x {problem}")
    print(f"late by (s): median {late[len(late) // 2]:.3f}, "
          f"99 % {late[len(late) * 99 // 100]:.3f}, worst {late[-1]:.3f}")  # fmt: skip
    print(f"memory: {warm:.0f} MB after a tenth of the time, {peak:.0f} MB at the end")
    print(f"descriptors and threads: {before} before, {after} after")
    return not tally.wrong and after <= before and peak <= warm * GROWTH + 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
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
            passed = soak(args.minutes, args.threads, args.seed, ports.get(timeout=30), bundle)
        finally:
            stop.set()
            server.join(30)
    print("passed" if passed else "FAILED")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
