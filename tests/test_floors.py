"""The house: every import points down, never up or sideways, and each tool has one room.

DESIGN: floors from the top of the list to its bottom. A module may import those below its own
floor; rooms on one floor do not know each other. An import inside a function counts too: it may
be late, not upward.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

NAME = "providers_sync"
FACE = NAME
ROOT = Path(__file__).parent.parent / NAME

HOUSE = [
    "__main__",
    "cli",
    # 10 gateway, a door, and its inner rooms
    "gateway",
    "serving wsgi",
    "engines",
    # 9 doors
    "local notebook web testing",
    # 9 the inner rooms of testing
    "testing.play",
    "testing.answers testing.line",
    "testing.steps",
    "testing.protocols testing.records",
    # 8 the face
    FACE,
    # 7 uses of an answer
    "failover batch chat",
    # 6 the table: name → class
    "providers",
    # 5 the protocols, from both sides
    "providers.vitalentum providers.codelinkava providers.ai365vip providers.openai "
    "providers.anthropic dialects",
    # 4 the joint
    "providers.base",
    # 3 async over a Stream
    "aio",
    # 2 plumbing
    "messages transport decoding retry stream",
    # 1 ground, itself in order: an error carries an outcome, a clock raises an error
    "config",
    "errors",
    "types",
]
FLOORS = {room: -level for level, rooms in enumerate(HOUSE) for room in rooms.split()}

LATE_UPWARD = {(FACE, "load_ipython_extension", "notebook")}
"""The one exception: the face opens the notebook's door when IPython asks it to."""

ONE_ROOM = {
    "requests": "transport",
    "urllib3": "transport",
    "sseclient": "decoding",
    "tenacity": "retry",
    "waitress": "serving",
    "werkzeug": "wsgi",
    "xllamacpp": "local",
}
HEAVY = {"asyncio", "argparse", "IPython", "waitress", "werkzeug", "xllamacpp"}
"""Never loaded by the face."""
MAY_LOAD = {("aio", "asyncio")}
"""Nobody loads ``aio`` with itself; that is checked too."""


@dataclass(frozen=True)
class Import:
    """``room`` imports ``target``: a room of the house, or a foreign package."""

    room: str
    target: str
    function: str | None
    """The function it stands in; ``None`` at module level."""
    typing_only: bool
    inside: bool
    """Whether the target is a room of the house."""


def rooms() -> dict[str, Path]:
    """Return every module of the package: its name within the package, and its file."""
    return {_room(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}


def _room(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or FACE


def imports(room: str, source: str, is_package: bool, known: set[str]) -> Iterator[Import]:
    """Yield every import in ``source``, wherever it stands."""
    package = [] if room == FACE else room.split(".")
    if not is_package:
        package = package[:-1]
    yield from _walk(ast.parse(source).body, Import(room, "", None, False, False), package, known)


def _walk(nodes: list[ast.AST], at: Import, package: list[str], known: set[str]) -> Iterator[Import]:
    for node in nodes:
        function, typing_only = at.function, at.typing_only
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            function = function or node.name
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing_only = True
        for target in _targets(node, package, known):
            inside = target in known or target.startswith("?")
            yield Import(at.room, target, function, typing_only, inside)
        here = Import(at.room, "", function, typing_only, False)
        yield from _walk(list(ast.iter_child_nodes(node)), here, package, known)


def _targets(node: ast.AST, package: list[str], known: set[str]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield _named(alias.name, known)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            start = package[: len(package) - node.level + 1]
            base = ".".join([NAME, *start, *filter(None, [node.module])])
        else:
            base = node.module or ""
        for alias in node.names:
            inner = _named(f"{base}.{alias.name}", known)
            yield inner if inner in known else _named(base, known)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        name = node.args[0]
        yield _named(name.value if isinstance(name, ast.Constant) else "", known)


def _named(path: str, known: set[str]) -> str:
    """Return a room's name, a foreign package's, or ``?name`` for what is not in the house."""
    top, _, rest = path.partition(".")
    if top != NAME:
        return top
    return FACE if not rest else rest if rest in known else f"?{rest}"
