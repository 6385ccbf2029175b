"""Decoders that turn response bodies into deltas: one module per protocol.

They are fed bytes and do no I/O; ``types.Decoder`` is their interface. A provider imports that of
its protocol at the first call.
"""

from __future__ import annotations

from .bodies import BodyDecoder, WholeBody
from .openai_chat import OpenAIDecoder
from .parsing import WRONG_SHAPE, SurrogateJoiner, join_surrogates, parse_json

__all__ = [
    "WRONG_SHAPE",
    "BodyDecoder",
    "OpenAIDecoder",
    "SurrogateJoiner",
    "WholeBody",
    "join_surrogates",
    "parse_json",
]
