"""The layers: every import points down, never up or sideways, and each library has one importer.

A module may import modules from the lines below its own, but none from its own line. Imports inside
functions count too: they run later, but they are imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

NAME = "providers_sync"
PUBLIC = NAME
"""``providers_sync/__init__.py``."""
ROOT = Path(__file__).parent.parent / NAME

LAYERS = [
    "__main__",
    "cli",
    "cli.parser",
    "cli.recordings",
    "cli.commands cli.one_recording",
    "cli.batch_arguments",
    "cli.recording_list cli.local_model",
    # integrations: the terminal, used by the command line
    "terminal",
    "terminal.chat_command",
    "terminal.session",
    "terminal.answer terminal.tools terminal.conversation",
    "terminal.approval",
    "terminal.screens terminal.input",
    "terminal.markdown",
    "terminal.live terminal.spinner terminal.markdown_blocks",
    "terminal.log_lines",
    # integrations: the gateway
    "gateway",
    "serving wsgi echo",
    "serving.connections gateway_page",
    "engines",
    # integrations: the doctor, used by the command line
    "doctor",
    "doctor.answer",
    "doctor.model_list doctor.buffering",
    "doctor.base_urls doctor.causes",
    "doctor.network",
    "doctor.examination",
    "doctor.finding",
    # integrations: the models of the command llm
    "llm_plugin",
    "llm_plugin.model",
    "llm_plugin.answer",
    "llm_plugin.settings",
    "llm_plugin.messages llm_plugin.model_names",
    # integrations
    "otel.instrumentor",
    "local notebook web testing otel",
    # inside otel
    "otel.call_span",
    "otel.contents",
    "otel.attributes otel.instruments otel.safety",
    "notebook_output",
    "notebook_calls notebook_media",
    "notebook_bundles",
    # below local: its server with the child process, and its grammars
    "local_server local_grammar",
    "llama_server local_calls local_schemas",
    # inside testing
    "testing.server testing.faults testing.scripted",
    "testing.in_memory",
    "testing.player testing.recordings",
    "testing.answers",
    "testing.steps testing.encoders",
    "testing.step_types testing.responses_encoder testing.gemini_encoder testing.ollama_encoder",
    "testing.base_encoders testing.records testing.stoppable_socket",
    # inside web
    "web.bodies",
    "web.public_errors web.events web.write_timeout",
    "web.browser_input",
    # Ctrl-C handling of the integrations
    "interrupt",
    # public API
    PUBLIC,
    # built on providers
    "batch.command",
    "batch.progress_display batch.result_table",
    "batch.tally",
    "failover batch chat recording",
    # inside recording
    "recording.recorded",
    "recording.tape",
    "recording.file recording.nearest recording.playback",
    "recording.exchange recording.unwritten",
    # inside chat
    "chat_stopped",
    "chat_history chat_file",
    # inside failover
    "failover_loop",
    "circuit_breaker",
    # inside batch
    "batch.run",
    "batch.inbox batch.waiting",
    "batch.stopping",
    "batch.ledger_records batch.pacing batch.result_buffer batch.worker batch.inputs batch.tables "
    "batch.input_check",
    "batch.ledger",
    "batch.ledger_lines batch.executor batch.reply_message",
    "batch.records",
    "batch.results",
    "batch.rows",
    "batch.templates",
    "batch.cells",
    # options of a command; the default provider; name → class
    "provider_selection call_options",
    "providers",
    # the protocols, from both sides
    "providers.vitalentum providers.codelinkava providers.ai365vip providers.openai "
    "providers.anthropic providers.responses providers.gemini providers.ollama dialects",
    # inside dialects: one module per protocol, over what they share
    "dialects.vitalentum dialects.codelinkava dialects.ai365vip dialects.openai dialects.responses "
    "dialects.anthropic dialects.gemini dialects.ollama",
    "dialects.responses_writer dialects.anthropic_writer dialects.gemini_writer "
    "dialects.ollama_writer",
    "dialects.gemini_options dialects.gemini_contents dialects.ollama_messages",
    "dialects.gemini_schemas",
    "dialects.gemini_fields",
    "dialects.openai_writer dialects.validation",
    "dialects.reasons dialects.open_calls",
    "dialects.types",
    "providers.typed_calls",
    "providers.model_lists providers.presets",
    # what every provider shares
    "providers.base",
    "providers.settings",
    "providers.schema_modes providers.runs",
    "providers.calls",
    "providers.continuing",
    "providers.continuation_request providers.keywords",
    "providers.attempts providers.connections providers.headers",
    "providers.validation providers.seams providers.watching providers.http_request "
    "providers.custom_decoders",
    # async adapter
    "aio",
    "aio.typed_runs",
    "aio.typed aio.runs",
    "aio.streams",
    # tools
    "tools",
    "tools.prepare tools.mcp_servers",
    "tools.typed_run tools.mcp_connection",
    "tools.mcp_transports",
    "tools.run",
    "tools.deciding",
    "tools.execution",
    "tools.journal tools.pending tools.settings tools.tool",
    "tools.parameters tools.docstrings tools.results",
    "tools.argument_types tools.signatures",
    "tools.simple_types",
    # typed answers
    "typed",
    "typed.prepare",
    "typed.stream",
    "typed.reading typed.rounds",
    "typed.targets typed.json_form",
    # core
    "transport decoding retry stream",
    # inside stream
    "stream.prepared",
    "stream.stream",
    "stream.transcript stream.reader stream.cancel",
    "stream.call",
    "stream.reading",
    "stream.channel stream.left_work",
    "stream.workers",
    "stream.deadlines stream.wakeup stream.waker stream.contexts",
    # inside transport
    "transport.session transport.status_errors",
    "transport.response transport.connection transport.caller_session",
    "transport.raw_body transport.socket_reader transport.inflating",
    "transport.redaction transport.socks_proxy",
    "transport.errors transport.framing transport.addresses",
    "transport.attempt",
    "transport.resolver transport.tls_errors",
    # inside decoding: one module per protocol, over SSE and JSON parsing
    "decoding.text",
    "decoding.openai_chat decoding.anthropic decoding.responses decoding.gemini decoding.ollama",
    "decoding.openai_delta decoding.responses_texts",
    "decoding.anthropic_content decoding.openai_calls decoding.responses_outputs",
    "decoding.anthropic_blocks decoding.responses_items decoding.gemini_parts",
    "decoding.events decoding.lines decoding.gemini_calls decoding.gemini_sources",
    "decoding.answers decoding.gemini_arguments",
    "decoding.bodies decoding.server_errors decoding.tool_calls decoding.counts "
    "decoding.openai_parts decoding.sse decoding.json_array",
    "decoding.json_nesting",
    "decoding.parsing",
    # core, used by stream too
    "messages",
    "encoding",
    # inside encoding: one module per protocol, over what they share
    "encoding.openai_chat encoding.anthropic encoding.responses encoding.gemini_options "
    "encoding.ollama",
    "encoding.gemini",
    "encoding.parts encoding.options encoding.schemas",
    "encoding.schema_writer",
    "encoding.schema_trees",
    "returned_messages files",
    # foundation, itself in order: config raises errors, an error has an outcome
    "threads",
    "rate_limit",
    "server_limits token_estimates",
    "config call_log observing",
    "errors",
    "short_traceback value_table",
    "types printable clock quota locked_file failure_reasons option_hints",
    "finish_reasons error_words options message_types prices",
    "request_usage",
    "server_json json_answer",
    "json_reader",
    # safe Markdown: how types.Completion displays itself in a notebook
    "safe_markdown",
    "safe_markdown.inline safe_markdown.blocks",
    "safe_markdown.links safe_markdown.formulas safe_markdown.escaping",
]
HEIGHTS = {module: -line for line, names in enumerate(LAYERS) for module in names.split()}

UPWARD = {(PUBLIC, "load_ipython_extension", "notebook")}
"""An exception: IPython calls this function to load the notebook integration."""

BY_NAME = {PUBLIC, "providers", "terminal.tools"}
"""The other exceptions: what they import late. ``providers_sync.gateway`` works after ``import
providers_sync`` alone; a provider class is imported at its first use, and stands among the imports
for type checkers. ``tests/test_import.py`` checks that both are lazy. ``terminal.tools`` imports
the user's modules, for ``--tool``."""

