"""The ledger as the rows see it: who has an answer, who is refused, what is written."""

from __future__ import annotations

import os
from collections.abc import Sequence

from .ledger import Ledger, LedgerError
from .ledger_lines import format_line
from .results import Reply, Result, failed_reply, to_result
from .rows import Row


class Records:
    """One batch's records; without a ledger there are none. Raises what ``Ledger`` raises."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._ledger = None if path is None else Ledger(path)
        self._names: set[str] = set()

    @property
    def path(self) -> str | None:
        """Where the ledger is, as it was given."""
        return None if self._ledger is None else self._ledger.path

    def known(self, row: Row) -> Result | None:
        """Return what is known of a row before it is asked: its answer, or why it may not be.

        Raises ``LedgerError`` where the ledger cannot be read.
        """
        if self._ledger is None:
            return None
        name = row.custom_id
        if name in self._names:
            error = LedgerError(f"custom_id {name!r} is in the input twice: each must be its own")
            return to_result(row, failed_reply(error))
        if row.named:
            self._names.add(name)
        record = self._ledger.recorded(name)
        if record is None or record.reply is None:
            return None
        if record.id != row.fingerprint:
            error = LedgerError(
                f"{self.path} holds the answer to another input as {name!r}: give another ledger, "
                "or the input that this one was made from"
            )
            return to_result(row, failed_reply(error))
        return to_result(row, record.reply, recorded=True)

    def write(self, done: Sequence[tuple[Row, Reply]]) -> None:
        """Bring finished rows to the disk, all at one stroke. Raises ``LedgerError``."""
        if self._ledger is not None and done:
            self._ledger.append([format_line(row, final) for row, final in done])

    def close(self) -> None:
        """Close and unlock the ledger."""
        if self._ledger is not None:
            self._ledger.close()
