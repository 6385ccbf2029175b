"""A session with an MCP server, on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import sys
import threading
from collections.abc import Mapping
from contextlib import AsyncExitStack, nullcontext, suppress
from typing import Any

import anyio
from mcp import Client, MCPError
from mcp.types import CONNECTION_CLOSED, CallToolResult
from mcp.types import Tool as ListedTool

from ..errors import (
    APIConnectionError,
    APITimeoutError,
    InvalidRequestError,
    ProviderError,
    StreamCancelled,
    ToolError,
)
from ..stream.cancel import CancelToken, attach, detach
from ..threads import start_thread
from ..transport import redact
from .mcp_transports import MCPTransport

MAX_TOOLS = 1000
"""More are refused; a model can choose among a few dozen."""
MAX_PAGES = 100
GOODBYE_S = 2.0
"""How long a server over HTTP has to hear that the session ends."""
CLOSE_S = 10.0
"""How long leaving waits for the thread. The package gives a process 2 s to end by itself, 2 s
after SIGTERM and 2 s after SIGKILL."""
ERROR_CHARACTERS = 20_000


class MCPConnection:
    """One session: ``open()`` it, ``call()`` from any threads, ``close()`` it.

    The package's context managers must be entered and left in one task: ``_main``.
    """

    def __init__(self, transport: MCPTransport, timeout: float, call_timeout: float | None) -> None:
        self._transport = transport
        self._timeout = timeout
        self._call_timeout = call_timeout
        self._thread = threading.Thread(target=self._run, name="providers-sync-mcp")
        self._ready: concurrent.futures.Future[list[ListedTool]] = concurrent.futures.Future()
        self._lock = threading.Lock()
        self._ended = False
        # These belong to the thread.
        self._client: Client | None = None
        self._scope: anyio.CancelScope | None = None
        self._stop = asyncio.Event()
        self._failure: Exception | None = None

    # --- for any thread

    def open(self) -> list[ListedTool]:
        """Connect, and return the server's tools.

        Raises ``APIConnectionError``, ``APITimeoutError``, ``APIStatusError`` or
        ``InvalidRequestError``; then nothing is left.
        """
        self._loop = _new_loop()
        try:
            start_thread(self._thread)
        except BaseException:
            self._loop.close()
            raise
        atexit.register(self.close)  # a thread that waits for ever must not leave a process behind
        try:
            return self._ready.result(self._timeout)
        except concurrent.futures.TimeoutError:
            self.close()
            raise self._safe(
                APITimeoutError(
                    f"the MCP server {self._transport.name} has not answered within "
                    f"{self._timeout:g} s; raise timeout= to wait "
                    f"longer{self._transport.last_words()}",
                    clock="connect",
                )
            ) from None
        except BaseException:  # Ctrl-C, too
            self.close()
            raise

    def call(
        self, name: str, arguments: Mapping[str, Any], cancel: CancelToken | None = None
    ) -> CallToolResult:
        """Call a tool and wait for its result.

        Raises ``APIConnectionError`` if the server has gone, ``APITimeoutError``,
        ``StreamCancelled`` and, for what the server says itself, ``ToolError``.
        """
        with self._lock:
            if self._ended:
                raise self._gone()
            future = asyncio.run_coroutine_threadsafe(self._call(name, dict(arguments)), self._loop)
        if cancel is not None:
            attach(cancel, future)
        try:
            return future.result(self._call_timeout)
        except concurrent.futures.CancelledError:
            if cancel is not None and cancel.cancelled:
                raise StreamCancelled(f"the call of {name!r} was cancelled") from None
            raise self._gone() from None
        except concurrent.futures.TimeoutError:
            raise APITimeoutError(
                f"the MCP server {self._transport.name} has not answered the call of {name!r} "
                f"within {self._call_timeout:g} s; raise call_timeout= to wait longer",
                clock="total",
            ) from None
        finally:
            future.cancel()  # if it still runs: the package tells the server
            if cancel is not None:
                detach(cancel, future)

    def close(self) -> None:
        """End the session, and the process if there is one; wait at most ``CLOSE_S``."""
        atexit.unregister(self.close)
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._end)
        self._thread.join(CLOSE_S)

    def _gone(self) -> ProviderError:
        """Return a new error for a call after the end."""
        if isinstance(self._failure, InvalidRequestError):
            return self._failure
        if self._failure is not None:
            return self._safe(self._transport.explain(self._failure), self._failure)
        return self._safe(
            APIConnectionError(
                f"the MCP server {self._transport.name} has ended, or its connection was closed"
                + self._transport.last_words()
            )
        )

    def _safe(self, error: ProviderError, cause: BaseException | None = None) -> ProviderError:
        """Return the error without the secrets that a server may have quoted."""
        error.__cause__ = cause
        redact([text for text in self._transport.secrets if len(text) > 4], error)
        return error

    # --- in the thread

    def _run(self) -> None:
        loop = self._loop
        try:
            loop.run_until_complete(self._main())
        finally:
            with self._lock:
                self._ended = True  # from here on no call is added
            if not self._ready.done():
                self._ready.set_exception(self._gone())
            loop.run_until_complete(_cancel_other_tasks())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    async def _main(self) -> None:
        try:
            with anyio.CancelScope() as self._scope:
                if not self._stop.is_set():
                    await self._hold_session(self._scope)
        except Exception as error:  # noqa: BLE001 - it is raised by the calls
            fallback = None if self._ready.done() else self._transport.fallback()
            if fallback is None:
                self._failure = _innermost(error)
            else:
                self._transport = fallback
                await self._main()

    async def _hold_session(self, scope: anyio.CancelScope) -> None:
        async with AsyncExitStack() as stack:
            streams = await self._transport.open(stack)
            client = Client(nullcontext(streams), cache=None)
            self._client = await stack.enter_async_context(client)
            tools = await self._list_tools(self._client)
            self._ready.set_result(tools)
            await self._stop.wait()
            scope.deadline = anyio.current_time() + GOODBYE_S

    async def _list_tools(self, client: Client) -> list[ListedTool]:
        tools: list[ListedTool] = []
        cursor = None
        for _ in range(MAX_PAGES):
            page = await client.list_tools(cursor=cursor)
            tools += page.tools
            cursor = page.next_cursor
            if len(tools) > MAX_TOOLS or not cursor:
                break
        if len(tools) > MAX_TOOLS or cursor:
            raise InvalidRequestError(
                f"the MCP server {self._transport.name} lists more than {MAX_TOOLS} tools, or its "
                "list does not end"
            )
        return tools

    async def _call(self, name: str, arguments: dict[str, Any]) -> CallToolResult:
        assert self._client is not None
        try:
            return await self._client.call_tool(name, arguments)
        except MCPError as error:
            if error.code == CONNECTION_CLOSED:
                raise self._gone() from error
            raise self._refused(error) from error
        except Exception as error:
            raise self._refused(error) from error

    def _refused(self, error: Exception) -> ProviderError:
        text = str(error)[:ERROR_CHARACTERS] or type(error).__name__
        return self._safe(ToolError(text), error)

    def _end(self) -> None:
        self._stop.set()
        if self._scope is not None and not self._ready.done():
            self._scope.cancel()


def _new_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":  # Jupyter's default loop there cannot start a process
        return asyncio.ProactorEventLoop()
    return asyncio.new_event_loop()


async def _cancel_other_tasks() -> None:
    """Cancel the calls that still wait, and those that have not even begun."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _innermost(error: Exception) -> Exception:
    """Return the first error in a group of errors; task groups raise them."""
    while isinstance(inner := getattr(error, "exceptions", (None,))[0], Exception):
        error = inner
    return error
