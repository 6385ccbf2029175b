"""Tests of ``batch.map`` when a thread cannot be started: errors, ledger, lock."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from providers_sync import ProviderError, batch
from providers_sync.batch.ledger import Ledger
from providers_sync.testing import ScriptedProvider, wait

PROMPTS = [f"prompt {n}" for n in range(6)]
OURS = "providers-sync-"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a new ledger."""
    return tmp_path / "answers.jsonl"


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, prefix: str = OURS) -> list[str]:
    """Make the ``number``-th start of a thread with this prefix fail, and all later ones."""
    started: list[str] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith(prefix):
            started.append(thread.name)
            if len(started) >= number:
                raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    return started


def is_free(path: Path) -> bool:
    """Return whether the ledger is unlocked; raise if it is not."""
    Ledger(path).close()
    return True


def recorded(path: Path) -> set[str]:
    """Return the names of the rows that have an answer."""
    lines = map(json.loads, path.read_bytes().splitlines())
    return {line["custom_id"] for line in lines if line["error"] is None}


def test_without_a_recorder_nothing_is_sent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the problem and the remedy, and the lock is released."""
    refuse(monkeypatch, 1)
    provider = ScriptedProvider("Hello")
    with pytest.raises(ProviderError, match=r"no thread can be started .*ulimit -u") as caught:
        list(batch.map(provider, PROMPTS, ledger=path))
    assert is_free(path)  # while the error and its traceback are still referenced
    assert caught.value.__cause__ is not None
    assert provider.requests == []


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("ordered", [False, True])
def test_what_was_answered_before_a_worker_failed_to_start_is_recorded(
    path: Path, number: int, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in progress finish and are yielded; then the error is raised."""
    refuse(monkeypatch, number, f"{OURS}batch-")
    go = threading.Event()
    provider = ScriptedProvider([wait(go), "Hello"])
    yielded: list[batch.Result] = []
    results = batch.map(provider, PROMPTS, concurrency=4, ledger=path, ordered=ordered)
    threading.Timer(0.05, go.set).start()
    with pytest.raises(ProviderError, match="no thread can be started"):
        yielded.extend(results)
    assert len(provider.requests) == len(recorded(path)) == number - 1
    assert is_free(path)
    monkeypatch.undo()
    rest = list(batch.map(provider, PROMPTS, ledger=path))
    assert {each.text for each in rest} == {"Hello"}
    assert len(provider.requests) == len(PROMPTS)


def test_any_thread_may_fail_to_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row gets an answer or a ``ProviderError``; nothing hangs, no lock is held."""
    provider = ScriptedProvider("Hello")
    for number in range(1, 20):
        settle()
        started = refuse(monkeypatch, number)
        errors: list[BaseException | None] = []
        try:
            for result in batch.map(provider, PROMPTS, concurrency=3, ledger=path):
                errors.append(result.error)
        except ProviderError as error:
            errors.append(error)
        monkeypatch.undo()
        assert is_free(path)
        assert all("no thread can be started" in str(error) for error in errors if error)
        if len(started) < number:
            break
        assert any(errors)
        path.unlink()
    assert len(started) < number
    assert len(recorded(path)) == len(PROMPTS)


def settle() -> None:
    """Wait for the end of all idle threads."""
    for thread in threading.enumerate():
        if thread.name.startswith(OURS):
            thread.join(5)


@pytest.mark.parametrize("kind", ["reader", "request"])
def test_a_row_without_a_thread_fails_and_the_next_has_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request is sent without timeouts, and one failure does not disable them for later rows."""
    settle()
    refuse(monkeypatch, 1, f"{OURS}{kind}")
    provider = ScriptedProvider("Hello")
    (result,) = batch.map(provider, ["Hi"])
    assert "no thread can be started" in str(result.error)
    assert provider.requests == []
    monkeypatch.undo()
    (result,) = batch.map(provider, ["Hi"])
    assert (result.text, result.error) == ("Hello", None)


def test_a_callers_pool_that_cannot_start_a_thread_raises(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error contains the pool's own message."""
    refuse(monkeypatch, 1, "theirs")
    with (
        ThreadPoolExecutor(2, thread_name_prefix="theirs") as pool,
        pytest.raises(ProviderError, match="can't start new thread"),
    ):
        list(batch.map(ScriptedProvider("Hello"), PROMPTS, executor=pool, ledger=path))
    assert is_free(path)


def test_a_pool_that_cannot_start_a_process_raises(path: Path) -> None:
    """``fork`` raises an ``OSError``, which becomes a ``ProviderError``."""

    class Full(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *arguments: Any, **options: Any) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    with Full(1) as pool, pytest.raises(ProviderError, match="temporarily unavailable"):
        list(batch.map(ScriptedProvider("Hello"), PROMPTS, executor=pool, ledger=path))
    assert is_free(path)
