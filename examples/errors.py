"""Keep what arrived when an answer breaks off, and ask for the rest."""

from providers_sync import AI365VIP, ProviderError, StreamError
from providers_sync.testing import answer, cut, serve, text

script = [
    answer(text("Roses are red, "), cut()),  # the first answer breaks off,
    answer("violets are blue."),  # the second goes on
]

with serve(script) as server:
    provider = AI365VIP(base_url=server.url)
    question = [{"role": "user", "content": "A poem, please."}]
    try:
        poem = provider.complete(question).text
    except StreamError as error:  # it began, then broke: .partial is what arrived
        print(f"{type(error).__name__} ({error.outcome}): {error}")
        print(f"What had arrived: {error.partial!r}")
        said = {"role": "assistant", "content": error.partial}
        poem = error.partial + provider.complete([*question, said]).text
    except ProviderError as error:  # it never began: not reached, refused, timed out
        raise SystemExit(f"no answer: {error}") from error

print(poem)
