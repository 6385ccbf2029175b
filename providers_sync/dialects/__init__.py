"""The protocols from the server's side: request body in, answer bytes out, no I/O.

They share no code with ``providers/``: one misreading would otherwise pass every test.
One file a protocol reads; ``chunks`` and ``blocks`` write what OpenAI's and Anthropic's clients
expect. A dialect reads a parsed JSON body into a ``ChatRequest`` in OpenAI's form:

>>> request = VITALENTUM.read({"conversation": '{"history": [{"speaker": "human", "text": "Hi"}]}'})
>>> request.messages
[{'role': 'user', 'content': 'Hi'}]
"""

from __future__ import annotations

from . import anthropic_writer, openai_writer
from .ai365vip import AI365VIP
from .anthropic import ANTHROPIC, ANTHROPIC_MODELS
from .codelinkava import CODELINKAVA
from .models import (
    AnswerInfo,
    ChatRequest,
    Dialect,
    Ending,
    ModelList,
    Piece,
    RequestError,
    Writer,
    json_bytes,
)
from .openai import OPENAI, OPENAI_MODELS
from .vitalentum import VITALENTUM

DIALECTS = (VITALENTUM, CODELINKAVA, AI365VIP, OPENAI, ANTHROPIC)
"""Every protocol that the gateway speaks."""
MODEL_LISTS = (OPENAI_MODELS, ANTHROPIC_MODELS)


def error_body(error: RequestError, path: str) -> bytes:
    """Return the JSON that tells the client of ``path``, in the shape of its protocol."""
    own = path == ANTHROPIC.base or path.startswith(f"{ANTHROPIC.base}/")
    return json_bytes((anthropic_writer if own else openai_writer).error_shape(error))


__all__ = [
    "AI365VIP",
    "ANTHROPIC",
    "CODELINKAVA",
    "DIALECTS",
    "MODEL_LISTS",
    "OPENAI",
    "VITALENTUM",
    "AnswerInfo",
    "ChatRequest",
    "Dialect",
    "Ending",
    "ModelList",
    "Piece",
    "RequestError",
    "Writer",
    "error_body",
]
