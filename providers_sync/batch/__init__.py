"""Run many prompts through a provider, on any executor, with a ledger to resume from.

::

    from providers_sync import OpenAICompatible, batch

    provider = OpenAICompatible("qwen3", base_url="http://127.0.0.1:8000/v1")
    for result in batch.map(provider, batch.read("prompts.txt"), ledger="answers.jsonl"):
        print(result.custom_id, result.text, result.error)
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Generator, Iterable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Literal

from ..config import NOT_GIVEN, NotGiven
from ..errors import InvalidRequestError
from ..providers import Provider
from .inputs import read
from .ledger import LedgerError
from .records import to_records
from .results import Result
from .rows import to_rows
from .run import BatchRun
from .stopping import NotSentError, Price, Stopping, is_above_zero
from .tables import rows_of
from .templates import Template

if TYPE_CHECKING:
    from ..typed import Target

__all__ = ["CONCURRENCY", "LedgerError", "NotSentError", "Result", "map", "read", "to_records"]

CONCURRENCY = 8
"""Concurrent streams by default: within the limits of a new account and of any machine."""


def map(
    provider: Provider,
    inputs: Iterable[Any],
    *,
    concurrency: int = CONCURRENCY,
    executor: Executor | None = None,
    template: str | None = None,
    ledger: str | os.PathLike[str] | None = None,
    ordered: bool = False,
    rate: float | None = None,
    budget: float | None = None,
    price: Price | None = None,
    on_error: Literal["record", "raise", "stop"] = "record",
    into: Any = None,
    repairs: int | NotGiven = NOT_GIVEN,
    skip_invalid: bool = False,
) -> Generator[Result, None, None]:
    """Send a request for every input, ``concurrency`` at a time; yield results as they finish.

    A row is retried according to the provider's ``retry``; its ``timeouts`` apply to each attempt
    separately. A 429, and any ``Retry-After``, pauses all workers. Closing the generator stops
    every request in this process at once; requests in other processes run to their end and their
    answers are discarded. Source of the input and ledger formats: OpenAI API reference, "Batch".

    Args:
        provider: The provider to call.
        inputs: Read lazily, as requests finish; with ``rate``, one row may be read ahead of its
            turn. Each is a prompt, a list of messages, a dict with ``prompt`` or ``messages``, or a
            line of OpenAI's batch input (``custom_id`` and ``body``). The rows of a pandas or
            polars DataFrame become dicts; a Series gives its values. If a row cannot be sent, only
            that row fails; but if the first row has nothing to send, because it lacks the column
            ``prompt``, nothing is sent.
        concurrency: How many requests run at the same time (8).
        executor: Where the requests run: threads by default, a process pool, or
            ``client.get_executor()`` of dask.distributed. It gets at most ``concurrency`` requests
            at a time, and is not shut down.
        template: The prompt of each row, with ``{column}`` for the text in a column:
            ``"Translate to French: {text}"``. Write ``{{`` and ``}}`` for braces. If a row is a
            string, its column is ``prompt``.
        ledger: A file of JSON lines like OpenAI's batch output, locked while this runs; a new one
            is readable by its owner only. A result is on disk before it is yielded. An answer
            that is already in the file is yielded without a new request (``recorded=True``); failed
            rows are sent again.
        ordered: Whether to yield in the order of the inputs.
        rate: Requests per minute, retries included, over all workers.
        budget: The number of tokens that the answers and their prompts may use; or, with ``price``,
            the amount of money. When it is used up, or a price is not known, no more rows are sent;
            requests that are already in progress, up to ``concurrency``, run to their end. Recorded
            answers cost nothing. If a server does not report tokens, they are estimated.
        price: ``(input, output)``, the prices per million tokens; or ``"list"`` for list
            prices in US dollars (extra ``prices``).
        on_error: ``record`` yields a failed row with its ``error``; ``raise`` raises the first. If
            no row can be answered (a wrong key, an unknown model, no credit, or ten consecutive
            rows that cannot reach the server), or the budget is used up, the remaining rows are not
            sent: their ``error`` is a ``NotSentError``, and they are not in the ledger, so that a
            rerun sends them. ``stop`` is like ``record``, but raises this ``NotSentError`` after
            all other results, those from the ledger included.
        into: The type of every answer, as for ``Provider.stream``; the object is in
            ``result.value``. The ledger holds the text: a recorded answer is validated again, and
            requested again if it does not validate.
        repairs: How many times to ask again if an answer does not validate.
        skip_invalid: Whether to leave out the items of a list that do not validate; they are in
            ``result.invalid``.

    Raises:
        InvalidRequestError: At once for invalid arguments, and from the first ``next()`` if the
            first row has nothing to send.
        LedgerError: From the first ``next()`` if the ledger cannot be used (the file is left
            unchanged), and later if it cannot be read or written.
        ProviderError: No thread can be started.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidRequestError("concurrency must be a number of requests, 1 or more")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InvalidRequestError(
            "executor must be a concurrent.futures.Executor; for dask, client.get_executor()"
        )
    if rate is not None and not is_above_zero(rate):
        raise InvalidRequestError("rate must be a number of requests per minute above 0")
    if on_error not in ("record", "raise", "stop"):
        raise InvalidRequestError("on_error must be 'record', 'raise' or 'stop'")
    filled = None if template is None else Template(template)
    typed: dict[str, Any] = {}
    if into is not None:
        from ..typed import typed_arguments  # late: few need it

        typed = typed_arguments(into, repairs, skip_invalid)
        typed["into"] = typed.pop("target")
        if executor is not None:
            _check_pickling(typed["into"], executor)
    elif skip_invalid or repairs is not NOT_GIVEN:
        raise InvalidRequestError("repairs= and skip_invalid= need into=, the type of the answers")
    return BatchRun(
        provider,
        to_rows(rows_of(inputs, filled), filled),
        concurrency=concurrency,
        executor=executor,
        ledger=ledger,
        ordered=ordered,
        rate=rate,
        stopping=Stopping(budget, price, on_error == "stop", concurrency),
        raise_errors=on_error == "raise",
        typed=typed,
    ).results()


def _check_pickling(target: Target[Any], executor: Executor) -> None:
    """Raise at once for a local class, not for every row; dask can send such a class."""
    from concurrent.futures import ProcessPoolExecutor  # late: it imports multiprocessing

    if not isinstance(executor, ProcessPoolExecutor):
        return
    try:
        pickle.dumps(target)
    except Exception as error:  # of many classes
        raise InvalidRequestError(
            f"into={target.name} cannot be sent to another process: define it at the top level of "
            f"a module, or use threads ({error})"
        ) from error
