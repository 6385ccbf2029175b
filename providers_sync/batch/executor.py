"""The default executor of a batch: a pool of daemon threads, which do not delay the exit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

from ..threads import start_thread

T = TypeVar("T")
_Task = tuple["Future[Any]", Callable[[], Any]]


class DaemonThreadPool(Executor):
    """A pool of at most ``size`` daemon threads, started as needed.

    The standard ThreadPoolExecutor joins its threads at exit: a script that has failed would wait
    for every answer in progress, up to ten minutes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads: list[threading.Thread] = []
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Run ``fn`` in the next free thread. Not thread-safe: call it from one thread only.

        Raises ``ProviderError`` if a thread cannot be started; then ``fn`` never runs.
        """
        future: Future[T] = Future()
        if len(self._threads) < self._size:
            name = f"providers-sync-batch-{len(self._threads) + 1}"
            thread = threading.Thread(target=_run_tasks, args=(self._tasks,), name=name)
            start_thread(thread)
            self._threads.append(thread)
        self._tasks.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let every thread end after the tasks already submitted. The arguments are ignored."""
        for _ in self._threads:
            self._tasks.put(None)


def _run_tasks(tasks: queue.SimpleQueue[_Task | None]) -> None:
    while (task := tasks.get()) is not None:
        future, call = task
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 (passed on through the future)
                future.set_exception(error)
        del task, future, call  # so that an idle thread keeps no answer alive
