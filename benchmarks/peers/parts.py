"""The parts of the benchmark; each function returns its measurements by case and client."""

from __future__ import annotations

import contextlib
import re
import statistics
import subprocess

from . import environments, records
from . import faults as breaks
from .bench import FOLDER, Bench, Client, Measurements, Process, checked, summary

LONGEST_S = 6.0
"""A client slower than this for a tenth of an answer skips the full one."""

CLIENTS = {
    "providers_sync": Client("ours", "providers_sync", "providers_sync"),
    "openai": Client("openai", "openai", "openai"),
    "anthropic": Client("anthropic", "anthropic", "anthropic"),
    "litellm": Client("litellm", "litellm", "litellm"),
    "aisuite": Client("aisuite", "aisuite", "aisuite"),
    "llm": Client("llm", "llm", "llm"),
    "g4f": Client("g4f", "g4f", "g4f.client"),
    "naive loop": Client("naive", "limits", "requests, sseclient"),
    "bare socket": Client("bare_socket", "limits"),
}
ANTHROPIC = {"providers_sync (Anthropic)": Client("ours_anthropic", "providers_sync")}
ASYNC = {
    "providers_sync.aio": Client("ours_async", "providers_sync"),
    "openai (async)": Client("openai_async", "openai"),
}
BARE = {"bare requests": Client("bare_requests", "limits")}
DEPENDENCIES = {"its dependencies": Client("", "providers_sync", "requests, sseclient, tenacity")}

TYPED = {
    "providers_sync": Client("typed_ours", environments.OURS_TYPED),
    "openai": Client("typed_openai", "openai"),
    "instructor": Client("typed_instructor", "instructor"),
    "pydantic-ai": Client("typed_pydantic_ai", "pydantic-ai"),
    "mirascope": Client("typed_mirascope", "mirascope"),
    "pydantic-ai (0.1 s)": Client("typed_pydantic_ai_grouped", "pydantic-ai"),
    "providers_sync (items)": Client("typed_ours_items", environments.OURS_TYPED),
    "providers_sync (complete)": Client("typed_ours_complete", environments.OURS_TYPED),
    "jiter at the end": Client("typed_at_the_end", "jiter"),
}
TYPED_LIMIT_S = 120.0
"""A client that has not read a typed answer after this time is ended.

One that uses more CPU time than a tenth of it for a tenth of an answer skips the full one.
"""
TYPED_ROUND_S = 20.0
"""As ``ROUND_S``, so that the fastest of the other clients gets several rounds."""


def chunks(bench: Bench) -> Measurements:
    """Measure the CPU time per chunk of a long answer, for each framing of the body."""
    size = 2_000 if bench.quick else 20_000
    expected = sum(len(f"word{n % 97} ") for n in range(size))
    results = {}
    for case, framing, scheme in (
        ("one HTTP chunk an event", "event", "http"),
        ("coalesced", "coalesced", "http"),
        ("close-delimited", "close", "http"),
        ("gzip", "gzip", "http"),
        ("TLS", "event", "https"),
    ):
        with contextlib.ExitStack() as stack:
            clients = {**CLIENTS, **ANTHROPIC, **ASYNC}
            installed = {n: c for n, c in clients.items() if c.environment not in bench.missing}
            running = {n: stack.enter_context(bench.client(c)) for n, c in installed.items()}
            for process in running.values():
                process.request(do="stream", url=bench.url("event", 1))  # import and warm up

            def once(name: str, _: Client, url: str = bench.url(framing, size, scheme),
                     running: dict[str, Process] = running) -> Measurements:  # fmt: skip
                return checked(running[name].request(do="stream", url=url), expected)

            rounds = bench.rounds(clients, 15, once)
        results[case] = {
            name: summary(
                each,
                cpu_us=lambda f: f["cpu"] / size * 1e6,
                wall_us=lambda f: sum(f["walls"]) / size * 1e6,
            )
            for name, each in rounds.items()
        }
    return results


