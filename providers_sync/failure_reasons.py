"""The reason of a failure, by which a ``Failover`` decides whether another provider is tried."""

from __future__ import annotations

import re

CONTENT_FILTER = "content_filter"
QUOTA = "quota"
CONTEXT_LENGTH = "context_length"
UNKNOWN_MODEL = "unknown_model"
AUTHENTICATION = "authentication"
RATE_LIMIT = "rate_limit"
INVALID_REQUEST = "invalid_request"
SERVER = "server"
TIMEOUT = "timeout"
CONNECTION = "connection"
BROKEN = "broken"
OTHER = "other"

REASONS = (
    *(CONTENT_FILTER, QUOTA, CONTEXT_LENGTH, UNKNOWN_MODEL, AUTHENTICATION, RATE_LIMIT),
    *(INVALID_REQUEST, SERVER, TIMEOUT, CONNECTION, BROKEN, OTHER),
)
"""All values of ``ProviderError.reason``."""
MOVES_ON = tuple(reason for reason in REASONS if reason != CONTENT_FILTER)
"""Those after which a ``Failover`` tries the next provider, unless it has ``move_on=``."""

_NAMES = (
    (
        CONTENT_FILTER,
        # OpenAI and Azure; DashScope; Zhipu ("API error codes", 1301); xAI
        "content_?filter|content_?policy|content_?moderation|responsibleaipolicy|moderation_blocked"
        "|data_?inspection_?failed|invalid_prompt|safety|^1301$|guardrail|prohibited_content",
    ),
    (
        CONTEXT_LENGTH,
        # OpenAI; llama.cpp; Anthropic (status 413); Mistral; Zhipu
        "context_?length|context_?size|context_?window|string_above_max_length|request_too_large"
        "|prompt_?too_?long|max_?tokens_?exceeded|tokens_limit|^1261$",
    ),
    (
        UNKNOWN_MODEL,
        # OpenAI; Azure; Groq; Mistral; Zhipu
        "model_?not_?found|unknown_?model|invalid_?model(_error)?$|model_?not_?exist|no_such_model"
        "|deployment_?not_?found|model_?decommissioned|^1211$",
    ),
)
_NAMES_OF_STATUSES = (
    (RATE_LIMIT, "rate_?limit|too_?many_?requests|throttl|resource_?exhausted"),
    (AUTHENTICATION, "authentication|unauthori[sz]ed|permission|forbidden|invalid_api_key"),
    (INVALID_REQUEST, "invalid_?(request|argument)|bad_?request|unsupported"),
    (SERVER, "overload|server_?error|^api_?error$|unavailable|timeout|^internal|bad_?gateway"),
)
"""What stands for a status in an error event that has none."""
_WORDS = (
    (
        CONTENT_FILTER,
        # Azure, Anthropic; OpenAI; xAI; DashScope; DeepSeek; OpenRouter
        "content (management|filtering|policy|filter)|safety system|usage (policy|guidelines)"
        "|content was blocked|inappropriate content|responsible ai|content exists risk"
        r"|\bblocked (due to|because of|by)\b.{0,40}\b(safety|content|policy)|prohibited_content"
        r"|\b(input|prompt|output|content|message|request)s? (was|were|is|has been) flagged\b",
    ),
    (
        QUOTA,
        # Anthropic, status 400; DeepSeek
        "credit balance is too low|reached your specified api usage limits|insufficient balance",
    ),
    (
        AUTHENTICATION,
        # Gemini, status 400; xAI, status 400
        r"(^|: )(api key (is )?(not valid|invalid|expired)|(invalid|incorrect) api key\b)",
    ),
    (
        CONTEXT_LENGTH,
        # OpenAI, vLLM, Mistral; Anthropic; Gemini; xAI; Moonshot; DashScope
        r"context (length|window|size|limit)|(prompt|input) is too long|too many (input )?tokens"
        r"|input token count|maximum (model|prompt|input) length|reduce the length"
        r"|exceed(s|ed)? (the )?model token limit|range of input length"
        r"|\b(prompt|input|request|messages)\b.{0,60}\bexceed(s|ed)?\b.{0,60}\btokens\b",
    ),
    (
        UNKNOWN_MODEL,
        # OpenAI, Ollama; Gemini ("models/x is …"); Moonshot; OpenRouter; Anthropic
        r"\bmodels?[/: ]*(\S+ )?(is |was )?(not found|not exist|does ?n[o']t exist)\b"
        r"|not found the model\b|\b(unknown|no such) model\b|is not a valid model"
        r"|model identifier is invalid|no endpoints found for|: model: \S+$",
    ),
)
"""What servers say, some of them without a code."""
_QUOTED = re.compile(r"""(?<!\w)(['"`])[^'"`]*\1(?!\w)""")
"""What a message quotes, which may be the user's words."""


def reason_of_failure(status: int | None, names: list[object], message: str) -> str:
    """Return the reason of what a server reports: its status, its types and codes, its words.

    >>> reason_of_failure(400, ["context_length_exceeded"], ""), reason_of_failure(503, [], "Busy")
    ('context_length', 'server')
    """
    found = _found(_NAMES, [str(name).lower() for name in names])
    if found is None and status in (None, 400, 403, 404, 413, 422):
        found = _found(_WORDS, [_QUOTED.sub("''", message.lower())])
    if found is not None:
        return found
    if status is None:
        return _found(_NAMES_OF_STATUSES, [str(name).lower() for name in names]) or OTHER
    if status in (401, 403):
        return AUTHENTICATION
    if status == 413:
        return CONTEXT_LENGTH
    if status == 429:
        return RATE_LIMIT
    return SERVER if status >= 500 or status in (408, 409) else INVALID_REQUEST


def _found(patterns: tuple[tuple[str, str], ...], texts: list[str]) -> str | None:
    for reason, pattern in patterns:
        if any(re.search(pattern, text) for text in texts):
            return reason
    return None
