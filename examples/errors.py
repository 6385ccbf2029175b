"""Keep the text that arrived when an answer is interrupted, and request the rest."""

from providers_sync import AI365VIP, ProviderError, StreamError
from providers_sync.testing import answer, cut, serve, text

script = [
    answer(text("Roses are red, "), cut()),  # the first answer is cut off,
    answer("violets are blue."),  # the second continues it
]

with serve(script) as server:
    provider = AI365VIP(base_url=server.url)
    question = [{"role": "user", "content": "A poem, please."}]
    try:
        poem = provider.complete(question).text
    except StreamError as error:  # it started, then failed: .partial is the text so far
        print(f"{type(error).__name__} ({error.outcome}): {error}")
        print(f"Received so far: {error.partial!r}")
        received = {"role": "assistant", "content": error.partial}
        poem = error.partial + provider.complete([*question, received]).text
    except ProviderError as error:  # it never started: unreachable, refused, timed out
        raise SystemExit(f"no answer: {error}") from error

print(poem)
