"""What answers cost: per protocol, in sums, and where the price or the counts are not known."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any

import genai_prices.data_snapshot
import pytest
import time_machine
from genai_prices.types import (
    ClauseStartsWith,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
)
from genai_prices.types import Provider as Vendor
from typing_extensions import TypedDict

from providers_sync import (
    Anthropic,
    Chat,
    Failover,
    Gemini,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
    Provider,
    StreamCut,
    aio,
)
from providers_sync.prices import OTHERS, REASONS, Cost, cost_of
from providers_sync.request_usage import RequestUsage
from providers_sync.testing import (
    ScriptedProvider,
    answer,
    cut,
    event,
    finish,
    serve,
    status,
    text,
    tool_call,
    usage,
)
from providers_sync.types import Usage

PRICES = {
    "input_mtok": Decimal(1),
    "output_mtok": Decimal(10),
    "cache_read_mtok": Decimal("0.1"),
    "cache_write_mtok": Decimal("1.25"),
    "cache_write_1h_mtok": Decimal(2),
    "web_searches_kcount": Decimal(10),
}
"""Dollars for a million tokens, or a thousand searches; each differs from the others."""
SOUND = {
    "input_mtok": Decimal(1),
    "output_mtok": Decimal(10),
    "cache_read_mtok": Decimal("0.1"),
    "input_audio_mtok": Decimal(5),
    "cache_audio_read_mtok": Decimal("0.5"),
}
NOW = datetime(2026, 11, 29, tzinfo=timezone.utc)
URL = "http://127.0.0.1:1/v1"


def model(name: str, prices: Any) -> ModelInfo:
    return ModelInfo(name, ClauseStartsWith(name), prices=prices)


@pytest.fixture(autouse=True)
def _table() -> Iterator[None]:
    """Let a table of our own hold the prices: those of the package change with its releases."""
    later = ConditionalPrice(
        StartDateConstraint(date(2026, 6, 1)),
        prices=ModelPrice(input_mtok=Decimal(7), output_mtok=Decimal(7)),
    )
    models = [
        model("test-model", ModelPrice(**PRICES)),
        model("dated", [ConditionalPrice(prices=ModelPrice(**PRICES)), later]),
        model("sound", ModelPrice(**SOUND)),
        model("embedding", ModelPrice(input_mtok=Decimal(1))),
    ]
    vendor = Vendor(
        "vendor", "Vendor", r"http://127\.0\.0\.1|https://vendor\.example", models=models
    )
    snapshot = genai_prices.data_snapshot.DataSnapshot([vendor], from_auto_update=False)
    genai_prices.data_snapshot.set_custom_snapshot(snapshot)
    yield
    genai_prices.data_snapshot.set_custom_snapshot(None)


def vendor(*script: Any, name: str = "test-model", **settings: Any) -> ScriptedProvider:
    """Return a provider of a vendor that has prices."""
    like = OpenAICompatible(name, base_url="https://vendor.example/v1", **settings)
    return ScriptedProvider([list(each) for each in script], like=like)


def used(counts: Any = None, **request: Any) -> Cost:
    """Return the cost of one request."""
    given = {"url": URL, "at": NOW.timestamp(), "model": "test-model", "usage": counts}
    return cost_of([RequestUsage(**{"is_final": True, **given, **request})])


# --- what the counts of each protocol mean


def chunk(delta: dict[str, Any], **more: Any) -> Any:
    return event({"model": "test-model", "choices": [{"index": 0, "delta": delta}], **more})


OPENAI_COUNTS = {
    "prompt_tokens": 1000,
    "completion_tokens": 100,
    "prompt_tokens_details": {"cached_tokens": 200, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 60},
}
ANTHROPIC_START = {
    "input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 500,
    "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 200},
    "output_tokens": 1,
    "service_tier": "standard",
}
ANTHROPIC_END = {"output_tokens": 100, "server_tool_use": {"web_search_requests": 2}}
GEMINI_COUNTS = {
    "promptTokenCount": 1000,
    "cachedContentTokenCount": 200,
    "promptTokensDetails": [
        {"modality": "TEXT", "tokenCount": 950},
        {"modality": "AUDIO", "tokenCount": 50},
    ],
    "cacheTokensDetails": [
        {"modality": "TEXT", "tokenCount": 190},
        {"modality": "AUDIO", "tokenCount": 10},
    ],
    "candidatesTokenCount": 40,
    "thoughtsTokenCount": 60,
    "toolUsePromptTokenCount": 30,
    "totalTokenCount": 1130,
}
RESPONSES_COUNTS = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 200},
    "output_tokens": 100,
    "output_tokens_details": {"reasoning_tokens": 60},
    "total_tokens": 1100,
}
RESPONSE = {"id": "r", "model": "test-model", "status": "completed", "output": []}
CASES: dict[str, tuple[type[Provider], list[Any], int]] = {
    # In millionths of a dollar: 800 tokens, 200 cached, 100 of output.
    "openai": (
        OpenAICompatible,
        [chunk({"content": "Hi"}), finish(), event({"choices": [], "usage": OPENAI_COUNTS})],
        800 + 20 + 1000,
    ),
    # 100 tokens, 1000 cached, 300 and 200 written, 100 of output, 2 searches.
    "anthropic": (
        Anthropic,
        [
            event({"type": "message_start", "message": {"model": "test-model", "content": [],
                   "role": "assistant", "usage": ANTHROPIC_START}}),
            event({"type": "content_block_start", "index": 0,
                   "content_block": {"type": "text", "text": ""}}),
            event({"type": "content_block_delta", "index": 0,
                   "delta": {"type": "text_delta", "text": "Hi"}}),
            event({"type": "content_block_stop", "index": 0}),
            event({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                   "usage": ANTHROPIC_END}),
            event({"type": "message_stop"}),
        ],
        100 + 100 + 375 + 400 + 1000 + 20_000,
    ),
    # 760 tokens and 30 of its tools, 190 cached, 40 of sound, 10 of sound cached, 100 of output.
    "gemini": (
        Gemini,
        [event({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]},
                "finishReason": "STOP"}], "usageMetadata": GEMINI_COUNTS,
                "modelVersion": "sound-1"})],
        790 + 19 + 200 + 5 + 1000,
    ),
    "responses": (
        OpenAIResponses,
        [
            event({"type": "response.output_text.delta", "item_id": "m", "output_index": 0,
                   "content_index": 0, "delta": "Hi"}),
            event({"type": "response.completed",
                   "response": {**RESPONSE, "usage": RESPONSES_COUNTS}}),
        ],
        800 + 20 + 1000,
    ),
    "ollama": (
        Ollama,
        [event({"model": "test-model", "message": {"role": "assistant", "content": "Hi"},
                "done": True, "done_reason": "stop", "prompt_eval_count": 1000,
                "eval_count": 100})],
        1000 + 1000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cost_counts_cache_reasoning_and_sound_as_each_protocol_means_them(name: str) -> None:
    """Cached tokens are part of our input, reasoning of our output: each is paid once."""
    kind, script, millionths = CASES[name]
    with serve(answer(*script, end=False)) as server:
        completion = kind("asked", base_url=server.url, api_key="k").complete("Hi")
    assert (completion.text, completion.is_whole) == ("Hi", True)
    assert completion.cost == Cost(Decimal(millionths) / 1_000_000)
    assert completion.cost.usd == completion.cost.known_usd


def test_reasoning_that_xai_counts_beside_the_output_is_paid() -> None:
    """It is a part of the total only. Of OpenAI's counts it is a part of the output, too."""
    beside = {"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135}
    within = {"prompt_tokens": 32, "completion_tokens": 103, "total_tokens": 135}
    details = {"completion_tokens_details": {"reasoning_tokens": 94}}
    for counts in (beside, within):
        end = event({"choices": [], "usage": {**counts, **details}})
        with serve(answer(chunk({"content": "Hi"}), finish(), end)) as server:
            completion = OpenAICompatible("m", base_url=server.url).complete("Hi")
        assert completion.usage is not None
        assert completion.usage.output_tokens == 103
        assert completion.usage.total_tokens == 135
        assert completion.cost.usd == Decimal(32 + 1030) / 1_000_000


def test_sound_that_openai_counts_has_its_own_price() -> None:
    """If some of the input was cached, nobody knows how much of that was sound."""
    details = {"audio_tokens": 50}
    counts = Usage(1000, 0, raw={"prompt_tokens_details": details})
    assert used(counts, model="sound").usd == Decimal("0.0012")
    assert used(replace(counts, cached_tokens=200), model="sound").usd is None


def test_price_is_that_of_the_model_that_answered_and_of_the_day() -> None:
    """The model that the server names wins over the requested one; later prices hold later."""
    million = Usage(1_000_000, 0)
    before = datetime(2026, 5, 31, 23, 59, tzinfo=timezone.utc)
    assert used(million, model="dated", at=before.timestamp()).usd == 1
    assert used(million, model="dated", at=NOW.timestamp()).usd == 7
    script = [text("Hi"), usage(1_000_000, 0)]
    with time_machine.travel(before, tick=False):
        assert vendor(script, name="dated").complete("Hi").cost.usd == 1
    named = [event({"model": "dated-2", "choices": [{"index": 0, "delta": {"content": "Hi"}}]})]
    assert vendor([*named, usage(1_000_000, 0)]).complete("Hi").cost.usd == 7


def test_prices_of_the_package_are_found_by_the_address_that_was_asked() -> None:
    """The vendors' own hosts have prices; with the package's own table."""
    genai_prices.data_snapshot.set_custom_snapshot(None)
    asked: list[Provider] = [
        OpenAICompatible("gpt-5-mini", api_key="k"),
        OpenAIResponses("gpt-5-mini", api_key="k"),
        Anthropic("claude-sonnet-4-5", api_key="k"),
        OpenAICompatible.preset("groq", "openai/gpt-oss-120b", api_key="k"),
        OpenAICompatible.preset("openrouter", "openai/gpt-5-mini", api_key="k"),
    ]
    for like in asked:
        provider = ScriptedProvider([text("Hi"), usage(1000, 100)], like=like)
        sent = next(iter(provider.complete("Hi").requests))
        cost = used(Usage(1000, 100), url=sent.url, model=like.model)
        assert (cost.usd or 0) > 0, (like, cost)
    assert used(Usage(1, 1), url="https://api.openai.com/v1", model="gpt-none").usd is None


# --- sums


def test_run_costs_what_its_rounds_cost() -> None:
    """Each round has its own cost; the run sums them, also while it is running."""
    provider = vendor(
        [tool_call("weather", {"city": "Oslo"}), usage(1000, 10)], [text("Rain"), usage(2000, 20)]
    )

    def weather(city: str) -> str:
        """The weather in a city."""
        between.append(run.cost)
        return "rain"

    between: list[Cost] = []
    run = provider.run("Hi", tools=[weather])
    run.read()
    assert [each.cost.usd for each in run.rounds] == [Decimal("0.0011"), Decimal("0.0022")]
    assert run.cost.usd == run.completion().cost.usd == Decimal("0.0033")
    assert [each.usd for each in between] == [Decimal("0.0011")]


class Dish(TypedDict):
    name: str


def test_typed_answer_that_was_asked_again_costs_both() -> None:
    """The answer that did not validate was paid, too."""
    provider = vendor([text("{}"), usage(1000, 0)], [text('{"name": "Soup"}'), usage(500, 0)])
    completion = provider.complete("Hi", into=Dish)
    assert completion.value == {"name": "Soup"}
    assert completion.cost.usd == Decimal("0.0015")
    assert len(completion.requests) == 2


def test_completion_with_its_requests_can_be_written_as_json() -> None:
    completion = vendor([text("A"), usage(1000, 0)]).complete("Hi")
    written = json.loads(json.dumps(asdict(completion)))
    assert [each["usage"]["input_tokens"] for each in written["requests"]] == [1000]


def test_name_of_megabytes_is_not_looked_up() -> None:
    """It would be compared with many patterns of the package's own table, for 16 seconds."""
    genai_prices.data_snapshot.set_custom_snapshot(None)
    began = time.process_time()
    cost = used(Usage(1, 1), model="x" * 10_000_000, url="https://openrouter.ai/api/v1")
    assert time.process_time() - began < 1
    assert cost.unknown == (f"no price is known for '{'x' * 80}' at openrouter.ai",)


def test_completion_without_requests_has_no_known_cost() -> None:
    completion = vendor([text("A"), usage(1000, 0)]).complete("Hi")
    cost = replace(completion, requests=()).cost
    assert (cost.usd, cost.unknown) == (None, ("the requests behind an answer are not known",))


def test_chat_and_provider_that_an_earlier_version_has_pickled_can_go_on() -> None:
    """They have no ``_requests`` and no ``_hint``, which this version added."""
    with serve(answer("A")) as server:
        chat = pickle.loads(pickle.dumps(Chat(OpenAICompatible("m", base_url=server.url))))
        vars(chat).pop("_requests", None)
        vars(chat.provider).pop("_hint")
        assert chat.cost == Cost()
        assert chat.send("Hi").read() == "A"
    assert chat.cost.unknown == ("127.0.0.1 did not report the tokens of 'test-model'",)


def test_chat_sums_its_answers_and_keeps_them_when_pickled() -> None:
    """Failed answers count with what is known of them."""
    chat = Chat(vendor([text("A"), usage(1000, 0)], [text("B"), usage(500, 0)], retry=1))
    assert chat.cost == Cost()
    chat.send("Hi").read()
    chat.send("And?").read()
    assert chat.cost.usd == Decimal("0.0015")
    chat.provider = vendor([text("C"), cut()], retry=1)
    with pytest.raises(StreamCut):
        chat.send("Go on").read()
    assert pickle.loads(pickle.dumps(vars(chat)["_requests"])) == vars(chat)["_requests"]
    assert chat.cost.usd is None
    assert chat.cost.known_usd == Decimal("0.0015")
    assert str(chat.cost) == ("at least $0.0015: an answer of 'test-model' is not finished")


def test_parts_of_a_continued_answer_are_all_named() -> None:
    """What came before a break was paid, but nobody has counted it."""
    provider = vendor([text("One two three"), cut()], [text(" four"), usage(500, 0)], retry=1)
    completion = provider.complete("Hi", continue_after_break=1)
    assert completion.text == "One two three four"
    assert completion.cost.known_usd == Decimal("0.0005")
    assert completion.cost.unknown == ("an answer of 'test-model' is not finished",)


def test_failover_costs_what_the_provider_costs_that_answered() -> None:
    """A server that refused has no part in it."""
    with serve(status(429)) as bad:
        first = OpenAICompatible("other", base_url=bad.url, retry=1)
        failover = Failover([first, vendor([text("Hi"), usage(1000, 0)])])
        completion = failover.complete("Hi")
        first.close()
    assert completion.cost.usd == Decimal("0.001")
    assert len(completion.requests) == 1


def test_part_of_another_provider_has_the_name_of_its_own_model() -> None:
    """Where the server names none, it is the one that was asked for."""
    said = event({"choices": [{"index": 0, "delta": {"content": "One two three"}}]})
    more = event({"choices": [{"index": 0, "delta": {"content": " four"}}]})
    first, second = vendor([said, cut()], name="x"), vendor([more, usage(1000, 0)], name="dated")
    failover = Failover([first, second], continue_after_break=1)
    completion = failover.complete("Hi")
    assert completion.text == "One two three four"
    assert completion.cost.unknown == ("an answer of 'x' is not finished",)
    assert [each.model for each in completion.requests] == ["x", "test-model"]  # the end names it


def test_retried_request_is_counted_once() -> None:
    """An attempt that the server has refused costs nothing."""
    with serve([status(503, headers={"Retry-After": "0"}), ["Hi", usage(1000, 0)]]) as server:
        completion = OpenAICompatible("test-model", base_url=server.url).complete("Hi")
    assert completion.stats.attempts == 2
    assert completion.cost.usd == Decimal("0.001")


def test_async_stream_has_a_cost() -> None:
    """As soon as it is open."""

    async def main() -> None:
        stream = aio.stream(vendor([text("Hi"), usage(1000, 0)]), "Hi")
        assert stream.cost is None
        assert "".join([each async for each in stream]) == "Hi"
        assert stream.cost == Cost(Decimal("0.001"))

    asyncio.run(main())


def test_costs_add_up_exactly_and_name_each_reason_once() -> None:
    """Also with ``sum()``; a server that names a new model each time fills no memory."""
    tenth = Cost(Decimal("0.1"))
    assert sum([tenth] * 3) == Cost(Decimal("0.3"))
    unknown = Cost(unknown=("no price",))
    total = sum([unknown, tenth, unknown], Cost())
    assert (total.usd, total.known_usd, total.unknown) == (None, Decimal("0.1"), ("no price",))
    many = sum((Cost(unknown=(f"reason {number}",)) for number in range(1000)), Cost())
    assert len(many.unknown) == REASONS + 1
    assert many.unknown[-1] == OTHERS
    with pytest.raises(TypeError):
        tenth + 1  # type: ignore[operator]


# --- what is not known


def test_cost_before_the_end_says_what_is_missing() -> None:
    """It is never less than it looks: the rest is named."""
    with vendor([text("Hi"), text("!"), usage(1000, 0)]).stream("Hi") as stream:
        next(stream)
        assert str(stream.cost) == "unknown: an answer of 'test-model' is not finished"
        stream.read()
    assert stream.cost.usd == Decimal("0.001")


def test_cut_answer_has_the_cost_of_the_counts_so_far() -> None:
    """Anthropic counts the input first: that part is known."""
    start = CASES["anthropic"][1][:3]
    with serve(answer(*start, cut())) as server:
        provider = Anthropic("test-model", base_url=server.url, api_key="k", retry=1)
        stream = provider.stream("Hi")
        with pytest.raises(StreamCut):
            stream.read()
    assert stream.cost.usd is None
    assert stream.cost.known_usd == Decimal(100 + 100 + 375 + 400 + 10) / 1_000_000


@pytest.mark.parametrize(
    ("counts", "request_", "reason"),
    [
        (None, {}, "127.0.0.1 did not report the tokens of 'test-model'"),
        (Usage(5, None), {}, "127.0.0.1 did not report the tokens of 'test-model'"),
        (Usage(None, 5), {}, "127.0.0.1 did not report the tokens of 'test-model'"),
        (Usage(5, 5), {"model": "qwen3"}, "no price is known for 'qwen3' at 127.0.0.1"),
        (Usage(5, 5), {"model": None}, "no price is known for '' at 127.0.0.1"),
        (Usage(5, 5), {"model": "embedding"}, "no price is known for 'embedding' at 127.0.0.1"),
        (Usage(5, 5), {"url": "http://[::1]:8/v1"}, "no price is known for 'test-model' at ::1"),
        *(
            (counts, {}, "the token counts of 'test-model' contradict each other")
            for counts in (Usage(5, 5, cached_tokens=9), Usage(5, 5, reasoning_tokens=9))
        ),
        (
            Usage(5, 5),
            {"surcharge": "service_tier='flex'"},
            "no price is known for 'test-model' at 127.0.0.1 with service_tier='flex'",
        ),
        (
            Usage(5, 5, raw={"service_tier": "priority"}),
            {},
            "no price is known for 'test-model' at 127.0.0.1 with service_tier='priority'",
        ),
    ],
)
def test_unknown_cost_says_why(counts: Any, request_: dict[str, Any], reason: str) -> None:
    """The model, the host, and what is missing."""
    cost = used(counts, **request_)
    assert (cost.usd, cost.known_usd, str(cost)) == (None, 0, f"unknown: {reason}")


def test_name_of_a_model_is_shown_harmless() -> None:
    """A server may name its model as it likes."""
    cost = used(Usage(5, 5), model="\x1b[2J\u202e" + "m" * 10_000)
    assert str(cost).isprintable()
    assert len(str(cost)) < 200


def test_option_with_another_price_is_noticed_in_the_request() -> None:
    """The list price would be wrong for it."""
    provider = vendor([text("Hi"), usage(1000, 0)], [text("Hi"), usage(1000, 0)])
    assert "service_tier='priority'" in str(provider.complete("Hi", service_tier="priority").cost)
    assert provider.complete("Hi", service_tier="auto").cost.usd == Decimal("0.001")
    assert used(Usage(1000, 0, raw={"service_tier": "on_demand"})).usd == Decimal("0.001")


OPENROUTER = "https://openrouter.ai/api/v1/chat/completions"


@pytest.mark.parametrize(
    ("url", "raw", "usd"),
    [
        (OPENROUTER, {"cost": 0.00000196, "is_byok": False}, Decimal("0.00000196")),
        (OPENROUTER, {"cost": 0, "service_tier": "flex"}, Decimal(0)),
        (OPENROUTER, {"cost": 0.1, "is_byok": True}, None),
        (OPENROUTER, {"cost": -1}, None),
        (OPENROUTER, {"cost": float("nan")}, None),
        (OPENROUTER, {"cost": True}, None),
        (OPENROUTER, {"cost": "1"}, None),
        ("https://openrouter.ai.example/v1", {"cost": 0.1}, None),
    ],
)
def test_openrouter_says_what_it_has_charged(
    url: str, raw: dict[str, Any], usd: Decimal | None
) -> None:
    """That wins over any table, for its own host only."""
    assert used(Usage(5, 5, raw=raw), url=url).usd == usd


def test_free_model_costs_nothing() -> None:
    """OpenRouter names them so; elsewhere it is a name like any other."""
    assert used(Usage(5, 5), url=OPENROUTER, model="x:free") == Cost()
    assert used(Usage(5, 5), model="x:free").usd is None


# --- the package


def test_missing_package_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where a cost is asked for."""
    completion = vendor([text("Hi"), usage(1000, 0)]).complete("Hi")
    monkeypatch.setitem(sys.modules, "genai_prices", None)
    with pytest.raises(ImportError, match=r"pip install 'providers-sync\[prices\]'"):
        _ = completion.cost


def test_nothing_is_loaded_before_a_cost_is_asked_for() -> None:
    """And then nothing that fetches prices is started."""
    code = """
import sys, threading
from providers_sync.testing import ScriptedProvider
completion = ScriptedProvider("Hi").complete("Hi")
print("genai_prices" in sys.modules)
str(completion.cost)
import genai_prices.data_snapshot as prices
print("genai_prices" in sys.modules, prices.get_snapshot().from_auto_update)
print([each.name for each in threading.enumerate() if not each.name.startswith("providers")])
"""
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == ["False", "True False", "['MainThread']"]
