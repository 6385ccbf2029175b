"""A blocking SDK for streamed chat answers.

::

    from providers_sync import OpenAICompatible

    for chunk in OpenAICompatible.preset("ollama", "qwen3").stream("Hello"):
        print(chunk, end="", flush=True)

``Vitalentum``, ``CodeLinkAva`` and ``AI365VIP`` are discontinued services: they need the
``base_url`` of a gateway (``providers-sync serve``), which answers in their place.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .config import Timeouts, __version__
from .errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    FailoverError,
    InvalidAnswer,
    InvalidRequestError,
    MalformedStream,
    ModelNotSupportedError,
    ProviderError,
    ProviderFailure,
    RateLimitError,
    ServerError,
    StreamCancelled,
    StreamCut,
    StreamError,
    StreamTruncated,
    ToolError,
)
from .providers import Provider
from .retry import Retry
from .stream import CancelToken, PreparedCall, Stream
from .types import (
    Citation,
    Completion,
    Event,
    Extra,
    Finish,
    Join,
    Media,
    Message,
    Messages,
    Outcome,
    Prompt,
    ReasoningDelta,
    Refusal,
    Stats,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)

if TYPE_CHECKING:
    from .chat import Chat
    from .failover import Failover
    from .providers import (
        AI365VIP,
        PROVIDERS,
        Anthropic,
        CodeLinkAva,
        Gemini,
        Ollama,
        OpenAICompatible,
        OpenAIResponses,
        Vitalentum,
    )
    from .rate_limit import RateLimit
    from .tools import Pause, Run, Tool, mcp
    from .typed import TypedCompletion, TypedStream


_LAZY_PROVIDERS = {
    *("AI365VIP", "PROVIDERS", "Anthropic", "CodeLinkAva", "Gemini", "Ollama"),
    *("OpenAICompatible", "OpenAIResponses", "Vitalentum"),
}
_LAZY_MODULES = {
    *("aio", "batch", "gateway", "local", "message_types", "notebook", "options", "otel"),
    *("prices", "recording", "testing", "web"),
}
"""Public modules imported at first use: ``providers_sync.gateway`` needs no import statement."""


def __getattr__(name: str) -> Any:
    """Import optional modules and classes at their first use."""
    if name in _LAZY_MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY_PROVIDERS:
        from . import providers

        return getattr(providers, name)
    if name in ("TypedCompletion", "TypedStream"):
        from . import typed

        return getattr(typed, name)
    if name in ("Pause", "Run", "Tool", "mcp"):
        from . import tools

        return getattr(tools, name)
    if name == "RateLimit":
        from .rate_limit import RateLimit

        return RateLimit
    if name == "Failover":
        from .failover import Failover

        return Failover
    if name == "Chat":
        from .chat import Chat

        return Chat
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: Any) -> None:
    """Register the ``%%chat`` magic: IPython calls this for ``%load_ext providers_sync``."""
    from . import notebook

    notebook.load_ipython_extension(shell)


__all__ = [
    "AI365VIP",
    "PROVIDERS",
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "Anthropic",
    "AuthenticationError",
    "CancelToken",
    "Chat",
    "Citation",
    "CodeLinkAva",
    "Completion",
    "Event",
    "Extra",
    "Failover",
    "FailoverError",
    "Finish",
    "Gemini",
    "InvalidAnswer",
    "InvalidRequestError",
    "Join",
    "MalformedStream",
    "Media",
    "Message",
    "Messages",
    "ModelNotSupportedError",
    "Ollama",
    "OpenAICompatible",
    "OpenAIResponses",
    "Outcome",
    "Pause",
    "PreparedCall",
    "Prompt",
    "Provider",
    "ProviderError",
    "ProviderFailure",
    "RateLimit",
    "RateLimitError",
    "ReasoningDelta",
    "Refusal",
    "Retry",
    "Run",
    "ServerError",
    "Stats",
    "Stream",
    "StreamCancelled",
    "StreamCut",
    "StreamError",
    "StreamTruncated",
    "TextDelta",
    "Timeouts",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "TypedCompletion",
    "TypedStream",
    "Usage",
    "Vitalentum",
    "__version__",
    "mcp",
]
