"""The cells of a table as plain Python values: what pandas, numpy and CSV put into a row.

>>> plain_value(float("nan")), plain_value(3)
(None, 3)
"""

from __future__ import annotations

import json
from typing import Any

_TIMES = ("datetime64", "timedelta64")
"""Classes of numpy whose text is better than what ``tolist`` returns, a number for some."""
_MISSING = ("NAType", "NaTType")
"""The classes of ``pandas.NA`` and ``pandas.NaT``."""


def plain_value(value: Any) -> Any:
    """Return a value without numpy's types; ``None`` for NaN, and for pandas' NA and NaT."""
    kind = type(value)
    if kind in (str, int, bool):
        return value
    if kind.__name__ in _MISSING:
        return None
    if kind.__module__.partition(".")[0] == "numpy" and kind.__name__ not in _TIMES:
        value = value.tolist()
    is_number = isinstance(value, float) or kind.__name__ in _TIMES
    if (is_number and value != value) or (kind.__name__ == "Decimal" and value.is_nan()):
        return None
    return value


def is_blank(value: Any) -> bool:
    """Return whether there is nothing in a cell."""
    return value is None or (isinstance(value, str) and not value.strip())


def cell_text(value: Any) -> str:
    """Return a cell as text for a prompt: lists and objects as JSON.

    Raises what the value raises, and what ``json`` does for it.
    """
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=_inner)
    return str(value)


def _inner(value: Any) -> Any:
    plain = plain_value(value)
    return plain if plain is not value else str(value)
