"""Decoder for plain text, which AI365VIP sends."""

from __future__ import annotations

import codecs

from ..errors import MalformedStream, StreamCut, StreamTruncated
from .openai_chat import OpenAIDecoder
from .parsing import parse_json


class TextDecoder(OpenAIDecoder):
    """Decodes UTF-8 text as it arrives; it has no end marker. JSON sent instead may be OpenAI's."""

    accepts_json = False
    detects_pages = False

    def __init__(self, content_type: str = "") -> None:
        super().__init__(content_type)
        if content_type and not content_type.endswith("json"):
            self._format = "stream"
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._is_empty = True

    def _read_stream(self, data: bytes) -> None:
        if text := self._decoder.decode(data):
            self._is_empty = False
            self._deltas.append(text)

    def _end_stream(self) -> None:
        if self._decoder.getstate()[0]:
            raise StreamCut("the answer ends inside a character")
        if self._is_empty:
            raise StreamTruncated("the answer is empty")

    def _read_json(self, body: bytes) -> None:
        """Read an error, OpenAI's format, or simply text."""
        try:
            value = parse_json(body.decode("utf-8-sig", "replace"))
        except MalformedStream:
            value = None
        if isinstance(value, dict) and ("error" in value or "choices" in value):
            self._read_answer(value)
        elif text := body.decode("utf-8", "replace"):
            self._deltas.append(text)
        else:
            raise StreamTruncated("the answer is empty")
