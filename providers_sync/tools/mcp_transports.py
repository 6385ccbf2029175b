"""The two ways to an MCP server, a process or a URL, and what each can tell about a failure."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import httpx2
from mcp import MCPError, StdioServerParameters, stdio_client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CONNECTION_CLOSED

from ..errors import APIConnectionError, APIStatusError, AuthenticationError, ProviderError
from ..printable import one_line, visible
from ..transport import collect_secrets

ERROR_BYTES = 2000
"""How much of the end of a server's standard error is kept for the message of an error."""
MESSAGE_BYTES = 16 * 1024 * 1024
"""The longest message over HTTP; the package's own limit, 1 MiB, is less than many an image."""
OLDER_TRANSPORT = (400, 404, 405)
"""A server that answers the first POST so may know HTTP with SSE only (MCP's transports page,
"Backwards compatibility")."""
_LAUNCHERS = ("bun", "bunx", "deno", "docker", "node", "npx", "pipx", "podman", "uv", "uvx")

# Without a handler the package's errors, each line that is no message for one, would be printed on
# the standard error of a program that has not set logging up.
logging.getLogger("mcp").addHandler(logging.NullHandler())


class MCPTransport(Protocol):
    """How to reach a server."""

    name: str
    """For errors; it contains no secret."""
    secrets: list[str]
    """What no error may contain."""

    async def open(self, stack: AsyncExitStack) -> Any:
        """Return the streams from and to the server, which ``stack`` closes."""

    def explain(self, error: Exception) -> ProviderError:
        """Return what to raise where ``error`` has ended the connection."""

    def last_words(self) -> str:
        """Return what the server has said about its end, to be added to a message."""

    def fallback(self) -> MCPTransport | None:
        """Return what to try after this transport has failed to connect."""


class ProcessTransport:
    """A server that is a child process: messages on its standard input and output.

    Its standard error is not shown, because most servers write a log there, which would be mixed
    into the caller's output; the end of it is in the message of an error.
    """

    def __init__(
        self, command: str, arguments: list[str], env: Mapping[str, str], cwd: str | None
    ) -> None:
        self._parameters = StdioServerParameters(
            command=command,
            args=arguments,
            env=dict(env),
            cwd=cwd,
            encoding_error_handler="replace",
        )
        self.name = process_name(command, arguments)
        self.secrets = list(env.values())
        self._started = False
        self._read_end = -1
        self._errors = b""

    async def open(self, stack: AsyncExitStack) -> Any:
        if sys.platform == "win32":  # its event loop cannot read a pipe like this one
            with open(os.devnull, "w", encoding="utf-8") as errors:
                streams = await stack.enter_async_context(stdio_client(self._parameters, errors))
            self._started = True
            return streams
        self._read_end, write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        loop = asyncio.get_running_loop()
        stack.callback(self._close_errors, loop)
        with open(write_end, "w", encoding="utf-8") as errors:  # the process has its own copy
            streams = await stack.enter_async_context(stdio_client(self._parameters, errors))
        self._started = True
        loop.add_reader(self._read_end, self._read_errors)
        return streams

    def _read_errors(self) -> None:
        try:
            read = os.read(self._read_end, 65536)
        except BlockingIOError:
            return
        self._errors = (self._errors + read)[-ERROR_BYTES:]
        if not read:
            with suppress(RuntimeError):  # a thread that no longer waits for the loop reads, too
                asyncio.get_running_loop().remove_reader(self._read_end)

    def _close_errors(self, loop: asyncio.AbstractEventLoop) -> None:
        self._read_errors()
        loop.remove_reader(self._read_end)
        os.close(self._read_end)
        self._read_end = -1

    def explain(self, error: Exception) -> ProviderError:
        if not self._started:
            reason = getattr(error, "strerror", None) or str(error)
            return APIConnectionError(
                f"the MCP server {self.name} cannot be started: {reason}; install it, or give the "
                "full path of the command"
            )
        is_closed = isinstance(error, MCPError) and error.code == CONNECTION_CLOSED
        reason = "has ended" if is_closed else f"failed: {_reason(error)}"
        return APIConnectionError(f"the MCP server {self.name} {reason}{self.last_words()}")

    def last_words(self) -> str:
        if self._read_end >= 0:
            self._read_errors()
        text = visible(self._errors.decode("utf-8", "replace")).strip()
        return f"; its standard error ends with:\n{text}" if text else ""

    def fallback(self) -> None:
        return None


