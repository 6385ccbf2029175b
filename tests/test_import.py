"""``import providers_sync``: what it loads, its CPU time, and the public names."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from statistics import median

import pytest

import providers_sync
from providers_sync import Completion, TextDelta, Timeouts, Usage

ROOT = Path(__file__).parent.parent
UNWANTED = [
    *("asyncio", "tornado", "tenacity", "argparse", "IPython"),
    *("werkzeug", "waitress", "xllamacpp"),
    *("providers_sync.cli", "providers_sync.gateway", "providers_sync.local"),
    "providers_sync.local_server",
    *("providers_sync.dialects", "providers_sync.testing", "providers_sync.aio"),
    *("providers_sync.providers.anthropic", "providers_sync.providers.vitalentum"),
    *("providers_sync.chat", "providers_sync.terminal", "providers_sync.notebook", "rich"),
    *("providers_sync.options", "providers_sync.providers.keywords", "typing_extensions"),
]
OURS = "import providers_sync"
THEIRS = "import requests, sseclient, tenacity"
LIMIT = 1.4
PAIRS_MIN, PAIRS_MAX = 9, 40


def python(code: str, **environment: str) -> str:
    """Run ``code`` in a fresh interpreter and return what it prints."""
    path = os.pathsep.join(filter(None, [environment.pop("path", ""), str(ROOT)]))
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


@pytest.fixture
def tornado(tmp_path: Path) -> str:
    """Return a folder with a stand-in for tornado, which imports asyncio like the real one."""
    package = tmp_path / "tornado"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "gen.py").write_text(
        "import asyncio\n\nsleep, coroutine = asyncio.sleep, lambda f: f\n"
    )
    return str(tmp_path)


@pytest.mark.parametrize("name", ["ours", "theirs"])
def test_tornado_loads_asyncio_through_tenacity_only(tornado, name):
    """Check the stand-in: with it, tenacity loads asyncio, and ``providers_sync`` does not."""
    loaded = python(
        f"{OURS if name == 'ours' else THEIRS}; import sys; print('asyncio' in sys.modules)",
        path=tornado,
    )
    assert loaded.strip() == str(name == "theirs")


def test_import_loads_no_server_no_command_line_no_asyncio(tornado):
    """Optional modules are not loaded, and tenacity is not before the first failure."""
    code = f"{OURS}; import sys; print([name for name in {UNWANTED} if name in sys.modules])"
    assert python(code, path=tornado).strip() == "[]"


def test_submodules_load_on_attribute_access():
    """``providers_sync.gateway.serve`` works after ``import providers_sync``; a typo raises."""
    code = (
        f"{OURS}; print(callable(providers_sync.gateway.serve), callable(providers_sync.aio.stream)"
        ", callable(providers_sync.batch.map), hasattr(providers_sync, 'gatewy'))"
    )
    assert python(code).strip() == "True True True False"


def test_import_costs_little_more_than_its_dependencies(tmp_path):
    """At most ``LIMIT`` times the CPU time of requests, sseclient and tenacity.

    Each process measures what it imports on top of requests and sseclient as a share of those two:
    a processor that is slow for a while is slow for both. The medians are compared.
    """
    for name in ("providers_sync", "tenacity"):
        _cpu_share(name, tmp_path)  # compile
    ours, theirs = [], []
    while len(ours) < PAIRS_MAX:
        ours.append(_cpu_share("providers_sync", tmp_path))
        theirs.append(_cpu_share("tenacity", tmp_path))
        ratio = (1 + median(ours)) / (1 + median(theirs))
        if len(ours) >= PAIRS_MIN and ratio <= LIMIT:
            break
    print(f"import ratio {ratio:.3f} ({len(ours)} pairs)")
    assert ratio <= LIMIT


def _cpu_share(name: str, cache: Path) -> float:
    """Return the CPU time of an import after that of requests and sseclient, as a share of it.

    Without tornado, which a user of ours rarely has: tenacity would load it, and asyncio with it.
    """
    base, more = python(
        "from time import process_time as t; import sys; sys.modules['tornado'] = None; "
        f"a = t(); import requests, sseclient; b = t(); import {name}; print(b - a, t() - b)",
        PYTHONDONTWRITEBYTECODE="",
        PYTHONPYCACHEPREFIX=str(cache),
    ).split()
    return float(more) / float(base)


def test_public_api_contains_the_listed_names():
    """Adding or removing a public name requires a change of this list."""
    changed = sorted({*providers_sync.__all__} ^ {*PUBLIC_API})
    assert not changed, f"only in one of providers_sync.__all__ and PUBLIC_API: {changed}"
    assert providers_sync.__all__ == PUBLIC_API
    assert all(hasattr(providers_sync, name) for name in PUBLIC_API)


def test_dir_and_help_show_public_names_only():
    """Tab completion and ``help()`` show the public API and nothing that the module imports."""
    printed = python(f"{OURS}; print(*dir(providers_sync)); help(providers_sync)")
    names, _, shown = printed.partition("\n")
    assert names.split() == sorted(PUBLIC_API), "is a provider missing in _LAZY_PROVIDERS?"
    sections = re.split(r"^(CLASSES|FUNCTIONS|DATA|VERSION|FILE)$", shown, flags=re.M)
    classes = re.findall(r"^    class (\w+)", sections[sections.index("CLASSES") + 1], flags=re.M)
    data = re.findall(r"^    (\w+) = ", sections[sections.index("DATA") + 1], flags=re.M)
    assert {*classes, *data} <= {*PUBLIC_API, "__all__"}
    assert {"Chat", "Failover", "Stream", "Vitalentum"} <= {*classes}
    functions = sections[sections.index("FUNCTIONS") + 1]
    assert re.findall(r"^    (\w+)\(", functions, flags=re.M) == ["mcp"]


@pytest.mark.parametrize(
    "kind", [Usage, Timeouts, Completion, TextDelta], ids=lambda kind: kind.__name__
)
def test_signatures_of_data_classes_show_their_fields(kind):
    """``inspect.signature`` and editors see the fields and their defaults, in order."""
    assert list(inspect.signature(kind).parameters) == [field.name for field in fields(kind)]
    assert str(inspect.signature(Usage)).startswith("(input_tokens: 'int | None' = None, ")


PUBLIC_API = [
    "AI365VIP",
    "PROVIDERS",
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "Anthropic",
    "AuthenticationError",
    "CancelToken",
    "Chat",
    "Citation",
    "CodeLinkAva",
    "Completion",
    "Event",
    "Extra",
    "Failover",
    "FailoverError",
    "Finish",
    "Gemini",
    "InvalidAnswer",
    "InvalidRequestError",
    "Join",
    "MalformedStream",
    "Media",
    "Message",
    "Messages",
    "ModelNotSupportedError",
    "Ollama",
    "OpenAICompatible",
    "OpenAIResponses",
    "Outcome",
    "Pause",
    "PreparedCall",
    "Prompt",
    "Provider",
    "ProviderError",
    "ProviderFailure",
    "RateLimit",
    "RateLimitError",
    "ReasoningDelta",
    "Refusal",
    "Retry",
    "Run",
    "ServerError",
    "Stats",
    "Stream",
    "StreamCancelled",
    "StreamCut",
    "StreamError",
    "StreamTruncated",
    "TextDelta",
    "Timeouts",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolResult",
    "TypedCompletion",
    "TypedStream",
    "Usage",
    "Vitalentum",
    "__version__",
    "mcp",
]
