"""The house: every import points down, never up or sideways, and each tool has one room.

DESIGN: floors from the top of the list to its bottom. A module may import those below its own
floor; rooms on one floor do not know each other. An import inside a function counts too: it may
be late, not upward.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

NAME = "providers_sync"
FACE = NAME
ROOT = Path(__file__).parent.parent / NAME

HOUSE = [
    "__main__",
    "cli",
    # 10 the terminal, opened by the command line
    "terminal",
    "terminal.session",
    "terminal.render",
    "terminal.screens terminal.keyboard",
    "terminal.markdown",
    "terminal.live terminal.spinner terminal.markdown_blocks",
    # 10 gateway, a door, and its inner rooms
    "gateway",
    "serving wsgi echo",
    "serving.connections",
    "engines",
    # 9 the doctor, opened by the command line
    "doctor",
    "doctor.network doctor.buffering",
    "doctor.finding",
    # 9 doors
    "local notebook web testing",
    # 9 the child process of local
    "llama_server",
    # 9 the inner rooms of testing
    "testing.server testing.faults testing.scripted",
    "testing.in_memory",
    "testing.player",
    "testing.answers testing.steps testing.protocols",
    "testing.step_types",
    "testing.encoders testing.records testing.connection",
    # 9 the inner rooms of web
    "web.bodies",
    "web.public_errors",
    "web.browser_input",
    # 9 the stop button of the doors
    "interrupt",
    # 8 the face
    FACE,
    # 7 uses of an answer
    "batch.report",
    "failover batch chat",
    # 7 the inner room of failover
    "circuit_breaker",
    # 7 the inner rooms of batch
    "batch.run",
    "batch.records batch.pacing batch.result_buffer batch.worker batch.inputs",
    "batch.ledger batch.same_thread",
    "batch.ledger_lines batch.executor",
    "batch.results",
    "batch.rows",
    # 6 which provider is meant, and the table: name → class
    "defaults",
    "providers",
    # 5 the protocols, from both sides
    "providers.vitalentum providers.codelinkava providers.ai365vip providers.openai "
    "providers.anthropic dialects",
    # 5 the inner rooms of dialects: one a protocol, over what they write and share
    "dialects.vitalentum dialects.codelinkava dialects.ai365vip dialects.openai dialects.anthropic",
    "dialects.openai_writer dialects.anthropic_writer dialects.validation",
    "dialects.models",
    # 4 the joint, over its inner rooms
    "providers.base",
    "providers.attempts providers.validation",
    # 3 async over a Stream
    "aio",
    # 2 plumbing
    "messages transport decoding retry stream",
    # 2 the inner room of messages
    "images",
    # 2 the inner rooms of stream: from a call made ready down to its clocks
    "stream.prepared",
    "stream.stream stream.direct_channel",
    "stream.channel stream.cancel stream.workers",
    "stream.deadlines stream.wakeup",
    # 2 the inner rooms of transport: one request, from its call to its answer
    "transport.session transport.status_errors",
    "transport.response transport.connection",
    "transport.gzip_body",
    "transport.redaction",
    "transport.errors transport.framing",
    "transport.call",
    "transport.resolver",
    # 2 the inner rooms of decoding: one a protocol, over the framer and the shared pieces
    "decoding.openai_chat decoding.anthropic",
    "decoding.parsing decoding.sse",
    # 1 ground, itself in order: an error carries an outcome, a clock raises an error
    "config",
    "errors",
    "types printable",
    # 1 the Markdown that types shows itself as, over its inner rooms
    "safe_markdown",
    "safe_markdown.inline safe_markdown.blocks",
    "safe_markdown.links safe_markdown.formulas safe_markdown.escaping",
]
FLOORS = {room: -level for level, rooms in enumerate(HOUSE) for room in rooms.split()}

UPWARD = {(FACE, "load_ipython_extension", "notebook")}
"""An exception: the face opens the notebook's door when IPython asks it to."""

BY_NAME = {FACE}
"""The other one: it opens any door for those who write ``providers_sync.gateway`` after ``import
providers_sync`` alone. That none opens by itself is seen by ``tests/test_import.py``."""

