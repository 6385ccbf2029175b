"""Use several providers as one: the first that starts to answer sends the complete answer."""

from providers_sync import Failover, OpenAICompatible, Vitalentum
from providers_sync.testing import serve, status

with serve(status(503, "Too busy")) as busy, serve("Here I am.") as healthy:
    provider = Failover(
        [
            OpenAICompatible("qwen3", base_url=busy.url),  # tried first
            Vitalentum(base_url=healthy.url),  # tried if the first one fails
        ]
    )
    stream = provider.stream("Is anybody there?")  # returns with the first chunk
    for chunk in stream:
        print(chunk, end="", flush=True)
    print()

for attempt in stream.attempts:
    print(f"{type(attempt.provider).__name__} failed after {attempt.seconds:.1f} s:")
    print(f"  {type(attempt.error).__name__}, status {attempt.error.status_code}")
