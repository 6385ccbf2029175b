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

OTHER_TESTS = {
    "answers.md": "test_answers_page.py",
    "connections.md": "test_connections_page.py",
    "failover.md": "test_failover_page.py",
    "gateway.md": "test_gateway_docs.py",
    "llm.md": "test_llm_page.py",
    "messages.md": "test_messages_page.py",
    "recordings.md": "test_recordings_page.py",
    "tools.md": "test_tools_page.py",
    "typed.md": "test_typed_page.py",
}
"""Pages whose blocks run in a test of their own, with the server that each needs."""
ALL = [block for page in docs_kit.pages() for block in docs_kit.blocks(page)]
PAGES = [page for page in docs_kit.pages() if page not in OTHER_TESTS]
WRITTEN = {Path(block.file).stem for block in ALL if block.file}
"""The modules that pages write."""
MOST_NOT_RUN = 8


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
@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader would run them, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
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
                if not block.not_run:
                    run.run(block)
            CHECKS.get(page, lambda names: None)(names)
        finally:
            for value in names.values():
                if isinstance(value, Provider):
                    value.close()


@pytest.mark.parametrize("page", OTHER_TESTS)
def test_other_tests_run_their_pages(page: str) -> None:
    """Each reads its page, which has no commands of ours."""
    source = Path(__file__).with_name(OTHER_TESTS[page]).read_text(encoding="utf-8")
    assert f"docs/{page}" in source
    commands = [block.code for block in ALL if block.page == page and block.language == "console"]
    assert "providers-sync " not in "".join(commands)


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
