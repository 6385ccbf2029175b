"""The keyword arguments of each protocol's calls, for type checkers: loaded by nothing else.

What a call takes beside its options is in ``CallKeywords`` and ``RunKeywords``, what a provider
takes in ``Settings``; ``Calls.stream`` and ``Provider`` say what each of them means.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from .. import options, transport
from ..config import Timeouts
from ..rate_limit import RateLimit
from ..retry import Retry
from ..stream import CancelToken
from ..types import SystemPrompt
from .connections import Certificate

if TYPE_CHECKING:
    from ..tools.settings import Approve, DecideUnknown


class CallKeywords(TypedDict, total=False):
    """What ``stream`` and ``complete`` take beside messages, model, ``into`` and options."""

    repairs: int
    skip_invalid: bool
    continue_after_break: int
    system: SystemPrompt | None
    timeouts: Timeouts | float | None
    retry: Retry
    headers: Mapping[str, str | None] | None
    cancel: CancelToken | None
    extra_body: Mapping[str, Any] | None


class RunKeywords(TypedDict, total=False):
    """What ``run`` takes beside them, apart from ``tools``."""

    max_rounds: int
    parallel: int
    tool_timeout: float | None
    approve: Approve | None
    journal: str | os.PathLike[str] | None
    on_error: Literal["tell", "raise"]
    on_unknown: Literal["raise"] | DecideUnknown


class AnyRun(RunKeywords, CallKeywords, total=False): ...


class Settings(TypedDict, total=False):
    """What a provider is made with, beside the model and options."""

    base_url: str | None
    api_key: str | Callable[[], str] | None
    headers: Mapping[str, str | None] | None
    query: Mapping[str, str] | None
    proxy: str | Literal[False] | None
    timeouts: Timeouts | float | None
    retry: Retry
    verify: bool | str | os.PathLike[str]
    cert: Certificate | None
    session: transport.Session | None
    rate_limit: RateLimit | None
    system: SystemPrompt | None
    extra_body: Mapping[str, Any] | None


class OpenAICall(CallKeywords, options.OpenAIOptions, total=False): ...


class OpenAIRun(RunKeywords, OpenAICall, total=False): ...


class OpenAISettings(Settings, options.OpenAIOptions, total=False): ...


class ResponsesCall(CallKeywords, options.ResponsesOptions, total=False): ...


class ResponsesRun(RunKeywords, ResponsesCall, total=False): ...


class ResponsesSettings(Settings, options.ResponsesOptions, total=False): ...


class AnthropicCall(CallKeywords, options.AnthropicOptions, total=False): ...


class AnthropicRun(RunKeywords, AnthropicCall, total=False): ...


class AnthropicSettings(Settings, options.AnthropicOptions, total=False): ...


class GeminiCall(CallKeywords, options.GeminiOptions, total=False): ...


class GeminiRun(RunKeywords, GeminiCall, total=False): ...


class GeminiSettings(Settings, options.GeminiOptions, total=False): ...


class OllamaCall(CallKeywords, options.OllamaOptions, total=False): ...


class OllamaRun(RunKeywords, OllamaCall, total=False): ...


class OllamaSettings(Settings, options.OllamaOptions, total=False): ...


class HistoricalCall(CallKeywords, options.HistoricalOptions, total=False): ...


class HistoricalSettings(Settings, options.HistoricalOptions, total=False): ...


class AI365VIPCall(CallKeywords, options.AI365VIPOptions, total=False): ...


class AI365VIPSettings(Settings, options.AI365VIPOptions, total=False): ...
