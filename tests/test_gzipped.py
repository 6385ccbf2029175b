"""Gzip bodies, in pieces of any size."""

from __future__ import annotations

import gzip
import random
import zlib
from http.client import IncompleteRead
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers_sync.config import READ_BYTES
from providers_sync.transport.gzip_body import GzipBodyReader

NOISE = random.Random(1).randbytes(3 * READ_BYTES)


def reader(*pieces: bytes) -> GzipBodyReader:
    """Return a gzip body that arrives in these pieces."""
    body: Any = SimpleNamespace(ended=False, close=None, is_reusable=None)
    left = [piece for piece in pieces if piece]
    body.read = lambda: left.pop(0) if left else b""
    return GzipBodyReader(body)


def read(body: GzipBodyReader) -> list[bytes]:
    """Return all reads to the end."""
    return list(iter(body.read, b""))


@given(st.lists(st.binary(), min_size=1), st.integers(1, 50), st.booleans())
def test_body_in_pieces_is_whole(texts: list[bytes], size: int, padded: bool) -> None:
    """However it is split, one member or several, with padding or without."""
    data = b"".join(map(gzip.compress, texts)) + bytes(20 * padded)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert b"".join(read(reader(*pieces))) == b"".join(texts)


@pytest.mark.parametrize("text", [bytes(50 * READ_BYTES), NOISE])
def test_read_is_never_larger_than_allowed(text: bytes) -> None:
    """A bomb is given out a read's worth at a time, and all of it."""
    got = read(reader(gzip.compress(text)))
    assert max(map(len, got)) <= READ_BYTES
    assert b"".join(got) == text


@pytest.mark.parametrize("lost", [1, 8, 9, 40])
@pytest.mark.parametrize("before", [b"", gzip.compress(b"first")])
def test_end_inside_a_member_is_cut(lost: int, before: bytes) -> None:
    """Be it the trailer alone that is missing."""
    body = reader(before + gzip.compress(NOISE[:1000])[:-lost])
    with pytest.raises(IncompleteRead):
        read(body)


def test_text_before_a_fault_in_the_same_piece_is_given() -> None:
    """Then the fault is raised, and again."""
    press = zlib.compressobj(wbits=31)
    data = press.compress(NOISE) + press.flush(zlib.Z_SYNC_FLUSH)
    body = reader(data + b"\xff\xff\xff\xff")
    got = b""
    while len(got) < len(NOISE):
        got += body.read()
    assert got == NOISE
    for _ in range(2):
        with pytest.raises(zlib.error):
            body.read()


def test_fault_inside_a_later_member_is_no_padding() -> None:
    """Its text would be lost in silence."""
    body = reader(gzip.compress(b"first"), gzip.compress(NOISE[:1000])[:500], bytes(600))
    with pytest.raises(zlib.error):
        read(body)
