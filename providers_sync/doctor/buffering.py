"""Detects whether something buffers a stream, from the arrival times of its chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from .finding import Finding, note, ok, wrong

LONG_WAIT_S = 0.5
"""An answer that arrives all at once sooner than this is too fast to tell if it was buffered."""
SUDDEN_S = 0.1
"""A hundred numbers in this time would be 2,000 tokens a second: hardly any model is so fast."""
SUDDEN_SHARE = 0.1
"""Fraction of the wait: a buffered answer arrives in a small part of the time it took."""
BURST_GAP_S = 0.25
"""A model's tokens are 5 to 100 ms apart; a proxy's buffer takes longer to fill."""
BURST_CHUNKS = 8
"""A burst has at least this many chunks on average; a buffer of 4 KiB holds about twice as many."""
BURST_SHARE = 0.8
"""Fraction of the time from the first chunk to the last; one hiccup of the network is less."""
ADVICE = (
    "check for a proxy that buffers responses (nginx: `proxy_buffering off;`, or the server sends "
    "`X-Accel-Buffering: no`), for compression in transit, and for antivirus software or a company "
    "proxy that inspects TLS"
)


def detect_buffering(started: float, times: Sequence[float], headers: Mapping[str, str]) -> Finding:
    """Return what the chunks' arrival ``times`` show; all are seconds of the same clock."""
    if not times:
        return note("stream", "the answer is empty, so there are no arrival times to judge")
    wait, spread = times[0] - started, times[-1] - times[0]
    seen = f"{len(times)} chunks, the first after {wait:.2f} s, the last {spread:.2f} s later"
    if wait < LONG_WAIT_S and spread < SUDDEN_S:
        return ok("stream", f"{seen}; too fast to tell whether something buffers it")
    if len(times) == 1:
        return wrong(
            "stream",
            f"the complete answer arrived as one chunk after {wait:.2f} s{_via(headers)}",
            f"either the server does not stream, or something buffers the answer: {ADVICE}",
        )
    if wait >= LONG_WAIT_S and spread < min(SUDDEN_S, SUDDEN_SHARE * wait):
        return wrong("stream", f"something buffers the answer{_via(headers)}: {seen}", ADVICE)
    gaps = [late - early for early, late in pairwise(times)]
    long_gaps = [gap for gap in gaps if gap >= BURST_GAP_S]
    bursts = len(long_gaps) + 1
    if len(times) / bursts >= BURST_CHUNKS and sum(long_gaps) > BURST_SHARE * spread:
        arrival = f"it arrives in {bursts} bursts"
        return wrong("stream", f"something buffers the answer{_via(headers)}: {arrival}", ADVICE)
    return ok("stream", f"{seen}, as expected of a stream")


def _via(headers: Mapping[str, str]) -> str:
    """Return which servers passed the response on, according to its headers."""
    fields = {name.lower(): value for name, value in headers.items()}
    servers = [fields[name] for name in ("via", "server") if name in fields]
    return f" (it came through {', '.join(servers)})" if servers else ""
