"""An MCP server for tests, written with the ``mcp`` package; as a script it speaks over stdio."""

from __future__ import annotations

import os

import anyio
from mcp.server.mcpserver import Image, MCPServer

server = MCPServer("tests", log_level="ERROR")
tool = server.tool(structured_output=False)
waiting: list[anyio.Event] = []
sleeping, cancelled = anyio.Event(), anyio.Event()


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
async def echo(cancel: str, self: str) -> str:
    """Return two arguments whose names are often those of parameters."""
    return f"{cancel} {self}"


@tool
async def fail() -> str:
    """Fail."""
    raise FileNotFoundError("no such file: a.txt")


@tool
async def picture() -> Image:
    """Return an image."""
    return Image(data=b"x" * 300, format="png")


@tool
async def meet(number: int) -> str:
    """Return when this many calls wait here."""
    event = anyio.Event()
    waiting.append(event)
    if len(waiting) == number:
        for each in waiting:
            each.set()
        waiting.clear()
    await event.wait()
    return "met"


@tool
async def sleep() -> str:
    """Return never; note that the call has begun, and that it was cancelled."""
    sleeping.set()
    try:
        await anyio.sleep_forever()
    finally:
        cancelled.set()
    return ""


@tool
async def is_sleeping() -> bool:
    """Return once ``sleep`` has begun."""
    global sleeping
    await sleeping.wait()
    sleeping = anyio.Event()
    return True


@tool
async def was_cancelled() -> bool:
    """Return once ``sleep`` was cancelled."""
    global cancelled
    await cancelled.wait()
    cancelled = anyio.Event()
    return True


@tool
async def environment(name: str) -> str:
    """Return an environment variable of the server."""
    return os.environ.get(name, "not set")


if __name__ == "__main__":
    server.run()
