"""The sixteen faults of Failover Bench (github.com/failoverbench/failoverbench, methodology 0.1).

Written anew from their description, with shorter waits. Each is scored as there: the caller gets
the whole answer, and the provider sees no more requests than it should. In S13 an error is right.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from providers_sync import (
    Anthropic,
    APIStatusError,
    Failover,
    OpenAICompatible,
    Provider,
    Stream,
    Timeouts,
)
from providers_sync.testing import (
    Request,
    Server,
    answer,
    cut,
    event,
    pause,
    reset,
    serve,
    stall,
    status,
    text,
    usage,
)

WORDS = [f"{'and ' * (n % 3)}word {n}" for n in range(60)]
WHOLE = " ".join(WORDS)
PIECES = [text(word if n == 0 else f" {word}") for n, word in enumerate(WORDS)]
COUNTS = usage(12, 60)
GOOD = answer(*PIECES, COUNTS)
TIMEOUTS = Timeouts(connect=5, first_token=1, idle=1, total=20)
ATTEMPTS = 3
Script = Callable[[Request], Any]


def openai_error(code: int, name: str, message: str, **headers: str) -> Any:
    kind = "rate_limit_error" if code == 429 else "invalid_request_error"
    return status(code, message, type=kind, error_code=name, headers=headers)


def first(script: Any, then: Any = GOOD) -> list[Any]:
    return [script, then]


def rest_of_the_answer(request: Request) -> Any:
    """Answer as the benchmark's healthy provider: go on with a prefix of the answer, or begin."""
    last = request.json()["messages"][-1]
    said = last["content"] if last["role"] == "assistant" else ""
    assert WHOLE.startswith(said)
    return answer(text(WHOLE[len(said) :]), COUNTS) if said else GOOD


def refuses_prefix(request: Request) -> Any:
    if request.json()["messages"][-1]["role"] == "assistant":
        return status(400, "This model does not support assistant message prefill.")
    return GOOD


class Bench:
    """Two providers, and what the caller and the servers have seen."""

    def __init__(self, primary: Server, fallback: Server, kind: type[Provider]) -> None:
        self.primary = primary
        self.fallback = fallback
        self.providers = [
            OpenAICompatible("primary", base_url=primary.url, retry=ATTEMPTS, timeouts=TIMEOUTS),
            kind("fallback", base_url=fallback.url, retry=ATTEMPTS, timeouts=TIMEOUTS),
        ]
        self.failover = Failover(self.providers, continue_after_break=2, cooldown=0.5)
        self.times: list[float] = []

    def ask(self) -> tuple[Stream, float]:
        start = time.monotonic()
        stream = self.failover.stream("Explain in sixty words")
        stream.read()
        return stream, time.monotonic() - start

    def is_rescued(self, within: float) -> Stream:
        """Assert that the caller gets the whole answer; return its stream."""
        stream, took = self.ask()
        assert (stream.text, stream.outcome, stream.is_whole) == (WHOLE, "complete", True)
        assert took < within
        return stream

    @property
    def attempts(self) -> tuple[int, int]:
        return len(self.primary.requests), len(self.fallback.requests)


@pytest.fixture
def bench() -> Any:
    """Return a function that starts the two servers."""
    with contextlib.ExitStack() as stack:

        def start(
            primary: Any,
            fallback: Any = rest_of_the_answer,
            kind: type[Provider] = OpenAICompatible,
        ) -> Bench:
            servers = [stack.enter_context(serve(script)) for script in (primary, fallback)]
            return Bench(*servers, kind)

        yield start


BUSY = openai_error(429, "rate_limit_exceeded", "Rate limit reached")
DOWN = status(503, "The engine is currently overloaded")


def test_s01_429_with_retry_after(bench: Any) -> None:
    busy = openai_error(429, "rate_limit_exceeded", "Rate limit reached", **{"Retry-After": "1"})
    run = bench(first(busy))
    stream = run.is_rescued(within=5)
    assert stream.stats.duration_s >= 1
    assert run.attempts == (2, 0)


def test_s02_429_persistent(bench: Any) -> None:
    run = bench([BUSY] * 6)
    run.is_rescued(within=10)
    assert run.attempts == (ATTEMPTS, 1)


