"""The options of each protocol, as ``TypedDict``\\ s, for annotations and for type checkers.

::

    from providers_sync.options import OpenAIOptions

    options: OpenAIOptions = {"temperature": 0.2, "max_tokens": 500}
    provider.stream("Hello", **options)

``None`` removes an option that the provider was created with. Other options of your own server go
into ``extra_body={…}``.

Sources: the API references of OpenAI ("Create chat completion", "Create a model response"),
Anthropic ("Messages"), Google ("GenerateContent", "GenerationConfig") and Ollama ("Generate a chat
completion"; Modelfile, "Valid parameters and values"); vLLM, "OpenAI-Compatible Server", extra
parameters; llama.cpp, ``tools/server/README.md``; OpenRouter, "API Parameters"; Groq and Cerebras,
"Chat completions".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Union

Texts = Union[str, Sequence[str]]
JSONObject = Mapping[str, Any]


class PortableOptions(TypedDict, total=False):
    """Options in OpenAI's form that every protocol takes, but for the three historical ones."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    max_completion_tokens: int | None
    tools: Sequence[Any] | None
    """Schemas as dicts, in OpenAI's form or the protocol's own; functions for ``run``."""
    tool_choice: str | JSONObject | None
    parallel_tool_calls: bool | None
    """``False`` is refused by Gemini and Ollama."""
    response_format: JSONObject | None
    n: Literal[1] | None
    stream_options: JSONObject | None


class OpenAIOwnOptions(PortableOptions, total=False):
    """What OpenAI's chat completions have."""

    audio: JSONObject | None
    frequency_penalty: float | None
    function_call: str | JSONObject | None
    functions: Sequence[JSONObject] | None
    logit_bias: Mapping[str, float] | None
    logprobs: bool | None
    metadata: Mapping[str, str] | None
    modalities: Sequence[str] | None
    moderation: JSONObject | None
    prediction: JSONObject | None
    presence_penalty: float | None
    prompt_cache_key: str | None
    prompt_cache_options: JSONObject | None
    prompt_cache_retention: str | None
    reasoning_effort: str | None
    safety_identifier: str | None
    seed: int | None
    service_tier: str | None
    stop: Texts | None
    store: bool | None
    stream: bool | None
    top_logprobs: int | None
    user: str | None
    verbosity: str | None
    web_search_options: JSONObject | None


class ServerOptions(TypedDict, total=False):
    """What servers that speak OpenAI's protocol commonly add to it."""

    # vLLM, SGLang, llama.cpp, LM Studio, OpenRouter
    top_k: int | None
    top_a: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    repeat_penalty: float | None
    repeat_last_n: int | None
    min_tokens: int | None
    ignore_eos: bool | None
    stop_token_ids: Sequence[int] | None
    bad_words: Sequence[str] | None
    skip_special_tokens: bool | None
    structured_outputs: JSONObject | None
    chat_template_kwargs: JSONObject | None
    add_generation_prompt: bool | None
    continue_final_message: bool | None
    priority: int | None
    # vLLM
    add_special_tokens: bool | None
    allowed_token_ids: Sequence[int] | None
    cache_salt: str | None
    chat_template: str | None
    documents: Sequence[JSONObject] | None
    echo: bool | None
    include_stop_str_in_output: bool | None
    kv_transfer_params: JSONObject | None
    length_penalty: float | None
    logprob_token_ids: Sequence[int] | None
    media_io_kwargs: JSONObject | None
    mm_processor_kwargs: JSONObject | None
    prompt_logprobs: int | None
    repetition_detection: JSONObject | None
    request_id: str | None
    return_token_ids: bool | None
    return_tokens_as_token_ids: bool | None
    spaces_between_special_tokens: bool | None
    stream_interval: int | None
    thinking_token_budget: int | None
    truncate_prompt_tokens: int | None
    truncation_side: str | None
    use_beam_search: bool | None
    vllm_xargs: JSONObject | None
    # llama.cpp
    n_predict: int | None
    grammar: str | None
    json_schema: JSONObject | None
    cache_prompt: bool | None
    id_slot: int | None
    samplers: Sequence[str] | None
    dry_multiplier: float | None
    dry_base: float | None
    dry_allowed_length: int | None
    dry_penalty_last_n: int | None
    dry_sequence_breakers: Sequence[str] | None
    dynatemp_range: float | None
    dynatemp_exponent: float | None
    mirostat: int | None
    mirostat_tau: float | None
    mirostat_eta: float | None
    min_keep: int | None
    n_keep: int | None
    n_probs: int | None
    post_sampling_probs: bool | None
    return_progress: bool | None
    return_tokens: bool | None
    timings_per_token: bool | None
    top_n_sigma: float | None
    xtc_probability: float | None
    xtc_threshold: float | None
    reasoning_format: str | None
    # OpenRouter, Groq, DeepSeek, Qwen, Mistral, xAI, LM Studio, Cerebras, Fireworks
    citation_options: str | None
    compound_custom: JSONObject | None
    debug: JSONObject | None
    disable_tool_validation: bool | None
    image_config: JSONObject | None
    min_completion_tokens: int | None
    mirostat_lr: float | None
    mirostat_target: float | None
    prompt_mode: str | None
    route: str | None
    search_settings: JSONObject | None
    trace: JSONObject | None
    models: Sequence[str] | None
    provider: JSONObject | None
    plugins: Sequence[JSONObject] | None
    transforms: Sequence[str] | None
    reasoning: JSONObject | None
    include_reasoning: bool | None
    usage: JSONObject | None
    session_id: str | None
    cache_control: JSONObject | None
    thinking: JSONObject | None
    enable_thinking: bool | None
    thinking_budget: int | None
    enable_search: bool | None
    search_options: JSONObject | None
    search_parameters: JSONObject | None
    safe_prompt: bool | None
    random_seed: int | None
    ttl: int | None