ONE_ROOM = {
    "requests": "transport",
    "urllib3": "transport",
    "sseclient": "decoding.sse",
    "tenacity": "retry",
    "waitress": "serving",
    "werkzeug": "wsgi",
    "xllamacpp": "llama_server",
}
"""Foreign packages and the only room that may import them."""
HEAVY = {"asyncio", "argparse", "IPython", "rich", "waitress", "werkzeug", "xllamacpp"}
"""What no import below the doors may load."""
ASYNC_ROOM = "aio"
"""Loads asyncio, and is itself loaded late by everyone below the doors."""
CLIENT_ROOMS = ("providers", "decoding")
"""What ``dialects`` shares no code with."""


@dataclass(frozen=True)
class Import:
    """``room`` imports ``target``: a room of the house (``inside``) or a foreign package."""

    room: str
    target: str = ""
    inside: bool = False
    function: str | None = None
    """The outermost function it stands in; ``None`` where it runs with the module."""
    typing_only: bool = False

    @property
    def late(self) -> bool:
        """Whether loading ``room`` does not load ``target``."""
        return self.typing_only or self.function is not None

    def __str__(self) -> str:
        return f"{self.room} imports {self.target}"


# --- reading


def house() -> dict[str, str]:
    """Return the source of every module by its room's name."""
    return {
        _room(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in sorted(ROOT.rglob("*.py"))
    }


def _room(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or FACE


def imports(sources: dict[str, str]) -> list[Import]:
    """Return every import of these modules, wherever it stands in them."""
    return [
        found
        for room, source in sources.items()
        for found in _walk(ast.parse(source), Import(room), sources)
    ]


def _walk(node: ast.AST, at: Import, sources: Iterable[str]) -> Iterator[Import]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        at = replace(at, function=at.function or node.name)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        at = replace(at, typing_only=True)
    for path in _paths(node, at.room, sources):
        top, _, rest = path.partition(".")
        inside = top == NAME
        yield replace(at, target=(rest or FACE) if inside else top, inside=inside)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, at, sources)


def _paths(node: ast.AST, room: str, sources: Iterable[str]) -> Iterator[str]:
    """Yield the absolute names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            here = [NAME] if room == FACE else [NAME, *room.split(".")]
            is_package = any(other.startswith(f"{room}.") for other in sources) or room == FACE
            up = node.level - is_package
            base = ".".join([*here[: len(here) - up], *filter(None, [node.module])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner.removeprefix(f"{NAME}.") in sources else base


# --- the rules; each returns its complaints


def not_downward(found: Iterable[Import]) -> list[str]:
    """Say which imports point up, sideways, or to no floor at all."""
    return [
        f"{one} (up or sideways)"
        for one in found
        if one.inside
        and (one.room, one.function, one.target) not in UPWARD
        and not FLOORS.get(one.target, 1) < FLOORS.get(one.room, 1)
    ]


def outside_their_room(found: Iterable[Import]) -> list[str]:
    """Say which foreign packages are imported by another room than their own."""
    return [
        f"{one} (which belongs to {ONE_ROOM[one.target]})"
        for one in found
        if not one.inside
        and not (one.room + ".").startswith(ONE_ROOM.get(one.target, one.room) + ".")
    ]


def heavy_below_the_doors(found: Iterable[Import]) -> list[str]:
    """Say what the face would load that is not needed to ask a question."""
    return [
        f"{one} (when it is loaded)"
        for one in found
        if FLOORS.get(one.room, 1) <= FLOORS[FACE]
        and not one.late
        and one.target in {*HEAVY, ASYNC_ROOM}
        and (one.room, one.target) != (ASYNC_ROOM, "asyncio")
    ]


def shared_by_both_sides(found: Iterable[Import]) -> list[str]:
    """Say which code of the client's side ``dialects`` reaches, and the reverse."""
    links = [(one.room, one.target) for one in found if one.inside]
    reached = {"dialects"}
    while new := {target for room, target in links if room in reached} - reached:
        reached |= new
    client = [room for room in reached if room.split(".")[0] in CLIENT_ROOMS]
    back = [
        room
        for room, target in links
        if target.split(".")[0] == "dialects" and room.split(".")[0] in CLIENT_ROOMS
    ]
    return [f"dialects reaches {room}" for room in client] + [
        f"{room} imports dialects" for room in back
    ]


def homeless(sources: Iterable[str]) -> list[str]:
    """Say which modules have no floor."""
    return [f"{room} has no floor: give it one in HOUSE" for room in sources if room not in FLOORS]


def hidden(sources: dict[str, str]) -> list[str]:
    """Say which modules import by a name made at run time, which no test can follow."""
    return [
        f"{room} calls {call}"
        for room, source in sources.items()
        for call in ("import_module(", "__import__(")
        if call in source and room not in BY_NAME
    ]


# --- the tests


def test_every_module_has_a_floor():
    """A new room must be put into the drawing before it can be built."""
    assert homeless(house()) == []


def test_imports_point_down_only():
    """No module imports one above itself or beside itself, not even inside a function."""
    assert not_downward(imports(house())) == []
    assert hidden(house()) == []


def test_foreign_packages_have_one_room_each():
    """Only transport knows requests, only decoding sseclient, only retry tenacity, and so on."""
    assert outside_their_room(imports(house())) == []


def test_nothing_below_the_doors_loads_servers_or_asyncio():
    """What ``import providers_sync`` loads stays light."""
    assert heavy_below_the_doors(imports(house())) == []


def test_dialects_share_no_code_with_the_client():
    """One misreading of a protocol must not pass every test."""
    assert shared_by_both_sides(imports(house())) == []


PLAIN = dict.fromkeys(FLOORS, "")


@pytest.mark.parametrize(
    ("rule", "room", "source", "complaint"),
    [
        (not_downward, "errors", "from .config import Timeouts", "errors imports config"),
        (not_downward, "messages", "from . import retry", "messages imports retry"),
        (not_downward, "messages", "def f():\n    from . import Vitalentum", f"imports {FACE}"),
        (not_downward, "decoding", "import providers_sync.gateway", "decoding imports gateway"),
        (not_downward, "providers.openai", "from .vitalentum import x", "providers.vitalentum"),
        (not_downward, "providers.base", "from ..attic import x", "imports attic"),
        (not_downward, FACE, "from . import notebook", "imports notebook"),
        (outside_their_room, "cli", "def f():\n    import requests.adapters", "imports requests"),
        (outside_their_room, "stream", "if TYPE_CHECKING:\n    import tenacity", "to retry"),
        (heavy_below_the_doors, "messages", "import asyncio.events", "messages imports asyncio"),
        (heavy_below_the_doors, "transport", "try:\n    import werkzeug\nfinally: 0", "werkzeug"),
        (heavy_below_the_doors, "providers.base", "from .. import aio", "imports aio"),
        (shared_by_both_sides, "dialects", "from ..decoding import events", "reaches decoding"),
        (shared_by_both_sides, "providers.base", "from .. import dialects", "imports dialects"),
    ],
)
def test_a_rule_complains_when_it_is_broken(rule, room, source, complaint):
    """Each rule sees a made-up offence."""
    assert any(complaint in said for said in rule(imports({**PLAIN, room: source})))


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("messages", "from .types import Usage"),
        ("providers.base", "from .. import decoding, transport\nfrom ..config import Timeouts"),
        ("providers.base", "def create_async_generator():\n    from .. import aio"),
        (FACE, "def load_ipython_extension(shell):\n    from . import notebook"),
        ("aio", "import asyncio"),
        ("gateway", "from . import Vitalentum\nfrom .serving import Server"),
    ],
)
def test_the_rules_let_good_imports_pass(room, source):
    """The rules forbid no more than they say."""
    found = imports({**PLAIN, room: source})
    rules = (not_downward, outside_their_room, heavy_below_the_doors, shared_by_both_sides)
    assert [rule(found) for rule in rules] == [[]] * 4


def test_a_module_without_a_floor_is_named():
    """The complaint says which module is homeless, and what to do."""
    assert homeless(["utils"]) == ["utils has no floor: give it one in HOUSE"]


def test_an_import_by_a_made_up_name_is_seen():
    """An import that the drawing cannot follow is refused."""
    assert hidden({"cli": "importlib.import_module(name)"}) == ["cli calls import_module("]