def test_s03_500_then_healthy(bench: Any) -> None:
    run = bench(first(status(500)))
    run.is_rescued(within=5)
    assert run.attempts == (2, 0)


def test_s04_503_persistent(bench: Any) -> None:
    run = bench([DOWN] * 6)
    run.is_rescued(within=10)
    assert run.attempts == (ATTEMPTS, 1)


def test_s05_reset_before_headers(bench: Any) -> None:
    run = bench(first(answer(before=[reset()])))
    run.is_rescued(within=5)
    assert run.attempts == (2, 0)


def test_s06_no_response(bench: Any) -> None:
    """A silent provider is not asked again: the next one is."""
    run = bench(answer(before=[stall()]))
    run.is_rescued(within=3)
    assert run.attempts == (1, 1)


def test_s07_slow_first_token(bench: Any) -> None:
    run = bench(answer(pause(4), *PIECES))
    run.is_rescued(within=3)
    assert run.attempts == (1, 1)


def test_s08_stream_cut(bench: Any) -> None:
    run = bench(answer(*PIECES[:40], cut()))
    stream = run.is_rescued(within=3)
    assert (run.attempts, stream.stats.joins) == ((1, 1), 1)


def test_s09_stream_stalls(bench: Any) -> None:
    run = bench(answer(*PIECES[:20], stall()))
    run.is_rescued(within=4)
    assert run.attempts == (1, 1)
    run.is_rescued(within=4)  # it stays healthy


def test_s10_malformed_chunk(bench: Any) -> None:
    run = bench(answer(*PIECES[:10], event('{"choices": [{"delta": {"content": '), *PIECES[10:]))
    run.is_rescued(within=3)
    run.is_rescued(within=3)


def test_s11_no_done(bench: Any) -> None:
    run = bench(
        answer(
            *PIECES,
            COUNTS,
            event('{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'),
            end=False,
        )
    )
    stream = run.is_rescued(within=2)
    assert run.attempts == (1, 0)
    assert stream.usage is not None


def test_s12_context_length(bench: Any) -> None:
    message = "This model's maximum context length is 8192 tokens."
    run = bench(openai_error(400, "context_length_exceeded", message))
    run.is_rescued(within=3)
    assert run.attempts == (1, 1)


def test_s13_content_filter(bench: Any) -> None:
    """The provider's reason reaches the caller: asking around until one answers is no remedy."""
    message = "Your request was rejected as a result of our safety system."
    run = bench(openai_error(400, "content_policy_violation", message))
    with pytest.raises(APIStatusError, match="rejected as a result of our safety system") as caught:
        run.ask()
    assert caught.value.reason == "content_filter"
    assert run.attempts == (1, 0)


@pytest.mark.parametrize("kind", [OpenAICompatible, Anthropic])
def test_s14_fallback_rejects_prefill(bench: Any, kind: type[Provider]) -> None:
    run = bench(answer(*PIECES[:40], cut()), refuses_prefix, kind)
    run.is_rescued(within=3)


def test_s15_primary_flaps(bench: Any) -> None:
    """Few requests reach it while it is down, and it is used again once it is up."""
    is_up = False
    run = bench(lambda request: GOOD if is_up else DOWN)
    run.failover = Failover(run.providers, continue_after_break=2, failures=2, cooldown=0.5)
    for provider in run.providers:
        provider._retry = None
    start = time.monotonic()
    asked = 0
    while time.monotonic() - start < 1.2:
        run.is_rescued(within=3)
        asked += 1
    primary, fallback = run.attempts
    assert fallback == asked
    assert primary <= 2 + 3 < asked
    is_up = True
    start = time.monotonic()
    while run.attempts[0] == primary:
        run.is_rescued(within=3)
    assert time.monotonic() - start < 2
    fallback = run.attempts[1]
    run.is_rescued(within=3)
    assert run.attempts[1] == fallback


def test_s16_accounting(bench: Any) -> None:
    """The model and the counts are those of the provider that has answered."""
    role = {"model": "fallback-1", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}
    run = bench([DOWN] * 6, answer(event(role), *PIECES, COUNTS))
    stream = run.is_rescued(within=10)
    assert stream.model == "fallback-1"
    assert stream.usage.output_tokens == 60
    assert [failure.provider for failure in stream.attempts] == run.providers[:1]
