"""``batch.map`` where a thread cannot be started: said at once, recorded, unlocked."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from providers_sync import ProviderError, batch
from providers_sync.batch import same_thread
from providers_sync.batch.ledger import Ledger
from providers_sync.testing import ScriptedProvider, wait

PROMPTS = [f"prompt {n}" for n in range(6)]
OURS = "providers-sync-"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a ledger."""
    return tmp_path / "answers.jsonl"


def refuse(monkeypatch: pytest.MonkeyPatch, number: int, kind: str = OURS) -> list[str]:
    """Let the ``number``-th start of a thread of this kind fail, and all after it."""
    started: list[str] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith(kind):
            started.append(thread.name)
            if len(started) >= number:
                raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    return started


def is_free(path: Path) -> bool:
    """Whether nobody holds the ledger."""
    Ledger(path).close()
    return True


def recorded(path: Path) -> set[str]:
    """Return the names of the rows that have an answer."""
    lines = map(json.loads, path.read_bytes().splitlines())
    return {line["custom_id"] for line in lines if line["error"] is None}


def test_without_a_recorder_nothing_is_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is missing and what to do, and holds no lock."""
    refuse(monkeypatch, 1)
    provider = ScriptedProvider("Hello")
    with pytest.raises(ProviderError, match=r"no thread can be started .*ulimit -u") as caught:
        list(batch.map(provider, PROMPTS, ledger=path))
    assert is_free(path)  # while the error, and its traceback, are still there
    assert caught.value.__cause__ is not None
    assert provider.requests == []


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("ordered", [False, True])
def test_what_was_answered_before_a_worker_failed_to_start_is_recorded(
    path: Path, number: int, ordered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows under way are finished and handed over; then comes the error."""
    refuse(monkeypatch, number, f"{OURS}batch-")
    go = threading.Event()
    provider = ScriptedProvider([wait(go), "Hello"])
    found: list[batch.Result] = []
    results = batch.map(provider, PROMPTS, concurrency=4, ledger=path, ordered=ordered)
    threading.Timer(0.05, go.set).start()
    with pytest.raises(ProviderError, match="no thread can be started"):
        found.extend(results)
    assert len(provider.requests) == len(recorded(path)) == number - 1
    assert is_free(path)
    monkeypatch.undo()
    rest = list(batch.map(provider, PROMPTS, ledger=path))
    assert {each.text for each in rest} == {"Hello"}
    assert len(provider.requests) == len(PROMPTS)


def test_every_start_may_be_the_one_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever thread it is: an answer, or a ``ProviderError``; nothing hangs, nothing is held."""
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
    """Wait for the end of the thread that keeps the clocks."""
    for thread in threading.enumerate():
        if thread.name == "providers-sync-clocks":
            thread.join(5)


def test_a_row_whose_clocks_cannot_run_fails_and_the_next_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is sent that could hang; and one failure does not switch the clocks off."""
    settle()
    refuse(monkeypatch, 1, f"{OURS}clocks")
    provider = ScriptedProvider("Hello")
    (result,) = batch.map(provider, ["Hi"])
    assert "no thread can be started" in str(result.error)
    assert provider.requests == []
    monkeypatch.undo()
    assert not same_thread._watcher._runs
    assert not same_thread._watcher._pipes
    (result,) = batch.map(provider, ["Hi"])
    assert (result.text, result.error) == ("Hello", None)


def test_a_given_pool_that_cannot_start_a_thread_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for an executor of the caller's."""
    refuse(monkeypatch, 1, "theirs")
    with (
        ThreadPoolExecutor(2, thread_name_prefix="theirs") as pool,
        pytest.raises(ProviderError, match="can't start new thread"),
    ):
        list(batch.map(ScriptedProvider("Hello"), PROMPTS, executor=pool, ledger=path))
    assert is_free(path)


def test_a_pool_that_cannot_start_a_process_says_so(path: Path) -> None:
    """``fork`` fails with an ``OSError``, which is no error of ours."""

    class Full(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *arguments: Any, **named: Any) -> Any:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    with Full(1) as pool, pytest.raises(ProviderError, match="temporarily unavailable"):
        list(batch.map(ScriptedProvider("Hello"), PROMPTS, executor=pool, ledger=path))
    assert is_free(path)
