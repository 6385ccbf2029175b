"""Tools of MCP servers: real servers over stdio and HTTP, and servers that misbehave."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp.types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from mcp_server import server

from providers_sync import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    CancelToken,
    InvalidRequestError,
    ProviderError,
    StreamCancelled,
)
from providers_sync.errors import ToolError
from providers_sync.tools import Tool, mcp, mcp_servers
from providers_sync.tools.mcp_servers import result_text

SERVER = Path(__file__).with_name("mcp_server.py")
SECRET = "s3cret-0123456789"
RAW = """
import json, os, signal, sys, time

def send(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

def tool(name, **more):
    return {"name": name, "inputSchema": {"type": "object"}, **more}

def pages(cursor):
    return {"tools": [tool("work")]}

def call(number, name):
    text = {"type": "text", "text": "called " + name}
    send(id=number, result={"content": [text]})

seen = []

def serve():
    for line in sys.stdin:
        message = json.loads(line)
        number, method = message.get("id"), message["method"]
        params = message.get("params") or {}
        seen.append(method)
        if method == "initialize":
            info = {"name": "raw", "version": "1"}
            version = params["protocolVersion"]
            send(id=number, result={
                "protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info})
        elif method == "tools/list":
            send(id=number, result=pages(params.get("cursor")))
        elif method == "tools/call":
            call(number, params["name"])
        elif number is not None:
            send(id=number, error={"code": -32601, "message": "Method not found"})
"""
"""A server without the ``mcp`` package, which a test changes; it starts at once."""


@pytest.fixture
def raw(tmp_path: Path) -> Callable[[str], Any]:
    """Return a function that makes a server from what differs from ``RAW``."""

    def make(changes: str, start: str = "serve()", **options: Any) -> Any:
        path = tmp_path / "raw.py"
        path.write_text(f"{RAW}\n{changes}\n{start}\n")
        return mcp(sys.executable, "-S", path, **options)

    return make


@pytest.fixture(scope="module")
def over_stdio() -> Iterator[dict[str, Tool]]:
    # A call that hangs must not outlive the timeout of its test.
    with mcp(sys.executable, SERVER, env={"KEY": SECRET}, call_timeout=30) as tools:
        yield by_name(tools)


@contextmanager
def serving(app: Any, grace_s: int | None = None) -> Iterator[tuple[str, Callable[[], None]]]:
    """Serve an app in a thread; yield its URL and a function that stops it."""
    config = uvicorn.Config(app, port=0, log_level="critical", ws="none")
    config.timeout_graceful_shutdown = grace_s
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run)

    def stop() -> None:
        running.should_exit = True
        thread.join()

    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}", stop
    finally:
        stop()


@pytest.fixture(scope="module")
def http_server() -> Iterator[str]:
    """The same server over streamable HTTP."""
    with serving(server.streamable_http_app()) as (url, _):
        yield f"{url}/mcp"


@pytest.fixture(params=["stdio", "http"])
def tools(
    request: pytest.FixtureRequest, over_stdio: dict[str, Tool], http_server: str
) -> Iterator[dict[str, Tool]]:
    if request.param == "stdio":
        yield over_stdio
    else:
        with mcp(http_server, call_timeout=30) as tools:
            yield by_name(tools)


def by_name(tools: list[Tool]) -> dict[str, Tool]:
    return {tool.name: tool for tool in tools}


def run(tool: Tool, cancel: CancelToken | None = None, /, **arguments: Any) -> str:
    return tool.bind(arguments, cancel or CancelToken())()


# --- calls


def test_tools_of_a_server_are_plain_tools(tools):
    """Names, descriptions and schemas are the server's; whether to ask is the caller's decision."""
    add = tools["add"]
    assert add.description == "Add two numbers."
    assert add.parameters["properties"]["a"]["type"] == "integer"
    assert add.needs_approval is None
    assert run(add, a=1, b=2) == "3"
    assert add.function(a=2, b=2) == "4"
    assert run(tools["echo"], cancel="any", self="name") == "any name"


def test_calls_run_side_by_side_in_one_session(tools):
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: run(tools["meet"], number=4), range(4))) == ["met"] * 4


def test_failed_call_raises_the_text_of_the_server(tools):
    with pytest.raises(ToolError, match=r"\AError executing tool fail"):
        run(tools["fail"])
    with pytest.raises(ToolError, match="valid integer"):
        run(tools["add"], a="one", b=2)


def test_image_is_named(tools):
    assert run(tools["picture"]) == "[image of 300 bytes, image/png: not shown]"


def test_cancelled_call_ends_at_once_and_the_server_is_told(over_stdio):
    token = CancelToken()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(run, over_stdio["sleep"], token)
        assert run(over_stdio["is_sleeping"]) == "true"
        token.cancel()
        with pytest.raises(StreamCancelled, match="'sleep' was cancelled"):
            call.result(5)
    assert run(over_stdio["was_cancelled"]) == "true"
    with pytest.raises(StreamCancelled):
        run(over_stdio["add"], token, a=1, b=2)


def test_process_has_the_given_environment_and_no_other_secrets(over_stdio, monkeypatch):
    assert run(over_stdio["environment"], name="KEY") == SECRET
    assert run(over_stdio["environment"], name="PATH") == os.environ["PATH"]
    assert run(over_stdio["environment"], name="PYTEST_CURRENT_TEST") == "not set"


def test_call_works_beside_a_running_event_loop(over_stdio):
    """As in a notebook, whose cells run on a loop."""

    async def cell() -> str:
        return run(over_stdio["add"], a=20, b=22)

    assert asyncio.run(cell()) == "42"


def test_unanswered_call_times_out_and_the_server_is_told(raw):
    late = """
def call(number, name):
    if seen.count("tools/call") > 1:
        send(id=number, result={"content": [{"type": "text", "text": seen[-2]}]})
"""
    with raw(late, call_timeout=0.2) as tools:
        with pytest.raises(APITimeoutError, match=r"raw.py' has not answered the call of 'work'"):
            run(tools[0])
        assert run(tools[0]) == "notifications/cancelled"


# --- results


@pytest.mark.parametrize(
    ("content", "structured", "text"),
    [
        (["one", "two"], {"a": 1}, "one\ntwo"),
        ([], {"é": [1]}, '{"é": [1]}'),
        (
            [AudioContent(type="audio", data="AAAA", mime_type="audio/wav")],
            None,
            "[audio of 3 bytes, audio/wav: not shown]",
        ),
        (
            [ResourceLink(type="resource_link", name="a", uri="file:///a")],
            None,
            "[link to a resource, file:///a: not shown]",
        ),
        (
            [
                EmbeddedResource(
                    type="resource",
                    resource=BlobResourceContents(uri="file:///a", blob="AA", mime_type="a/b"),
                ),
                EmbeddedResource(
                    type="resource", resource=TextResourceContents(uri="file:///b", text="text")
                ),
            ],
            None,
            "[resource, a/b, file:///a: not shown]\ntext",
        ),
    ],
)
def test_result_is_text_and_names_what_is_not(content, structured, text):
    parts = [
        TextContent(type="text", text=each) if isinstance(each, str) else each for each in content
    ]
    assert result_text(CallToolResult(content=parts, structured_content=structured)) == text


def test_long_result_is_cut_and_says_so(monkeypatch):
    monkeypatch.setattr(mcp_servers, "RESULT_CHARACTERS", 4)
    result = CallToolResult(content=[TextContent(type="text", text="abcdef")])
    assert result_text(result) == "abcd\n[cut off: 2 more characters]"


# --- lists of tools


def test_pages_are_followed_and_names_made_to_fit(raw):
    paged = """
def pages(cursor):
    if cursor is None:
        return {"tools": [tool("a/b", description="d"), tool("a.b")], "nextCursor": "2"}
    return {"tools": [tool("x" * 80)]}
"""
    with raw(paged, prefix="one_") as tools:
        assert [tool.name for tool in tools] == ["one_a_b", "one_a_b_2", "one_" + "x" * 60]
        assert [tool.description for tool in tools] == ["d", "one_a_b_2", "one_" + "x" * 60]
        assert tools[2].parameters == {"type": "object", "properties": {}}
        assert [run(tool) for tool in tools[:2]] == ["called a/b", "called a.b"]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (
            "tool('a', inputSchema={'type': 'array'})",
            r"failed: ValidationError: .* tools\.0\.inputSchema\.type Input should be 'object'",
        ),
        (
            "tool('a', title='', inputSchema={'type': 'object', 'title': 'x' * 300_000})",
            "is longer than 200000 characters",
        ),
        ("tool('a', inputSchema=[])", "failed: ValidationError"),
    ],
)
def test_tool_without_a_usable_schema_is_refused(raw, listed, message):
    with (
        pytest.raises((InvalidRequestError, APIConnectionError), match=message),
        raw(f"def pages(cursor): return {{'tools': [{listed}]}}"),
    ):
        pytest.fail("entered")


def test_endless_list_is_refused(raw):
    with (
        pytest.raises(InvalidRequestError, match="its list does not end"),
        raw("def pages(cursor): return {'tools': [], 'nextCursor': 'a'}"),
    ):
        pytest.fail("entered")


# --- servers that fail


def test_end_of_the_server_is_told_to_every_call(raw):
    """Those that wait and those to come; the error has the server's last words, without secrets."""
    dies = """
def call(number, name, calls=[]):
    calls.append(number)
    if len(calls) == 3:
        print("fatal: the key", os.environ["KEY"], "is no good", file=sys.stderr, flush=True)
        os._exit(1)
"""
    with raw(dies, env={"KEY": SECRET}) as tools, ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(run, tools[0]) for _ in range(3)]
        for call in [*calls, pool.submit(run, tools[0])]:
            with pytest.raises(APIConnectionError) as caught:
                call.result(5)
            last_words = r"(?s)raw.py' has ended, or .*\nfatal: the key \*{3} is no good\Z"
            assert re.search(last_words, str(caught.value))
    with pytest.raises(APIConnectionError, match="was closed"):  # after ``with``, too
        run(tools[0])


def test_server_that_closes_its_output_but_runs_on(raw):
    with (
        raw("def call(number, name): os.close(1)", "serve(); os._exit(0)") as tools,
        pytest.raises(APIConnectionError, match="its connection was closed"),
    ):
        run(tools[0])


def test_junk_on_standard_output_is_skipped(raw, capfd):
    junk = r'print("Starting\n{}\n[1]\n" + "x" * 100_000, flush=True)'
    junk += r'; sys.stdout.buffer.write(b"\xff\n")'
    with raw(junk) as tools:
        assert run(tools[0]) == "called work"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("sys.exit('no database')", "has ended; its standard error ends with:\nno database"),
        ("pages = None; serve()", "has ended.*'NoneType' object is not callable"),
    ],
)
def test_server_that_ends_at_once(raw, start, message):
    before = os.listdir("/proc/self/fd")
    with pytest.raises(APIConnectionError, match=f"(?s){message}"), raw("", start):
        pytest.fail("entered")
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_server_that_does_not_answer(raw):
    started = time.monotonic()
    with (
        pytest.raises(APITimeoutError, match=r"(?s)raw.py' has not answered within 0.3 s.*hm") as e,
        raw("print('hm', file=sys.stderr, flush=True)", "sys.stdin.read()", timeout=0.3),
    ):
        pytest.fail("entered")
    assert e.value.clock == "connect"
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("command", ["no-such-command-here", Path(__file__)])
def test_command_that_cannot_be_run(command):
    reason = "No such file" if isinstance(command, str) else "Permission denied"
    with pytest.raises(APIConnectionError, match=f"{reason}.*install it"), mcp(command, SECRET):
        pytest.fail("entered")


