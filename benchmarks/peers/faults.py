"""What the clients do when an answer breaks: what they raise, whether they stop, and when."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from .bench import Bench, Client, Measurements

CHUNKS = 20
"""Received before the fault."""
STOP_S = 5.0
"""A stream that another thread has not stopped after this time counts as not stoppable."""
SILENCE_S = 660.0
"""Longer than the longest default timeout, which is 600 s."""


def faults(bench: Bench, clients: dict[str, Client]) -> Measurements:
    """Return what each client does with each fault, with its default settings."""
    installed = {n: c for n, c in clients.items() if c.environment not in bench.missing}
    results: Measurements = {}
    for case, framing in (("truncated", "truncated"), ("reset", "reset")):
        results[case] = {n: _ending(bench, c, framing) for n, c in installed.items()}
    results["stopped"] = {n: _stop(bench, c) for n, c in installed.items()}
    if not bench.quick:
        with ThreadPoolExecutor(len(installed)) as pool:
            waits = pool.map(lambda c: _ending(bench, c, "silent"), installed.values())
            results["silent"] = dict(zip(installed, waits, strict=True))
    return results


def _ending(bench: Bench, client: Client, framing: str) -> Measurements:
    with bench.client(client) as process:
        process.request(do="stream", url=bench.url("event", 1))
        url = bench.url(framing, CHUNKS)
        measured = process.request(do="ending", url=url, limit=SILENCE_S)
    if "error" in measured:
        return {"says": measured["error"]}
    says = measured["raised"] or "no error"
    if measured["chunks"] != CHUNKS:
        says += f", {measured['chunks']} of {CHUNKS} chunks"
    if framing == "silent":
        return {"says": f"{says} after {measured['wall']:.0f} s"}
    return {"says": says}


def _stop(bench: Bench, client: Client) -> Measurements:
    with bench.client(client) as process:
        process.request(do="stream", url=bench.url("event", 1))
        url = bench.url("silent", CHUNKS)
        measured = process.request(do="stop", url=url, chunks=CHUNKS, seconds=STOP_S)
    if "wall" in measured:
        return {"says": f"after {measured['wall'] * 1e3:.0f} ms"}
    return {"says": measured.get("error") or f"no ({measured['said'] or 'still blocked'})"}
