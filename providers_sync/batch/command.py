"""The command ``providers-sync batch``: run a file of prompts, show progress and a summary."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from typing import Any

from ..errors import InvalidRequestError, ProviderError
from ..printable import one_line
from ..provider_selection import set_only_model
from ..providers import Provider
from . import map, read
from .input_check import InputCheck
from .ledger import UnusableLedgerError
from .progress_display import count_rows, progress
from .result_table import ResultTable
from .results import Result
from .rows import CheckedInputs
from .tally import Tally
from .templates import Template

WRONG_INPUT = 2
"""The exit code if rows cannot be sent, as for wrong arguments."""


def run(
    provider: Provider,
    source: str,
    target: str,
    *,
    table: str | None = None,
    skip_invalid: bool = False,
    **options: Any,
) -> int:
    """Run every row of the file ``source``, record in ``target``, and report to the terminal.

    - ``table``: a file for the results as a table, ``.csv``, ``.tsv`` or ``.parquet``
    - ``skip_invalid``: send the other rows if some cannot be sent
    - ``options``: arguments of ``map``

    Returns 0 when every row has an answer, 2 if an option or the input is wrong and nothing was
    sent, else 1. Raises what ``map`` raises later.
    """
    try:
        written = None if table is None else ResultTable(table, (source, target))
        results = map(  # checks the options; it starts with the first result
            provider,
            CheckedInputs(read(source)),  # by _check, before the first result
            ledger=target,
            on_error="stop",
            **options,
        )
    except InvalidRequestError as error:
        _report(str(error))
        return WRONG_INPUT
    with contextlib.closing(results):
        if not os.path.isfile(source) and os.path.exists(source):
            _report(
                f"{source} is not a regular file, and it must be read twice: save it to a file "
                "first"
            )
            return WRONG_INPUT
        checked = _check(provider, source, options.get("template"), options.get("into"))
        if checked is None:
            return WRONG_INPUT
        if checked.invalid and (not skip_invalid or checked.invalid == checked.rows):
            rest = (
                ", or send the rest with --skip-invalid" if checked.invalid < checked.rows else ""
            )
            _report(f"nothing was sent: correct the input{rest}")
            return WRONG_INPUT
        if checked.without_model:
            set_only_model(provider)
        tally = Tally(total=checked.rows)
        try:
            if written is None:
                _show(results, tally, target)
            else:
                _show_and_write(results, tally, target, written)
        except UnusableLedgerError as error:
            _report(str(error))
            return WRONG_INPUT
    return 0 if tally.answered + tally.recorded == tally.total else 1


def _check(provider: Provider, source: str, template: str | None, into: Any) -> InputCheck | None:
    """Check all rows, and report what is wrong; return ``None`` if the file cannot be read."""
    typed = {} if into is None else {"into": into}
    checked = InputCheck(provider, None if template is None else Template(template), typed)
    try:
        with count_rows("checking the input", sys.stderr) as show:
            checked.check(read(source), show)
    except InvalidRequestError as error:
        _report(str(error))
        return None
    if checked.invalid:
        _report(f"{checked.invalid} of {checked.rows} rows cannot be sent:")
        for line in checked.lines():
            print(f"  {one_line(line)}", file=sys.stderr)
    return checked


def _report(text: str) -> None:
    print(f"providers-sync: {one_line(text)}", file=sys.stderr)


def _show(
    results: Generator[Result, None, None],
    tally: Tally,
    target: str,
    kept: list[Result] | None = None,
) -> None:
    """Take all results and show the progress, and the summary at the end."""
    try:
        with progress(tally.total, sys.stderr) as bar:
            bar.show(tally)
            for result in results:
                tally.add(result)
                bar.show(tally)
                if kept is not None:
                    kept.append(result)
    except KeyboardInterrupt:
        print(
            f"Stopped. The finished rows are in {one_line(target)}: "
            "run the same command again to resume.",
            file=sys.stderr,
        )
        raise
    finally:
        if tally.done:
            print(tally.table())


def _show_and_write(
    results: Generator[Result, None, None], tally: Tally, target: str, table: ResultTable
) -> None:
    """Do the same, and write the table, also of a batch that ended early."""
    kept: list[Result] = []
    try:
        _show(results, tally, target, kept)
    except ProviderError:
        if kept:
            try:
                table.write(kept)
            except ProviderError as error:
                _report(str(error))
        raise
    table.write(kept)
