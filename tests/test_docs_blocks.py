"""Every code block of the documentation runs, and prints what the page shows below it."""

from __future__ import annotations

import ast
import logging
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docs_kit
import pytest
from docs_kit import Block, PageRun
from docs_model import CHECKS, ENVIRONMENT, GIVEN, LocalEngine, model

from providers_sync import Provider
from providers_sync.providers import openai
from providers_sync.testing import serve

TESTS = Path(__file__).parent
ALL = [block for page in docs_kit.pages() for block in docs_kit.blocks(page)]
WRITTEN = {Path(block.file).stem for block in ALL if block.file}
"""The modules that pages write."""
MOST_NOT_RUN = 8


def has_own_test(page: str) -> bool:
    """Return whether a page has a test of its own that runs its programs, with their servers."""
    names = {"gateway.md": "test_gateway_docs.py"}
    stem = page.removesuffix(".md").replace("-", "_").replace("/", "_")
    path = TESTS / names.get(page, f"test_{stem}_page.py")
    source = path.read_text(encoding="utf-8") if path.exists() else ""
    return f"docs/{page}" in source and ("exec(" in source or "-c '{program}'" in source)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Undo what a page does to its process: handlers and levels of logging, instrumentations."""
    loggers = [logging.getLogger(), logging.getLogger("providers_sync")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    modules, on_sigterm = set(sys.modules), signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, on_sigterm)
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.handlers[:] = handlers
    for name in set(sys.modules) - modules:
        if name in WRITTEN:
            del sys.modules[name]
    requests = sys.modules.get("opentelemetry.instrumentation.requests")
    if requests and requests.RequestsInstrumentor().is_instrumented_by_opentelemetry:
        requests.RequestsInstrumentor().uninstrument()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("page", docs_kit.pages())
def test_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader would run them, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    languages = {"console"} if has_own_test(page) else {"console", "python", "html"}
    given = GIVEN.get(page, lambda url: {})
    with serve(model) as server:
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value.replace("URL", server.url))
        for name, preset in openai.PRESETS.items():
            if preset.api_key_variable:
                monkeypatch.setenv(preset.api_key_variable, "key")
            here = preset._replace(base_url=server.url, parts=(), hosts="")
            monkeypatch.setitem(openai.PRESETS, name, here)
        names: dict[str, Any] = {
            "__name__": "__main__",
            "LOCAL": LocalEngine(),
            **given(server.url),
        }
        run = PageRun(server.url, names)
        try:
            for block in docs_kit.blocks(page):
                if not block.not_run and block.language in languages:
                    run.run(block)
            CHECKS.get(page, lambda names: None)(names)
        finally:
            for value in names.values():
                if isinstance(value, Provider):
                    value.close()


def test_pages_with_a_test_of_their_own() -> None:
    """All others run here."""
    own = {page for page in docs_kit.pages() if has_own_test(page)}
    assert {"answers.md", "connections.md", "failover.md", "gateway.md", "llm.md"} < own
    assert {"messages.md", "recordings.md", "tools.md", "typed.md"} < own
    assert not own & {"index.md", "getting-started.md", "how-it-works.md", "web.md"}


@pytest.mark.parametrize(
    "block",
    [block for block in ALL if block.language == "python"],
    ids=lambda block: f"{block.page}:{block.line}",
)
def test_block_is_python(block: Block) -> None:
    """Those that do not run, too."""
    ast.parse(block.code)


def test_few_blocks_do_not_run() -> None:
    """Each has a reason."""
    not_run = [f"{block.page}:{block.line}" for block in ALL if block.not_run]
    assert len(not_run) <= MOST_NOT_RUN, not_run
    marks = sum(
        (docs_kit.DOCS / page).read_text("utf-8").count("<!-- not run") for page in docs_kit.pages()
    )
    assert marks == len(not_run)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, which the forge and the site make alike."""
    source = docs_kit.FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", source, re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", docs_kit.pages())
def test_links_lead_somewhere(page: str) -> None:
    """To a file of the checkout, and to a heading in it."""
    path = docs_kit.DOCS / page
    source = docs_kit.FENCE.sub("", path.read_text(encoding="utf-8"))
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", source)
    for link in (first or second for first, second in found):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