ONLY_IMPORTER = {
    "anyio": "tools.mcp_connection",
    "click": "llm_plugin",
    "llm": "llm_plugin",
    "genai_prices": "prices",
    "httpx2": "tools.mcp_transports",
    "mcp": "tools",
    "opentelemetry": "otel",
    "pandas": "batch.result_table",
    "pyarrow": "batch.result_table",
    "requests": "transport",
    "socks": "transport.socks_proxy",
    "urllib3": "transport",
    "sseclient": "decoding.sse",
    "tenacity": "retry",
    "jsonschema": "typed.targets",
    "pydantic": "typed.targets llm_plugin.model",
    "referencing": "typed.targets",
    "waitress": "serving",
    "werkzeug": "wsgi",
    "xllamacpp": "llama_server",
}
"""Foreign packages, and the only modules or packages that may import each."""
HEAVY = {
    *("asyncio", "argparse", "IPython", "rich", "waitress", "werkzeug", "xllamacpp"),
    *("pydantic", "pydantic_core", "jsonschema", "pandas", "pyarrow"),
    *("anyio", "genai_prices", "httpx2", "mcp", "llm", "click", "opentelemetry"),
}
"""Not to be loaded by any module below the integrations."""
ASYNC_MODULES = {"aio", "tools.mcp_connection", "tools.mcp_transports"}
"""They import asyncio, and are themselves imported late by modules below the integrations."""
ASYNC_PACKAGES = {"asyncio", "anyio", "httpx2", "mcp"}
CLIENT_SIDE = ("providers", "decoding")
"""Packages that ``dialects`` shares no code with."""


