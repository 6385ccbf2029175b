"""``WatchedDecoder``: a decoder whose deltas are noted by somebody else too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..types import Decoder, Delta


class WatchedDecoder:
    """Decodes like ``decoder``, and calls ``note`` with each delta."""

    def __init__(self, decoder: Decoder, note: Callable[[Delta], None]) -> None:
        self._decoder = decoder
        self._note = note

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def feed(self, data: bytes) -> list[Delta]:
        return self._noted(self._decoder.feed(data))

    def end(self) -> list[Delta]:
        return self._noted(self._decoder.end())

    def _noted(self, deltas: list[Delta]) -> list[Delta]:
        for delta in deltas:
            self._note(delta)
        return deltas
