"""Limit every wait; the error names the timeout that expired."""

from providers_sync import APITimeoutError, Timeouts, Vitalentum
from providers_sync.testing import serve, stall, text

timeouts = Timeouts(connect=2, first_token=5, idle=0.5, total=30)

with serve([text("Let me think about"), stall()]) as server:  # it stalls in the middle
    provider = Vitalentum(base_url=server.url, timeouts=timeouts)
    try:
        print(provider.complete("Are you awake?"))
    except APITimeoutError as error:
        print(f"{error.outcome}: {error}")
        print(f"Received so far: {error.partial!r}")