@dataclass(frozen=True)
class Import:
    """``module`` imports ``target``: a module of ours (``inside``) or a foreign package."""

    module: str
    target: str = ""
    inside: bool = False
    function: str | None = None
    """The outermost function around the import; ``None`` if it runs when the module is loaded."""
    typing_only: bool = False

    @property
    def late(self) -> bool:
        """Whether loading ``module`` does not load ``target``."""
        return self.typing_only or self.function is not None

    def __str__(self) -> str:
        return f"{self.module} imports {self.target}"


# --- reading the sources


def sources_by_module() -> dict[str, str]:
    """Return the source of every module by the module's name."""
    return {
        _module_name(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for path in sorted(ROOT.rglob("*.py"))
    }


def _module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts) or PUBLIC


def imports(sources: dict[str, str]) -> list[Import]:
    """Return every import in these modules."""
    return [
        found
        for module, source in sources.items()
        for found in _walk(ast.parse(source), Import(module), sources)
    ]


def _walk(node: ast.AST, at: Import, sources: Iterable[str]) -> Iterator[Import]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        at = replace(at, function=at.function or node.name)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        at = replace(at, typing_only=True)
    for path in _paths(node, at.module, sources):
        top, _, rest = path.partition(".")
        inside = top == NAME
        yield replace(at, target=(rest or PUBLIC) if inside else top, inside=inside)
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, at, sources)


