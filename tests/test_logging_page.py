"""docs/logging.md: it lists every line that the code writes, and its programs run."""

from __future__ import annotations

import ast
import json
import logging
import logging.config
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers_sync import OpenAICompatible, call_log
from providers_sync.testing import answer, serve, usage

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/logging.md").read_text(encoding="utf-8")
SCRIPT, DICT, JSON_LINES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
OTHERS = ("web", "serving", "wsgi")
"""Modules and packages that write to the logger themselves."""


@pytest.fixture(autouse=True)
def _logger() -> Iterator[None]:
    logger = logging.getLogger("providers_sync")
    yield
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def ask() -> None:
    with serve(answer("Hi", usage(12, 40))) as server:
        OpenAICompatible("qwen3", base_url=server.url).complete("Hi")


def test_page_lists_every_event_with_its_level_and_line() -> None:
    """And no other."""
    listed = re.findall(r"^\| `(\w+)` \| `([A-Z]+)` \| `(.*)` \|$", PAGE, re.M)
    written = [
        (event, logging.getLevelName(level), re.sub(r"%\((\w+)\)[\d.]*\w", r"{\1}", text))
        for event, (level, text) in call_log.LINES.items()
    ]
    assert listed == written


def test_page_explains_every_event() -> None:
    """Below the table."""
    explained = [name for line in re.findall(r"^- (`.*?):", PAGE, re.M)
                 for name in re.findall(r"`(\w+)`", line)]  # fmt: skip
    assert {*call_log.LINES} <= set(explained)


def other_lines() -> Iterator[str]:
    """Yield the lines of the other modules, with "…" for what changes."""
    for name in OTHERS:
        path = ROOT / "providers_sync" / name
        for file in [*path.glob("*.py")] if path.is_dir() else [path.with_suffix(".py")]:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and re.search(
                    r"\b(_?log\.(log|warning|error|exception|info|debug)|_?warn)$",
                    ast.unparse(node.func),
                ):
                    [text] = [
                        each.value
                        for each in node.args[:2]
                        if isinstance(each, ast.Constant) and isinstance(each.value, str)
                    ] or [""]
                    yield re.sub(r"\s*%[rsd]", lambda found: found[0][:-2] + "…", text)


def test_page_lists_the_lines_of_web_apps_and_the_gateway() -> None:
    """And no other."""
    section = PAGE.partition("## Web apps")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `[A-Z`, ]+` \| `(.*?)`(?:, .*)? \|$", section, re.M)
    written = {re.sub(r"\s*\n\s*", " ", line) for line in other_lines()} - {""}
    assert sorted(listed) == sorted(written)


def test_script_prints_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    """Its last line, apart from time and numbers."""
    logger = logging.getLogger("providers_sync")
    logger.addHandler(logging.StreamHandler())  # pytest has configured the root logger
    exec(compile(SCRIPT, "script", "exec"), {})
    ask()
    shown = capsys.readouterr().err.splitlines()[-1]
    [sample] = re.findall(r"DEBUG (POST .*: outcome .*)", PAGE)
    numbers = r"[\d.]+ s|:\d{4,5}(/v1)?|chunks \d+|attempts \d|(?<=id )\S+(?=,)"
    assert re.sub(numbers, "#", shown) == re.sub(numbers, "#", sample)


def test_dict_is_accepted_by_logging(capsys: pytest.CaptureFixture[str]) -> None:
    """Flask and Django hand it to the same function; the level is that of retries."""
    exec(compile(DICT, "dict", "exec"), {})
    call_log.write("failover", provider="a", seconds=1.0, error="E", next_provider="b")
    call_log.write("wait", request="r", provider="a", limit="l")
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("INFO providers_sync: a failed after 1.00 s: E; trying b")


def test_json_lines_are_those_of_the_sample(capsys: pytest.CaptureFixture[str]) -> None:
    """The same keys in the same order."""
    exec(compile(JSON_LINES, "json", "exec"), {})
    ask()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    [sample] = re.findall(r'^\{"level".*\}$', PAGE, re.M)
    assert list(last) == list(json.loads(sample))
    assert (last["outcome"], last["input_tokens"], last["request_id"]) == ("complete", 12, None)
