"""The delay until the caller receives the first event, in every framing."""

from __future__ import annotations

import statistics
import threading
import time
from typing import Any

import pytest

from providers_sync import OpenAICompatible
from providers_sync.testing import answer, drip, serve, text, wait

FRAMINGS: dict[str, dict[str, Any]] = {
    "chunked": {"framing": "chunked"},
    "one-chunk-dripped": {"framing": "one-chunk", "length": 1 << 20},
    "close": {"framing": "close"},
    "close-gzip": {"framing": "close", "gzip": True},
    "tls": {"framing": "chunked"},
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_first_event_is_handed_over_at_once(framing: str, request: pytest.FixtureRequest) -> None:
    """Median of 20 under 20 ms from the server's write until ``next()`` returns."""
    tls = request.getfixturevalue("tls") if framing == "tls" else None
    verify = request.getfixturevalue("ca") if framing == "tls" else True
    first = drip(text("word"), every=0, size=40) if "dripped" in framing else text("word")
    delays = []
    go, hold = threading.Event(), threading.Event()
    script = answer(wait(go), first, wait(hold), **FRAMINGS[framing])
    with serve(script, tls=tls) as server:
        provider = OpenAICompatible("m", base_url=server.url, verify=verify)
        for _ in range(20):
            go.clear()
            with provider.stream("Hi") as stream:
                start = time.monotonic()
                go.set()
                assert next(stream) == "word"
                delays.append(time.monotonic() - start)
    assert statistics.median(delays) < 0.02
