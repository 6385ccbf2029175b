"""The options of each protocol: their types, hints for misspelt ones, and ``extra_body=``."""

from __future__ import annotations

import asyncio
import inspect
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic.types.message_create_params as anthropic_params
import ollama
import openai.types.chat.completion_create_params as openai_params
import openai.types.responses.response_create_params as responses_params
import pytest
from google.genai import types as google_types

from providers_sync import (
    AI365VIP,
    Anthropic,
    APIStatusError,
    Chat,
    CodeLinkAva,
    Failover,
    Gemini,
    InvalidRequestError,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
    Provider,
    Vitalentum,
    aio,
    batch,
    options,
)
from providers_sync.cli import main
from providers_sync.encoding import anthropic as anthropic_encoding
from providers_sync.encoding import gemini_options
from providers_sync.encoding import ollama as ollama_encoding
from providers_sync.encoding import responses as responses_encoding
from providers_sync.option_hints import hint, similar_option
from providers_sync.providers import keywords
from providers_sync.testing import Server, answer, reset, serve, status, text, tool_call

KINDS: list[Any] = [OpenAICompatible, OpenAIResponses, Anthropic, Gemini, Ollama]
HISTORICAL: list[Any] = [Vitalentum, CodeLinkAva, AI365VIP]
SAMPLES = {"float": 0.5, "int": 3, "bool": True, "str": "low", "Texts": ["."], "Literal[1]": 1}
SAMPLES |= {"JSONObject": {}, "Any": {}, "Mapping[str, str]": {"a": "b"}}
SPECIAL: dict[str, Any] = {
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}},
    "top_logprobs": 3,
    "max_tokens": 3,
    "thinkingConfig": {"includeThoughts": True},
}
HINT = "'temprature' is not an option of {}: did you mean 'temperature'?"
OPENAI_HINT = HINT.format("OpenAI's chat completions")


def keys(kind: type[Any]) -> set[str]:
    """Return the names in a ``TypedDict``."""
    return set(kind.__required_keys__ | kind.__optional_keys__)


def weather(city: str) -> str:
    return city


def options_of(kind: type[Provider]) -> type[Any]:
    found: type[Any] = getattr(options, kind.options_type)
    return found


@pytest.fixture
def server() -> Iterator[Server]:
    with serve("Yes.") as running:
        yield running


# --- one definition


def typed(function: Callable[..., Any], *but: str) -> dict[str, str]:
    """Return the keyword arguments of a function with their types, as a caller gives them."""
    return {
        name: str(parameter.annotation).replace(" | NotGiven", "")
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in but
    }


def annotated(kind: type[Any]) -> dict[str, str]:
    """Return the names and types in a ``TypedDict``."""
    return {
        name: value.__forward_arg__ if hasattr(value, "__forward_arg__") else str(value)
        for name, value in kind.__annotations__.items()
    }


def test_type_checkers_see_the_keywords_that_calls_take() -> None:
    """Names and types; ``into`` and ``tools`` are in the overloads."""
    assert annotated(keywords.CallKeywords) == typed(Provider.stream, "into")
    assert annotated(keywords.AnyRun) == {
        **typed(Provider.run, "into", "tools"),
        "continue_after_break": "int",
    }
    in_options = {"system": "SystemPrompt | None", "extra_body": "Mapping[str, Any] | None"}
    assert annotated(keywords.Settings) == {**typed(Provider.__init__), **in_options}


def test_signature_of_a_preset_shows_the_settings() -> None:
    """Those of the constructor, and options."""
    shown = inspect.signature(OpenAICompatible.preset).parameters
    assert {"base_url", "api_key", "timeouts", "defaults"} <= shown.keys()
    assert "settings" not in shown