def _paths(node: ast.AST, module: str, sources: Iterable[str]) -> Iterator[str]:
    """Yield the absolute names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = [NAME] if module == PUBLIC else [NAME, *module.split(".")]
            is_package = (
                any(other.startswith(f"{module}.") for other in sources) or module == PUBLIC
            )
            up = node.level - is_package
            base = ".".join([*parents[: len(parents) - up], *filter(None, [node.module])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            yield inner if inner.removeprefix(f"{NAME}.") in sources else base


# --- the rules; each returns its violations


def not_downward(found: Iterable[Import]) -> list[str]:
    """Return the imports that point up, sideways, or to a module in no layer."""
    return [
        f"{one} (up or sideways)"
        for one in found
        if one.inside
        and (one.module, one.function, one.target) not in UPWARD
        and not HEIGHTS.get(one.target, 1) < HEIGHTS.get(one.module, 1)
    ]


def wrong_importers(found: Iterable[Import]) -> list[str]:
    """Return the imports of foreign packages outside their only importer."""
    return [
        f"{one} (allowed only in {ONLY_IMPORTER[one.target]})"
        for one in found
        if not one.inside
        and not any(
            f"{one.module}.".startswith(f"{importer}.")
            for importer in ONLY_IMPORTER.get(one.target, one.module).split()
        )
    ]


def heavy_below_integrations(found: Iterable[Import]) -> list[str]:
    """Return the heavy imports that ``import providers_sync`` would load."""
    return [
        f"{one} (when it is loaded)"
        for one in found
        if HEIGHTS.get(one.module, 1) <= HEIGHTS[PUBLIC]
        and not one.late
        and one.target in HEAVY | ASYNC_MODULES
        and not (_is_async(one.module) and one.target in ASYNC_PACKAGES | ASYNC_MODULES)
    ]


def _is_async(module: str) -> bool:
    return any(f"{module}.".startswith(f"{each}.") for each in ASYNC_MODULES)


def shared_by_both_sides(found: Iterable[Import]) -> list[str]:
    """Return the client-side modules that ``dialects`` reaches, and the reverse."""
    links = [(one.module, one.target) for one in found if one.inside]
    reached = {"dialects"}
    while new := {target for module, target in links if module in reached} - reached:
        reached |= new
    client = [module for module in reached if module.split(".")[0] in CLIENT_SIDE]
    back = [
        module
        for module, target in links
        if target.split(".")[0] == "dialects" and module.split(".")[0] in CLIENT_SIDE
    ]
    return [f"dialects reaches {module}" for module in client] + [
        f"{module} imports dialects" for module in back
    ]


def in_no_layer(sources: Iterable[str]) -> list[str]:
    """Return the modules that are in no layer."""
    return [
        f"{module} is in no layer: add it to LAYERS" for module in sources if module not in HEIGHTS
    ]


def dynamic_imports(sources: dict[str, str]) -> list[str]:
    """Return the modules that import by a computed name, which no test can follow."""
    return [
        f"{module} calls {call}"
        for module, source in sources.items()
        for call in ("import_module(", "__import__(")
        if call in source and module not in BY_NAME
    ]


# --- the tests


def test_every_module_is_in_a_layer():
    """A new module must be added to the list."""
    wrong = in_no_layer(sources_by_module())
    assert not wrong, "\n".join(wrong)


def test_imports_point_down_only():
    """No module imports one above itself or beside itself, not even inside a function."""
    wrong = not_downward(imports(sources_by_module()))
    assert not wrong, "\n".join(wrong)
    assert dynamic_imports(sources_by_module()) == []


def test_foreign_packages_have_one_importer_each():
    """Only transport imports requests, only decoding sseclient, only retry tenacity, and so on."""
    assert wrong_importers(imports(sources_by_module())) == []


def test_nothing_below_the_integrations_loads_servers_or_asyncio():
    """``import providers_sync`` stays light."""
    assert heavy_below_integrations(imports(sources_by_module())) == []


def test_dialects_share_no_code_with_the_client():
    """Otherwise one misreading of a protocol would pass every test."""
    assert shared_by_both_sides(imports(sources_by_module())) == []


EMPTY = dict.fromkeys(HEIGHTS, "")


@pytest.mark.parametrize(
    ("rule", "module", "source", "violation"),
    [
        (not_downward, "errors", "from .config import Timeouts", "errors imports config"),
        (not_downward, "messages", "from . import retry", "messages imports retry"),
        (not_downward, "messages", "def f():\n    from . import Vitalentum", f"imports {PUBLIC}"),
        (not_downward, "decoding", "import providers_sync.gateway", "decoding imports gateway"),
        (not_downward, "providers.openai", "from .vitalentum import x", "providers.vitalentum"),
        (not_downward, "providers.base", "from ..attic import x", "imports attic"),
        (not_downward, PUBLIC, "from . import notebook", "imports notebook"),
        (wrong_importers, "cli", "def f():\n    import requests.adapters", "imports requests"),
        (wrong_importers, "stream", "if TYPE_CHECKING:\n    import tenacity", "in retry"),
        (heavy_below_integrations, "messages", "import asyncio.events", "messages imports asyncio"),
        (
            heavy_below_integrations,
            "transport",
            "try:\n    import werkzeug\nfinally: 0",
            "werkzeug",
        ),
        (heavy_below_integrations, "providers.base", "from .. import aio", "imports aio"),
        (shared_by_both_sides, "dialects", "from ..decoding import sse", "reaches decoding"),
        (shared_by_both_sides, "providers.base", "from .. import dialects", "imports dialects"),
    ],
)
def test_rule_reports_a_violation(rule, module, source, violation):
    """Each rule finds an invented violation."""
    found = rule(imports({**EMPTY, module: source}))
    assert any(violation in each for each in found)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("messages", "from .types import Usage"),
        ("providers.base", "from .. import decoding, transport\nfrom ..config import Timeouts"),
        ("providers.base", "def create_async_generator():\n    from .. import aio"),
        (PUBLIC, "def load_ipython_extension(shell):\n    from . import notebook"),
        ("aio", "import asyncio"),
        ("gateway", "from . import Vitalentum\nfrom .serving import WSGIServer"),
    ],
)
def test_rules_allow_good_imports(module, source):
    """The rules forbid nothing else."""
    found = imports({**EMPTY, module: source})
    rules = (not_downward, wrong_importers, heavy_below_integrations, shared_by_both_sides)
    assert [rule(found) for rule in rules] == [[]] * 4


def test_module_in_no_layer_is_named():
    """The message names the module and what to do."""
    assert in_no_layer(["utils"]) == ["utils is in no layer: add it to LAYERS"]


def test_dynamic_import_is_reported():
    """An import that the rules cannot follow is an error."""
    assert dynamic_imports({"cli": "importlib.import_module(name)"}) == ["cli calls import_module("]
