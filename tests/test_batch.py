"""``batch.map``: what comes back, how much is under way, and how it stops."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    APIStatusError,
    APITimeoutError,
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    Outcome,
    StreamCut,
    Timeouts,
    Usage,
    batch,
)
from providers_sync.testing import (
    Request,
    Server,
    cut,
    pause,
    ping,
    reasoning,
    repeat,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
    wait,
)

ROOT = Path(__file__).parent.parent
PROMPTS = [f"prompt {n}" for n in range(1, 21)]


def provider_of(server: Server, **options: Any) -> OpenAICompatible:
    """Return a provider that asks this server."""
    return OpenAICompatible("m", base_url=server.url, **options)


def prompt_of(request: Request) -> str:
    """Return what a request asks."""
    content: str = request.json()["messages"][-1]["content"]
    return content


def echo(request: Request) -> Any:
    """Answer with the prompt and a count of tokens."""
    return [text("You said: "), text(prompt_of(request)), usage(3, 4)]


def counted(taken: list[int], rows: int = 1000) -> Iterator[str]:
    """Yield prompts, noting how many have been taken."""
    for number in range(1, rows + 1):
        taken.append(number)
        yield f"prompt {number}"


def test_every_input_comes_back_once_with_all_about_it() -> None:
    """Input, text, verdict, usage, attempts, seconds, and no error."""
    with serve(echo) as server:
        results = list(batch.map(provider_of(server), PROMPTS))
    assert sorted(result.input for result in results) == sorted(PROMPTS)
    assert len({result.custom_id for result in results}) == len(PROMPTS)
    for result in results:
        assert result.text == f"You said: {result.input}"
        assert result.outcome is Outcome.COMPLETE
        assert result.finish_reason == "stop"
        assert result.usage == Usage(3, 4, 7)
        assert (result.attempts, result.error, result.recorded) == (1, None, False)
        assert 0 < result.seconds < 5


def test_ordered_results_come_in_the_order_of_the_inputs() -> None:
    """The first answer is the slowest, and still the first."""
    last = threading.Event()

    def script(request: Request) -> Any:
        if prompt_of(request) == PROMPTS[-1]:
            last.set()
        return [wait(last), "slow"] if prompt_of(request) == PROMPTS[0] else "quick"

    with serve(script) as server:
        results = list(batch.map(provider_of(server), PROMPTS, concurrency=2, ordered=True))
    assert [result.input for result in results] == PROMPTS
    assert [result.custom_id for result in results] == [f"row-{n}" for n in range(1, 21)]


def test_results_come_as_they_finish() -> None:
    """A slow answer keeps nobody waiting."""
    go = threading.Event()

    def script(request: Request) -> Any:
        return [wait(go), "slow"] if prompt_of(request) == PROMPTS[0] else "quick"

    with serve(script) as server:
        results = batch.map(provider_of(server), PROMPTS, concurrency=2)
        quick = [next(results).text for _ in PROMPTS[1:]]
        go.set()
        assert [*quick, next(results).text] == ["quick"] * 19 + ["slow"]
        assert next(results, None) is None


def test_inputs_are_read_as_there_is_room() -> None:
    """Twice as many rows as streams are under way, whatever the input holds."""
    taken: list[int] = []
    with serve(echo) as server:
        results = batch.map(provider_of(server), counted(taken), concurrency=4)
        assert taken == []
        for number in range(1, 30):
            next(results)
            assert len(taken) <= number + 8
        results.close()


def test_no_more_streams_than_concurrency() -> None:
    """Each stream has one connection, and it is used again."""
    with serve(echo) as server:
        list(batch.map(provider_of(server), PROMPTS, concurrency=3))
        assert len(server.connections) <= 3


def test_many_rows_cost_constant_memory() -> None:
    """Five thousand rows, refused before they are sent, leave nothing behind."""
    provider = OpenAICompatible("m", base_url="http://127.0.0.1:9")
    results = batch.map(provider, ({"nothing": n} for n in range(5000)))
    next(results)
    tracemalloc.start()
    errors = sum(result.error is not None for result in results)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert errors == 4999
    assert peak < 200_000  # forty bytes a row


@pytest.mark.parametrize("how", ["close", "drop"])
def test_the_end_of_the_generator_stops_every_stream_at_once(how: str) -> None:
    """The connections are over, and the next rows never start."""

    stalled = []

    def script(request: Request) -> Any:
        if prompt_of(request) == PROMPTS[0]:
            return "first"
        stalled.append(request.connection)
        return [text("…"), stall()]

    with serve(script) as server:
        results = batch.map(provider_of(server), PROMPTS, concurrency=4)
        assert next(results).text == "first"
        server.wait_request(4)
        began = time.monotonic()
        if how == "close":
            results.close()
        del results
        gc.collect()
        for connection in stalled:
            server.wait_closed(connection)
        assert time.monotonic() - began < 1
        assert len(server.requests) <= 5


def test_a_generator_that_never_began_has_done_nothing() -> None:
    """Not a thread was started, not a file was made."""
    batch.map(OpenAICompatible("m"), PROMPTS, ledger="/nowhere/at/all").close()


def test_a_failed_row_is_recorded_and_the_others_go_on() -> None:
    """The error stands in the result; nothing is raised."""

    def script(request: Request) -> Any:
        return status(400, "No") if prompt_of(request) == PROMPTS[2] else echo(request)

    with serve(script) as server:
        results = {each.input: each for each in batch.map(provider_of(server), PROMPTS)}
    failed = results.pop(PROMPTS[2])
    assert isinstance(failed.error, APIStatusError)
    assert (failed.outcome, failed.text, failed.attempts) == (Outcome.FAILED, "", 1)
    assert all(each.error is None for each in results.values())
    assert len(results) == 19


def test_on_error_raise_raises_the_first_failure() -> None:
    """It comes out of the loop, and everything has stopped."""

    def script(request: Request) -> Any:
        return status(400, "No") if prompt_of(request) == PROMPTS[2] else [text("…"), stall()]

    with serve(script) as server, pytest.raises(APIStatusError, match="No"):
        list(batch.map(provider_of(server), PROMPTS, on_error="raise"))


def test_a_cut_answer_keeps_its_text_and_is_not_asked_again() -> None:
    """What had arrived is in the result, as it is in every error."""
    with serve([text("Hel"), text("lo"), cut()]) as server:
        (result,) = batch.map(provider_of(server), ["Hi"])
        assert len(server.requests) == 1
    assert (result.text, result.outcome) == ("Hello", Outcome.CUT)
    assert isinstance(result.error, StreamCut)


def test_tool_calls_and_reasoning_are_in_the_message() -> None:
    """An answer without text is an answer."""
    script = [reasoning("Hm"), tool_call("weather", {"city": "Oslo"})]
    with serve(script) as server:
        (result,) = batch.map(provider_of(server), ["Hi"])
    assert (result.error, result.text, result.message["content"]) == (None, "", None)
    assert result.message["reasoning_content"] == "Hm"
    (call,) = result.message["tool_calls"]
    assert call["type"] == "function"
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}


def test_rows_of_every_kind_are_asked() -> None:
    """Prompts, messages, dicts, and lines of OpenAI's batch input with a body of their own."""
    body = {"model": "other", "messages": [{"role": "user", "content": "5"}], "top_p": 0.5}
    inputs: list[Any] = [
        "1",
        [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "2"}],
        {"role": "user", "content": "3"},
        {"custom_id": "own", "prompt": "4", "label": "not sent"},
        {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": body},
    ]
    with serve(echo) as server:
        provider = provider_of(server, temperature=0)
        results = list(batch.map(provider, inputs, concurrency=1, ordered=True))
        bodies = [request.json() for request in server.requests]
    assert [each.text for each in results] == [f"You said: {n}" for n in range(1, 6)]
    assert [each.input for each in results] == inputs
    assert [each.custom_id for each in results] == ["row-1", "row-2", "row-3", "own", "b"]
    assert [each["model"] for each in bodies] == ["m", "m", "m", "m", "other"]
    assert (bodies[4]["top_p"], bodies[4]["temperature"]) == (0.5, 0)
    assert "label" not in bodies[3]


