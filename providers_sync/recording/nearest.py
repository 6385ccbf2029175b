"""Says how a request differs from the nearest one that was recorded."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from typing import Any

from .exchange import Exchange, RecordedRequest

_COMPARED = 1000
"""How many recordings are compared, the latest ones."""
_DIFFERENCES = 20
_SHOWN = 3
_NOTHING = object()
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def describe_nearest(request: RecordedRequest, recorded: Sequence[Exchange]) -> str:
    """Return in words what differs in the recording that differs least; empty if there is none."""
    found = [
        list(_differences(vars(each.request), vars(request))) for each in recorded[-_COMPARED:]
    ]
    if not found:
        return ""
    nearest = min(found, key=len)
    shown = "; ".join(nearest[:_SHOWN]) + ("; …" if len(nearest) > _SHOWN else "")
    return f"; the nearest one differs: {shown}"


def _differences(recorded: Any, sent: Any) -> Iterator[str]:
    for count, difference in enumerate(_walk("", recorded, sent)):
        if count == _DIFFERENCES:
            return
        yield difference


def _walk(path: str, recorded: Any, sent: Any) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(sent, dict):
        for name in dict.fromkeys([*recorded, *sent]):
            place = f"{path}.{name}" if path else str(name)
            yield from _walk(place, recorded.get(name, _NOTHING), sent.get(name, _NOTHING))
    elif isinstance(recorded, list) and isinstance(sent, list):
        for index in range(max(len(recorded), len(sent))):
            yield from _walk(f"{path}[{index}]", _at(recorded, index), _at(sent, index))
    elif recorded is _NOTHING:
        yield f"{path} is {_short.repr(sent)} now, and was not sent"
    elif sent is _NOTHING:
        yield f"{path} was {_short.repr(recorded)}, and is not sent now"
    elif recorded != sent:
        yield f"{path} was {_short.repr(recorded)}, and is {_short.repr(sent)} now"


def _at(values: list[Any], index: int) -> Any:
    return values[index] if index < len(values) else _NOTHING
