"""``TABLE``: all rows of the fault table, grouped by the moment at which something goes wrong."""

from __future__ import annotations

from .anthropic import ANTHROPIC_ROWS
from .before import CONNECTION, HEADERS, STATUS
from .cut import BROKEN, CLEAN, SILENT, SLOW
from .odd import FRAMING, SHAPES, TEXT
from .others import OTHER_ROWS
from .row import Row
from .wrong import ERRORS, JSON, PAGES, SIZE

TABLE: dict[str, list[Row]] = {
    "Connecting": CONNECTION,
    "Headers": HEADERS,
    "Statuses": STATUS,
    "Something other than a streamed answer": PAGES,
    "Errors inside an answer": ERRORS,
    "Broken JSON and unexpected structure": JSON,
    "Too much data": SIZE,
    "Interrupted answers": BROKEN,
    "Clean ends, with and without an end marker": CLEAN,
    "Silence": SILENT,
    "Slowness": SLOW,
    "Unusual framing": FRAMING,
    "Unusual text": TEXT,
    "Unusual events": SHAPES,
    "Events of Anthropic's protocol": ANTHROPIC_ROWS,
    "Ends of the newer protocols": OTHER_ROWS,
}
"""Rows by heading of docs/faults.md."""

ROWS = [row for rows in TABLE.values() for row in rows]
