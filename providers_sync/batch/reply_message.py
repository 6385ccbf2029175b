"""The answer to a row as a message in OpenAI's form, which a line of the ledger holds."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from ..decoding.parsing import join_surrogates
from ..returned_messages import RETURNED
from ..stream import Stream
from ..types import Citation, Media, Message, ToolCall


def answer_message(stream: Stream) -> Message:
    """Return all that the model said, except for the ``extras``: token probabilities and the like.

    The keys are those of OpenAI's answers, and the usual ones for what OpenAI does not have:
    ``reasoning_content`` (DeepSeek, vLLM), ``images`` (OpenRouter). What the protocol wants back
    with the next request stays under ``providers_sync``, so that the message can be sent again.
    """
    returned = stream.message.get(RETURNED)
    fields = dict(returned["fields"]) if returned else {}
    message = _spoken(stream, fields.pop("audio", None))
    if fields.get("reasoning_content") == message.get("reasoning_content"):
        fields.pop("reasoning_content", None)  # it is not stored twice
    if returned and fields:
        text = json.dumps({**returned, "fields": fields}, ensure_ascii=False)
        message[RETURNED] = json.loads(join_surrogates(text))
    return message


def valid_text(value: object) -> str | None:
    """Return a server's value as text that every JSON parser accepts; ``None`` stays ``None``."""
    return None if value is None else join_surrogates(str(value))


def _spoken(stream: Stream, audio: dict[str, Any] | None) -> Message:
    calls = list(map(_tool_call, stream.tool_calls))
    sound = [media for media in stream.media if _is_sound(media)]
    text = valid_text(stream.text)
    message = {
        "role": "assistant",
        "content": text or (None if calls else ""),
        "reasoning_content": valid_text(stream.reasoning),
        "refusal": valid_text(stream.refusal),
        "tool_calls": calls,
        "annotations": list(map(_annotation, stream.citations)),
        "images": [_image(media) for media in stream.media if not _is_sound(media)],
        "audio": {**(audio or {}), **_audio(sound)},
    }
    return {name: value for name, value in message.items() if value or name == "content"}


def _tool_call(call: ToolCall) -> dict[str, Any]:
    function = {"name": valid_text(call.name), "arguments": valid_text(call.raw)}
    return {"id": valid_text(call.id), "type": "function", "function": function}


def _annotation(citation: Citation) -> dict[str, Any]:
    kind = "url_citation" if citation.url else "citation"
    values = {
        "url": valid_text(citation.url),
        "title": valid_text(citation.title),
        "content": valid_text(citation.text),
        "start_index": citation.start,
        "end_index": citation.end,
    }
    return {"type": kind, kind: {name: v for name, v in values.items() if v is not None}}


def _is_sound(media: Media) -> bool:
    return media.kind == "audio" and media.data is not None


def _image(media: Media) -> dict[str, Any]:
    """Return an image in the form of OpenRouter's answers, which is that of OpenAI's questions."""
    kind, url = f"{media.kind}_url", media.url
    if media.data is not None:
        mime_type = media.mime_type or "application/octet-stream"
        url = f"data:{mime_type};base64,{base64.b64encode(media.data).decode('ascii')}"
    return {"type": kind, kind: {"url": valid_text(url)}}


def _audio(pieces: Sequence[Media]) -> dict[str, Any]:
    """Return sound in OpenAI's form; its transcript is the content of the message."""
    data = b"".join(media.data or b"" for media in pieces)
    return {"data": base64.b64encode(data).decode("ascii")} if data else {}
