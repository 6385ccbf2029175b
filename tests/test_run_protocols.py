"""The same dialogue with tools over all protocols, each with a server that refuses a wrong turn.

Sources of what is refused: Anthropic docs, "Extended thinking", Preserving thinking blocks, and
"Tool use", Handle tool calls; Gemini API, "Thought signatures" and "Function calling"; OpenAI
guides, "Reasoning models" and "Function calling"; DeepSeek API docs, "Thinking Mode", Tool calls;
OpenRouter docs, "Reasoning Tokens", Preserving reasoning; Ollama docs, "Tool calling".
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from providers_sync import (
    Anthropic,
    APIStatusError,
    Gemini,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
    Outcome,
    Pause,
    Provider,
    ReasoningDelta,
    Run,
    TextDelta,
    ToolCall,
    ToolResult,
)
from providers_sync.testing import answer, event, finish, raw, serve, status
from providers_sync.testing.records import Request

IDS = ("call_a", "call_b", "call_c", "call_d")
CALLS = [
    ("weather", {"city": "Oslo"}),
    ("weather", {"city": "Bergen"}),
    ("clock", {"zone": "Europe/Oslo", "hours": 24}),
    ("weather", {"city": "Atlantis"}),
]
"""Of the first answer, then of the second one."""
RESULTS = ["rain in Oslo", "rain in Bergen", "noon", "LookupError: no city Atlantis"]
THOUGHTS = ["Look both up.", "And the time."]
QUESTION = "Umbrella?"
TEXTS = ["Let me see. ", "Take one.", "You are welcome."]


class Round(NamedTuple):
    """An answer of the server, and how the next request must repeat it."""

    script: Any
    said: list[Any]
    """The turn of the model, with its signatures."""
    results: list[Any]


class Dialogue(NamedTuple):
    """What a server says and demands."""

    protocol: str
    provider: Callable[[str], Provider]
    turns: Callable[[Any], Any]
    """Returns the conversation in the body of a request."""
    tools: Callable[[Any], list[str]]
    """Returns the names of the tools in the body."""
    asks: Callable[[str], Any]
    """Returns the turn of a question."""
    rounds: list[Round]


def pairs(ids: Any, index: int) -> list[tuple[int, Any, str, dict[str, Any]]]:
    """Return place, id, name and arguments of the calls of an answer."""
    return [(place, ids[place], *CALLS[place]) for place in (2 * index, 2 * index + 1)]


# --- Anthropic


def anthropic(given: Any = IDS, sent: Any = IDS) -> Dialogue:
    """Signed and redacted thinking before the calls; all results in the next turn, none else."""
    rounds = []
    for index, thought in enumerate(THOUGHTS):
        signature = f"SIGNED{index}"
        blocks: list[dict[str, Any]] = [
            {"type": "thinking", "thinking": thought, "signature": signature},
            {"type": "redacted_thinking", "data": f"SEALED{index}"},
        ]
        if not index:
            blocks.append({"type": "text", "text": TEXTS[0]})

        def uses(ids: Any, index: int = index) -> list[dict[str, Any]]:
            return [
                {"type": "tool_use", "id": i, "name": name, "input": arguments}
                for _, i, name, arguments in pairs(ids, index)
            ]

        script = blocks_events([*blocks, *uses(given)])
        script.append(event({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}))
        script.append(event({"type": "message_stop"}))
        results = [
            {"type": "tool_result", "tool_use_id": i, "content": RESULTS[n]}
            | ({"is_error": True} if "Error" in RESULTS[n] else {})
            for n, i, _, _ in pairs(sent, index)
        ]
        rounds.append(
            Round(
                answer(*script, end=False),
                [{"role": "assistant", "content": [*blocks, *uses(sent)]}],
                [{"role": "user", "content": results}],
            )
        )
    signed = {"type": "thinking", "thinking": "So.", "signature": "SIGNED2"}
    last = [signed, {"type": "text", "text": TEXTS[1]}]
    rounds.append(Round(blocks_events(last), [{"role": "assistant", "content": last}], []))
    return Dialogue(
        "anthropic",
        lambda url: Anthropic("claude-a", base_url=url, api_key="k"),
        lambda body: body["messages"],
        lambda body: [tool["name"] for tool in body["tools"]],
        lambda text: {"role": "user", "content": text},
        rounds,
    )


def blocks_events(blocks: list[dict[str, Any]]) -> list[Any]:
    return [each for n, block in enumerate(blocks) for each in block_events(n, block)]


def block_events(index: int, block: dict[str, Any]) -> list[Any]:
    """Return the events of one content block, its content in two pieces."""
    empty = {"thinking": "", "signature": "", "text": "", "input": {}}
    start = {key: empty.get(key, value) for key, value in block.items()}
    deltas: list[dict[str, Any]] = []
    if block["type"] == "thinking":
        for part in (block["thinking"][:4], block["thinking"][4:]):
            deltas.append({"type": "thinking_delta", "thinking": part})
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif block["type"] == "text":
        deltas.append({"type": "text_delta", "text": block["text"]})
    elif block["type"] == "tool_use":
        arguments = json.dumps(block["input"])
        for part in (arguments[:3], arguments[3:]):
            deltas.append({"type": "input_json_delta", "partial_json": part})
    return [
        event({"type": "content_block_start", "index": index, "content_block": start}),
        *(event({"type": "content_block_delta", "index": index, "delta": d}) for d in deltas),
        event({"type": "content_block_stop", "index": index}),
    ]


# --- Gemini


def gemini(given: Any = IDS, sent: Any = IDS) -> Dialogue:
    """Gemini 3 signs the first of parallel calls, and demands the signatures of all rounds."""
    rounds = []
    for index, thought in enumerate(THOUGHTS):
        parts: list[dict[str, Any]] = [{"text": thought, "thought": True}]
        if not index:
            parts.append({"text": TEXTS[0]})
        signature = {"thoughtSignature": f"SIGNED{index}"}

        def calls(ids: Any, index: int = index, signature: Any = signature) -> list[dict[str, Any]]:
            return [
                {
                    "functionCall": {"name": name, "args": arguments, **with_id(i)},
                    **({} if n % 2 else signature),
                }
                for n, i, name, arguments in pairs(ids, index)
            ]

        script = [event(candidate(part)) for part in [*parts, *calls(given)]]
        results = []
        for n, i, name, _ in pairs(sent, index):
            key = "error" if "Error" in RESULTS[n] else "output"
            made = {"name": name, "response": {key: RESULTS[n]}, **with_id(i)}
            results.append({"functionResponse": made})
        rounds.append(
            Round(
                script,
                [{"role": "model", "parts": [*parts, *calls(sent)]}],
                [{"role": "user", "parts": results}],
            )
        )
    last = {"text": TEXTS[1], "thoughtSignature": "SIGNED2"}
    rounds.append(Round([event(candidate(last))], [{"role": "model", "parts": [last]}], []))
    return Dialogue(
        "gemini",
        lambda url: Gemini("gemini-3-pro", base_url=url, api_key="k"),
        lambda body: body["contents"],
        lambda body: [each["name"] for tool in body["tools"] for each in declarations(tool)],
        lambda text: {"role": "user", "parts": [{"text": text}]},
        rounds,
    )


def with_id(call_id: str | None) -> dict[str, Any]:
    return {"id": call_id} if call_id is not None else {}


def declarations(tool: dict[str, Any]) -> Any:
    return tool.get("functionDeclarations") or tool["function_declarations"]


def candidate(part: dict[str, Any]) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [part]}}]}


# --- the Responses API


def responses(given: Any = IDS, sent: Any = IDS) -> Dialogue:
    """Each reasoning item goes back, encrypted, before the calls that it led to."""
    rounds = []
    for index, thought in enumerate(THOUGHTS):
        items = [sealed(index, thought)]
        if not index:
            items.append(spoken(index, TEXTS[0]))

        def calls(ids: Any, index: int = index) -> list[dict[str, Any]]:
            return [
                {
                    "type": "function_call",
                    "id": f"fc_{n}",
                    "call_id": i,
                    "name": name,
                    "arguments": json.dumps(arguments),
                    "status": "completed",
                }
                for n, i, name, arguments in pairs(ids, index)
            ]

        results = [
            {"type": "function_call_output", "call_id": i, "output": RESULTS[n]}
            for n, i, _, _ in pairs(sent, index)
        ]
        script = item_events([*items, *calls(given)])
        rounds.append(Round(script, [*items, *calls(sent)], results))
    last = [sealed(2, "So."), spoken(2, TEXTS[1])]
    rounds.append(Round(item_events(last), last, []))

    def turns(body: Any) -> Any:
        is_encrypted = "reasoning.encrypted_content" in body["include"] and not body["store"]
        return body["input"] if is_encrypted else None

    return Dialogue(
        "responses",
        lambda url: OpenAIResponses("gpt-5", base_url=url, api_key="k"),
        turns,
        lambda body: [tool["name"] for tool in body["tools"]],
        lambda text: {"role": "user", "content": text},
        rounds,
    )


def sealed(number: int, thought: str) -> dict[str, Any]:
    return {
        "type": "reasoning",
        "id": f"rs_{number}",
        "summary": [{"type": "summary_text", "text": thought}],
        "encrypted_content": f"SEALED{number}",
    }


def spoken(number: int, text: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {
        "type": "message",
        "id": f"msg_{number}",
        "role": "assistant",
        "status": "completed",
        "content": [part],
    }


def item_events(items: list[dict[str, Any]]) -> list[Any]:
    done = "response.output_item.done"
    return [
        event({"type": done, "output_index": index, "item": item}, done)
        for index, item in enumerate(items)
    ]


# --- chat completions


def chat(
    thinks: Callable[[int], tuple[list[Any], dict[str, Any]]],
    given: Any = IDS,
    sent: Any = IDS,
    signs: Callable[[int], dict[str, Any]] = lambda _: {},
) -> Dialogue:
    """Return a dialogue of OpenAI's chat protocol.

    ``thinks`` returns the reasoning of an answer: the deltas, and the fields that must go back;
    ``signs`` what stands beside a call.
    """
    rounds = []
    for index in range(2):
        deltas, fields = thinks(index)
        content = "" if index else TEXTS[0]
        deltas = [*deltas, *([] if index else [{"content": content}])]
        for n, i, name, arguments in pairs(given, index):
            text = json.dumps(arguments)
            call = {"index": n % 2, "type": "function", **with_id(i), **signs(n)}
            first = {**call, "function": {"name": name, "arguments": text[:3]}}
            rest = {"index": n % 2, "function": {"arguments": text[3:]}}
            deltas += [{"tool_calls": [first]}, {"tool_calls": [rest]}]
        calls = []
        for n, i, name, arguments in pairs(sent, index):
            function = {"name": name, "arguments": json.dumps(arguments)}
            calls.append({"id": i, "type": "function", "function": function, **signs(n)})
        said = {"role": "assistant", "content": content or None, "tool_calls": calls, **fields}
        results = [
            {"role": "tool", "tool_call_id": i, "content": RESULTS[n]}
            for n, i, _, _ in pairs(sent, index)
        ]
        script = [*map(delta_event, deltas), finish("tool_calls")]
        rounds.append(Round(script, [said], results))
    deltas, fields = thinks(2)
    script = [*map(delta_event, [*deltas, {"content": TEXTS[1]}]), finish("stop")]
    last = {"role": "assistant", "content": TEXTS[1], **fields}
    rounds.append(Round(script, [last], []))
    return Dialogue(
        "openai",
        lambda url: OpenAICompatible("m", base_url=url, api_key="k"),
        lambda body: body["messages"],
        lambda body: [tool["function"]["name"] for tool in body["tools"]],
        lambda text: {"role": "user", "content": text},
        rounds,
    )


def delta_event(delta: dict[str, Any]) -> Any:
    return event({"choices": [{"index": 0, "delta": delta}]})


def deepseek(given: Any = IDS, sent: Any = IDS) -> Dialogue:
    """``reasoning_content`` beside calls is demanded back; the last answer comes without any."""

    def thinks(index: int) -> tuple[list[Any], dict[str, Any]]:
        if index == 2:
            return [], {}
        thought = THOUGHTS[index]
        deltas = [{"reasoning_content": part} for part in (thought[:4], thought[4:])]
        return deltas, {"reasoning_content": thought}

    return chat(thinks, given, sent)


def openrouter(given: Any = IDS, sent: Any = IDS) -> Dialogue:
    """``reasoning_details`` are demanded back in their order, with their signatures."""

    def thinks(index: int) -> tuple[list[Any], dict[str, Any]]:
        thought = [*THOUGHTS, "So."][index]
        spoken = {"type": "reasoning.text", "text": thought[:4], "index": 0}
        signed = {**spoken, "text": thought[4:], "signature": f"SIGNED{index}"}
        sealed = {"type": "reasoning.encrypted", "data": f"SEALED{index}", "index": 1}
        deltas = [
            {"reasoning": spoken["text"], "reasoning_details": [spoken]},
            {"reasoning": signed["text"], "reasoning_details": [signed]},
            {"reasoning_details": [sealed]},
        ]
        details = [{**signed, "text": thought}, sealed]
        return deltas, {"reasoning": thought, "reasoning_details": details}

    return chat(thinks, given, sent)


def gemini_compatible(given: Any = IDS, sent: Any = IDS) -> Dialogue:
    """Gemini in OpenAI's protocol: the signature is inside the first call."""

    def signs(number: int) -> dict[str, Any]:
        if number % 2:
            return {}
        return {"extra_content": {"google": {"thought_signature": f"SIGNED{number}"}}}

    return chat(lambda index: ([], {}), given, sent, signs)