@pytest.mark.parametrize("name", ["stream", "complete", "prepare"])
def test_signature_shows_the_keywords_with_their_defaults(name: str) -> None:
    """As a reader of ``help()`` and of Jupyter's tooltips sees it."""
    shown = inspect.signature(getattr(OpenAICompatible, name))
    assert list(shown.parameters)[:3] == ["self", "messages", "model"]
    assert shown.parameters["system"].default is None
    assert "timeouts: 'Timeouts | float | NotGiven | None' = NOT_GIVEN" in str(shown)
    assert list(shown.parameters)[-1] == "options"
    assert "call" not in shown.parameters


def test_signature_of_run_shows_its_keywords() -> None:
    """Those of tools, and those of any call."""
    shown = inspect.signature(Anthropic.run).parameters
    assert shown["max_rounds"].default == 10
    assert {"tools", "approve", "into", "system", "cancel", "options"} <= shown.keys()
    assert "continue_after_break" not in shown


# --- the lists are true


def sample(kind: type[Any], name: str) -> Any:
    """Return a value of an option's type."""
    annotation = annotated(kind)[name].partition(" | ")[0]
    return SPECIAL.get(name, SAMPLES.get(annotation, []))


@pytest.mark.parametrize("kind", [*KINDS, *HISTORICAL])
def test_each_listed_option_is_taken(kind: type[Provider], server: Server) -> None:
    """It goes into the body, and nothing of it is an error."""
    provider = kind(None if kind.default_model else "m", base_url=server.url)
    for name in sorted(keys(options_of(kind)) - {"stream"}):
        beside = {"top_logprobs": {"logprobs": True}}.get(name, {})
        provider.prepare("Hi", **{name: sample(options_of(kind), name)}, **beside)


@pytest.mark.parametrize(
    ("module", "kind"),
    [
        (responses_encoding, OpenAIResponses),
        (anthropic_encoding, Anthropic),
        (gemini_options, Gemini),
        (ollama_encoding, Ollama),
    ],
)
def test_no_refused_option_is_listed(module: Any, kind: type[Provider]) -> None:
    """What a protocol cannot honour is an error for a type checker too."""
    refused = set(vars(module)["_NO_EQUIVALENT"])
    assert refused & keys(options_of(kind)) == set()
    assert refused & keys(options.OpenAIOptions)


@pytest.mark.parametrize("name", sorted(keys(options.GeminiConfig)))
def test_each_option_of_the_generation_config_is_put_there(name: str, server: Server) -> None:
    """It is a field of Google's own class too."""
    value = sample(options.GeminiConfig, name)
    Gemini("m", base_url=server.url).complete("Hi", **{name: value})
    assert server.requests[0].json()["generationConfig"] == {name: value}
    theirs = {*google_types.GenerationConfig.model_fields, "image_config"}
    assert "".join("_" * each.isupper() + each.lower() for each in name) in theirs


@pytest.mark.parametrize("name", sorted(keys(options.OllamaModelOptions)))
def test_each_option_of_ollamas_models_is_put_there(name: str, server: Server) -> None:
    """In ``options``."""
    value = sample(options.OllamaModelOptions, name)
    Ollama("m", base_url=server.url).complete("Hi", **{name: value})
    assert server.requests[0].json()["options"] == {name: value}


BETA = {"mcp_servers", "context_management", "compaction", "billing_policy", "thread", "fallbacks"}
BETA |= {"fallback_credit_token"}
"""Options of Anthropic's that need a header."""
EARLIER = {"top_k"}
"""Options of Anthropic's that the newest models do not have."""
RECENT = {"min_p", "draft_num_predict", "mirostat", "truncate", "shift", "think", "keep_alive"}


@pytest.mark.parametrize(
    ("listed", "official"),
    [
        (options.OpenAIOwnOptions, keys(openai_params.CompletionCreateParamsStreaming)),
        (options.ResponsesOptions, keys(responses_params.ResponseCreateParamsStreaming)),
        (
            options.AnthropicOptions,
            keys(anthropic_params.MessageCreateParamsStreaming) | BETA | EARLIER,
        ),
        (options.OllamaModelOptions, set(ollama.Options.model_fields) | RECENT),
    ],
)
def test_official_clients_know_the_listed_options(listed: type[Any], official: set[str]) -> None:
    """Or they are OpenAI's, which are translated."""
    assert keys(listed) - official - keys(options.OpenAIOwnOptions) == set()


