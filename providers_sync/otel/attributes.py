"""What the spans say: the attributes of a question, and those of the end of its answer.

The names are those of OpenTelemetry's conventions for generative AI
(https://github.com/open-telemetry/semantic-conventions-genai); ``providers_sync.*`` are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from .. import call_log
from ..errors import APITimeoutError
from ..observing import Question
from ..providers.settings import defaults_of
from ..stream import GOOD_OUTCOMES, Stream

LONGEST = 256
"""Characters of a word that a server has chosen: an id, a model, a finish reason."""
_PORTS = {"http": 80, "https": 443}

_VENDORS = {
    "api.anthropic.com": "anthropic",
    "api.cohere.ai": "cohere",
    "api.cohere.com": "cohere",
    "api.deepseek.com": "deepseek",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral_ai",
    "api.moonshot.ai": "moonshot_ai",
    "api.moonshot.cn": "moonshot_ai",
    "api.openai.com": "openai",
    "api.perplexity.ai": "perplexity",
    "api.x.ai": "x_ai",
    "generativelanguage.googleapis.com": "gcp.gemini",
    "aiplatform.googleapis.com": "gcp.vertex_ai",
    "openai.azure.com": "azure.ai.openai",
    "services.ai.azure.com": "azure.ai.inference",
}
"""The conventions' names of vendors, by the end of their hosts' names."""
_PROTOCOLS = {
    "openai-chat": "openai",
    "responses": "openai",
    "anthropic": "anthropic",
    "gemini": "gcp.gemini",
}
"""Their names of protocols, for all other hosts."""

_NUMBERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
"""Options, and the names of their attributes after ``gen_ai.request.``."""
_WHOLE_NUMBERS = {
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "top_k": "top_k",
    "seed": "seed",
}


def of_provider(provider: Any, model: str) -> dict[str, Any]:
    """Return the attributes that name what is asked; metrics have them too."""
    address = urlsplit(str(provider.base_url))
    host = address.hostname or ""
    found: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _provider_name(provider, host),
        "gen_ai.request.model": model,
    }
    if host:
        found["server.address"] = host
        found["server.port"] = address.port or _PORTS.get(address.scheme, 443)
    return found


def of_server(url: str) -> dict[str, Any]:
    """Return the attributes of the server that a request goes to."""
    address = urlsplit(url)
    return {
        "server.address": address.hostname or "",
        "server.port": address.port or _PORTS.get(address.scheme, 443),
    }


def _provider_name(provider: Any, host: str) -> str:
    for name, vendor in _VENDORS.items():
        if host == name or host.endswith((f".{name}", f"-{name}")):
            return vendor
    protocol = getattr(provider, "protocol", "")
    return _PROTOCOLS.get(protocol) or protocol or type(provider).__name__.lower()


def of_question(question: Question) -> dict[str, Any]:
    """Return the attributes of the request: its parameters, and no text of its messages."""
    options = {**defaults_of(question.provider), **question.options}
    found: dict[str, Any] = {"gen_ai.request.stream": True}
    for names, kinds in ((_NUMBERS, (int, float)), (_WHOLE_NUMBERS, (int,))):
        for option, name in names.items():
            value = options.get(option)
            if isinstance(value, kinds) and not isinstance(value, bool):
                found[f"gen_ai.request.{name}"] = value
    stop = options.get("stop")
    texts = [stop] if isinstance(stop, str) else stop
    if isinstance(texts, (list, tuple)) and all(isinstance(each, str) for each in texts):
        found["gen_ai.request.stop_sequences"] = list(texts)
    if isinstance(effort := options.get("reasoning_effort"), str):
        found["gen_ai.request.reasoning.level"] = effort
    if question.schema is not None or options.get("response_format") is not None:
        found["gen_ai.output.type"] = "json"
    return found


def of_end(
    stream: Stream, first_event_s: float | None, redact: Callable[[str], str]
) -> dict[str, Any]:
    """Return the attributes of an answer that has ended; ``redact`` removes secrets."""
    stats, usage = stream.stats, stream.usage
    reason = short(finish_reason(stream), redact)
    found: dict[str, Any] = {
        "gen_ai.response.model": short(stream.model, redact),
        "gen_ai.response.finish_reasons": None if reason is None else [reason],
        "gen_ai.response.time_to_first_chunk": first_event_s,
        "providers_sync.outcome": str(stream.outcome),
        "providers_sync.is_whole": stream.is_whole,
        "providers_sync.attempts": stats.attempts,
        "providers_sync.chunks": stats.chunks,
        "providers_sync.bytes": stats.bytes,
        "providers_sync.joins": stats.joins or None,
        "providers_sync.tool_calls": len(stream.tool_calls) or None,
        "providers_sync.request_id": call_log.request_id(short(stream.request_id, redact)),
    }
    if usage is not None:
        found.update(
            {
                "gen_ai.usage.input_tokens": usage.input_tokens,
                "gen_ai.usage.output_tokens": usage.output_tokens,
                "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
                "gen_ai.usage.cache_write.input_tokens": usage.cache_write_tokens,
                "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
            }
        )
    return {name: value for name, value in found.items() if value is not None}


def finish_reason(stream: Stream) -> str | None:
    """Return why the model has stopped; ``error``, as the conventions have it, if it has not."""
    if stream.finish_reason is None and stream.outcome not in GOOD_OUTCOMES:
        return "error"
    return stream.finish_reason


def of_error(error: BaseException) -> dict[str, Any]:
    """Return the attributes of a failure: its class and timeout, and none of its text."""
    found: dict[str, Any] = {"error.type": type(error).__name__}
    if isinstance(error, APITimeoutError):
        found["providers_sync.timeout"] = error.clock
    return found


def sendable(text: str) -> str:
    r"""Return a text that has a UTF-8 form: a lone surrogate would cost an exporter its batch.

    >>> sendable(chr(0xD800)) == r"\ud800"
    True
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def short(text: str | None, redact: Callable[[str], str]) -> str | None:
    """Return a word that a server has chosen, without secrets, as far as it is kept."""
    return text if text is None else sendable(redact(text)[:LONGEST])
