"""The functions that ``--tool`` names, and the tools of the MCP servers that ``--mcp`` starts."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import InvalidRequestError
from ..tools import Tool, mcp
from ..tools.tool import as_tools


@contextlib.contextmanager
def open_tools(functions: Sequence[str], servers: Sequence[str]) -> Iterator[list[Tool]]:
    """Yield the tools; the MCP servers run until ``with`` is left.

    ``functions`` are ``MODULE:FUNCTION``; ``servers`` are command lines or URLs. Raises
    ``InvalidRequestError``, and what ``mcp`` raises.
    """
    tools = [load_function(name) for name in functions]
    with contextlib.ExitStack() as stack:
        for server in servers:
            tools += stack.enter_context(mcp(*_command(server)))
        as_tools(tools)  # raises for two with one name
        yield tools


def load_function(name: str) -> Tool:
    """Return the function ``MODULE:FUNCTION`` as a tool; a ``Tool`` is returned as it is.

    The module is an installed one, or else one in the current directory.
    """
    module_name, _, path = name.partition(":")
    if not re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", name):
        raise InvalidRequestError(f"--tool needs MODULE:FUNCTION, such as files:read, not {name!r}")
    module = _import(module_name, name)
    try:
        function = functools.reduce(getattr, path.split("."), module)
    except AttributeError as error:
        raise InvalidRequestError(
            f"--tool {name}: the module {module_name} has no {path}; it has {_functions(module)}"
        ) from error
    if isinstance(function, Tool):
        return function
    try:
        return Tool(function)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"--tool {name}: {error}") from error


def _import(module: str, name: str) -> Any:
    folder = os.getcwd()
    try:
        # Not before the others, and not without need: files of a folder of somebody else must not
        # take the place of packages that are imported later.
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            sys.path.append(folder)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _failed(name, error) from error
        raise InvalidRequestError(
            f"--tool {name}: there is no module {error.name}, neither in {folder} nor installed"
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from error


def _failed(name: str, error: BaseException) -> InvalidRequestError:
    return InvalidRequestError(
        f"--tool {name}: its module cannot be imported: {type(error).__name__}: {error}"
    )


def _functions(module: Any) -> str:
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]
    return ", ".join(names) or "no functions"


def _command(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidRequestError(f"--mcp {text}: {error}") from error
    if not words:
        raise InvalidRequestError('--mcp needs a command or a URL, such as "npx -y PACKAGE"')
    return words