# --- hints


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("temprature", "temperature"),
        ("Temperature", "temperature"),
        ("maxTokens", "max_tokens"),
        ("max_token", "max_tokens"),
        ("stops", "stop"),
        ("presence_penality", "presence_penalty"),
        ("top_n", None),
        ("flavour", None),
        ("repetition_range", None),
    ],
)
def test_only_a_similar_name_is_a_misspelt_one(name: str, meant: str | None) -> None:
    """Servers have options of their own."""
    assert similar_option(name, "OpenAIOptions") == meant


@pytest.mark.parametrize(
    "name", sorted({"into", "budget"} | keys(keywords.AnyRun) | keys(keywords.Settings))
)
def test_misspelt_keyword_is_not_sent_without_a_word(name: str) -> None:
    """Otherwise a limit, a system message or an address would silently be missing."""
    assert similar_option(name.replace("_", "").upper(), "OpenAIOptions") == name


def test_warning_names_the_keyword(server: Server) -> None:
    """As it does an option."""
    provider: Any = OpenAICompatible("m", base_url=server.url)
    for name, meant in (("timout", "timeouts"), ("sytem", "system"), ("jurnal", "journal")):
        with pytest.warns(UserWarning, match=f"'{name}' is not .* did you mean '{meant}'"):
            provider.prepare_run("Hi", tools=[weather], **{name: "x"})


@pytest.mark.parametrize("name", ["apikey", "baseurl"])
def test_misspelt_key_or_address_is_an_error(name: str) -> None:
    """The key would be sent in the body, and the question to another server."""
    with pytest.raises(InvalidRequestError, match=f"{name}= is not supported; use .* provider"):
        OpenAICompatible("m", **{name: "x"})  # type: ignore[arg-type]


OF_SERVERS = [
    "best_of",
    "data_parallel_rank",
    "guided_choice",
    "guided_json",
    "guided_regex",
    "logits_processors",
    "rid",
    "routed_experts_prompt_start",
    "watermarking",
    "regex",
    "ebnf",
    "stop_regex",
    "lora_path",
    "min_new_tokens",
    "n_cmpl",
    "n_indent",
    "t_max_predict_ms",
    "response_fields",
    "lora",
    "parse_tool_calls",
    "thinking_forced_open",
    "return_tokens",
    "reasoning_budget",
    "n_discard",
    "sse_ping_interval",
    "image_data",
    "preset",
    "stop_server_tools_when",
    "structured_outputs",
    "max_price",
    "zdr",
    "include_domains",
    "exclude_domains",
    "user_id",
    "deferred",
    "do_sample",
    "tool_stream",
    "guardrails",
    "search_mode",
    "search_recency_filter",
    "search_domain_filter",
    "disable_search",
    "return_images",
    "enable_search_classifier",
    "result_format",
    "incremental_output",
    "vl_high_resolution_images",
    "preserve_thinking",
    "context_length_exceeded_behavior",
    "prompt_truncate_len",
    "mirostat_lr",
    "mirostat_target",
    "raw_output",
    "reasoning_history",
    "safety_model",
    "compliance",
    "min_completion_tokens",
    "clear_thinking",
    "disable_reasoning",
    "safety_mode",
    "strict_tools",
    "draft_model",
    "data_sources",
    "nvext",
    "dynamic_temperature",
    "temperature_last",
    "smoothing_factor",
    "no_repeat_ngram_size",
    "penalty_alpha",
    "max_thinking_tokens",
    "min_thinking_tokens",
    "reasoning_split",
    "caching",
]
"""Real options of servers that speak OpenAI's protocol, and of gateways."""


