"""Options that mypy and pyright accept, and misspelt ones that both refuse; never executed."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import Any

import tenacity
from typing_extensions import assert_type

from providers_sync import (
    AI365VIP,
    Anthropic,
    Chat,
    CodeLinkAva,
    Completion,
    Failover,
    Gemini,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
    Provider,
    Retry,
    Stream,
    Timeouts,
    TypedCompletion,
    TypedStream,
    Vitalentum,
    aio,
    batch,
)
from providers_sync.options import AnthropicOptions, OpenAIOptions
from providers_sync.recording import Recorded

openai = OpenAICompatible("m", temperature=0.2, top_k=5, api_key=lambda: "key", retry=None)
preset = OpenAICompatible.preset("ollama", "qwen3", temperature=0.2, timeouts=5)
responses = OpenAIResponses("m", reasoning={"effort": "low"})
anthropic = Anthropic("m", thinking={"type": "adaptive"}, max_tokens=5)
gemini = Gemini("m", thinkingConfig={"thinkingLevel": "low"})
ollama = Ollama("m", num_ctx=8192, think="low")


def options() -> None:
    assert_type(openai.stream("Q", temperature=0, stop=["."], extra_body={"new": 1}), Stream)
    assert_type(responses.complete("Q", max_output_tokens=5, verbosity="low"), Completion)
    assert_type(openai.stream("Q", thinking_token_budget=5, top_n_sigma=1), Stream)
    assert_type(anthropic.stream("Q", top_k=5, stop_sequences=["."]), Stream)
    assert_type(anthropic.stream("Q", fallbacks="default", thread={"type": "create"}), Stream)
    assert_type(gemini.stream("Q", store=False, translationConfig={}), Stream)
    assert_type(gemini.stream("Q", topK=5, top_k=5, safetySettings=[]), Stream)
    assert_type(ollama.stream("Q", num_ctx=1, keep_alive="10m"), Stream)
    assert_type(Vitalentum().stream("Q", temperature=0), Stream)
    assert_type(CodeLinkAva().stream("Q", temperature=None), Stream)
    assert_type(AI365VIP().stream("Q", prompt="Be brief."), Stream)
    assert_type(openai.complete("Q", into=int, seed=1), TypedCompletion[int])
    openai.run("Q", tools=[print], max_rounds=3, temperature=0)
    openai.prepare("Q", system="Be brief.", into=int, continue_after_break=1, temperature=0)
    openai.prepare_run("Q", tools=[print], max_rounds=3, temperature=0)


def misspelt() -> None:
    openai.stream("Q", temprature=0.2)  # type: ignore[call-overload]
    openai.stream("Q", into=int, temprature=0.2)  # type: ignore[call-overload]
    openai.complete("Q", timeout=5)  # type: ignore[call-overload]
    openai.run("Q", tools=[print], max_round=3)  # type: ignore[call-overload]
    openai.prepare("Q", temprature=0.2)  # type: ignore[call-arg]
    openai.prepare_run("Q", tools=[print], max_round=3)  # type: ignore[call-arg]
    responses.stream("Q", max_output_token=5)  # type: ignore[call-overload]
    anthropic.stream("Q", seed=5)  # type: ignore[call-overload]
    gemini.stream("Q", topk=5)  # type: ignore[call-overload]
    ollama.stream("Q", numctx=5)  # type: ignore[call-overload]
    Vitalentum().stream("Q", max_tokens=5)  # type: ignore[call-overload]
    AI365VIP().stream("Q", propmt="Be brief.")  # type: ignore[call-overload]
    OpenAICompatible("m", temprature=0.2)  # type: ignore[call-arg]
    OpenAICompatible.preset("ollama", "m", temprature=0.2)  # type: ignore[call-arg]


def of_a_wrong_type() -> None:
    openai.stream("Q", temperature="0.2")  # type: ignore[call-overload]
    openai.stream("Q", timeouts="5")  # type: ignore[call-overload]
    openai.stream("Q", retry="3")  # type: ignore[call-overload]
    openai.stream("Q", system=5)  # type: ignore[call-overload]
    openai.stream("Q", extra_body=[1])  # type: ignore[call-overload]
    OpenAICompatible("m", base_url=5)  # type: ignore[arg-type]


def of_dicts(more: dict[str, Any]) -> None:
    given: OpenAIOptions = {"temperature": 0.2, "max_tokens": 500}
    assert_type(openai.stream("Q", **given), Stream)
    own: AnthropicOptions = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    anthropic.complete("Q", **own)
    openai.stream("Q", **more)
    OpenAICompatible("m", **more)


class Own(Provider):
    """A provider of a user's own, whose options no type lists."""


def of_any_provider(provider: Provider) -> None:
    for each in (provider, Own(flavour="x"), Failover([openai]), Recorded(openai, "a.jsonl")):
        assert_type(each.stream("Q", flavour="x", timeouts=5, system="Be brief."), Stream)
        assert_type(each.stream("Q", into=int, flavour="x"), TypedStream[int])
        assert_type(each.complete("Q", flavour="x"), Completion)
        each.run("Q", tools=[print], flavour="x", max_rounds=3)
        each.prepare("Q", flavour="x")
    Chat(openai, flavour="x").send("Q", flavour="x")
    aio.stream(openai, "Q", flavour="x")
    batch.map(openai, ["Q"])


def ask(question: str, retry: Retry = 3, timeouts: Timeouts | None = None) -> str:
    return openai.complete(question, retry=retry, timeouts=timeouts).text


ask("Q", retry=tenacity.Retrying(stop=tenacity.stop_after_attempt(2)))
ask("Q", retry="often")  # type: ignore[arg-type]