# --- Ollama


def ollama(given: Any = IDS, sent: Any = IDS) -> Dialogue:
    """``thinking`` goes back; a result names its tool."""
    rounds = []
    for index, thought in enumerate(THOUGHTS):
        lines: list[dict[str, Any]] = [{"thinking": thought[:4]}, {"thinking": thought[4:]}]
        if not index:
            lines.append({"content": TEXTS[0]})

        def calls(ids: Any, index: int = index) -> list[dict[str, Any]]:
            return [
                {**with_id(i), "function": {"name": name, "arguments": arguments}}
                for _, i, name, arguments in pairs(ids, index)
            ]

        lines += [{"tool_calls": [call]} for call in calls(given)]
        said = {
            "role": "assistant",
            "content": "" if index else TEXTS[0],
            "thinking": thought,
            "tool_calls": calls(sent),
        }
        results = [
            {"role": "tool", "content": RESULTS[n], "tool_call_id": i, "tool_name": name}
            for n, i, name, _ in pairs(sent, index)
        ]
        rounds.append(Round(ollama_answer(lines), [said], results))
    lines = [{"thinking": "So."}, {"content": TEXTS[1]}]
    last = {"role": "assistant", "content": TEXTS[1], "thinking": "So."}
    rounds.append(Round(ollama_answer(lines), [last], []))
    return Dialogue(
        "ollama",
        lambda url: Ollama("qwen3", base_url=url),
        lambda body: body["messages"],
        lambda body: [tool["function"]["name"] for tool in body["tools"]],
        lambda text: {"role": "user", "content": text},
        rounds,
    )