@pytest.mark.parametrize("name", OF_SERVERS)
def test_real_option_of_a_server_is_no_misspelt_one(name: str) -> None:
    """vLLM, SGLang, llama.cpp, OpenRouter, Groq, Perplexity, DashScope, Fireworks, Cerebras, …"""
    assert hint("OpenAIOptions", [name]) == ""


@pytest.mark.parametrize(
    ("name", "kind", "meant"),
    [
        ("topP", "OpenAIOptions", "top_p"),
        ("responseFormat", "OpenAIOptions", "response_format"),
        ("max_output_tokens", "GeminiOptions", "maxOutputTokens"),
        ("stop_sequences", "GeminiOptions", "stopSequences"),
    ],
)
def test_name_in_the_case_of_another_protocol_is_a_misspelt_one(
    name: str, kind: str, meant: str
) -> None:
    """It would be sent to a place where the server does not look."""
    assert f"did you mean '{meant}'?" in hint(kind, [name])


def test_long_name_costs_nothing() -> None:
    """It may come from a browser."""
    started = time.process_time()
    assert similar_option("temperature" * 100_000, "OpenAIOptions") is None
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("kind", [*KINDS[:4], *HISTORICAL])
def test_misspelt_option_is_a_warning_at_the_line_of_the_caller(
    kind: Any, server: Server, recwarn: pytest.WarningsRecorder
) -> None:
    """In each way to make a call; the option is sent all the same."""
    warnings.simplefilter("always")
    name = None if kind.default_model else "m"
    provider = kind(name, base_url=server.url)
    lines = []

    def here() -> dict[str, Any]:
        lines.append(sys._getframe(1).f_lineno)
        return {"temprature": 0.2}

    kind(name, base_url=server.url, **here())
    provider.stream("Hi", **here()).read()
    provider.complete("Hi", **here())
    provider.prepare("Hi", **here())
    Chat(provider).send("Hi", **here()).read()
    Chat(provider, temprature=0.2).send("Hi").read()
    lines.append(sys._getframe().f_lineno - 1)
    Failover([provider]).complete("Hi", **here())
    if kind.supports_tools:
        provider.run("Hi", tools=[weather], **here()).read()
    assert [warning.lineno for warning in recwarn] == lines
    assert {warning.filename for warning in recwarn} == {__file__}
    text = str(recwarn[0].message)
    assert "'temprature' is not an option of " in text
    assert text.endswith(
        "did you mean 'temperature'? Put your server's own options into extra_body={…}"
    )
    sent = [request.body for request in server.requests]
    if kind is not Gemini:
        assert all(b'"temprature": 0.2' in body for body in sent)


def test_one_call_warns_once(server: Server, recwarn: pytest.WarningsRecorder) -> None:
    """However many requests it sends: for rounds, repairs, or the rest of a broken answer."""
    warnings.simplefilter("always")
    provider: Any = OpenAICompatible("m", base_url=server.url)
    server.play([answer(tool_call("weather", {"city": "Rome"})), answer(text("Sunny."))])
    provider.run("Hi", tools=[weather], temprature=0.2).read()
    server.play([answer(text("no number")), answer(text("3"))])
    assert provider.complete("Hi", into=int, temprature=0.2).value == 3
    server.play([answer(text("One, "), reset()), answer(text("two."))])
    provider.complete("Hi", continue_after_break=1, temprature=0.2)
    assert len(server.requests) == 6
    assert len(recwarn) == 3
    assert {warning.filename for warning in recwarn} == {__file__}


def test_warning_names_the_protocol(server: Server) -> None:
    """In the words of the issue."""
    with pytest.warns(UserWarning, match="temprature") as caught:
        OpenAICompatible("m", base_url=server.url).complete("Hi", temprature=0.2)
    assert [str(each.message) for each in caught] == [
        f"{OPENAI_HINT} Put your server's own options into extra_body={{…}}"
    ]


