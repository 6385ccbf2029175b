"""``providers_sync.otel``: its settings, contents, metrics, broken telemetry, forks and its end."""

from __future__ import annotations

import configparser
import contextlib
import gc
import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from faults.phases import wait_until
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from otel_kit import Memory, openai, said
from test_processes import FORK_WARNING, FORKS, in_child

from providers_sync import OpenAICompatible, ToolError, otel
from providers_sync.otel.contents import LONGEST_TEXT
from providers_sync.testing import answer, finish, reasoning, serve, stall, text, tool_call, usage

ROOT = Path(__file__).parent.parent
CONTENTS = {"gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"}


@contextlib.contextmanager
def instrumented(memory: Memory | None = None, **settings: Any) -> Iterator[Memory]:
    found = memory or Memory()
    found.instrument(**settings)
    try:
        yield found
    finally:
        found.shutdown()


# --- contents


def parts(kind: str, *required: str) -> dict[str, Any]:
    return {"properties": {"type": {"const": kind}}, "required": ["type", *required]}


MESSAGES = {
    "type": "array",
    "items": {
        "required": ["role", "parts"],
        "properties": {
            "parts": {
                "items": {
                    "anyOf": [
                        parts("text", "content"),
                        parts("reasoning", "content"),
                        parts("tool_call", "name"),
                        parts("tool_call_response", "response"),
                        parts("omitted"),
                    ]
                }
            }
        },
    },
}
"""The parts of the conventions' schemas that are used here, and our own ``omitted``."""


def weather(city: str) -> str:
    """The weather in a city now."""
    return f"rain in {city}"


def test_contents_have_the_form_of_the_conventions(tmp_path: Path) -> None:
    """Question, answer, and what functions are told and tell; files are not read."""
    call = tool_call("weather", {"city": "Oslo"}, id="a")
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    question = [
        {
            "role": "user",
            "content": [{"type": "text", "text": "Look"}, {"type": "image", "image": image}],
        },
        {
            "role": "assistant",
            "content": "Well",
            "tool_calls": [
                {"id": "z", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "z", "content": "sun"},
        {"role": "user", "content": "And now?"},
    ]
    script = [[call], [reasoning("Hm"), text("Rain.")]]
    with serve(script) as server, instrumented(capture_content=True) as memory:
        run = openai(server.url).run(question, tools=[weather], system="Be brief.")
        assert run.read() == "Rain."
    found, (tool,) = said(memory.call()), memory.spans("execute_tool")
    sent = json.loads(found["gen_ai.input.messages"])
    received = json.loads(found["gen_ai.output.messages"])
    jsonschema.validate(sent, MESSAGES)
    jsonschema.validate(received, MESSAGES)
    assert json.loads(found["gen_ai.system_instructions"]) == [
        {"type": "text", "content": "Be brief."}
    ]
    assert sent == [
        {
            "role": "user",
            "parts": [{"type": "text", "content": "Look"}, {"type": "omitted", "kind": "image"}],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "text", "content": "Well"},
                {"type": "tool_call", "id": "z", "name": "weather", "arguments": "{}"},
            ],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "z", "response": "sun"}],
        },
        {"role": "user", "parts": [{"type": "text", "content": "And now?"}]},
    ]
    assert received == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Hm"},
                {"type": "text", "content": "Rain."},
                {
                    "type": "tool_call",
                    "id": "a",
                    "name": "weather",
                    "arguments": '{"city": "Oslo"}',
                },
            ],
            "finish_reason": "stop",
        }
    ]
    assert said(tool)["gen_ai.tool.call.arguments"] == '{"city": "Oslo"}'
    assert said(tool)["gen_ai.tool.call.result"] == "rain in Oslo"