def ollama_answer(messages: list[dict[str, Any]]) -> Any:
    head = {"role": "assistant", "content": ""}
    lines: list[dict[str, Any]] = [{"message": {**head, **each}} for each in messages]
    lines.append({"message": head, "done": True, "done_reason": "stop"})
    return answer(*(raw(json.dumps(each).encode() + b"\n") for each in lines), end=False)


# --- the server and the functions


def strict(dialogue: Dialogue) -> Callable[[Request], Any]:
    """Return the script of a server that answers 400 unless a request repeats the dialogue."""
    last = answer(TEXTS[2])

    def script(request: Request) -> Any:
        body = request.json()
        expected = [dialogue.asks(QUESTION)]
        if dialogue.tools(body) != ["weather", "clock"]:
            return status(400, f"wrong tools: {body.get('tools')}")
        for each in dialogue.rounds:
            if dialogue.turns(body) == expected:
                return each.script
            expected += [*each.said, *each.results]
        expected.append(dialogue.asks("Thanks"))
        if dialogue.turns(body) == expected:
            return last
        return status(400, "wrong turns")

    return script


class Functions:
    """The functions of the dialogue, and how they were called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._bergen = threading.Event()

    def weather(self, city: str) -> str:
        """The weather in a city now."""
        self.calls.append(("weather", {"city": city}))
        if city == "Atlantis":
            raise LookupError("no city Atlantis")
        if city == "Oslo":  # so that the results come in the other order
            assert self._bergen.wait(10)
        if city == "Bergen":
            self._bergen.set()
        return f"rain in {city}"

    def clock(self, zone: str, hours: int = 12) -> str:
        """The time now."""
        self.calls.append(("clock", {"zone": zone, "hours": hours}))
        return "noon"

    @property
    def tools(self) -> list[Any]:
        return [self.weather, self.clock]

    def check(self) -> None:
        """Assert that each call was made once."""
        assert sorted(self.calls, key=str) == sorted(CALLS, key=str)


DIALOGUES = [
    pytest.param(make, id=make.__name__)
    for make in (anthropic, gemini, responses, deepseek, openrouter, gemini_compatible, ollama)
]


def check_end(run: Run, provider: Provider, functions: Functions) -> None:
    """Assert that a run has ended well, and that another question can follow."""
    assert run.outcome is Outcome.COMPLETE
    functions.check()
    messages = json.loads(json.dumps(run.messages))
    roles = ["user", "assistant", "tool", "tool", "assistant", "tool", "tool", "assistant"]
    assert [message["role"] for message in messages] == roles
    assert [m["content"] for m in messages if m["role"] == "tool"] == RESULTS
    thanks = {"role": "user", "content": "Thanks"}
    assert provider.run([*messages, thanks], tools=functions.tools).read() == TEXTS[2]
    functions.check()


# --- the dialogue


@pytest.mark.parametrize("make", DIALOGUES)
def test_dialogue_of_three_rounds(make: Callable[..., Dialogue]) -> None:
    """Reasoning, text, and two parallel calls; two others; text."""
    dialogue, functions = make(), Functions()
    with serve(strict(dialogue), protocol=dialogue.protocol) as server:
        provider = dialogue.provider(server.url)
        run = provider.run(QUESTION, tools=functions.tools)
        events = list(run.events())
        assert run.text == "".join(e.text for e in events if isinstance(e, TextDelta))
        assert run.text == TEXTS[0] + TEXTS[1]
        calls = [each for each in events if isinstance(each, ToolCall)]
        assert [(call.id, call.name, call.arguments) for call in calls] == [
            (call_id, *call) for call_id, call in zip(IDS, CALLS, strict=True)
        ]
        results = [each for each in events if isinstance(each, ToolResult)]
        assert [(each.id, each.content) for each in results] == list(zip(IDS, RESULTS, strict=True))
        assert [each.is_error for each in results] == [False, False, False, True]
        if make is not gemini_compatible:
            thoughts = "".join(e.text for e in events if isinstance(e, ReasoningDelta))
            assert "".join(THOUGHTS) in thoughts.replace("\n", "")
        assert len(run.rounds) == 3
        check_end(run, provider, functions)
    assert len(server.requests) == 4


@pytest.mark.parametrize("make", DIALOGUES)
@pytest.mark.parametrize("paused", [0, 1], ids=["first", "second"])
def test_dialogue_goes_on_after_a_pause(make: Callable[..., Dialogue], paused: int) -> None:
    """From JSON, with another provider: what was signed goes back all the same."""
    dialogue, functions = make(), Functions()
    name, arguments = CALLS[2 * paused + 1]

    def approve(call: ToolCall) -> Any:
        return Pause if (call.name, call.arguments) == (name, arguments) else True

    with serve(strict(dialogue), protocol=dialogue.protocol) as server:
        run = dialogue.provider(server.url).run(QUESTION, tools=functions.tools, approve=approve)
        run.read()
        assert run.outcome is Outcome.PAUSED
        assert len(functions.calls) == 2 * paused
        saved = json.dumps(run.messages)
        provider = dialogue.provider(server.url)
        later = provider.run(json.loads(saved), tools=functions.tools)
        assert (run.text, later.read()) == (TEXTS[0], TEXTS[1])
        check_end(later, provider, functions)


@pytest.mark.parametrize("make", DIALOGUES)
def test_server_refuses_what_lacks_a_signature(make: Callable[..., Dialogue]) -> None:
    """So the tests above would fail without it."""
    dialogue, functions = make(), Functions()
    with serve(strict(dialogue), protocol=dialogue.protocol) as server:
        provider = dialogue.provider(server.url)
        run = provider.run(QUESTION, tools=functions.tools)
        run.read()
        messages = run.messages
        del messages[4]["providers_sync"]
        with pytest.raises(APIStatusError, match="wrong turns"):
            provider.run([*messages, {"role": "user", "content": "Thanks"}], tools=functions.tools)


# --- ids


@pytest.mark.parametrize("make", DIALOGUES)
def test_ids_that_each_answer_repeats(make: Callable[..., Dialogue]) -> None:
    """Small servers count the calls of each answer."""
    ids = ("call_0", "call_1") * 2
    check_ids(make(ids, ids))


@pytest.mark.parametrize("make", DIALOGUES)
def test_id_that_both_calls_of_an_answer_have(make: Callable[..., Dialogue]) -> None:
    """The second call gets another one, also in what its protocol wants back."""
    given = ("call_0", "call_0", "call_1", "call_1")
    check_ids(make(given, ("call_0", "call_1", "call_1", "call_2")))


@pytest.mark.parametrize("make", [deepseek, openrouter, gemini_compatible, ollama])
@pytest.mark.parametrize("nothing", [None, ""])
def test_calls_without_ids(make: Callable[..., Dialogue], nothing: str | None) -> None:
    """They get some, for their results."""
    check_ids(make((nothing,) * 4, ("call_0", "call_1") * 2))


def test_calls_of_gemini_without_ids() -> None:
    """They go back without, and so do their results, in the same order."""
    check_ids(gemini((None,) * 4, (None,) * 4))


def test_id_of_one_call_that_the_other_call_gets() -> None:
    """Gemini's call without an id stays without."""
    ids = ("call_1", None) * 2
    check_ids(gemini(ids, ids))


def check_ids(dialogue: Dialogue) -> None:
    """Assert that the dialogue holds, from its beginning and from the first calls on."""
    with serve(strict(dialogue), protocol=dialogue.protocol) as server:
        provider, functions = dialogue.provider(server.url), Functions()
        run = provider.run(QUESTION, tools=functions.tools)
        assert run.read() == TEXTS[0] + TEXTS[1]
        check_end(run, provider, functions)
        again = Functions()
        later = provider.run(json.loads(json.dumps(run.messages[:2])), tools=again.tools)
        assert later.read() == TEXTS[1]
        check_end(later, provider, again)
