"""Look up rows in the ledger of a batch, reject duplicates, and write finished rows to it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import InvalidAnswer
from ..finish_reasons import is_whole
from ..typed import Target, read_value
from .ledger import Ledger, LedgerError
from .ledger_lines import format_line
from .results import Reply, Result, failed_reply, to_result
from .rows import Row, RowNames
from .templates import shown_name


class LedgerRecords:
    """The rows of one batch in its ledger; does nothing if there is no ledger.

    Raises what ``Ledger`` raises.
    """

    def __init__(self, path: str | os.PathLike[str] | None, typed: Mapping[str, Any]) -> None:
        self._target: Target[Any] | None = typed.get("into")
        self._skip_invalid = typed.get("skip_invalid", False)
        self._ledger = None if path is None else Ledger(path)
        self._names = RowNames()
        self.left = 0 if self._ledger is None else len(self._ledger)
        """How many recorded answers no row has asked for yet."""

    @property
    def path(self) -> str | None:
        """The path of the ledger, as passed by the caller."""
        return None if self._ledger is None else self._ledger.path

    def find(self, row: Row) -> Result | None:
        """Return a row's recorded answer, the error that rejects the row, or ``None`` to send it.

        Raises ``LedgerError`` if the ledger cannot be read.
        """
        if self._ledger is None:
            return None
        name, shown = row.custom_id, shown_name(row.custom_id)
        if self._names.earlier(row) is not None:
            error = LedgerError(f"custom_id {shown} is in the input twice: it must be unique")
            return to_result(row, failed_reply(error))
        record = self._ledger.recorded(name)
        if record is None or record.reply is None:
            return None
        self.left -= 1
        if record.id != row.fingerprint:
            error = LedgerError(
                f"{self.path} holds an answer to a different input under {shown}: use another "
                "ledger, or the input that this one was made from"
            )
            return to_result(row, failed_reply(error))
        reply = record.reply
        if self._target is not None:
            if not is_whole(reply.outcome, reply.finish_reason, reply.message.get("refusal") or ""):
                return None
            invalid: list[InvalidAnswer] = []
            text = reply.message.get("content") or ""
            try:
                value = read_value(self._target, text, invalid if self._skip_invalid else None)
            except InvalidAnswer:  # the type has changed since: ask again
                return None
            reply = replace(reply, value=value, invalid=tuple(invalid))
        return to_result(row, reply, recorded=True)

    def write(self, done: Sequence[tuple[Row, Reply]]) -> None:
        """Write finished rows to the disk, with one ``fsync``. Raises ``LedgerError``."""
        if self._ledger is not None and done:
            self._ledger.append([format_line(row, reply) for row, reply in done])

    def close(self) -> None:
        """Close the ledger and release its lock."""
        if self._ledger is not None:
            self._ledger.close()
