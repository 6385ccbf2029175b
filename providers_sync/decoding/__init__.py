"""Decoders that turn response bodies into deltas: OpenAI's and Anthropic's protocol, plain text.

They are fed bytes and do no I/O; ``types.Decoder`` is their interface.
"""

from __future__ import annotations

from .anthropic import AnthropicDecoder
from .bodies import WholeBody
from .openai_chat import OpenAIDecoder
from .parsing import WRONG_SHAPE, join_surrogates, parse_json
from .text import TextDecoder

__all__ = [
    "WRONG_SHAPE",
    "AnthropicDecoder",
    "OpenAIDecoder",
    "TextDecoder",
    "WholeBody",
    "join_surrogates",
    "parse_json",
]
