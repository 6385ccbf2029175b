"""Vitalentum's protocol: reads a conversation that is JSON inside JSON, streams OpenAI's chunks."""

from __future__ import annotations

import json
from typing import Any

from ..types import Message
from . import validation
from .openai_writer import OpenAIWriter, error_shape
from .types import ChatRequest, Dialect, RequestError

SPEAKERS = {"human": "user", "bot": "assistant"}
"""The protocol has no other roles."""


def read_vitalentum(body: Any) -> ChatRequest:
    """Read ``conversation``, a JSON string of ``{"history": [{"speaker", "text"}…]}``.

    >>> body = {"conversation": '{"history": [{"speaker": "human", "text": "Hi"}]}'}
    >>> read_vitalentum(body).messages
    [{'role': 'user', 'content': 'Hi'}]
    """
    fields = validation.check_object(body, "the body")
    text = fields.get("conversation")
    if not isinstance(text, str):
        raise RequestError("conversation must be a string of JSON")
    try:
        conversation = json.loads(text)
    except (ValueError, RecursionError):
        raise RequestError("conversation is not valid JSON") from None
    history = validation.check_object(conversation, "conversation").get("history")
    if not isinstance(history, list) or not history:
        raise RequestError("conversation.history must be a list with at least one turn")
    messages = [_turn(turn, f"conversation.history[{i}]") for i, turn in enumerate(history)]
    return validation.streaming_request(fields, messages, None, {"conversation"})


def _turn(value: Any, name: str) -> Message:
    turn = validation.check_object(value, name)
    role = SPEAKERS.get(str(turn.get("speaker")))
    if role is None:
        raise RequestError(f"{name}.speaker must be human or bot")
    return {"role": role, "content": validation.check_text(turn.get("text"), f"{name}.text")}


VITALENTUM = Dialect(
    "vitalentum",
    "/vitalentum",
    "/vitalentum/api/converse-edge",
    read_vitalentum,
    OpenAIWriter,
    error_shape,
)
