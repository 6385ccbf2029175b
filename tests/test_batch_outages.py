"""A batch whose server has answered, and then cannot be reached for a while."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from test_batch_stopping import ROWS, unreachable

from providers_sync import OpenAICompatible, batch
from providers_sync.batch.pacing import RateLimiter
from providers_sync.batch.stopping import Stopping
from providers_sync.testing import serve


def test_a_server_that_has_answered_may_be_away_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("providers_sync.batch.stopping.monotonic", lambda: now)
    row, reply = unreachable()
    stopping = Stopping(None, None, False, 1)
    stopping.note(row, replace(reply, error=None), answered=1)
    now = 129.0
    for _ in range(50):
        stopping.note(row, reply, answered=1)
    assert stopping.error is None
    now = 130.0
    stopping.note(row, reply, answered=1)
    assert stopping.error is not None


def test_the_pauses_while_it_is_away_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures of requests that were sent before a pause add nothing."""
    now = 100.0
    monkeypatch.setattr("providers_sync.batch.pacing.monotonic", lambda: now)
    limiter = RateLimiter(None)
    pauses = []
    for _ in range(5):
        limiter.pause_for_outage()
        limiter.pause_for_outage()
        pauses.append(limiter.next_start() - now)
        now = limiter.next_start()
    assert pauses == [1, 2, 4, 8, 8]
    limiter.note_answer()
    limiter.pause_for_outage()
    assert limiter.next_start() - now == 1


def test_a_server_that_goes_away_ends_it_after_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[RateLimiter] = []
    answers: list[RateLimiter] = []
    monkeypatch.setattr(RateLimiter, "note_answer", lambda each: answers.append(each))
    monkeypatch.setattr(RateLimiter, "pause_for_outage", lambda each: pauses.append(each))
    monkeypatch.setattr("providers_sync.batch.stopping.OUTAGE_S", 0.0)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serve("Hi"))
        provider = OpenAICompatible("m", base_url=server.url, retry=None)
        results = batch.map(provider, ROWS, concurrency=1)
        assert next(results).error is None
        stack.close()
        sent = [each for each in results if not isinstance(each.error, batch.NotSentError)]
    failed = [each for each in sent if each.error is not None]
    assert len(failed) == len(pauses) == 10
    assert len(answers) == len(sent) - len(failed) + 1
