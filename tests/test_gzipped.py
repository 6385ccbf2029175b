"""Tests for decompressing gzip bodies that arrive in chunks of any size."""

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


def reader(*chunks: bytes) -> GzipBodyReader:
    """Return a gzip body that arrives in these chunks."""
    body: Any = SimpleNamespace(ended=False, close=None, is_reusable=None)
    remaining = [chunk for chunk in chunks if chunk]
    body.read = lambda: remaining.pop(0) if remaining else b""
    return GzipBodyReader(body)


def read(body: GzipBodyReader) -> list[bytes]:
    """Return the results of all reads to the end."""
    return list(iter(body.read, b""))


@given(st.lists(st.binary(), min_size=1), st.integers(1, 50), st.booleans())
def test_body_in_chunks_is_complete(texts: list[bytes], size: int, padded: bool) -> None:
    """It may be split anywhere and have several members and padding."""
    data = b"".join(map(gzip.compress, texts)) + bytes(20 * padded)
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert b"".join(read(reader(*chunks))) == b"".join(texts)


@pytest.mark.parametrize("text", [bytes(50 * READ_BYTES), NOISE])
def test_read_is_never_larger_than_allowed(text: bytes) -> None:
    """A decompression bomb is returned completely, in reads of at most ``READ_BYTES``."""
    reads = read(reader(gzip.compress(text)))
    assert max(map(len, reads)) <= READ_BYTES
    assert b"".join(reads) == text


@pytest.mark.parametrize("lost", [1, 8, 9, 40])
@pytest.mark.parametrize("before", [b"", gzip.compress(b"first")])
def test_end_inside_a_member_raises(lost: int, before: bytes) -> None:
    """Also if only the trailer is missing."""
    body = reader(before + gzip.compress(NOISE[:1000])[:-lost])
    with pytest.raises(IncompleteRead):
        read(body)


def test_text_before_a_fault_in_the_same_chunk_is_returned() -> None:
    """After it, every read raises the error."""
    compressor = zlib.compressobj(wbits=31)
    data = compressor.compress(NOISE) + compressor.flush(zlib.Z_SYNC_FLUSH)
    body = reader(data + b"\xff\xff\xff\xff")
    received = b""
    while len(received) < len(NOISE):
        received += body.read()
    assert received == NOISE
    for _ in range(2):
        with pytest.raises(zlib.error):
            body.read()


def test_fault_inside_a_later_member_is_not_padding() -> None:
    """Otherwise its text would be lost without an error."""
    body = reader(gzip.compress(b"first"), gzip.compress(NOISE[:1000])[:500], bytes(600))
    with pytest.raises(zlib.error):
        read(body)
