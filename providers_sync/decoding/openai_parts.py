"""Citations, media and reasoning in the forms of the servers that speak OpenAI's protocol."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from ..types import Citation, Media
from .parsing import join_surrogates

REASONING_KEYS = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
"""Text of the reasoning: DeepSeek, vLLM and most others; OpenRouter, Groq and Ollama; Copilot."""
REASONING_LISTS = ("reasoning_details", "thinking_blocks")
"""The same in typed parts, with what the server wants back: OpenRouter and Snowflake; LiteLLM."""


def text_of(value: Any) -> str:
    """Return a text, or the joined texts of a list of parts; empty for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        names = ("text", "summary", "thinking", "content", "reasoning")
        return next((text for name in names if (text := text_of(value.get(name)))), "")
    return "".join(map(text_of, value)) if isinstance(value, list) else ""


def reasoning_of(delta: dict[str, Any]) -> tuple[str, str]:
    """Return the reasoning of a delta and the key it stood under; it is often there twice."""
    for key in (*REASONING_KEYS, *REASONING_LISTS):
        if text := text_of(delta.get(key)):
            return text, key
    return "", ""


_NO_MORE = frozenset(
    {"type", "text", "thinking", "summary", "content", "reasoning", "index", "id", "format"}
)


_LEVELS = 8
"""How deep ``more_of`` looks; a place is as long as it is deep."""


def more_of(value: Any, place: str, levels: int = _LEVELS) -> Iterator[tuple[str, Any]]:
    """Yield what parts hold besides their text (signatures, encrypted text), with its place."""
    if levels == 0:
        yield place, value
    elif isinstance(value, list):
        for each in value:
            if isinstance(each, (dict, list)):
                yield from more_of(each, place, levels - 1)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key not in _NO_MORE:
                yield f"{place}.{join_surrogates(key)}", inner
            elif isinstance(inner, (dict, list)):
                yield from more_of(inner, f"{place}.{key}", levels - 1)


_GROWING = ("text", "summary", "thinking")


class PartJoiner:
    """Joins the pieces of reasoning parts, which come in several events."""

    def __init__(self) -> None:
        self._parts: list[tuple[dict[str, Any], dict[str, list[str]]]] = []
        """Each with the pieces of its texts, which are joined once."""

    def add(self, pieces: Any) -> None:
        """Add what one event holds: only the first piece can belong to the part before it."""
        last = self._parts[-1] if self._parts else None
        for piece in pieces if isinstance(pieces, list) else [pieces]:
            if not isinstance(piece, dict):
                continue
            if last is None or not _continues(last[0], piece):
                last = ({}, {})
                self._parts.append(last)
            _grow(*last, piece)
            last = None

    def parts(self) -> list[dict[str, Any]]:
        """Return the parts so far."""
        return [
            {**part, **{key: join_surrogates("".join(pieces)) for key, pieces in texts.items()}}
            for part, texts in self._parts
        ]


def _continues(part: dict[str, Any], piece: dict[str, Any]) -> bool:
    """Return whether a piece belongs to a part; a signature or encrypted text ends a part."""
    return (
        piece.get("type") in (None, part.get("type"))
        and piece.get("index") == part.get("index")
        and (not part.get("id") or piece.get("id") in (None, "", part["id"]))
        and not (part.get("signature") or part.get("data"))
    )


def _grow(part: dict[str, Any], texts: dict[str, list[str]], piece: dict[str, Any]) -> None:
    for key, value in piece.items():
        if key in _GROWING and isinstance(value, str):
            texts.setdefault(key, []).append(value)
            part.setdefault(key, "")
        elif value is not None or key not in part:
            part[key] = value


def citation_of(value: Any) -> Citation:
    """Return one source: an address, OpenAI's annotation, or a search result.

    >>> citation_of("https://example.com")
    Citation(url='https://example.com', title=None, text=None, start=None, end=None)
    """
    if not isinstance(value, dict):
        return Citation(url=_text(value), raw=value)
    inner = value.get(str(value.get("type")))  # OpenAI: {"type": "url_citation", "url_citation": …}
    detail = inner if isinstance(inner, dict) else value
    return Citation(
        url=_text(detail.get("url")),
        title=_text(detail.get("title") or detail.get("filename")),
        text=_text(next((v for k in ("content", "snippet", "text") if (v := detail.get(k))), None)),
        start=_number(detail.get("start_index")),
        end=_number(detail.get("end_index")),
        raw=value,
    )


def _text(value: Any) -> str | None:
    return join_surrogates(value) if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def media_of(part: dict[str, Any]) -> Iterator[Media]:
    """Yield the image or the sound of a content part, if it is one that can be read."""
    kind = str(part.get("type") or "")
    detail = part.get(kind)
    if kind.removeprefix("output_") in ("image_url", "image"):
        source = detail if detail is not None else part.get("image_url") or part.get("url")
        url = source.get("url") if isinstance(source, dict) else source
        if isinstance(url, str) and url:
            yield media_from_url("image", url)
    elif kind.removeprefix("output_") in ("audio", "input_audio") and isinstance(detail, dict):
        data = decode_base64(detail.get("data"))
        if data is not None:
            form = detail.get("format")
            yield Media("audio", f"audio/{form}" if isinstance(form, str) else None, data)


def media_from_url(kind: str, url: str) -> Media:
    """Return what is at a URL; that of a ``data:`` URL is in it."""
    if url[:5].lower() == "data:":
        mime_type, separator, text = url[5:].partition(";base64,")
        data = decode_base64(text) if separator else None
        if data is not None:
            return Media(kind, join_surrogates(mime_type) or None, data)
    return Media(kind, url=join_surrogates(url))


def decode_base64(text: Any) -> bytes | None:
    """Return the bytes; ``None`` for anything that is not base64."""
    if not isinstance(text, str) or not text:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