def process_name(command: str, arguments: list[str]) -> str:
    """Return the command, and what a launcher launches; other arguments may be secrets.

    >>> process_name("npx", ["-y", "server-postgres", "postgresql://me:secret@localhost"])
    "'npx server-postgres'"
    >>> process_name("/usr/bin/my-server", ["--token", "secret"])
    "'my-server'"
    """
    base = os.path.basename(command)
    program = next((each for each in arguments if not each.startswith("-")), "")
    is_launcher = base.removesuffix(".cmd").removesuffix(".exe") in _LAUNCHERS
    if program and (is_launcher or base.startswith("python")):
        base = f"{base} {os.path.basename(program) if os.path.isabs(program) else program}"
    return repr(one_line(base)[:80])


class HTTPTransport:
    """A server with a URL: streamable HTTP, and the older HTTP with SSE where that is refused."""

    def __init__(
        self, url: str, headers: Mapping[str, str], timeout: float, *, older: bool = False
    ) -> None:
        parts = urlsplit(url)
        self._url, self._headers, self._timeout, self._older = url, dict(headers), timeout, older
        self.name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        # Some services have the key in the path.
        values = [urlunsplit(("", "", *parts[2:])), parts.query, *headers.values()]
        self.secrets = collect_secrets({}, [url])
        self.secrets += [part for value in values for part in (value, value.rpartition(" ")[2])]
        self._status: int | None = None

    async def open(self, stack: AsyncExitStack) -> Any:
        if self._older:
            return await stack.enter_async_context(
                sse_client(
                    self._url,
                    self._headers,
                    timeout=self._timeout,
                    sse_read_timeout=float("inf"),
                    httpx_client_factory=self._client,
                )
            )
        client = await stack.enter_async_context(self._client(self._headers))
        return await stack.enter_async_context(
            streamable_http_client(self._url, http_client=client, max_sse_event_size=MESSAGE_BYTES)
        )

    def _client(
        self,
        headers: dict[str, str] | None = None,
        timeout: httpx2.Timeout | None = None,
        auth: httpx2.Auth | None = None,
    ) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            headers={**(headers or {}), "Accept-Encoding": "identity"},
            # A stream is silent until a tool has its result: each call has a timeout of its own.
            timeout=httpx2.Timeout(self._timeout, read=None),
            event_hooks={"response": [self._check]},
        )

    async def _check(self, response: httpx2.Response) -> None:
        """Note a bad status, which the package does not report, and limit a body."""
        if response.status_code >= 400:
            self._status = response.status_code
        if response.headers.get("content-encoding", "identity") != "identity":
            raise httpx2.DecodingError("a compressed answer, which was not asked for")
        stream = response.stream
        is_events = response.headers.get("content-type", "").startswith("text/event-stream")
        if not is_events and isinstance(stream, httpx2.AsyncByteStream):
            response.stream = LimitedBody(stream)

    def explain(self, error: Exception) -> ProviderError:
        if self._status in (401, 403):
            return AuthenticationError(
                f"the MCP server {self.name} answered with status {self._status}: give its key, "
                'for example headers={"Authorization": "Bearer …"}',
                status_code=self._status,
            )
        if self._status is not None and not isinstance(error, httpx2.TransportError):
            return APIStatusError(
                f"the MCP server {self.name} answered with status {self._status}: check the path "
                "of its URL",
                status_code=self._status,
            )
        return APIConnectionError(f"the MCP server {self.name} failed: {_reason(error)}")

    def last_words(self) -> str:
        return ""

    def fallback(self) -> HTTPTransport | None:
        if self._older or self._status not in OLDER_TRANSPORT:
            return None
        return HTTPTransport(self._url, self._headers, self._timeout, older=True)


class LimitedBody(httpx2.AsyncByteStream):
    """A response body that fails once it is longer than a message may be."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._body:
            size += len(chunk)
            if size > MESSAGE_BYTES:
                raise httpx2.DecodingError(f"an answer longer than {MESSAGE_BYTES} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(str(error)[:500])}"
