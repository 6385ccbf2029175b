"""The whole fault table, by the moment at which things go wrong."""

from __future__ import annotations

from .anthropic import OWN
from .before import CONNECTION, HEADERS, STATUS
from .cut import BROKEN, CLEAN, SILENT, SLOW
from .odd import FRAMING, SHAPES, TEXT
from .row import Row
from .wrong import ERRORS, JSON, PAGES, SIZE

TABLE: dict[str, list[Row]] = {
    "Connecting": CONNECTION,
    "Headers": HEADERS,
    "Statuses": STATUS,
    "Something else than an answer": PAGES,
    "Errors inside an answer": ERRORS,
    "Broken and foreign JSON": JSON,
    "Too much": SIZE,
    "Breaking off": BROKEN,
    "Ending, with and without a marker": CLEAN,
    "Silence": SILENT,
    "Slowness": SLOW,
    "Odd framing": FRAMING,
    "Odd text": TEXT,
    "Odd events": SHAPES,
    "Anthropic's own events": OWN,
}
"""Rows under the headings of the page that is made of them."""

ROWS = [row for rows in TABLE.values() for row in rows]
