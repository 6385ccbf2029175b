"""``OpenCalls``: pairs tool calls with their results, in protocols where neither needs an id."""

from __future__ import annotations

from collections import deque


class OpenCalls:
    """The calls in the messages so far that have no result yet.

    >>> calls = OpenCalls()
    >>> calls.add("", "f"), calls.add("own", "g"), calls.add("", "f")
    ('call_0', 'own', 'call_2')
    >>> calls.take("", "f"), calls.take("own", ""), calls.take("", "g"), calls.take("", "")
    ('call_0', 'own', '', 'call_2')
    """

    def __init__(self) -> None:
        self._count = 0
        self._ids: set[str] = set()
        self._open: set[str] = set()
        self._in_order: dict[str, deque[str]] = {}
        """Name of a tool → ids of its calls; under an empty name those of all."""

    def add(self, call_id: str, name: str) -> str:
        """Add a call and return its id; if it has none, it gets one that no call before it has."""
        if not call_id:
            call_id = f"call_{self._count}"
            while call_id in self._ids:
                call_id += "_"
        self._ids.add(call_id)
        self._count += 1
        self._open.add(call_id)
        for key in (name, ""):
            self._in_order.setdefault(key, deque()).append(call_id)
        return call_id

    def take(self, call_id: str, name: str) -> str:
        """Return the id of the call that a result belongs to; empty if there is none.

        A result without the id of an open call is that of the first open call of the tool, and
        without the tool's name that of the first one.
        """
        if call_id not in self._open:
            waiting = self._in_order.get(name, deque())
            while waiting and waiting[0] not in self._open:
                waiting.popleft()
            call_id = waiting[0] if waiting else ""
        self._open.discard(call_id)
        return call_id
