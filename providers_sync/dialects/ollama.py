"""Ollama's protocol: reads chat requests into OpenAI's form and describes the models.

Source: Ollama API, "Generate a chat completion", "List Local Models", "Show Model Information",
"List Running Models", "Version"; Modelfile reference, "Valid parameters and values".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from . import validation
from .ollama_messages import read_messages
from .ollama_writer import OllamaWriter, error_shape
from .types import ChatRequest, Dialect, ModelEndpoint, RequestError, find_model

NOT_OPTIONS = {
    *("model", "messages", "stream", "options", "format", "think", "keep_alive", "tools"),
    *("truncate", "shift", "logprobs", "top_logprobs"),
}
"""Fields that this module reads; an engine keeps its model loaded, and its context is its own."""
MACHINE_OPTIONS = {
    *("num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "low_vram", "numa"),
    *("use_mmap", "use_mlock", "vocab_only", "draft_num_predict"),
}
"""How Ollama is to load a model, which programs set routinely: an engine has loaded its own."""
UNLIMITED = (-1, -2)
"""Values of ``num_predict`` that set no limit: until the model ends, until the context is full."""
LATEST = ":latest"
"""The tag of a name that has none."""
CAPABILITIES = ("completion", "tools", "thinking", "vision")
"""What the gateway passes on; an engine refuses what its model cannot do."""
NO_TIME = "1970-01-01T00:00:00Z"
VERSION = "0.12.0"
"""Of the protocol that this module follows; programs refuse servers that are too old."""


def read_ollama(body: Any) -> ChatRequest:
    """Read a request; unknown fields and options are options.

    >>> body = {"model": "m:latest", "messages": [{"role": "user", "content": "Hi"}]}
    >>> read_ollama({**body, "options": {"num_predict": 9, "num_ctx": 4096}, "think": "low"})
    ChatRequest(messages=[{'role': 'user', 'content': 'Hi'}], options={'max_tokens': 9, \
'reasoning_effort': 'low'}, model='m', stream=True, include_usage=False, echoed={})
    """
    fields = validation.check_object(body, "the body")
    model = validation.check_name(fields.get("model"), "model").removesuffix(LATEST)
    for name in ("logprobs", "top_logprobs"):
        if fields.get(name):
            raise RequestError(f"{name} is not supported by this gateway: leave it out")
    options = {name: value for name, value in fields.items() if name not in NOT_OPTIONS}
    options |= _model_options(fields.get("options"))
    if fields.get("tools"):
        options["tools"] = fields["tools"]
    options |= _response_format(fields.get("format")) | _effort(fields.get("think"))
    return ChatRequest(
        read_messages(fields.get("messages")),
        validation.check_options(options, ()),
        model,
        stream=fields.get("stream") is None or validation.check_flag(fields, "stream"),
    )


def _model_options(value: Any) -> dict[str, Any]:
    """Return the options of the model, the limit under OpenAI's name."""
    options = validation.check_object({} if value is None else value, "options")
    options = {name: each for name, each in options.items() if name not in MACHINE_OPTIONS}
    limit = options.pop("num_predict", None)
    if limit in UNLIMITED or limit is None:
        return options
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise RequestError("options.num_predict must be a whole number above 0, or -1 or -2")
    return {**options, "max_tokens": limit}


def _response_format(value: Any) -> dict[str, Any]:
    if value in (None, ""):
        return {}
    if value == "json":
        return {"response_format": {"type": "json_object"}}
    if not isinstance(value, dict):
        raise RequestError('format must be "json" or a JSON schema')
    wrapper = {"name": "answer", "schema": value}
    return {"response_format": {"type": "json_schema", "json_schema": wrapper}}


def _effort(value: Any) -> dict[str, Any]:
    """Return how much to reason, under OpenAI's name."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"reasoning_effort": "medium" if value else "none"}
    if not isinstance(value, str) or not value:  # which levels there are depends on the model
        raise RequestError("think must be true, false or a level such as low, medium or high")
    return {"reasoning_effort": value}


# --- models


def _model(name: str) -> dict[str, Any]:
    # Programs print the first digits of a digest.
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
    return {"name": name, "model": name, "size": 0, "digest": digest, "details": _details()}


def _details() -> dict[str, Any]:
    names = ("parent_model", "format", "family", "parameter_size", "quantization_level")
    return {**dict.fromkeys(names, ""), "families": []}


def _list(models: Sequence[str]) -> dict[str, Any]:
    return {"models": [{**_model(name), "modified_at": NO_TIME} for name in models]}


def _running(models: Sequence[str]) -> dict[str, Any]:
    # An engine has no time at which it unloads its model.
    never = "9999-12-31T23:59:59Z"
    return {"models": [{**_model(name), "expires_at": never, "size_vram": 0} for name in models]}


def _show(models: Sequence[str], body: Any) -> dict[str, Any]:
    fields = validation.check_object(body, "the body")
    name = validation.check_name(fields.get("model", fields.get("name")), "model")
    find_model(name.removesuffix(LATEST), models)
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(),
        "model_info": {},
        "capabilities": CAPABILITIES,
        "modified_at": NO_TIME,
    }


OLLAMA = Dialect("ollama", "", "/api/chat", read_ollama, OllamaWriter, error_shape)
OLLAMA_MODELS = (
    ModelEndpoint("/api/tags", _list),
    ModelEndpoint("/api/ps", _running),
    ModelEndpoint("/api/show", _show, method="POST"),
    ModelEndpoint("/api/version", lambda models: {"version": VERSION}),
)
