"""Gemini's protocol: reads requests into OpenAI's form and formats the list of models.

Source: Gemini API reference, "Generating content" and "Models".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import validation
from .gemini_contents import read_contents, read_instruction
from .gemini_fields import read_fields
from .gemini_options import read_config, read_tools
from .gemini_writer import GeminiWriter, error_shape
from .types import ChatRequest, Dialect, ModelEndpoint, RequestError, find_model

ROOTS = ("/gemini/v1beta", "/gemini/v1")
"""Google's own client 3.6 asks for v1, ours and others for v1beta."""
METHODS = {"streamGenerateContent": True, "generateContent": False}
"""Method → whether it streams."""
FIELDS = (
    *("contents", "systemInstruction", "generationConfig", "tools", "toolConfig"),
    *("model", "safetySettings", "labels", "serviceTier", "store"),
)
"""The model is named in the path; what comes after it changes nothing outside Google's service."""
UNSUPPORTED = ("cachedContent", "continuationToken")


def read_gemini(body: Any, call: str, alt: str | None = None) -> ChatRequest:
    """Read a request; ``call`` is the end of the path, ``MODEL:METHOD``.

    >>> body = {"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": {"topK": 1}}
    >>> read_gemini(body, "m:generateContent")
    ChatRequest(messages=[{'role': 'user', 'content': 'Hi'}], options={'top_k': 1}, model='m', \
stream=False, include_usage=False, echoed={'alt': None, 'thoughts': True})
    """
    model, _, method = call.rpartition(":")  # a model's name may have a colon, too
    if method not in METHODS:
        raise RequestError(
            f"the gateway does not have the method {method!r}; it has {', '.join(METHODS)}",
            status=404,
        )
    if alt not in (None, "json", "sse"):
        raise RequestError("alt must be json or sse")
    fields = read_fields(body, "", FIELDS, UNSUPPORTED)
    messages = read_instruction(fields.get("systemInstruction"))
    messages += read_contents(fields.get("contents"))
    options, shows_thoughts = read_config(fields.get("generationConfig"))
    options |= read_tools(fields.get("tools"), fields.get("toolConfig"))
    return ChatRequest(
        messages,
        validation.check_options(options, ()),
        model,
        stream=METHODS[method],
        echoed={"alt": alt, "thoughts": shows_thoughts},
    )


def _format_model(name: str) -> dict[str, Any]:
    # An engine does not tell the limits of its models, so they have none here.
    return {
        "name": f"models/{name}",
        "version": "1",
        "displayName": name,
        "supportedGenerationMethods": ["generateContent"],
    }


def _list(models: Sequence[str]) -> dict[str, Any]:
    return {"models": [_format_model(name) for name in models]}


def _get(models: Sequence[str], name: str) -> dict[str, Any]:
    return _format_model(find_model(name, models))


GEMINI = Dialect(
    "gemini",
    ROOTS[0],
    f"{ROOTS[0]}/models/<path:call>",
    read_gemini,
    GeminiWriter,
    error_shape,
    query=("alt",),
    same_paths=tuple(f"{root}/models/<path:call>" for root in ROOTS[1:]),
)
GEMINI_MODELS = (
    *(ModelEndpoint(f"{root}/models", _list) for root in ROOTS),
    *(ModelEndpoint(f"{root}/models/<path:name>", _get) for root in ROOTS),
)
