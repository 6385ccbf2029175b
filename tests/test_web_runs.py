"""Runs as the body of a WSGI response: the events of all rounds, and a browser that leaves."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest

from providers_sync import CancelToken, OpenAICompatible, Outcome, Pause
from providers_sync.testing import answer, serve, text, tool_call
from providers_sync.web import SSE_HEADERS, bodies, plain, sse

WAIT_S = 10.0
CANCEL_S = 1.0
CALL = tool_call("add", {"a": 1, "b": 2})
ROUNDS = [answer(text("Let me see. "), CALL), answer(text("It is 3."))]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def openai(url: str) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, retry=1)


def events(body: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the events of a body."""
    blocks = b"".join(body).decode("ascii").split("\n\n")
    parts = [block.split("\ndata: ") for block in blocks if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data)) for name, data in parts]


@pytest.mark.parametrize("method", ["run", "prepare_run"])
def test_events_of_all_rounds(method: str) -> None:
    """Text, the call, its result, more text, and one ``done`` for the entire run."""
    with serve(ROUNDS) as server:
        sent = events(sse(getattr(openai(server.url), method)("1 + 2?", tools=[add])))
    assert [name for name, _ in sent] == ["delta", "tool_call", "tool_result", "delta", "done"]
    seconds = sent[2][1].pop("seconds")
    assert 0 <= seconds < WAIT_S
    assert sent[2][1] == {"id": "call_1", "name": "add", "content": "3", "is_error": False}
    assert (sent[-1][1]["outcome"], sent[-1][1]["is_whole"]) == ("complete", True)


def test_result_of_a_failed_function() -> None:
    """The model is told the words of the exception, the browser is not: they may be secret."""

    def add(a: int, b: int) -> None:
        raise ConnectionError("cannot reach postgresql://me:secret@localhost")

    with serve(ROUNDS) as server:
        sent = events(sse(openai(server.url).prepare_run("Hi", tools=[add])))
    assert [name for name, _ in sent] == ["delta", "tool_call", "tool_result", "delta", "done"]
    assert sent[2][1]["is_error"] is True
    assert sent[2][1]["content"] == "The function was not called, or it failed."
    assert "secret" not in repr(sent)
    assert "secret@localhost" in server.requests[1].json()["messages"][-1]["content"]


def test_result_ends_no_event() -> None:
    """It is on one line, whatever the function returns."""

    def add(a: int, b: int) -> str:
        return "no\n\nevent: done\ndata: {}\ud800"

    with serve(ROUNDS) as server:
        sent = events(sse(openai(server.url).prepare_run("Hi", tools=[add])))
    assert [name for name, _ in sent] == ["delta", "tool_call", "tool_result", "delta", "done"]
    assert "event: done" in sent[2][1]["content"]


def test_paused_run() -> None:
    """``done`` says so, with words; plain text ends with the text so far."""
    with serve([ROUNDS[0]] * 2) as server:
        provider = openai(server.url)
        run = provider.run("Hi", tools=[add], approve=lambda call: Pause)
        name, data = events(sse(run))[-1]
        assert (name, data["outcome"], data["is_whole"]) == ("done", "paused", False)
        assert data["note"] == "the answer is paused: a tool call needs approval"
        assert run.messages[-1]["tool_calls"]
        again = provider.prepare_run("Hi", tools=[add], approve=lambda call: Pause)
        assert b"".join(plain(again)) == b"Let me see. "


def test_run_that_cannot_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """The browser gets a fixed sentence; the words are in the log."""
    with serve([ROUNDS[0]]) as server:
        sent = events(sse(openai(server.url).prepare_run("Hi", tools=[add], max_rounds=1)))
    (error, data), (last, done) = sent[-2:]
    assert (error, data["kind"], last, done["outcome"]) == ("error", "ToolError", "done", "failed")
    assert "max_rounds" not in data["message"]
    assert "max_rounds" in caplog.text


def test_error_of_approve_ends_the_body() -> None:
    """It is the program's own: the WSGI server logs it, and the run has ended."""

    def approve(call: Any) -> bool:
        raise LookupError("no policy")

    with serve(ROUNDS) as server:
        run = openai(server.url).run("Hi", tools=[add], approve=approve)
        with pytest.raises(LookupError, match="no policy"):
            b"".join(sse(run))
        assert run.outcome is Outcome.CANCELLED
        assert len(server.requests) == 1


# --- on a server


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@contextmanager
def serving(make_body: Callable[[], Any]) -> Iterator[http.client.HTTPResponse]:
    """Serve one request over WSGI; yield the response, and close the connection at the end."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(SSE_HEADERS.items()))
        return make_body()

    with make_server("127.0.0.1", 0, app, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=WAIT_S)
            with closing(connection):
                connection.request("POST", "/")
                with connection.getresponse() as response:
                    yield response
        finally:
            thread.join(WAIT_S)
            assert not thread.is_alive()


def read_until(response: http.client.HTTPResponse, expected: bytes) -> bytes:
    """Read the body until it ends with this."""
    seen = b""
    while not seen.endswith(expected):
        more = response.read1()
        assert more, f"ended after {seen!r}"
        seen += more
    return seen


def test_disconnect_while_a_function_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comments go on; the token is cancelled within a second, and the model is not asked again."""
    monkeypatch.setattr(bodies, "KEEP_ALIVE_S", 0.05)
    begun, ended = threading.Event(), threading.Event()
    tokens: list[CancelToken] = []

    def add(a: int, b: int, cancel: CancelToken) -> None:
        tokens.append(cancel)
        begun.set()
        ended.wait(WAIT_S)

    with serve(ROUNDS) as server:
        with serving(lambda: sse(openai(server.url).prepare_run("Hi", tools=[add]))) as response:
            assert begun.wait(WAIT_S)
            seen = read_until(response, b":\n\n" * 2)
            assert b"event: tool_call" in seen
            assert not tokens[0].cancelled
            left_at = time.monotonic()
        while not tokens[0].cancelled:
            assert time.monotonic() - left_at < CANCEL_S
            time.sleep(0.01)
        ended.set()
        assert len(server.requests) == 1


def test_comments_while_a_function_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stop at its end; the answer goes on on the same connection."""
    monkeypatch.setattr(bodies, "KEEP_ALIVE_S", 0.01)
    go_on = threading.Event()

    def add(a: int, b: int) -> int:
        assert go_on.wait(WAIT_S)
        return a + b

    with (
        serve(ROUNDS) as server,
        serving(lambda: sse(openai(server.url).prepare_run("Hi", tools=[add]))) as response,
    ):
        read_until(response, b":\n\n" * 5)
        go_on.set()
        rest = [name for name, _ in events([response.read()])]
    assert rest == ["tool_result", "delta", "done"]