def test_failed_contents_cost_no_span(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they cannot be told, the rest is."""
    for name in ("of_input", "of_output"):
        monkeypatch.setattr(f"providers_sync.otel.contents.{name}", lambda _: 1 / 0)
    with serve([["Hi"]]) as server, instrumented(capture_content=True) as memory:
        openai(server.url).complete("Hi")
    assert said(memory.call())["providers_sync.outcome"] == "complete"


def test_lone_surrogates_can_be_exported() -> None:
    """They have no UTF-8 form, and an exporter would drop its whole batch."""
    call = tool_call("weather", {"city": "\ud800"}, id="\ud800")
    script = [[call], ["\ud800", finish("\ud800")]]
    with serve(script) as server, instrumented(capture_content=True) as memory:
        run = openai(server.url).run("\ud800", tools=[weather], system="\ud800")
        run.read()
    values = [value for span in memory.spans() for value in said(span).values()]
    for value in values:
        for word in value if isinstance(value, tuple) else [value]:
            assert str(word).encode()
    assert json.loads(said(memory.call())["gen_ai.input.messages"])[0]["parts"][0] == {
        "type": "text",
        "content": "\ud800",
    }


@pytest.mark.parametrize(
    ("variable", "argument", "is_kept"),
    [
        (None, None, False),
        ("true", None, True),
        ("SPAN_ONLY", None, True),
        ("span_and_event", None, True),
        ("EVENT_ONLY", None, False),
        ("NO_CONTENT", None, False),
        ("true", False, False),
        (None, True, True),
    ],
)
def test_contents_are_kept_only_if_asked_for(
    variable: str | None, argument: bool | None, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the argument, or else by the environment variable."""
    monkeypatch.delenv(otel.CONTENT_VARIABLE, raising=False)
    if variable is not None:
        monkeypatch.setenv(otel.CONTENT_VARIABLE, variable)
    with serve(["Hi"]) as server, instrumented(capture_content=argument) as memory:
        openai(server.url).complete("Hello", system="Be brief.")
    assert bool(CONTENTS & set(said(memory.call()))) == is_kept


def test_pictures_in_the_result_of_a_tool_are_left_out() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    call = {"id": "1", "type": "function", "function": {"name": "draw", "arguments": "{}"}}
    result = {
        "role": "tool",
        "tool_call_id": "1",
        "content": [{"type": "text", "text": "Look"}, picture],
    }
    with serve(["Hi"]) as server, instrumented(capture_content=True) as memory:
        openai(server.url).complete([{"role": "assistant", "tool_calls": [call]}, result])
    (part,) = json.loads(said(memory.call())["gen_ai.input.messages"])[1]["parts"]
    assert part["response"][1] == {"type": "omitted", "kind": "image_url"}


def test_span_of_messages_that_cannot_be_written_ends_without_them() -> None:
    """A server of one's own may take what no other does."""
    odd: Any = [{"role": "assistant", "content": "x", "tool_calls": ["odd"]}]
    with serve(["Hi"]) as server, instrumented(capture_content=True) as memory:
        openai(server.url).complete(odd)
    found = said(memory.call())
    assert "gen_ai.input.messages" not in found
    assert found["providers_sync.outcome"] == "complete"


def test_contents_are_cut_to_a_limit() -> None:
    """All texts of an attribute together; the JSON stays whole."""
    long = "ab" * LONGEST_TEXT
    question = [{"role": "user", "content": word} for word in ("short", long, "more")]
    with serve([[long]]) as server, instrumented(capture_content=True) as memory:
        assert openai(server.url).complete(question).text == long
    found = said(memory.call())
    sent = [each["parts"][0]["content"] for each in json.loads(found["gen_ai.input.messages"])]
    assert [sent[0], sent[2]] == ["short", "… (4 characters left out)"]
    assert sent[1].startswith("abab")
    assert sent[1].endswith(f"… ({LONGEST_TEXT + 5} characters left out)")
    assert len(found["gen_ai.output.messages"]) < LONGEST_TEXT + 200


# --- metrics


def test_metrics_have_the_names_and_buckets_of_the_conventions() -> None:
    """Two counters are ours. The server's name of its model, which may be anything, is left out."""
    with serve([[text("Hi"), usage(30, 5)]]) as server, instrumented() as memory:
        reply = openai(server.url).complete("Hello")
    metrics = memory.metrics()
    host, port = server.url.removeprefix("http://").split(":")
    names = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "server.address": host,
        "server.port": int(port),
    }
    assert set(metrics) == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.token.usage",
        "providers_sync.client.outcomes",
    }
    ((attributes, duration),) = metrics["gen_ai.client.operation.duration"]
    assert attributes == names
    assert duration.sum == pytest.approx(reply.stats.duration_s)
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert duration.explicit_bounds[-1] == 81.92
    tokens = {
        each["gen_ai.token.type"]: found for each, found in metrics["gen_ai.client.token.usage"]
    }
    assert {kind: found.sum for kind, found in tokens.items()} == {"input": 30, "output": 5}
    assert tokens["input"].explicit_bounds == (
        *(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216),
        67108864,
    )


