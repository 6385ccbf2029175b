"""Tests of ``batch.map``: results, concurrency, invalid input, closing, timeouts."""

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
    """Return a provider for this server."""
    return OpenAICompatible("m", base_url=server.url, **options)


def prompt_of(request: Request) -> str:
    """Return the prompt of a request."""
    content: str = request.json()["messages"][-1]["content"]
    return content


def echo(request: Request) -> Any:
    """Answer with the prompt and a token usage."""
    return [text("You said: "), text(prompt_of(request)), usage(3, 4)]


def counted(read_rows: list[int], rows: int = 1000) -> Iterator[str]:
    """Yield prompts and record how many have been read."""
    for number in range(1, rows + 1):
        read_rows.append(number)
        yield f"prompt {number}"


def test_every_input_has_one_result_with_all_fields() -> None:
    """Input, text, outcome, usage, attempts, seconds, and no error."""
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
    """The first answer is the slowest, and is still yielded first."""
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
    """A slow answer does not hold up the others."""
    go = threading.Event()

    def script(request: Request) -> Any:
        return [wait(go), "slow"] if prompt_of(request) == PROMPTS[0] else "quick"

    with serve(script) as server:
        results = batch.map(provider_of(server), PROMPTS, concurrency=2)
        quick = [next(results).text for _ in PROMPTS[1:]]
        go.set()
        assert [*quick, next(results).text] == ["quick"] * 19 + ["slow"]
        assert next(results, None) is None


def test_inputs_are_read_lazily() -> None:
    """At most twice as many rows as streams are read ahead, whatever the input's length."""
    read_rows: list[int] = []
    with serve(echo) as server:
        results = batch.map(provider_of(server), counted(read_rows), concurrency=4)
        assert read_rows == []
        for number in range(1, 30):
            next(results)
            assert len(read_rows) <= number + 8
        results.close()


def test_no_more_streams_than_concurrency() -> None:
    """Each stream has one connection, which is reused."""
    with serve(echo) as server:
        list(batch.map(provider_of(server), PROMPTS, concurrency=3))
        assert len(server.connections) <= 3


def test_many_rows_cost_constant_memory() -> None:
    """Five thousand rows, rejected before they are sent, leave nothing in memory."""
    provider = OpenAICompatible("m", base_url="http://127.0.0.1:9")
    results = batch.map(provider, ({"prompt": None, "n": n} for n in range(5000)))
    next(results)
    tracemalloc.start()
    errors = sum(result.error is not None for result in results)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert errors == 4999
    assert peak < 200_000  # forty bytes per row


@pytest.mark.parametrize("how", ["close", "drop"])
def test_closing_the_generator_stops_every_stream_at_once(how: str) -> None:
    """The connections are closed, and no further row is sent."""
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
        started = time.monotonic()
        if how == "close":
            results.close()
        del results
        gc.collect()
        for connection in stalled:
            server.wait_closed(connection)
        assert time.monotonic() - started < 1
        assert len(server.requests) <= 5


def test_a_generator_that_is_never_iterated_does_nothing() -> None:
    """It starts no thread and creates no file."""
    batch.map(OpenAICompatible("m"), PROMPTS, ledger="/nowhere/at/all").close()


def test_a_failed_row_is_recorded_and_the_others_continue() -> None:
    """The error is in the result; nothing is raised."""

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
    """The loop raises it, and all streams are stopped."""

    def script(request: Request) -> Any:
        return status(400, "No") if prompt_of(request) == PROMPTS[2] else [text("…"), stall()]

    with serve(script) as server, pytest.raises(APIStatusError, match="No"):
        list(batch.map(provider_of(server), PROMPTS, on_error="raise"))


def test_a_cut_answer_keeps_its_text_and_is_not_retried() -> None:
    """The partial text is in the result, as in every error."""
    with serve([text("Hel"), text("lo"), cut()]) as server:
        (result,) = batch.map(provider_of(server), ["Hi"])
        assert len(server.requests) == 1
    assert (result.text, result.outcome) == ("Hello", Outcome.CUT)
    assert isinstance(result.error, StreamCut)


def test_tool_calls_and_reasoning_are_in_the_message() -> None:
    """An answer without text is a valid answer."""
    script = [reasoning("Hm"), tool_call("weather", {"city": "Oslo"})]
    with serve(script) as server:
        (result,) = batch.map(provider_of(server), ["Hi"])
    assert (result.error, result.text, result.message["content"]) == (None, "", None)
    assert result.message["reasoning_content"] == "Hm"
    (call,) = result.message["tool_calls"]
    assert call["type"] == "function"
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}


def test_rows_of_every_kind_are_sent() -> None:
    """Prompts, messages, dicts, and lines of OpenAI's batch input with their own body."""
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


