"""Detects whether something buffers a stream, from the arrival times of its chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from .finding import Finding, note, ok, wrong

LONG_WAIT_S = 0.5
"""An answer that arrives all at once sooner than this is too fast to tell if it was buffered."""
SUDDEN_S = 0.0008
"""Per chunk. Hardly any model sends more than a thousand chunks a second one by one, and few of
those that do wait ``LONG_WAIT_S`` before."""
FEW_CHUNKS = 8
"""Fewer prove nothing: many servers put several tokens of a short answer into one chunk."""
MANY_CHARACTERS = 150
"""In one chunk: more than the few tokens that were asked for, so it was held back."""
BURST_GAP_S = 0.25
"""A model's tokens are 5 to 100 ms apart; a proxy's buffer takes longer to fill."""
BURST_CHUNKS, NOTED_CHUNKS = 6, 4
"""A burst has at least so many chunks on average, to be wrong or to be noted."""
BURSTS = 3
"""Two may be one hiccup of the network."""
BURST_SHARE = 0.8
"""Fraction of the time from the first chunk to the last that is gaps between the bursts."""
ADVICE = (
    "check for a proxy that buffers responses (nginx: `proxy_buffering off;`, or the server sends "
    "`X-Accel-Buffering: no`), for compression in transit, and for antivirus software or a company "
    "proxy that inspects TLS"
)


def is_sudden(times: Sequence[float]) -> bool:
    """Return whether the chunks arrived faster than models write."""
    return not times or times[-1] - times[0] < SUDDEN_S * len(times)


def detect_buffering(
    started: float,
    times: Sequence[float],
    headers: Mapping[str, str],
    characters: int,
    network_s: float = 0.0,
) -> Finding:
    """Return what the chunks' arrival ``times`` show; all are seconds of the same clock.

    A short answer has about 20 chunks of ``characters`` together. Few of them are thin evidence,
    which is a note at most. Connecting may have taken ``network_s`` of the wait.
    """
    if not times:
        return note("stream", "the answer is empty, so there are no arrival times to judge")
    wait, spread = times[0] - started, times[-1] - times[0]
    seen = f"{len(times)} chunks, the first after {wait:.2f} s, the last {spread:.2f} s later"
    if is_sudden(times) and wait - network_s < LONG_WAIT_S:
        return ok("stream", f"{seen}; too fast to tell whether something buffers it")
    if is_sudden(times):
        return _detect_sudden(wait, len(times), seen, headers, characters)
    long_gaps = [late - early for early, late in pairwise(times) if late - early >= BURST_GAP_S]
    bursts = len(long_gaps) + 1
    if bursts > 1 and sum(long_gaps) > BURST_SHARE * spread:
        size = len(times) / bursts
        text = f"something buffers the answer{_via(headers)}: it arrives in {bursts} bursts"
        if bursts >= BURSTS and size >= BURST_CHUNKS:
            return wrong("stream", text, ADVICE)
        if size >= NOTED_CHUNKS:
            return note("stream", f"maybe {text}", ADVICE)
    return ok("stream", f"{seen}, as expected of a stream")


def _detect_sudden(
    wait: float, chunks: int, seen: str, headers: Mapping[str, str], characters: int
) -> Finding:
    if chunks == 1:
        text = f"the complete answer arrived as one chunk after {wait:.2f} s{_via(headers)}"
        advice = f"either the server does not stream, or something buffers the answer: {ADVICE}"
        level = wrong if characters >= MANY_CHARACTERS else note
        return level("stream", text, advice)
    if chunks < FEW_CHUNKS:
        return note("stream", f"maybe something buffers the answer{_via(headers)}: {seen}", ADVICE)
    return wrong("stream", f"something buffers the answer{_via(headers)}: {seen}", ADVICE)


def _via(headers: Mapping[str, str]) -> str:
    """Return which servers passed the response on, according to its headers."""
    fields = {name.lower(): value for name, value in headers.items()}
    servers = [fields[name] for name in ("via", "server") if name in fields]
    return f" (it came through {', '.join(servers)})" if servers else ""