def test_calls_that_are_not_sampled_have_metrics_and_no_spans() -> None:
    """Nor have their attempts and functions spans, and contents are not even put together."""
    script = [[tool_call("weather", {"city": "Oslo"})], ["Rain."]]
    with serve(script) as server, instrumented(Memory(sampler=ALWAYS_OFF)) as memory:
        run = openai(server.url).run("Weather?", tools=[weather])
        assert run.read() == "Rain."
    assert memory.spans() == []
    assert {"gen_ai.client.operation.duration", "gen_ai.execute_tool.duration"} <= set(
        memory.metrics()
    )


# --- telemetry that is broken


class BadProcessor(SpanProcessor):
    """Raises in one of its methods."""

    def __init__(self, method: str) -> None:
        self._method = method

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self._method == "on_start":
            raise ValueError("my secret prompt")

    def on_end(self, span: ReadableSpan) -> None:
        if self._method == "on_end":
            raise ValueError("my secret prompt")


class BadSampler(Sampler):
    """Raises, or answers with nonsense."""

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        raise ValueError("my secret prompt")

    def get_description(self) -> str:
        return "bad"


class BadMeters:
    """A meter whose instruments raise."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("create_"):
            return lambda *_, **__: self

        def fail(*_: Any) -> None:
            raise ValueError("my secret prompt")

        return self if name == "get_meter" else fail

    def __call__(self, *_: Any, **__: Any) -> BadMeters:
        return self


@pytest.mark.parametrize("part", ["on_start", "on_end", "sampler", "meters"])
def test_broken_telemetry_breaks_no_answer(part: str, caplog: pytest.LogCaptureFixture) -> None:
    """Runs with functions too. The first failure is logged, without its text."""
    memory = Memory(**({"sampler": BadSampler()} if part == "sampler" else {}))
    if part.startswith("on_"):
        memory.tracers.add_span_processor(BadProcessor(part))
    if part == "meters":
        memory.meters.shutdown()
        memory.meters = BadMeters()  # type: ignore[assignment]
    script = [["Hi"], [tool_call("weather", {"city": "Oslo"})], ["Rain."]]
    with serve(script) as server, contextlib.suppress(ValueError):
        memory.instrument()
        try:
            assert openai(server.url).complete("Hi").text == "Hi"
            run = openai(server.url).run("Weather?", tools=[weather])
            assert run.read() == "Rain."
            assert run.messages[-2]["content"] == "rain in Oslo"
        finally:
            otel.uninstrument()
            memory.tracers.shutdown()
    (record,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert record.getMessage().startswith("telemetry is incomplete: ValueError in ")
    assert "secret" not in caplog.text


class Locked(SpanProcessor):
    """Takes a lock at the end of a span, as exporters do: not one that a thread may take twice."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.names: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        with self.lock:
            self.names.append(span.name)


