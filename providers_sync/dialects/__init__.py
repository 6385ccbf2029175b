"""The server side of each protocol: parses request bodies and writes answer bytes, without I/O.

It shares no code with ``providers/``: otherwise one misreading of a protocol would pass every test.
Each protocol has a module that reads its requests, and ``…_writer`` modules write the answers
(``ai365vip`` writes its own plain text). A dialect reads a parsed JSON body into a
``ChatRequest`` in OpenAI's form:

>>> request = VITALENTUM.read({"conversation": '{"history": [{"speaker": "human", "text": "Hi"}]}'})
>>> request.messages
[{'role': 'user', 'content': 'Hi'}]
"""

from __future__ import annotations

from . import openai_writer
from .ai365vip import AI365VIP_DIALECT
from .anthropic import ANTHROPIC, ANTHROPIC_MODELS
from .codelinkava import CODELINKAVA
from .gemini import GEMINI, GEMINI_MODELS
from .ollama import OLLAMA, OLLAMA_MODELS
from .openai import OPENAI, OPENAI_MODELS
from .responses import RESPONSES
from .types import (
    AnswerInfo,
    ChatRequest,
    Delta,
    Dialect,
    Ending,
    ModelEndpoint,
    RequestError,
    Writer,
    json_bytes,
)
from .vitalentum import VITALENTUM

DIALECTS = (
    *(VITALENTUM, CODELINKAVA, AI365VIP_DIALECT, OPENAI, RESPONSES, ANTHROPIC, GEMINI, OLLAMA),
)
"""Every protocol that the gateway speaks."""
MODEL_ENDPOINTS = (*OPENAI_MODELS, *ANTHROPIC_MODELS, *GEMINI_MODELS, *OLLAMA_MODELS)
"""What tells clients of these protocols which models there are."""


def error_body(error: RequestError, path: str) -> bytes:
    """Return the JSON of an error, in the form of the protocol served under ``path``."""
    for dialect in DIALECTS:
        if path == dialect.prefix or path.startswith(f"{dialect.prefix}/"):
            return json_bytes(dialect.error_shape(error))
    return json_bytes(openai_writer.error_shape(error))


__all__ = [
    "AI365VIP_DIALECT",
    "ANTHROPIC",
    "CODELINKAVA",
    "DIALECTS",
    "GEMINI",
    "MODEL_ENDPOINTS",
    "OLLAMA",
    "OPENAI",
    "RESPONSES",
    "VITALENTUM",
    "AnswerInfo",
    "ChatRequest",
    "Delta",
    "Dialect",
    "Ending",
    "ModelEndpoint",
    "RequestError",
    "Writer",
    "error_body",
]
