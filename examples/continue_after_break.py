"""Go on after a break: the next provider is asked for the rest, and the same loop goes on."""

from providers_sync import Anthropic, Failover, Join, OpenAICompatible, TextDelta
from providers_sync.testing import answer, cut, serve

broken = answer("Roses are red, ", "violets ", cut())  # the connection breaks here
rest = answer("violets are blue.")  # this model repeats a word

with serve(broken) as first, serve(rest) as second:
    provider = Failover(
        [
            OpenAICompatible("qwen3", base_url=first.url),
            Anthropic("claude-sonnet-5-5", base_url=second.url),
        ],
        continue_after_break=1,
    )
    stream = provider.stream("A poem, please.")
    for event in stream.events():
        if isinstance(event, TextDelta):
            print(event.text, end="", flush=True)
        elif isinstance(event, Join):
            print("|", end="", flush=True)  # the place where it was joined
            join = event
    print()

print(f"{stream.outcome}: {stream.text!r}")
print(f"joined after {join.position} characters: {join.reason}")
