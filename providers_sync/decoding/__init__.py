"""Decoders that turn response bodies into deltas: OpenAI's and Anthropic's protocol, plain text.

They work on an iterable of bytes and do no I/O.
"""

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
