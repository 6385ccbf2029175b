"""Drives a decoder over the pieces of a body, as an attempt does."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from providers_sync.types import Decoder, Delta


def decode(decoder: Decoder, pieces: Iterable[bytes]) -> Iterator[Delta]:
    """Yield the deltas of a body; raise the error at its end."""
    for data in pieces:
        yield from decoder.feed(data)
        if getattr(decoder, "ended", False):
            break
    try:
        deltas = decoder.end()
    except Exception as error:
        yield from vars(error).pop("deltas", [])
        raise
    yield from deltas


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return ``data`` split at these positions (modulo its length), without empty pieces."""
    bounds = [0, *sorted({position % (len(data) + 1) for position in cuts}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds) if a < b]