class OpenAIOptions(OpenAIOwnOptions, ServerOptions, total=False):
    """Options of ``OpenAICompatible``."""


class ResponsesOptions(PortableOptions, total=False):
    """Options of ``OpenAIResponses``."""

    access_programs: JSONObject | None
    background: bool | None
    background_options: JSONObject | None
    context_management: Sequence[JSONObject] | None
    conversation: str | JSONObject | None
    image: JSONObject | None
    include: Sequence[str] | None
    instructions: str | None
    logprobs: bool | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: Mapping[str, str] | None
    moderation: JSONObject | None
    previous_response_id: str | None
    prompt: JSONObject | None
    prompt_cache_key: str | None
    prompt_cache_options: JSONObject | None
    prompt_cache_retention: str | None
    reasoning: JSONObject | None
    reasoning_effort: str | None
    safety_identifier: str | None
    service_tier: str | None
    store: bool | None
    stream: bool | None
    text: JSONObject | None
    top_logprobs: int | None
    truncation: str | None
    user: str | None
    verbosity: str | None


class AnthropicOptions(PortableOptions, total=False):
    """Options of ``Anthropic``."""

    billing_policy: JSONObject | None
    cache_control: JSONObject | None
    compaction: JSONObject | None
    container: str | JSONObject | None
    context_management: JSONObject | None
    diagnostics: JSONObject | None
    fallback_credit_token: str | JSONObject | None
    fallbacks: str | Sequence[JSONObject] | None
    inference_geo: str | None
    mcp_servers: Sequence[JSONObject] | None
    metadata: JSONObject | None
    output_config: JSONObject | None
    service_tier: str | None
    speed: str | None
    stop: Texts | None
    stop_sequences: Sequence[str] | None
    stream: bool | None
    thinking: JSONObject | None
    thread: JSONObject | None
    top_k: int | None


class GeminiConfig(TypedDict, total=False):
    """What ``generationConfig`` of Gemini's protocol has, apart from ``temperature``."""

    audioTimestamp: bool | None
    audioTranscriptionConfig: JSONObject | None
    candidateCount: int | None
    enableAffectiveDialog: bool | None
    enableEnhancedCivicAnswers: bool | None
    frequencyPenalty: float | None
    imageConfig: JSONObject | None
    maxOutputTokens: int | None
    mediaResolution: str | None
    modelSelectionConfig: JSONObject | None
    presencePenalty: float | None
    responseFormat: Sequence[JSONObject] | None
    responseJsonSchema: Any
    responseLogprobs: bool | None
    responseMimeType: str | None
    responseModalities: Sequence[str] | None
    responseSchema: JSONObject | None
    routingConfig: JSONObject | None
    seed: int | None
    speechConfig: JSONObject | None
    stopSequences: Sequence[str] | None
    thinkingConfig: JSONObject | None
    topK: int | None
    topP: float | None
    translationConfig: JSONObject | None


class GeminiOptions(PortableOptions, GeminiConfig, total=False):
    """Options of ``Gemini``."""

    frequency_penalty: float | None
    logprobs: bool | None
    presence_penalty: float | None
    reasoning_effort: str | None
    stop: Texts | None
    top_k: int | None
    top_logprobs: int | None
    cachedContent: str | None
    continuationToken: str | None
    generationConfig: JSONObject | None
    labels: Mapping[str, str] | None
    modelArmorConfig: JSONObject | None
    safetySettings: Sequence[JSONObject] | None
    serviceTier: str | None
    store: bool | None
    """Whether Google keeps the request in the logs of the project."""
    systemInstruction: JSONObject | None
    toolConfig: JSONObject | None


class OllamaFields(TypedDict, total=False):
    """What stands beside the messages in Ollama's protocol."""

    think: bool | str | None
    keep_alive: str | float | None
    format: str | JSONObject | None
    logprobs: bool | None
    top_logprobs: int | None
    truncate: bool | None
    shift: bool | None


class OllamaModelOptions(TypedDict, total=False):
    """What stands in ``options`` of Ollama's protocol, apart from ``temperature`` and ``top_p``."""

    top_k: int | None
    min_p: float | None
    typical_p: float | None
    tfs_z: float | None
    seed: int | None
    num_predict: int | None
    num_ctx: int | None
    num_keep: int | None
    num_batch: int | None
    num_gpu: int | None
    main_gpu: int | None
    num_thread: int | None
    low_vram: bool | None
    numa: bool | None
    use_mmap: bool | None
    use_mlock: bool | None
    vocab_only: bool | None
    stop: Texts | None
    repeat_last_n: int | None
    repeat_penalty: float | None
    presence_penalty: float | None
    frequency_penalty: float | None
    penalize_newline: bool | None
    mirostat: int | None
    mirostat_eta: float | None
    mirostat_tau: float | None
    draft_num_predict: int | None


class OllamaOptions(PortableOptions, OllamaFields, OllamaModelOptions, total=False):
    """Options of ``Ollama``."""

    options: JSONObject | None
    reasoning_effort: str | None
    stream: bool | None


class HistoricalOptions(TypedDict, total=False):
    """Options of ``Vitalentum`` and ``CodeLinkAva``."""

    temperature: float | None


class AI365VIPOptions(HistoricalOptions, total=False):
    """Options of ``AI365VIP``."""

    prompt: str | None
    """The system message of the site."""
    key: str | None
    """A key for OpenAI's API, which the site passed on."""
