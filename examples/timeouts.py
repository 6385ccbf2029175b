"""Bound every wait; the error names the clock that fired."""

from providers_sync import APITimeoutError, Timeouts, Vitalentum
from providers_sync.testing import serve, stall, text

clocks = Timeouts(connect=2, first_token=5, idle=0.5, total=30)

with serve([text("Let me think about"), stall()]) as server:  # it falls silent half-way
    provider = Vitalentum(base_url=server.url, timeouts=clocks)
    try:
        print(provider.complete("Are you awake?"))
    except APITimeoutError as error:
        print(f"{error.outcome}: {error}")
        print(f"What had arrived: {error.partial!r}")