def test_interrupt_while_connecting_leaves_nothing(raw):
    """Ctrl-C in the main thread; the leak check looks for the thread, the process ends."""
    interrupt = "os.kill(os.getppid(), signal.SIGINT)"
    with pytest.raises(KeyboardInterrupt), raw(interrupt, "sys.stdin.read()"):
        pytest.fail("entered")


# --- HTTP


class Refusing(BaseHTTPRequestHandler):
    """A web server that is no MCP server."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status = int(self.path.split("/")[1])
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status == 200:
            self.send_header("Content-Encoding", self.path.split("/")[2])
        body = b" " * 1000
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "kind", "message"),
    [
        ("401", AuthenticationError, 'status 401: give its key, for example headers={"Auth'),
        ("500", APIStatusError, "status 500: check the path"),
        ("404", APIStatusError, "status 404: check the path"),
        ("200/gzip", APIConnectionError, "DecodingError: a compressed answer"),
        ("200/identity", APIConnectionError, "Failed to parse JSON"),
    ],
)
def test_refusal_over_http_is_told_without_secrets(refusing, path, kind, message):
    headers = {"Authorization": f"Bearer {SECRET}"}
    url = f"{refusing}/{path}/{SECRET}?key={SECRET}"
    with pytest.raises(kind, match=re.escape(message)) as caught, mcp(url, headers=headers):
        pytest.fail("entered")
    error: BaseException | None = caught.value
    assert refusing in str(error)
    while error is not None:
        assert SECRET not in repr(error)
        error = error.__cause__


def test_body_without_end_is_refused(refusing, monkeypatch):
    monkeypatch.setattr("providers_sync.tools.mcp_transports.MESSAGE_BYTES", 500)
    with (
        pytest.raises(APIConnectionError, match="longer than 500"),
        mcp(f"{refusing}/200/identity"),
    ):
        pytest.fail("entered")


def test_server_with_the_older_transport():
    """A server that refuses the first POST is asked for a stream of events."""
    with serving(server.sse_app(), 1) as (url, _), mcp(f"{url}/sse") as tools:
        assert run(by_name(tools)["add"], a=1, b=2) == "3"


def test_web_server_that_ends_is_told():
    """Calls that wait and calls to come; nobody listens on the port any more."""
    with (
        serving(server.streamable_http_app(), 0) as (url, stop),
        mcp(f"{url}/mcp") as listed,
        ThreadPoolExecutor(1) as pool,
    ):
        tools = by_name(listed)
        waiting = pool.submit(run, tools["sleep"])
        assert run(tools["is_sleeping"]) == "true"
        stop()
        assert isinstance(waiting.exception(10), ProviderError)
        for _ in range(2):
            with pytest.raises(APIConnectionError, match=f"server {url} "):
                run(tools["add"], a=1, b=2)


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ([["npx", "-y"]], {}, "the server must be a string or a path, not list"),
        ([""], {}, "not an empty string"),
        (["npx", 1], {}, "argument 1 must be a string"),
        (["npx", "a\0b"], {}, "argument 1 contains a NUL"),
        (["http://localhost/mcp", "-y"], {}, "a URL takes no arguments"),
        (["HTTPS://localhost/mcp"], {"env": {}}, "a URL takes no arguments"),
        (["npx"], {"headers": {}}, "headers are for a URL"),
        (["npx"], {"env": {"A": 1}}, "env['A'] must be a string, not int"),
        (["npx"], {"env": {"A": "a\0" + SECRET}}, "env['A'] cannot be"),
        (["npx"], {"env": "A=1"}, "env must be a dict"),
        (["http://localhost"], {"headers": {"A": SECRET + "\r\nB: 1"}}, "headers['A'] cannot be"),
        (["npx"], {"cwd": "/no/such/folder"}, "cwd '/no/such/folder' is not a folder"),
        (["npx"], {"prefix": 1}, "prefix must be a string"),
        (["npx"], {"timeout": None}, "timeout must be a number of seconds"),
        (["npx"], {"call_timeout": float("nan")}, "call_timeout must be a finite number"),
    ],
)
def test_bad_argument_is_named_where_it_is_given(arguments, options, message):
    with pytest.raises(InvalidRequestError, match=re.escape(message)) as caught:
        mcp(*arguments, **options)
    assert SECRET not in str(caught.value)


def test_missing_package_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("providers_sync.tools.mcp_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ImportError, match=r"pip install 'providers-sync\[mcp\]'"):
        mcp("npx")


def test_import_is_late():
    """``mcp`` may be imported from ``tools`` without loading the package or asyncio."""
    code = "from providers_sync.tools import mcp; import sys; "
    code += "print([name for name in ('mcp', 'asyncio', 'anyio', 'httpx2') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
