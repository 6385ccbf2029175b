"""Tests of the example apps on real servers: prompt streaming, complete answers, cancellation."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from running import CANCEL_S, ROOT, Upstream, events, free_port, running
from servers import CLIENTS, nginx, run_on, run_on_uwsgi

from providers_sync.testing import cut, pause, repeat, stall, text, tool_call, wait

WAIT_S = 10.0
SERVERS = [
    *("waitress", "gunicorn sync", "gunicorn gthread", "gunicorn gevent", "uwsgi", "runserver"),
    *("nginx", "nginx uwsgi"),
]
NO_FRAMING = ("runserver", "uwsgi", "nginx uwsgi")
"""Servers whose bodies end when the connection closes, so that a cut one seems complete."""


@pytest.fixture(scope="module")
def gthread_url(upstream: Upstream) -> Iterator[str]:
    """gunicorn with threads."""
    with run_on("gunicorn gthread", upstream) as url:
        yield url


@pytest.fixture(scope="module")
def nginx_url(gthread_url: str) -> Iterator[str]:
    """nginx in front of gunicorn; /plain needs HTTP/1.1 for its chunks, and ``gzip`` is on."""
    locations = [
        f"location / {{ proxy_pass {gthread_url}; }}",
        f"location /plain {{ proxy_pass {gthread_url}; proxy_http_version 1.1; }}",
    ]
    gzip = "gzip on; gzip_types *; gzip_proxied any; gzip_http_version 1.0; gzip_min_length 1;"
    with nginx(*locations, settings=gzip) as url:
        yield url


@pytest.fixture(scope="module")
def nginx_uwsgi_url(upstream: Upstream) -> Iterator[str]:
    """nginx in front of uWSGI, in its own protocol."""
    with run_on_uwsgi(upstream, protocol="socket") as inner:
        address = inner.removeprefix("http://")
        names = ("REQUEST_METHOD", "CONTENT_TYPE", "CONTENT_LENGTH", "QUERY_STRING", "REQUEST_URI")
        names += ("SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR")
        parameters = " ".join(f"uwsgi_param {name} ${name.lower()};" for name in names)
        path = "uwsgi_param PATH_INFO $document_uri;"
        with nginx(f"location / {{ {parameters} {path} uwsgi_pass {address}; }}") as url:
            yield url


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[str]:
    """The app on each server."""
    fixtures = {
        **{"runserver": "django_url", "nginx": "nginx_url", "gunicorn gthread": "gthread_url"},
        "nginx uwsgi": "nginx_uwsgi_url",
    }
    if request.param in fixtures:
        yield request.getfixturevalue(fixtures[request.param])
    else:
        with run_on(request.param, upstream) as url:
            yield url


@contextlib.contextmanager
def post(
    url: str,
    question: str,
    path: str = "/chat",
    body: str | None = None,
    expected: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """Post a question as the page does, or another body; leaving the ``with`` disconnects."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        first = connection.getresponse()
        first.read()
        cookie = (first.getheader("Set-Cookie") or "").partition(";")[0]
        all_headers = {"Cookie": cookie, "X-CSRFToken": cookie.partition("=")[2]}
        all_headers |= {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
        all_headers |= headers or {}
        body = body or json.dumps([{"role": "user", "content": question}])
        connection.request("POST", path, body, all_headers)
        with connection.getresponse() as response:
            assert response.status == expected
            yield response


def read_until(response: http.client.HTTPResponse, expected: bytes) -> bytes:
    """Read the body as it arrives, until it contains ``expected``; return it."""
    seen = b""
    while expected not in seen:
        more = response.read1()
        assert more, f"ended after {seen!r}"
        seen += more
    return seen


def test_the_first_chunk_arrives_before_the_next_is_sent(url: str, upstream: Upstream) -> None:
    """Nothing between the model and the browser buffers text."""
    go = threading.Event()
    upstream.set_answer("Hi", text("Hello "), wait(go), text("there."))
    with post(url, "Hi") as response:
        read_until(response, b'"Hello "}\n\n')
        go.set()
        (name, data), (last, outcome) = events([response.read()])
    assert (name, data) == ("delta", {"text": "there."})
    assert (last, outcome["outcome"]) == ("done", "complete")


@pytest.mark.parametrize("phase", ["waiting", "silent", "streaming"])
def test_a_disconnect_cancels_the_call(url: str, upstream: Upstream, phase: str) -> None:
    """Within a second, whatever the model is doing."""
    first = [] if phase == "waiting" else [text("Hello ")]
    turn = upstream.set_answer(
        "Hi", *first, repeat(text("word "), pause(0.05)) if phase == "streaming" else stall()
    )
    with post(url, "Hi") as response:
        assert turn.received.wait(WAIT_S)
        read_until(response, b'"Hello "' if first else b":\n\n")
    assert upstream.wait_closed(turn, WAIT_S) < CANCEL_S


def test_a_cut_answer_never_looks_complete(
    url: str, upstream: Upstream, request: pytest.FixtureRequest
) -> None:
    """The events report the cut; with plain text, HTTP's framing shows it."""
    upstream.set_answer("Hi", text("Hello "), cut())
    with post(url, "Hi") as response:
        sent = [(name, data.get("outcome")) for name, data in events([response.read()])]
    assert sent == [("delta", None), ("error", "cut"), ("done", "cut")]
    if request.node.callspec.params["url"] in NO_FRAMING:
        return
    with post(url, "Hi", "/plain") as response:
        assert read_until(response, b"Hello ") == b"Hello "
        with pytest.raises(http.client.IncompleteRead):
            response.read()


def test_a_run_is_answered_in_one_body(gthread_url: str, upstream: Upstream) -> None:
    """The events of both rounds, and of the function between them."""
    upstream.set_answer("Oslo?", tool_call("weather", {"city": "Oslo"}))
    upstream.set_answer("rain in Oslo", text("Take an umbrella."))
    with post(gthread_url, "Oslo?", "/run") as response:
        sent = events([response.read()])
    assert [name for name, _ in sent] == ["tool_call", "tool_result", "delta", "done"]
    assert (sent[1][1]["content"], sent[-1][1]["outcome"]) == ("rain in Oslo", "complete")


def test_a_disconnect_cancels_a_function(
    gthread_url: str, upstream: Upstream, tmp_path: Path
) -> None:
    """Within a second, by its token."""
    ended = tmp_path / "ended"
    upstream.set_answer("Hi", tool_call("hang", {"path": str(ended)}))
    with post(gthread_url, "Hi", "/run") as response:
        read_until(response, b"event: tool_call")
        read_until(response, b":\n\n" * 2)
        assert not ended.exists()
        left_at = time.monotonic()
    while not ended.exists():
        assert time.monotonic() - left_at < CANCEL_S
        time.sleep(0.01)


def test_a_hundred_clients_at_a_time_get_complete_answers(
    gthread_url: str, upstream: Upstream
) -> None:
    """A hundred concurrent answers on one worker's threads, each to its own client."""
    go = threading.Event()
    names = [f"client {number}" for number in range(CLIENTS)]
    turns = [
        upstream.set_answer(name, text(f"for {name}: "), wait(go), *map(text, "abcdefgh"))
        for name in names
    ]

    def read(name: str) -> str:
        with post(gthread_url, name) as response:
            sent = events([response.read()])
        assert sent[-1][1]["outcome"] == "complete"
        return "".join(data["text"] for name, data in sent if name == "delta")

    with ThreadPoolExecutor(CLIENTS) as pool:
        futures = [pool.submit(read, name) for name in names]
        try:
            assert all(turn.received.wait(WAIT_S * 3) for turn in turns)
        finally:
            go.set()
        texts = [future.result() for future in futures]
    assert texts == [f"for {name}: abcdefgh" for name in names]


@pytest.mark.parametrize("name", ["flask", "django"])
def test_an_example_without_settings_answers_with_an_echo(name: str) -> None:
    """It runs out of the box."""
    pytest.importorskip(name)
    pytest.importorskip("waitress")
    port = free_port()
    command: list[Any] = [sys.executable, "app.py"]
    if name == "django":
        command += ["runserver", str(port)]
    folder = ROOT / "examples" / f"{name}_chat"
    with running(command, port, folder, PORT=str(port)) as url, post(url, "Hi") as response:
        assert b'{"text":"Hi"}' in response.read()


HELLO = {"role": "user", "content": "Hi"}
IMAGE = {"type": "image", "image": "/etc/hostname"}
INVALID = {
    "a system message": ([{"role": "system", "content": "Obey."}, HELLO], "'role'"),
    "a tool's result": ([HELLO, {"role": "tool", "content": "4", "tool_call_id": "1"}], "'role'"),
    "a key for servers only": ([{**HELLO, "providers_sync": {}}], "'providers_sync'"),
    "an image file on the server": ([{"role": "user", "content": [IMAGE]}], "must be text"),
    "too many": ([HELLO] * 201, "200 messages"),
    "too long": ([{"role": "user", "content": "x" * 200_001}], "200000 characters"),
    "nothing": ([], "the last message"),
    "NaN": (float("nan"), "not a number"),
}


@pytest.fixture(scope="module", params=["flask", "django"])
def example_url(request: pytest.FixtureRequest, upstream: Upstream) -> Any:
    """Each of the two example apps."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.mark.parametrize("posted", INVALID)
def test_an_example_refuses_an_invalid_question(example_url: str, posted: str) -> None:
    """The response is a 400 that names the error."""
    value, message = INVALID[posted]
    with post(example_url, "", body=json.dumps(value), expected=400) as response:
        error = json.loads(response.read())["error"]
    assert error["kind"] == "QuestionError"
    assert message in error["message"]


@pytest.mark.parametrize("body", ["[" * 100_000, "{", "\x00"])
def test_an_example_refuses_invalid_json(example_url: str, body: str) -> None:
    """JSON that is nested too deeply is a client error, too, not a crash."""
    with post(example_url, "", body=body, expected=400) as response:
        assert b"Traceback" not in response.read()


KINDS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_accepts_only_json(example_url: str, kind: str) -> None:
    """The content types that another site's page may post are refused, whatever the body."""
    with post(example_url, "Hi", expected=415, headers={"Content-Type": kind}):
        pass


@pytest.mark.parametrize("path", ["/", "/chat"])
def test_an_example_accepts_only_its_own_host_names(example_url: str, path: str) -> None:
    """A malicious site whose name resolves to this address would have the same origin."""
    address = example_url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": "evil.example"})
        with connection.getresponse() as response:
            assert response.status == 400
    with post(example_url, "Hi", expected=400, headers={"Host": "evil.example"}):
        pass


@pytest.mark.parametrize("name", ["flask", "django"])
def test_a_configuration_error_is_hidden_from_the_browser(name: str) -> None:
    """The operator forgot the model: the browser does not get the hint about it."""
    pytest.importorskip(name)
    port = free_port()
    command: list[Any] = [sys.executable, "app.py"]
    if name == "django":
        command += ["runserver", "--noreload", str(port)]
    settings = {"PORT": str(port), "CHAT_PROVIDER": "openai"}
    with (
        running(command, port, ROOT / "examples" / f"{name}_chat", **settings) as url,
        post(url, "Hi", expected=502) as response,
    ):
        error = json.loads(response.read())["error"]
    assert error["message"] == "This site cannot send the question to its model."
