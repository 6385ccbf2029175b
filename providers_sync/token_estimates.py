"""How many tokens a request is likely to count for, before its server has counted them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

BYTES_PER_TOKEN = 4
"""Of text in UTF-8: some four letters, two of Cyrillic, or one and a third of Chinese."""
FILE_TOKENS = 1000
"""A picture costs from 85 to 1600 tokens, whatever its size in bytes."""
FILE_CHARACTERS = 4000
"""A smaller file counts with its characters."""
_BASE64 = re.compile(r"(?:data:[^,]{0,200},)?[A-Za-z0-9+/_=-]{3500}")


def request_tokens(body: Mapping[str, Any]) -> int:
    """Estimate the tokens of a request from its texts; a file in base64 is none."""
    tokens, size = 1, 0
    parts: list[Any] = [body]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            parts += [*part, *part.values()]
        elif isinstance(part, (list, tuple)):
            parts += part
        elif isinstance(part, str) and _is_file(part):
            tokens += FILE_TOKENS
        elif isinstance(part, str):
            size += utf8_size(part)
    return tokens + size // BYTES_PER_TOKEN


def utf8_size(text: str) -> int:
    """Return how many bytes a text has in UTF-8, which may contain half a character."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def most_tokens(body: Mapping[str, Any]) -> int:
    """Return the limit of the answer that a request sets: servers count with it until the end."""
    config = body.get("generationConfig", body.get("options"))
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    values = [body.get(name) for name in names]
    if isinstance(config, Mapping):
        values += [config.get("maxOutputTokens"), config.get("num_predict")]
    return max((value for value in values if isinstance(value, int) and value > 0), default=0)


def _is_file(text: str) -> bool:
    """Return whether a text is a file in base64: other long texts have spaces."""
    return len(text) >= FILE_CHARACTERS and _BASE64.match(text) is not None
