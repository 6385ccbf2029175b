"""Bytes → events → deltas: pure, no I/O; one decoder a protocol."""

from __future__ import annotations

from .anthropic import decode_anthropic
from .openai_chat import decode_openai, decode_text
from .parsing import WRONG_SHAPE, join_surrogates, parse_json, read_whole

__all__ = [
    "WRONG_SHAPE",
    "decode_anthropic",
    "decode_openai",
    "decode_text",
    "join_surrogates",
    "parse_json",
    "read_whole",
]
