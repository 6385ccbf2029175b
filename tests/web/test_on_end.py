"""Tests of ``on_end``: an app can store every answer, however it ends, once, before ``done``."""

from __future__ import annotations

import contextvars
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running import CANCEL_S, Upstream, events
from servers import run_on
from test_servers import post, read_until

from providers_sync import CancelToken, Completion, OpenAICompatible, Pause, ProviderError
from providers_sync.testing import (
    Server,
    cut,
    finish,
    pause,
    repeat,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
)
from providers_sync.web import WSGIBody, plain, sse

BOTH = pytest.mark.parametrize("make", [sse, plain])


def openai(server: Server) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=server.url, retry=1)


def read_all(body: WSGIBody) -> list[bytes]:
    """Read and close a body as a WSGI server does."""
    chunks = []
    try:
        chunks.extend(body)
    except ProviderError:
        pass  # of ``plain``
    finally:
        body.close()
        body.close()
    return chunks


ENDS: dict[str, tuple[Any, str, str]] = {
    "complete": ([text("Hel"), text("lo")], "complete", "Hello"),
    "limit": ([text("Hel"), finish("length")], "complete", "Hel"),
    "cut": ([text("Hel"), cut()], "cut", "Hel"),
    "refused": (status(401), "failed", ""),
}


@BOTH
@pytest.mark.parametrize("method", ["stream", "prepare"])
@pytest.mark.parametrize("end", ENDS)
def test_each_end_is_told_once(make: Callable[..., WSGIBody], method: str, end: str) -> None:
    script, outcome, words = ENDS[end]
    ended: list[Completion] = []
    with serve(script) as server:
        if (end, method) != ("refused", "stream"):  # that raises in the view
            read_all(make(getattr(openai(server), method)("Hi"), on_end=ended.append))
            assert [(each.outcome, each.text) for each in ended] == [(outcome, words)]
            assert ended[0].is_whole == (end == "complete")


def test_completion_is_the_whole_answer() -> None:
    ended: list[Completion] = []
    script = [text("Hello"), tool_call("f", {"a": 1}), usage(3, 4), finish("tool_calls")]
    with serve(script) as server:
        read_all(sse(openai(server).prepare("Hi"), on_end=ended.append))
        expected = openai(server).complete("Hi")
    (found,) = ended
    assert (found.message, found.usage) == (expected.message, expected.usage)
    assert found.tool_calls == expected.tool_calls != ()


@BOTH
@pytest.mark.parametrize("method", ["stream", "prepare"])
def test_browser_that_leaves(make: Callable[..., WSGIBody], method: str) -> None:
    """All text that had arrived is in it."""
    ended: list[Completion] = []
    with serve([text("Hel"), stall()]) as server:
        body = make(getattr(openai(server), method)("Hi"), on_end=ended.append)
        seen = b""
        while b"Hel" not in seen:
            seen += next(body)
        body.close()
        body.close()
        server.wait_closed(timeout=1)
    assert [(each.outcome, each.text) for each in ended] == [("cancelled", "Hel")]


@BOTH
@pytest.mark.parametrize("method", ["prepare", "prepare_run"])
def test_body_that_is_never_read(make: Callable[..., WSGIBody], method: str) -> None:
    """Nothing was sent; the app learns that the question has no answer."""
    ended: list[Completion] = []
    more = {"tools": [len]} if method == "prepare_run" else {}
    with serve() as server:
        body = make(getattr(openai(server), method)("Hi", **more), on_end=ended.append)
        assert body.stream is None
        body.close()
        assert list(body) == []
        assert server.requests == []
    assert [(each.outcome, each.text, each.model) for each in ended] == [("cancelled", "", "m")]
    assert body.stream is not None


def test_other_code_that_cancels() -> None:
    token, ended = CancelToken(), []
    with serve([text("Hel"), stall()]) as server:
        body = sse(openai(server).prepare("Hi", cancel=token), on_end=ended.append)
        while b"Hel" not in next(body):
            pass
        token.cancel()
        assert [name for name, _ in events(body)] == ["error", "done"]
        body.close()
    assert [(each.outcome, each.text) for each in ended] == [("cancelled", "Hel")]


def test_done_is_sent_after_the_save() -> None:
    """A browser that sees ``done``, or ``error``, may rely on the stored answer."""
    seen: list[Any] = []
    for script in ([text("Hello")], [text("Hello"), cut()]):
        with serve(script) as server:
            seen.append("start")
            body = sse(openai(server).prepare("Hi"), on_end=lambda answer: seen.append("saved"))
            for chunk in body:
                seen.extend(name for name, _ in events([chunk]))
    assert seen == ["start", "delta", "saved", "done", "start", "delta", "saved", "error", "done"]


