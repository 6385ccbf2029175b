"""Print an answer chunk by chunk, as the server sends it."""

from providers_sync import Vitalentum
from providers_sync.gateway import serve

with serve(engine="echo") as gateway:
    provider = Vitalentum(base_url=gateway.url("vitalentum"))
    with provider.stream("The first words come at once.") as stream:
        for chunk in stream:
            print(chunk, end="", flush=True)

print(f"\n{stream.outcome}: {stream.stats.chunks} chunks, {stream.stats.duration_s:.3f} s")