def test_a_row_that_makes_no_sense_fails_alone() -> None:
    """Each error names its row and what is wrong; the good row between them is asked."""
    inputs: list[Any] = [
        5,
        {"question": "x"},
        "good",
        {"custom_id": 5, "prompt": "x"},
        {"custom_id": "u", "url": "/v1/embeddings", "body": {"input": "x"}},
        {"custom_id": "h", "body": {"messages": "x", "headers": {"X": "y"}}},
        {"custom_id": "t", "body": {"messages": "x", "timeout": 5}},
    ]
    with serve(echo) as server:
        results = list(batch.map(provider_of(server), inputs, ordered=True))
        assert len(server.requests) == 1
    said = [str(each.error) for each in results]
    assert "not int" in said[0]
    assert said[1] == "row 2 needs a 'prompt', 'messages', or OpenAI's 'body'; it has 'question'"
    assert said[2] == "None"
    assert said[3] == "custom_id must be text, not int"
    assert said[4].startswith("row 5 wants POST /v1/embeddings; only POST ")
    assert said[5] == "row 6 has 'headers' in its 'body', which is no option"
    assert "timeouts=" in said[6]
    assert [each.attempts for each in results] == [0, 0, 1, 0, 0, 0, 0]


def test_an_error_of_the_inputs_comes_after_the_answers() -> None:
    """What is under way is finished and handed over, then the input's own error is raised."""

    def inputs() -> Iterator[str]:
        yield "one"
        yield "two"
        raise LookupError("the file has gone")

    with serve(echo) as server:
        results = batch.map(provider_of(server), inputs())
        assert sorted([next(results).input, next(results).input]) == ["one", "two"]
        with pytest.raises(LookupError, match="the file has gone"):
            next(results)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"rate": 0}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": 10**400}, "rate"),
        ({"on_error": "ignore"}, "on_error"),
        ({"executor": "threads"}, "get_executor"),
        ({"inputs": "one prompt"}, "iterable"),
        ({"inputs": None}, "iterable"),
    ],
)
def test_arguments_that_cannot_work_raise_at_once(options: dict[str, Any], said: str) -> None:
    """Not at the first ``next()``, and with the name of the argument."""
    inputs = options.pop("inputs", PROMPTS)
    with pytest.raises(InvalidRequestError, match=said):
        batch.map(OpenAICompatible("m"), inputs, **options)


