"""Tests for decompressing bodies that arrive in parts of any size."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers_sync import MalformedStream, StreamCut, StreamError
from providers_sync.config import READ_BYTES
from providers_sync.transport.framing import Body, SizedBody
from providers_sync.transport.inflating import inflated

NOISE = random.Random(1).randbytes(3 * READ_BYTES)


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data)[2:-4]


DEFLATE = pytest.mark.parametrize("compress", [zlib.compress, raw_deflate])


def parts_of(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def pieces_of(body: Body, *parts: bytes) -> list[bytes]:
    """Return what each ``feed`` of a body that arrives in these parts returns."""
    pieces, error = pieces_before_fault(body, *parts)
    if error is not None:
        raise error
    return pieces


def pieces_before_fault(body: Body, *parts: bytes) -> tuple[list[bytes], Exception | None]:
    pieces = []
    try:
        for part in parts:
            pieces.append(body.feed(part))
            while body.has_more:
                pieces.append(body.feed(b""))
        body.end()
    except StreamError as error:
        return pieces, error
    return pieces, None


def gzipped() -> Body:
    return inflated(Body(), "gzip")


@given(st.lists(st.binary(), min_size=1), st.integers(1, 50), st.booleans())
def test_body_in_parts_is_complete(texts: list[bytes], size: int, padded: bool) -> None:
    """It may be split anywhere and have several members and padding."""
    for padding in (bytes(20), b"padding") if padded else (b"",):
        data = b"".join(map(gzip.compress, texts)) + padding
        body = gzipped()
        assert b"".join(pieces_of(body, *parts_of(data, size))) == b"".join(texts)
        assert body.ended


@DEFLATE
@given(text=st.binary(), size=st.integers(1, 50), padded=st.booleans())
def test_deflate_in_parts_is_complete(
    compress: Callable[[bytes], bytes], text: bytes, size: int, padded: bool
) -> None:
    """With zlib's header and without it, where a few other bytes would begin like JSON."""
    text = b"data: " + text
    for padding in (b"padding", b"\x1f", b"\0") if padded else (b"",):
        parts = parts_of(compress(text) + padding, size)
        assert b"".join(pieces_of(inflated(Body(), "deflate"), *parts)) == text


@pytest.mark.parametrize("text", [bytes(50 * READ_BYTES), NOISE])
def test_piece_is_never_larger_than_allowed(text: bytes) -> None:
    """A decompression bomb is returned completely, in pieces of at most ``READ_BYTES``."""
    pieces = pieces_of(gzipped(), gzip.compress(text))
    assert max(map(len, pieces)) <= READ_BYTES
    assert b"".join(pieces) == text


def test_all_output_of_a_part_is_returned_before_the_next_part() -> None:
    """The server may send nothing for a long time."""
    data = gzip.compress(bytes(3 * READ_BYTES))
    for size in range(1, len(data)):
        expected = zlib.decompressobj(wbits=31).decompress(data[:size])
        pieces, _ = pieces_before_fault(gzipped(), data[:size])
        assert b"".join(pieces) == expected


def test_zeros_between_two_members_are_padding() -> None:
    """What follows them is text."""
    data = gzip.compress(b"first, ") + bytes(10) + gzip.compress(b"second")
    for size in (1, len(data)):
        assert b"".join(pieces_of(gzipped(), *parts_of(data, size))) == b"first, second"


@pytest.mark.parametrize("lost", [1, 8, 9, 40])
@pytest.mark.parametrize("before", [b"", gzip.compress(b"first")])
def test_end_inside_a_member_is_a_cut(lost: int, before: bytes) -> None:
    """Also if only the trailer is missing, and if the framing proves the end."""
    data = before + gzip.compress(NOISE[:1000])[:-lost]
    for framing in (Body(), SizedBody(len(data))):
        body = inflated(framing, "gzip")
        with pytest.raises(StreamCut):
            pieces_of(body, data)
        assert not body.ended


def test_body_without_a_byte_is_at_its_end() -> None:
    """Nothing is compressed, and nothing must be waited for."""
    assert inflated(SizedBody(0), "gzip").ended


@DEFLATE
def test_end_inside_deflate_is_a_cut(compress: Callable[[bytes], bytes]) -> None:
    """As with gzip; also without a single byte."""
    for data in (b"", compress(NOISE)[:-6]):
        with pytest.raises(StreamCut):
            pieces_of(inflated(Body(), "deflate"), data)


def test_end_after_the_first_byte_of_a_member_is_a_cut() -> None:
    """A text may have followed."""
    with pytest.raises(StreamCut):
        pieces_of(gzipped(), gzip.compress(b"first") + b"\x1f")


def test_text_before_a_fault_in_the_same_part_is_returned() -> None:
    """After it, every call raises the error."""
    compressor = zlib.compressobj(wbits=31)
    data = compressor.compress(NOISE) + compressor.flush(zlib.Z_SYNC_FLUSH)
    for size in (1, 1000, len(data) + 4):
        body = gzipped()
        pieces, error = pieces_before_fault(body, *parts_of(data + b"\xff\xff\xff\xff", size))
        assert b"".join(pieces) == NOISE
        assert type(error) is MalformedStream
        with pytest.raises(MalformedStream):
            body.feed(b"")


def test_text_before_a_wrong_checksum_is_returned() -> None:
    """All of it: the fault is behind it."""
    data = bytearray(gzip.compress(NOISE))
    data[-6] ^= 1
    pieces, error = pieces_before_fault(gzipped(), *parts_of(bytes(data), READ_BYTES))
    assert b"".join(pieces) == NOISE
    assert type(error) is MalformedStream


def test_fault_inside_a_later_member_is_not_padding() -> None:
    """Otherwise its text would be lost without an error."""
    parts = gzip.compress(b"first"), gzip.compress(NOISE[:1000])[:500], bytes(600)
    with pytest.raises(MalformedStream):
        pieces_of(gzipped(), *parts)
    with pytest.raises(MalformedStream):
        pieces_of(gzipped(), b"".join(parts))