def test_async_and_batch_warn_too(server: Server) -> None:
    """From the thread that makes the call."""
    provider = OpenAICompatible("m", base_url=server.url)
    with pytest.warns(UserWarning, match="temprature"):
        asyncio.run(aio.complete(provider, "Hi", temprature=0.2))  # type: ignore[arg-type]
    body = {"messages": [{"role": "user", "content": "Hi"}], "temprature": 0.2}
    with pytest.warns(UserWarning, match="temprature"):
        assert [result.text for result in batch.map(provider, [{"body": body}])] == ["Yes."]


class Own(OpenAICompatible):
    """A provider whose server has options of its own."""

    options_type = ""


def test_nothing_is_said_of_other_names(server: Server) -> None:
    """Warnings are errors here."""
    provider: Any = OpenAICompatible("m", base_url=server.url)
    provider.complete("Hi", top_n=1, flavour="x", seed=1, system="a", extra_body={"temprature": 1})
    provider.complete("Hi", maxOutputTokens=1, num_ctx=5)  # other protocols have these
    provider.complete("Hi", search_options={"forced_search": True})  # of DashScope
    Anthropic("m", base_url=server.url).prepare("Hi", seed=None)  # which is almost "speed"
    own: Any = Own("m", base_url=server.url, temprature=1)
    own.complete("Hi", temprature=1)
    assert b"temprature" in server.requests[0].body


@pytest.mark.filterwarnings("ignore:'")
@pytest.mark.parametrize("code", [400, 422])
def test_refusal_of_the_server_carries_the_hint(code: int, server: Server) -> None:
    """That of the provider and that of the call; the value, which may be secret, is not shown."""
    provider: Any = OpenAICompatible("m", base_url=server.url, temprature=0.25)
    server.play(status(code))
    with pytest.raises(APIStatusError) as caught:
        provider.complete("Hi", userr="my secret")
    assert OPENAI_HINT in str(caught.value)
    assert "did you mean 'user'?" in str(caught.value)
    assert "my secret" not in str(caught.value)
    with pytest.raises(APIStatusError) as caught:
        OpenAICompatible("m", base_url=server.url).complete("Hi")
    assert "did you mean" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:'")
def test_other_refusals_carry_no_hint(server: Server) -> None:
    """A wrong key is not the fault of an option."""
    server.play(status(401))
    provider: Any = OpenAICompatible("m", base_url=server.url, retry=None)
    with pytest.raises(APIStatusError) as caught:
        provider.complete("Hi", temprature=0.2)
    assert "temprature" not in str(caught.value)


def test_ollama_names_the_option_in_its_error() -> None:
    """It refuses what it does not know; there is no warning beside the error."""
    provider: Any = Ollama("m", base_url="http://127.0.0.1:9")
    with pytest.raises(InvalidRequestError, match="did you mean 'num_ctx'"):
        provider.prepare("Hi", num_ctxx=1)


def test_command_line_prints_the_hint_as_a_line(
    server: Server, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without a file and a line of Python."""
    arguments = ["ask", "Hi", "--provider", "openai", "--model", "m", "--base-url", server.url]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main([*arguments, "-o", "temprature=0.2"]) == 0
    assert capsys.readouterr().err.startswith(f"providers-sync: {OPENAI_HINT}")


# --- extra_body=


@pytest.mark.parametrize("name", ["stream", "messages", "input", "contents"])
def test_extra_body_cannot_replace_what_an_answer_depends_on(name: str, server: Server) -> None:
    """Neither that of the provider nor that of a call."""
    with pytest.raises(InvalidRequestError, match=f"extra_body cannot replace '{name}'"):
        OpenAICompatible("m", base_url=server.url, extra_body={name: 1})
    with pytest.raises(InvalidRequestError, match=f"extra_body cannot replace '{name}'"):
        OpenAICompatible("m", base_url=server.url).stream("Hi", extra_body={name: None})
    assert server.requests == []