def requests(bench: Bench) -> Measurements:
    """Measure CPU and wall time of a warm request whose answer is one chunk."""
    times = 60
    url = bench.url("event", 1)
    clients = {**CLIENTS, **BARE, **ASYNC}
    with contextlib.ExitStack() as stack:
        installed = {n: c for n, c in clients.items() if c.environment not in bench.missing}
        running = {n: stack.enter_context(bench.client(c)) for n, c in installed.items()}
        for process in running.values():
            process.request(do="stream", url=url, times=5)
        rounds = bench.rounds(
            clients, 9, lambda name, _: running[name].request(do="stream", url=url, times=times)
        )
    results = {}
    for name, each in rounds.items():
        results[name] = summary(each, cpu_us=lambda f: f["cpu"] / times * 1e6)
        if "error" not in results[name]:
            walls = sorted(wall * 1e6 for f in each for wall in f["walls"])
            results[name]["wall_us"] = statistics.median(walls)
            results[name]["wall_p99_us"] = walls[len(walls) * 99 // 100]
    least = results["bare socket"].get("wall_us", 0)
    for measured in results.values():
        if "wall_us" in measured:
            measured["added_us"] = measured["wall_us"] - least
    return {"one-chunk request": results}


MANY = ("providers_sync", "naive loop", "bare socket", "providers_sync.aio")
"""The clients that read 800 streams at once; others take minutes."""


def at_once(bench: Bench) -> Measurements:
    """Measure 200 and 800 concurrent answers of 50 chunks each, 20 ms apart."""
    size, clients = 50, {**CLIENTS, **ASYNC}
    results: Measurements = {}
    values = {
        key: (lambda f, key=key, scale=scale: f[key] * scale)
        for key, scale in (
            ("wall", 1), ("cpu", 1), ("peak", 1),
            ("late_median", 1e3), ("late_p99", 1e3), ("settled_p99", 1e3),
        )
    }  # fmt: skip
    for streams, names in ((200, tuple(clients)), (800, MANY)):
        url = f"{bench.url('paced', size)}/{streams}"

        def once(_: str, client: Client, url: str = url, streams: int = streams) -> Measurements:
            with bench.client(client) as process:
                process.request(do="stream", url=bench.url("event", 1))
                measured = process.request(do="at_once", url=url, streams=streams)
                return checked(measured, streams * size, "chunks")

        rounds = bench.rounds({name: clients[name] for name in names}, 3, once)
        results[f"{streams} streams"] = {
            name: summary(each, **values) for name, each in rounds.items()
        }
    return results


def long_answers(bench: Bench) -> Measurements:
    """Measure time and memory of reading answers of 10 MB and 100 MB as one string."""
    results: Measurements = {}
    for megabytes in (1, 10) if bench.quick else (10, 100):
        url = bench.url("long", megabytes)
        characters = megabytes * 1_000_000 // 16_000 * 16_000

        before = next(iter(results.values()), {})

        def once(name: str, client: Client, url: str = url, expected: int = characters,
                 before: Measurements = before) -> Measurements:  # fmt: skip
            if (wall := before.get(name, {}).get("wall", 0)) > LONGEST_S:
                return {"error": f"not tried: a tenth of it took {wall:.0f} s"}
            with bench.client(client) as process:
                process.request(do="stream", url=bench.url("event", 1))
                return checked(process.request(do="full_text", url=url), expected)

        rounds = bench.rounds(CLIENTS, 7, once)
        results[f"{megabytes} MB"] = {
            name: summary(
                each,
                wall=lambda f: f["wall"],
                cpu=lambda f: f["cpu"],
                peak=lambda f: f["peak"],
                times_text=lambda f: f["peak"] * 1024**2 / f["characters"],
            )
            for name, each in rounds.items()
        }
    return results


def typed(bench: Bench) -> Measurements:
    """Measure typed answers of 51 kB, 510 kB and 5.1 MB in pieces of four characters."""
    results: Measurements = {}
    for size in (5_100, 51_000) if bench.quick else (51_000, 510_000, 5_100_000):
        url = bench.url("records", size)
        characters = len(records.json_text(records.records(size)))
        before = next(reversed(results.values()), {})
        bench.prepare(url)

        def once(name: str, client: Client, url: str = url, expected: int = characters,
                 before: Measurements = before) -> Measurements:  # fmt: skip
            if "error" in before.get(name, {}):
                return {"error": "not tried: a tenth of it failed"}
            if (cpu := before.get(name, {}).get("cpu", 0)) > TYPED_LIMIT_S / 10:
                return {"error": f"not tried: a tenth of it took {cpu:.0f} s of CPU"}
            with bench.client(client) as process:
                process.request(do="records", url=bench.url("records", 500))
                measured = process.request(do="records", url=url, limit=TYPED_LIMIT_S)
                return checked(measured, expected)

        rounds = bench.rounds(TYPED, 7, once, TYPED_ROUND_S)
        results[f"{size / 1e3:,.4g} kB in {-(-characters // records.PIECE):,} pieces"] = {
            name: summary(
                each,
                cpu=lambda f: f["cpu"],
                wall=lambda f: f["wall"],
                values=lambda f: f["values"],
                peak=lambda f: f["peak"],
            )
            for name, each in rounds.items()
        }
    return results


IMPORT = """
import json, sys, time
def memory():
    return int(open("/proc/self/status").read().partition("VmRSS:")[2].split()[0]) / 1024
before, modules, cpu, wall = memory(), len(sys.modules), time.process_time(), time.perf_counter()
import {}
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({{"wall": wall, "cpu": cpu, "memory": memory() - before,
                   "modules": len(sys.modules) - modules}}))
"""


def imports(bench: Bench) -> Measurements:
    """Measure time, memory and modules of an import, in a new process each time."""

    def once(_: str, client: Client) -> Measurements:
        command = [environments.python(client.environment), "-c", IMPORT.format(client.imports)]
        process = Process(command, bench.scratch)
        try:
            return process.read_line()
        finally:
            process.close()

    clients = {name: c for name, c in {**CLIENTS, **DEPENDENCIES}.items() if c.imports}
    bench.rounds(clients, 1, once)  # fills the file cache
    rounds = bench.rounds(clients, 15, once)
    values = {
        "wall_ms": lambda f: f["wall"] * 1e3,
        "cpu_ms": lambda f: f["cpu"] * 1e3,
        "memory": lambda f: f["memory"],
        "modules": lambda f: f["modules"],
    }
    return {"import": {name: summary(each, **values) for name, each in rounds.items()}}


def sizes(bench: Bench) -> Measurements:
    """Measure the size of an installation, without Python."""
    results = {}
    for name, client in CLIENTS.items():
        environment = client.environment
        if environment in bench.missing:
            results[name] = {"error": "not installed"}
        elif environment != "limits":
            packages = environments.versions(environment)
            results[name] = {
                "megabytes": environments.megabytes(environment),
                "packages": len(packages),
                "version": packages.get(environment) or packages[environment.replace("_", "-")],
            }
    return {"installed": results}


def batch(bench: Bench) -> Measurements:
    """Measure rows per second of ``batch.map`` and of as many threads with plain requests."""
    script, rows = FOLDER.parent / "batch_throughput.py", 1_000 if bench.quick else 10_000
    command = [environments.python("providers_sync"), str(script), "--rows", str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not (match := BATCH.search(done.stdout)):
        return {"batch": {"batch.map": {"error": done.stderr[-300:]}}}
    bare, ours, memory = map(float, match.groups())
    return {
        "batch": {
            "batch.map": {"rows_per_s": ours, "peak": memory},
            "bare requests": {"rows_per_s": bare},
        }
    }


def faults(bench: Bench) -> Measurements:
    """Return what each client does when an answer breaks; the bare socket checks nothing."""
    clients = {name: client for name, client in CLIENTS.items() if name != "bare socket"}
    return breaks.faults(bench, clients)


BATCH = re.compile(r"bare (\d+)/s, batch (\d+)/s, ratio [\d.]+, (\d+) MB")
PARTS = {
    "faults": faults,
    "chunks": chunks,
    "requests": requests,
    "at_once": at_once,
    "long": long_answers,
    "typed": typed,
    "imports": imports,
    "sizes": sizes,
    "batch": batch,
}
