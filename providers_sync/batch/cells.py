"""The cells of a table as plain Python values: what pandas, numpy and CSV put into a row.

>>> plain_value(float("nan")), plain_value(3)
(None, 3)
"""

from __future__ import annotations

import json
from typing import Any

_MISSING = ("NAType", "NaTType")
"""The classes of ``pandas.NA`` and ``pandas.NaT``."""


def plain_value(value: Any) -> Any:
    """Return a value without numpy's types; ``None`` for NaN, and for pandas' NA and NaT."""
    kind = type(value)
    if kind in (str, int, bool):
        return value
    if kind.__name__ in _MISSING or (isinstance(value, float) and value != value):
        return None
    if kind.__module__.partition(".")[0] == "numpy" and kind.__name__ != "datetime64":
        return value.tolist()
    return value


def cell_text(value: Any) -> str:
    """Return a cell as text for a prompt: lists and objects as JSON."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