@BOTH
def test_failure_of_the_save(make: Callable[..., WSGIBody], caplog: Any) -> None:
    """It is logged with its traceback; ``sse`` tells the browser, without the details."""

    def save(answer: Completion) -> None:
        raise OSError("cannot reach postgresql://me:secret@localhost")

    with serve([text("Hello")]) as server, caplog.at_level(logging.ERROR, "providers_sync"):
        body = make(openai(server).prepare("Hi"), on_end=save)
        chunks = list(body)
        body.close()
    (record,) = caplog.records
    assert record.exc_info[0] is OSError
    caplog.clear()  # its traceback holds the call
    assert b"secret" not in b"".join(chunks)
    if make is plain:
        assert chunks == [b"Hello"]
        return
    (_, _), (name, error), (last, done) = events(chunks)
    assert (name, error["kind"], last, done["outcome"]) == (
        "error",
        "SaveError",
        "done",
        "complete",
    )
    assert error["reference"] in record.getMessage()


def test_failure_of_the_save_after_the_browser_has_left(caplog: Any) -> None:
    """``close()`` raises nothing into the server."""

    def save(answer: Completion) -> None:
        raise RuntimeError("no")

    with serve([text("Hel"), stall()]) as server:
        body = sse(openai(server).prepare("Hi"), on_end=save)
        next(body)
        body.close()
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_it_runs_in_the_context_of_the_view() -> None:
    """A request id for the log is that of the view, not of the server's thread."""
    variable = contextvars.ContextVar("request_id", default="")
    seen: list[str] = []
    with serve([text("Hello")]) as server:

        def view() -> WSGIBody:
            variable.set("view")
            return sse(
                openai(server).prepare("Hi"), on_end=lambda answer: seen.append(variable.get())
            )

        read_all(contextvars.Context().run(view))
    assert seen == ["view"]


def test_closing_from_another_thread_calls_it_once() -> None:
    ended: list[Completion] = []
    with serve([text("Hel"), stall()]) as server:
        body = sse(openai(server).prepare("Hi"), on_end=ended.append)
        reader = threading.Thread(target=lambda: list(body))
        reader.start()
        server.wait_request()
        body.close()
        reader.join(1)
        assert not reader.is_alive()
    assert [each.outcome for each in ended] == ["cancelled"]


def test_paused_run_is_saved_before_the_browser_knows() -> None:
    """The stream of the body has the messages to go on from."""
    paused: list[Any] = []

    def book(place: str) -> str:
        return f"booked {place}"

    def save(answer: Completion) -> None:
        assert body.stream is not None
        paused.append(body.stream.messages)

    script = [tool_call("book", {"place": "Oslo"}), [text("Booked.")]]
    with serve([script[:1], script[1]]) as server:
        run = openai(server).prepare_run("Book", tools=[book], approve=lambda call: Pause)
        body = sse(run, on_end=save)
        for chunk in body:
            assert b"paused" not in chunk or paused
        answer = openai(server).run(paused[0], tools=[book]).completion()
    assert answer.text == "Booked."


def test_anything_but_a_function_is_refused_at_once() -> None:
    with serve() as server, pytest.raises(TypeError, match="on_end must be a function"):
        sse(openai(server).prepare("Hi"), on_end="save")  # type: ignore[arg-type]


SITES = [
    *[(server, "flask_test_app") for server in ("waitress", "gunicorn gthread", "gunicorn sync")],
    ("gunicorn gthread", "compressed_django"),
]


@pytest.fixture(scope="module", params=SITES, ids=" ".join)
def url(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[str]:
    """Flask and Django on real servers."""
    server, app = request.param
    with run_on(server, upstream, app) as url:
        yield url


def wait_for_lines(path: Path, within: float) -> list[Any]:
    """Return the lines of a file once there are any."""
    deadline = time.monotonic() + within
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("rest", [stall(), repeat(text("word "), pause(0.05))])
def test_disconnect_is_saved_on_a_real_server(
    url: str, upstream: Upstream, tmp_path: Path, rest: Any
) -> None:
    """Within a second, with the text so far."""
    path = tmp_path / "saved"
    upstream.set_answer(str(path), text("Hello "), rest)
    with post(url, str(path), "/saved") as response:
        read_until(response, b'"Hello "')
    ((outcome, words),) = wait_for_lines(path, CANCEL_S)
    assert (outcome, words[:6]) == ("cancelled", "Hello ")


def test_complete_answer_is_saved_on_a_real_server(
    url: str, upstream: Upstream, tmp_path: Path
) -> None:
    """When ``done`` arrives, the file is there."""
    path = tmp_path / "saved"
    upstream.set_answer(str(path), text("Hello"))
    with post(url, str(path), "/saved") as response:
        read_until(response, b"event: done")
        assert json.loads(path.read_text()) == ["complete", "Hello"]
