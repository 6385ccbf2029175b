"""``mcp()``: the tools of an MCP server (Model Context Protocol), from blocking code."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from ..config import seconds
from ..errors import InvalidRequestError, ToolError
from ..stream import CancelToken
from .tool import Tool

if TYPE_CHECKING:
    from mcp.types import CallToolResult
    from mcp.types import Tool as ListedTool

    from .mcp_connection import MCPConnection

TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 600.0
"""The longest call; a run has its own, shorter ``tool_timeout``."""
RESULT_CHARACTERS = 1_000_000
"""The longest result of a call; the rest is cut off, and the result says so."""
DESCRIPTION_CHARACTERS = 20_000
SCHEMA_CHARACTERS = 200_000
"""The longest descriptions and schemas in use have about a tenth of these."""
NAME_CHARACTERS = 64
"""With letters, digits, ``_`` and ``-``: what OpenAI and Anthropic both accept as a name."""


def mcp(
    server: str | os.PathLike[str],
    *arguments: str | os.PathLike[str],
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    headers: Mapping[str, str] | None = None,
    prefix: str = "",
    timeout: float = TIMEOUT_S,
    call_timeout: float | None = CALL_TIMEOUT_S,
) -> AbstractContextManager[list[Tool]]:
    """Connect to an MCP server; return a context manager, whose value is the list of its tools:

        with mcp("npx", "-y", "@modelcontextprotocol/server-filesystem", ".") as tools:
            print(provider.run("What is in this folder?", tools=tools))

    The tools may be called from many threads, until ``with`` is left. The list has the tools of the
    server when ``with`` was entered. What the server claims about its tools, for example that
    one changes nothing, is not trusted: each has ``needs_approval`` ``None``. Needs ``pip install
    'providers-sync[mcp]'``. A call raises ``ToolError`` with the server's text if it failed,
    ``APIConnectionError`` once the server has ended, ``APITimeoutError``, and ``StreamCancelled``.
    Source of the protocol: Model Context Protocol specification, "Transports" and "Tools".

    Args:
        server: A command, which is run as a child process, or an ``http:`` or ``https:`` URL.
        *arguments: The arguments of the command.
        env: Environment variables of the process, added to a few harmless ones of this process
            (``HOME``, ``PATH`` and the like).
        cwd: The folder of the process.
        headers: For a URL, for example ``{"Authorization": "Bearer …"}``.
        prefix: Put before the name of every tool, to tell two servers apart.
        timeout: Seconds that the server has to list its tools (30).
        call_timeout: Seconds for each call (600); ``None`` for no limit.

    Raises:
        InvalidRequestError: For wrong arguments, immediately; at ``with`` for a server whose tools
            cannot be used.
        APIConnectionError: At ``with``, for a server that cannot be started or reached.
        APITimeoutError: At ``with``, for a server that has not listed its tools in time.
        APIStatusError: At ``with``, for a URL that answers with a status other than 2xx.
        ImportError: The extra ``mcp`` is not installed.
    """
    command = _text(server, "the server")
    texts = [_text(each, f"argument {place}") for place, each in enumerate(arguments, 1)]
    options = {"env": _strings(env, "env"), "headers": _strings(headers, "headers")}
    is_url = re.match("https?://", command, re.IGNORECASE) is not None
    _check_combination(is_url, bool(texts), env is not None or cwd is not None, headers is not None)
    if not isinstance(prefix, str):
        raise InvalidRequestError(f"prefix must be a string, not {type(prefix).__name__}")
    folder = None if cwd is None else _text(cwd, "cwd")
    if folder is not None and not os.path.isdir(folder):
        raise InvalidRequestError(f"cwd {folder!r} is not a folder")
    times = (
        seconds(timeout, "timeout"),
        None if call_timeout is None else seconds(call_timeout, "call_timeout"),
    )
    try:
        from .mcp_connection import MCPConnection
        from .mcp_transports import HTTPTransport, ProcessTransport
    except ImportError as error:
        raise ImportError(
            "mcp() needs the package mcp, 2.3 or newer: pip install 'providers-sync[mcp]'"
        ) from error
    transport = (
        HTTPTransport(command, options["headers"], times[0])
        if is_url
        else ProcessTransport(command, texts, options["env"], folder)
    )
    return _connected(MCPConnection(transport, *times), prefix)


@contextmanager
def _connected(connection: MCPConnection, prefix: str) -> Iterator[list[Tool]]:
    listed = connection.open()
    try:
        yield make_tools(connection, listed, prefix)
    finally:
        connection.close()


# --- arguments


def _text(value: object, name: str) -> str:
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise InvalidRequestError(
            f'{name} must be a string or a path, not {type(value).__name__}: mcp("npx", "-y", …)'
        )
    if not text and name == "the server":
        raise InvalidRequestError("the server must be a command or a URL, not an empty string")
    if "\0" in text:
        raise InvalidRequestError(f"{name} contains a NUL character")
    return text


def _strings(value: object, name: str) -> dict[str, str]:
    """Return a mapping as a dictionary of strings; no message contains a value: it may be a key."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"{name} must be a dict, not {type(value).__name__}")
    for key, each in value.items():
        if not isinstance(key, str) or not isinstance(each, str):
            raise InvalidRequestError(
                f"{name}[{key!r}] must be a string, not {type(each).__name__}"
            )
        if name == "env" and ("\0" in key + each or "=" in key or not key):
            raise InvalidRequestError(f"env[{key!r}] cannot be an environment variable")
        if name == "headers" and not (
            re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", key) and re.fullmatch(r"[ -~]*", each)
        ):
            raise InvalidRequestError(
                f"headers[{key!r}] cannot be sent: a name has no spaces, and a value is ASCII text "
                "on one line"
            )
    return dict(value)


