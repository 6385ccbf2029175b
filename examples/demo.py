"""Send one question to each discontinued service, answered by a small model on this machine.

``make demo`` runs it; ``python examples/demo.py "Your question"`` sends another question.
"""

from __future__ import annotations

import sys

from providers_sync import AI365VIP, CodeLinkAva, Provider, ProviderError, Vitalentum
from providers_sync.gateway import Gateway, serve

QUESTION = "Why is the sea salty? Answer in one sentence."
PROVIDERS: dict[str, type[Provider]] = {
    "vitalentum": Vitalentum,
    "codelinkava": CodeLinkAva,
    "ai365vip": AI365VIP,
}


def main() -> None:
    """Start the gateway, send the question to each provider, stop the gateway."""
    question = " ".join(sys.argv[1:]) or QUESTION
    with start() as gateway:
        print(f"Question: {question}")
        for name, kind in PROVIDERS.items():
            ask(kind(base_url=gateway.url(name)), question)


def start() -> Gateway:
    """Return a gateway with the local model, or with the echo engine if there is no model."""
    try:
        gateway = serve(engine="local")
    except ProviderError as error:
        print(f"The local model cannot be started: {error}.")
        print("Instead, the echo engine answers: it repeats the question, word by word.")
        return serve(engine="echo")
    print(f"The local model answers at {gateway.url()}.")
    return gateway


def ask(provider: Provider, question: str) -> None:
    """Print an answer chunk by chunk as it arrives, then its statistics."""
    print()
    with provider.stream(question, temperature=0, max_tokens=100) as stream:
        for chunk in stream:
            print(chunk, end="", flush=True)
    stats = stream.stats
    print(
        f"\n— {type(provider).__name__}: {stream.outcome}, {stats.chunks} chunks, "
        f"first after {stats.first_chunk_s:.2f} s"
    )


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped.")