def test_a_script_that_fails_does_not_wait_for_its_answers() -> None:
    """The default threads are daemons: the interpreter ends while the server is silent."""
    code = """
import sys
from providers_sync import OpenAICompatible, batch
provider = OpenAICompatible("m", base_url=sys.argv[1])
for result in batch.map(provider, ["first", *map(str, range(9))], concurrency=4):
    raise SystemExit(f"failed on {result.input}")
"""

    def script(request: Request) -> Any:
        return "quick" if prompt_of(request) == "first" else stall()

    with serve(script) as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, server.url],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )
    assert (done.returncode, done.stderr) == (1, "failed on first\n")


def test_importing_the_package_does_not_load_batch() -> None:
    """Whoever asks one question pays nothing for it, and batch itself loads no dask and no rich."""
    code = """
import sys, providers_sync
assert "providers_sync.batch" not in sys.modules
import providers_sync.batch
assert not {"distributed", "rich", "asyncio", "argparse", "tenacity"} & set(sys.modules)
"""
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )


# --- an answer read in the worker's own thread has the clocks of any other


@pytest.mark.parametrize(
    ("script", "clocks", "verdict", "begins"),
    [
        (stall(), {"first_token": 0.2}, Outcome.STALLED, ""),
        ([text("Hel"), stall()], {"idle": 0.2}, Outcome.STALLED, "Hel"),
        ([repeat(text("x"), pause(0.02))], {"total": 0.3}, Outcome.DEADLINE, "xxx"),
        ([ping(0.02)], {"first_token": 0.3}, Outcome.STALLED, ""),
    ],
)
def test_every_clock_runs(script: Any, clocks: Any, verdict: Outcome, begins: str) -> None:
    """The row ends in time, with the clock's name and what had arrived."""
    began = time.monotonic()
    with serve(script) as server:
        provider = provider_of(server, timeouts=Timeouts(**clocks))
        (result,) = batch.map(provider, ["Hi"])
    assert isinstance(result.error, APITimeoutError)
    assert result.error.clock == next(iter(clocks))
    assert (result.outcome, result.text[:3]) == (verdict, begins)
    assert time.monotonic() - began < 1.5


def test_the_connect_clock_runs(blackhole: tuple[str, int]) -> None:
    """A host that swallows the handshake costs no more than it may."""
    host, port = blackhole
    timeouts = Timeouts(connect=0.2)
    provider = OpenAICompatible("m", base_url=f"http://{host}:{port}", timeouts=timeouts, retry=1)
    (result,) = batch.map(provider, ["Hi"])
    assert isinstance(result.error, APITimeoutError)
    assert result.error.clock == "connect"


def test_a_long_answer_needs_no_reader() -> None:
    """More than a stream's buffer holds, in one piece."""
    with serve([repeat(text("x" * 50_000), times=40)]) as server:
        (result,) = batch.map(provider_of(server), ["Hi"])
    assert (result.error, len(result.text)) == (None, 2_000_000)


def test_a_failover_is_a_provider_like_any_other() -> None:
    """The second one answers where the first does not."""
    with serve(status(500)) as bad, serve(echo) as good:
        provider = Failover([provider_of(bad), provider_of(good)])
        results = list(batch.map(provider, PROMPTS[:4]))
    assert [each.error for each in results] == [None] * 4
