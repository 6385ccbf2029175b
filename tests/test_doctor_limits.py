"""The doctor's own time limits: the slowest set-ups end in under ten seconds, all at once here."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from providers_sync.clock import monotonic
from providers_sync.doctor import Finding, examine
from providers_sync.testing import (
    answer,
    drip,
    json_body,
    pause,
    ping,
    repeat,
    serve,
    stall,
    text,
)

LIMIT_S = 10.0
MODELS = json_body({"data": [{"id": "m"}]})
ENDLESS = answer(inside=[repeat(drip(b"X-Pad: 1\r\n"))])
HANGS = "BAD  server   it accepts connections, but answered neither"
SLOW = "note answer   the server is running, but has not answered within"
SET_UPS: dict[str, tuple[Any, Any, str]] = {
    "hangs after connect": (answer(connect=[stall()]), None, HANGS),
    "hangs after the request": (answer(before=[stall()]), None, HANGS),
    "drips headers": (ENDLESS, None, HANGS),
    "loads a model for a long time": (MODELS, answer(before=[stall()]), SLOW),
    "drips headers of the answer": (MODELS, ENDLESS, SLOW),
    "drips comments": (MODELS, [repeat(drip(b": wait\n\n"))], SLOW),
    "pings": (MODELS, [ping(0.5)], SLOW),
    "drips one event": (MODELS, [repeat(drip(b"data: {", every=0.5))], SLOW),
    "endless list": (answer(repeat(b" ", pause(0.05))), ["1 ", "2"], "ok   answer   complete"),
    "endless answer": (MODELS, [repeat("1 ", pause(0.5))], "ok   answer   it streams"),
    "stalled stream": (MODELS, [text("1 "), stall()], "BAD  stream   it stalls after 1 chunks"),
}


def report(url: str, scheme: str = "http") -> tuple[list[Finding], float]:
    """Return the findings, and how long they took."""
    started = monotonic()
    found = list(examine("openai", base_url=url.replace("http", scheme), model="m"))
    return found, monotonic() - started


@pytest.mark.usefixtures("clean_environment")
def test_the_slowest_set_ups_end_within_the_limit() -> None:
    """Each has the doctor's real limits; the first cause is right, or the server is only slow."""
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(SET_UPS) + 1))
        reports = {}
        for name, (models, reply, _) in SET_UPS.items():

            def script(request: Any, models: Any = models, reply: Any = reply) -> Any:
                return models if request.method == "GET" or reply is None else reply

            is_raw = reply is None
            server = serve(models if is_raw else script, protocol="openai")
            reports[name] = pool.submit(report, stack.enter_context(server).url)
        silent = stack.enter_context(serve(answer(connect=[stall()])))
        reports["TLS"] = pool.submit(report, silent.url, "https")
        results = {name: future.result() for name, future in reports.items()}
    expected = {**{name: words for name, (_, _, words) in SET_UPS.items()}, "TLS": "BAD  TLS"}
    for name, (found, seconds) in results.items():
        shown = "\n".join(map(str, found))
        assert seconds < LIMIT_S, name
        assert expected[name] in shown, (name, shown)
        assert ("BAD" in shown) == expected[name].startswith("BAD"), (name, shown)