def _check_combination(
    is_url: bool, has_arguments: bool, for_process: bool, has_headers: bool
) -> None:
    if is_url and (has_arguments or for_process):
        raise InvalidRequestError("a URL takes no arguments, env or cwd; they are for a command")
    if has_headers and not is_url:
        raise InvalidRequestError("headers are for a URL; a command takes env or arguments")


# --- tools


class MCPTool(Tool):
    """A tool of an MCP server."""

    def __init__(self, connection: MCPConnection, listed: ListedTool, name: str) -> None:
        def call(**arguments: Any) -> str:
            return result_text(connection.call(listed.name, arguments))

        super().__init__(
            call,
            name=name,
            description=listed.description or listed.title or name,
            parameters=listed.input_schema,
        )
        self._connection = connection
        self._name_there = listed.name

    def bind(self, arguments: Mapping[str, Any], cancel: CancelToken) -> Callable[[], str]:
        """Return a function that calls the tool; the server checks the arguments."""
        # Not by keywords: an argument may have any name, that of a parameter too.
        return lambda: result_text(self._connection.call(self._name_there, arguments, cancel))


def make_tools(connection: MCPConnection, listed: list[ListedTool], prefix: str) -> list[Tool]:
    """Return the tools of a server under names that every protocol accepts, each once.

    Raises ``InvalidRequestError`` for a tool whose schema is invalid.
    """
    tools: list[Tool] = []
    names: set[str] = set()
    for each in listed:
        name = fit_name(prefix + each.name, names)
        names.add(name)
        each.input_schema = _check_schema(each.input_schema, each.name)
        each.description = (each.description or "")[:DESCRIPTION_CHARACTERS]
        tools.append(MCPTool(connection, each, name))
    return tools


def fit_name(name: str, taken: set[str]) -> str:
    """Return a valid name that is not taken.

    >>> fit_name("files/read", set()), fit_name("files.read", {"files_read"})
    ('files_read', 'files_read_2')
    """
    valid = re.sub("[^a-zA-Z0-9_-]", "_", name[:1000]) or "tool"
    found, number = valid[:NAME_CHARACTERS], 1
    while found in taken:
        number += 1
        found = f"{valid[: NAME_CHARACTERS - len(str(number)) - 1]}_{number}"
    return found


def _check_schema(schema: dict[str, Any], name: str) -> dict[str, Any]:
    what = f"the schema of the MCP server's tool {name[:NAME_CHARACTERS]!r}"
    try:
        length = len(json.dumps(schema, allow_nan=False))
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{what} is not JSON: {error}") from error
    if length > SCHEMA_CHARACTERS:
        raise InvalidRequestError(f"{what} is longer than {SCHEMA_CHARACTERS} characters")
    return schema


# --- results


def result_text(result: CallToolResult) -> str:
    """Return a result as text: its texts, or else its structured content.

    Parts that are not text are named. Raises ``ToolError`` if the server says that the call failed.
    """
    parts = [_content_text(each) for each in result.content]
    if not any(each.type == "text" for each in result.content) and result.structured_content:
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    text = "\n".join(part for part in parts if part)
    if len(text) > RESULT_CHARACTERS:
        cut = len(text) - RESULT_CHARACTERS
        text = f"{text[:RESULT_CHARACTERS]}\n[cut off: {cut} more characters]"
    if result.is_error:
        raise ToolError(text or "the tool failed without a message")
    return text


def _content_text(content: Any) -> str:
    """Return the text of one part of a result, or words that name it (MCP's tools page)."""
    if content.type == "text":
        return str(content.text)
    if content.type == "resource":
        if hasattr(content.resource, "text"):
            return str(content.resource.text)
        return _named("resource", content.resource.uri, content.resource.mime_type)
    if content.type == "resource_link":
        return _named("link to a resource", content.uri, content.mime_type)
    size = len(content.data) * 3 // 4
    return _named(f"{content.type} of {size} bytes", None, content.mime_type)


def _named(what: str, uri: object, mime_type: str | None) -> str:
    words = [what, *(str(word)[:500] for word in (mime_type, uri) if word)]
    return f"[{', '.join(words)}: not shown]"
