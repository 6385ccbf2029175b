"""Whether something between buffers a stream, told from the moments at which its pieces came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from .finding import Finding, note, ok, wrong

LONG_WAIT_S = 0.5
"""Shorter answers are over before anybody could tell whether they were held back."""
SUDDEN_S = 0.1
"""A hundred numbers in this time would be 2,000 tokens a second: hardly a model speaks so fast."""
SUDDEN_SHARE = 0.1
"""Of the wait: what is held back comes in a small part of the time it took."""
LUMP_GAP_S = 0.25
"""A model's words are 5 to 100 ms apart; a proxy's buffer takes longer to fill."""
LUMP_PIECES = 8
"""A lump is so many pieces at once on average; a buffer of 4 KiB holds about twice as many."""
LUMP_SHARE = 0.8
"""Of the time between the first piece and the last; one hiccup of the network is less."""
ADVICE = (
    "look for a proxy that collects answers (nginx: `proxy_buffering off;`, or the server sends "
    "`X-Accel-Buffering: no`), for compression on the way, and for an antivirus or a company's "
    "proxy that inspects TLS"
)


def detect_buffering(began: float, times: Sequence[float], headers: Mapping[str, str]) -> Finding:
    """Say what the pieces' arrival times tell; all are of one clock, in seconds."""
    if not times:
        return note("stream", "the answer is empty, so nothing can be told of its arrival")
    wait, spread = times[0] - began, times[-1] - times[0]
    seen = f"{len(times)} pieces, the first after {wait:.2f} s, the last {spread:.2f} s later"
    if wait < LONG_WAIT_S and spread < SUDDEN_S:
        return ok("stream", f"{seen}; too quick to tell whether something holds it back")
    if len(times) == 1:
        return wrong(
            "stream",
            f"the whole answer came in one piece after {wait:.2f} s{_by(headers)}",
            f"either the server does not stream, or something holds the answer back: {ADVICE}",
        )
    if wait >= LONG_WAIT_S and spread < min(SUDDEN_S, SUDDEN_SHARE * wait):
        return wrong("stream", f"something holds the answer back{_by(headers)}: {seen}", ADVICE)
    gaps = [late - early for early, late in pairwise(times)]
    long_gaps = [gap for gap in gaps if gap >= LUMP_GAP_S]
    if len(times) / (len(long_gaps) + 1) >= LUMP_PIECES and sum(long_gaps) > LUMP_SHARE * spread:
        lumps = f"it comes in {len(long_gaps) + 1} lumps"
        return wrong("stream", f"something holds the answer back{_by(headers)}: {lumps}", ADVICE)
    return ok("stream", f"{seen}, as a stream should")


def _by(headers: Mapping[str, str]) -> str:
    """Return what the response says of who passed it on."""
    fields = {name.lower(): value for name, value in headers.items()}
    said = [fields[name] for name in ("via", "server") if name in fields]
    return f" (it came through {', '.join(said)})" if said else ""