@pytest.mark.parametrize("way", ["finalizer", "signal handler"])
def test_stop_inside_of_the_telemetry_does_not_hang(way: str) -> None:
    """A finalizer and a signal handler run in a thread that may hold the lock of an exporter."""
    memory, locked = Memory(), Locked()
    memory.tracers.add_span_processor(locked)
    with serve([answer("Hel", stall())]) as server, instrumented(memory):
        stream = openai(server.url).stream("Hi")
        assert next(stream) == "Hel"
        before = signal.signal(signal.SIGUSR1, lambda *_: stream.cancel())
        try:
            with locked.lock:
                if way == "finalizer":
                    signal.signal(signal.SIGUSR1, before)
                    del stream
                    gc.collect()
                else:
                    os.kill(os.getpid(), signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        wait_until(lambda: "chat m" in locked.names)


def test_exporter_that_waits_holds_up_no_other_stream() -> None:
    """The reader thread, which reads all streams, ends no span."""
    go, names = threading.Event(), []

    class Slow(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            names.append(threading.current_thread().name)
            go.wait(20)

    memory = Memory()
    memory.tracers.add_span_processor(Slow())
    with serve([["Hi", stall()], ["Ho"]]) as server, instrumented(memory):
        first = openai(server.url).stream("Hi")
        assert next(first) == "Hi"
        first.cancel()
        wait_until(lambda: bool(names))  # the exporter holds a worker up
        with instrumented(Memory()):
            assert openai(server.url).complete("Ho").text == "Ho"
        assert memory.spans("chat m") == []
        go.set()
        wait_until(lambda: len(names) == 2)
    assert set(names) == {"providers-sync-request"}


# --- processes, and the state of the process


@FORKS
@FORK_WARNING
def test_forked_child_ends_no_span_of_its_parent() -> None:
    """Each span is exported once, and calls of the child have spans of their own."""
    with serve([answer("Hel", stall()), ["Hi"]]) as server, instrumented() as memory:
        stream = openai(server.url).stream("Hi")
        assert next(stream) == "Hel"

        def child() -> Any:
            with contextlib.suppress(Exception):
                stream.read()
            stream.close()
            gc.collect()
            inherited = len(memory.spans())
            assert openai(server.url).complete("Hi").text == "Hi"
            return inherited, len(memory.spans("chat m"))

        assert in_child(child) == (0, 1)
        stream.close()
        assert len(memory.spans("chat m")) == 1


def test_providers_hold_nothing_of_it() -> None:
    """A pickled one works in a process without OpenTelemetry."""
    with instrumented():
        provider = OpenAICompatible("m")
        data = pickle.dumps(provider)
    assert b"opentelemetry" not in data
    assert pickle.loads(data).model == "m"


def test_no_span_after_uninstrument_and_none_twice() -> None:
    """``instrument`` again replaces the settings."""
    with serve([["Hi"], ["Hi"], ["Hi"]]) as server:
        first = Memory()
        first.instrument()
        with instrumented() as second:
            openai(server.url).complete("Hi")
        openai(server.url).complete("Hi")
        first.shutdown()
    assert (len(first.spans("chat m")), len(second.spans("chat m"))) == (0, 1)


def test_suppressed_call_has_no_span() -> None:
    """As inside of an exporter that asks a model."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with serve(["Hi"]) as server, instrumented() as memory, suppress_instrumentation():
        openai(server.url).complete("Hi")
    assert memory.spans() == []


def test_call_of_an_exporter_has_no_span() -> None:
    """The processors of the SDK have a key of their own; an exporter would call itself forever."""
    exported: list[str] = []

    class Asks(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            exported.extend(span.name for span in spans)
            if len(exported) < 20:
                openai(server.url).complete("Which name fits?")
            return SpanExportResult.SUCCESS

    memory = Memory()
    memory.tracers.add_span_processor(SimpleSpanProcessor(Asks()))
    with serve(["Hi"]) as server, instrumented(memory):
        openai(server.url).complete("Hi")
    assert exported == ["chat attempt", "chat m"]


def test_attempt_that_begins_while_the_call_is_closed_has_an_end() -> None:
    """Its span may still be starting, in the worker's thread."""
    starting, go = threading.Event(), threading.Event()

    class Slow(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            if span.name == "chat attempt":
                starting.set()
                go.wait(20)

    memory = Memory()
    memory.tracers.add_span_processor(Slow())
    with serve(["Hi"]) as server, instrumented(memory):
        stream = openai(server.url).prepare("Hi").begin()
        assert starting.wait(20)
        stream.close()
        assert memory.call()
        go.set()
        wait_until(lambda: len(memory.spans("chat attempt")) == 1)


def test_function_that_the_journal_refuses_has_no_span(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not called: a span of it would never end."""
    started: list[str] = []

    class Notes(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            started.append(span.name)

    def full(*_: Any) -> None:
        raise ToolError("no space left on device")

    monkeypatch.setattr("providers_sync.tools.journal.Journal.begin", full)
    memory = Memory()
    memory.tracers.add_span_processor(Notes())
    with serve([[tool_call("weather", {"city": "Oslo"})]]) as server, instrumented(memory):
        run = openai(server.url).run("Hi", tools=[weather], journal=tmp_path / "journal")
        with pytest.raises(ToolError):
            run.read()
    assert sorted(started) == sorted(span.name for span in memory.spans())


def test_metrics_do_not_need_the_span() -> None:
    """A processor that raises costs no count."""
    memory = Memory()
    memory.tracers.add_span_processor(BadProcessor("on_end"))
    with serve([[text("Hi"), usage(30, 5)]]) as server, instrumented(memory):
        openai(server.url).complete("Hi")
    assert "gen_ai.client.token.usage" in memory.metrics()


def run_python(code: str, *arguments: str, **environment: str) -> str:
    path = os.pathsep.join([environment.pop("path", ""), str(ROOT), str(ROOT / "tests")])
    command = [*(arguments or [sys.executable]), "-W", "ignore::DeprecationWarning", "-c", code]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_loaded_without_it() -> None:
    """Neither by ``import providers_sync`` nor by a call."""
    with serve(["Hi"]) as server:
        code = (
            "import sys, providers_sync\n"
            f"p = providers_sync.OpenAICompatible('m', base_url={server.url + '/v1'!r})\n"
            "print(p.complete('Hi').text, 'providers_sync.otel' in sys.modules,"
            " any(name.startswith('opentelemetry') for name in sys.modules))"
        )
        assert run_python(code).split() == ["Hi", "False", "False"]


def test_missing_package_is_named() -> None:
    """With what installs it."""
    code = (
        "import sys\nsys.modules['opentelemetry'] = None\n"
        "try:\n    from providers_sync import otel\nexcept ImportError as error: print(error)"
    )
    assert "pip install 'providers-sync[otel]'" in run_python(code)


APP = """
import sys
from otel_kit import InMemorySpanExporter, SimpleSpanProcessor, TracerProvider, openai
from opentelemetry import trace
exporter, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
openai({url!r}).complete("Hi")
print([span.name for span in exporter.get_finished_spans()])
"""


def test_command_of_opentelemetry_finds_it(tmp_path: Path) -> None:
    """By the entry point of ``setup.cfg``; the program needs no line for it."""
    command = Path(sys.executable).with_name("opentelemetry-instrument")
    assert shutil.which(command), "opentelemetry-instrumentation is not installed"
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    points = setup["options.entry_points"]["opentelemetry_instrumentor"]
    folder = tmp_path / "with_entry_point-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: with-entry-point\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(f"[opentelemetry_instrumentor]\n{points}\n")
    with serve(["Hi"]) as server:
        printed = run_python(
            APP.format(url=server.url),
            str(command),
            sys.executable,
            path=str(tmp_path),
            OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="requests,urllib3,threading",
        )
    assert printed.strip() == "['chat attempt', 'chat m']"


def test_last_span_of_a_script_is_not_lost() -> None:
    """Also of a stream that the script has cancelled just before, or that is still open."""
    code = """
import sys
from otel_kit import SimpleSpanProcessor, TracerProvider, openai
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from providers_sync import otel
provider = TracerProvider()
exporter = ConsoleSpanExporter(formatter=lambda span: span.name + "\\n")
provider.add_span_processor(SimpleSpanProcessor(exporter))
otel.instrument(tracer_provider=provider)
stream = openai({url!r}).stream("Hi")
{end}
"""
    ends = ("stream.read()", "next(stream); stream.close()", "next(stream); stream.cancel()")
    still_open = "next(stream)"
    off = "next(stream); stream.cancel(); otel.uninstrument()"
    for end in (*ends, "stop = stream.cancel; next(stream); del stream, stop", still_open, off):
        with serve(["Hi"]) as server:
            printed = run_python(code.format(url=server.url, end=end))
        assert printed.split("\n").count("chat m") == 1, end


def test_decision_of_a_sampler_is_made_with_the_names() -> None:
    """What is asked and where is known when the span starts."""
    seen: list[Any] = []

    class Sees(Sampler):
        def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
            seen.append(dict(arguments[4] if len(arguments) > 4 else named["attributes"]))
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "sees"

    with serve(["Hi"]) as server, instrumented(Memory(sampler=Sees())):
        openai(server.url).complete("Hi")
    assert set(seen[0]) == {
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "server.address",
        "server.port",
    }