def test_an_invalid_row_fails_alone() -> None:
    """Each error names its row and the problem; the valid row between them is sent."""
    inputs: list[Any] = [
        5,
        {"question": "x"},
        "good",
        {"custom_id": 5.5, "prompt": "x"},
        {"custom_id": "u", "url": "/v1/embeddings", "body": {"input": "x"}},
        {"custom_id": "h", "body": {"messages": "x", "headers": {"X": "y"}}},
        {"custom_id": "t", "body": {"messages": "x", "timeout": 5}},
        {"custom_id": 10**5000, "prompt": "x"},
    ]
    with serve(echo) as server:
        results = list(batch.map(provider_of(server), inputs, ordered=True))
        assert len(server.requests) == 1
    errors = [str(each.error) for each in results]
    assert "not int" in errors[0]
    assert errors[1].startswith("row 2 needs a 'prompt', 'messages', OpenAI's 'body', or a ")
    assert errors[1].endswith("; it has 'question'")
    assert errors[2] == "None"
    assert errors[3] == "custom_id must be text, not float"
    assert errors[4].startswith("row 5 requests POST /v1/embeddings; only POST ")
    assert errors[5] == "row 6 has 'headers' in its 'body': remove it"
    assert "timeouts=" in errors[6]
    assert errors[7] == "custom_id has too many digits: write it as text"
    assert [each.attempts for each in results] == [0, 0, 1, 0, 0, 0, 0, 0]


def test_an_error_of_the_inputs_is_raised_after_the_answers() -> None:
    """Requests in progress finish and are yielded, then the input's own error is raised."""

    def inputs() -> Iterator[str]:
        yield "one"
        yield "two"
        raise LookupError("the file is missing")

    with serve(echo) as server:
        results = batch.map(provider_of(server), inputs())
        assert sorted([next(results).input, next(results).input]) == ["one", "two"]
        with pytest.raises(LookupError, match="the file is missing"):
            next(results)


@pytest.mark.parametrize(
    ("options", "message"),
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
def test_invalid_arguments_raise_at_once(options: dict[str, Any], message: str) -> None:
    """They do not wait for the first ``next()``, and the error names the argument."""
    inputs = options.pop("inputs", PROMPTS)
    with pytest.raises(InvalidRequestError, match=message):
        batch.map(OpenAICompatible("m"), inputs, **options)


def test_a_script_that_fails_does_not_wait_for_its_answers() -> None:
    """The default threads are daemons: the interpreter exits while the server is silent."""
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
    """``import providers_sync`` does not pay for batch, and batch loads neither dask nor rich."""
    code = """
import sys, providers_sync
assert "providers_sync.batch" not in sys.modules
import providers_sync.batch
assert not {"distributed", "rich", "asyncio", "argparse", "tenacity"} & set(sys.modules)
"""
    subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
    )


# --- timeouts apply to an answer that is read in the worker's own thread


@pytest.mark.parametrize(
    ("script", "timeouts", "outcome", "prefix"),
    [
        (stall(), {"first_token": 0.2}, Outcome.STALLED, ""),
        ([text("Hel"), stall()], {"idle": 0.2}, Outcome.STALLED, "Hel"),
        ([repeat(text("x"), pause(0.02))], {"total": 0.3}, Outcome.DEADLINE, "xxx"),
        ([ping(0.02)], {"first_token": 0.3}, Outcome.STALLED, ""),
    ],
)
def test_every_timeout_expires(script: Any, timeouts: Any, outcome: Outcome, prefix: str) -> None:
    """The row ends in time, with the timeout's name and the partial text."""
    started = time.monotonic()
    with serve(script) as server:
        provider = provider_of(server, timeouts=Timeouts(**timeouts))
        (result,) = batch.map(provider, ["Hi"])
    assert isinstance(result.error, APITimeoutError)
    assert result.error.clock == next(iter(timeouts))
    assert (result.outcome, result.text[:3]) == (outcome, prefix)
    assert time.monotonic() - started < 1.5


def test_the_connect_timeout_expires(blackhole: tuple[str, int]) -> None:
    """A host that never answers the handshake ends with a connect timeout."""
    host, port = blackhole
    timeouts = Timeouts(connect=0.2)
    provider = OpenAICompatible("m", base_url=f"http://{host}:{port}", timeouts=timeouts, retry=1)
    (result,) = batch.map(provider, ["Hi"])
    assert isinstance(result.error, APITimeoutError)
    assert result.error.clock == "connect"


def test_a_long_answer_does_not_wait_for_the_caller() -> None:
    """An answer larger than a stream's buffer is read completely."""
    with serve([repeat(text("x" * 50_000), times=40)]) as server:
        (result,) = batch.map(provider_of(server), ["Hi"])
    assert (result.error, len(result.text)) == (None, 2_000_000)


def test_a_failover_is_a_provider_like_any_other() -> None:
    """The second provider answers if the first fails."""
    with serve(status(500)) as bad, serve(echo) as good:
        provider = Failover([provider_of(bad), provider_of(good)])
        results = list(batch.map(provider, PROMPTS[:4]))
    assert [each.error for each in results] == [None] * 4
