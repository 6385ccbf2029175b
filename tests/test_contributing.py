"""CONTRIBUTING.md: its examples work, and the files that it names exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from faults import row as rows
from faults.test_table import check_result, observe

import providers_sync
from providers_sync import StreamTruncated, testing
from providers_sync.testing import answer, drip, raw, serve

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PROVIDER, EVENTS, TESTS, ROW = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
TEXT = '{"delta": "Grüß "}\n{"delta": "dich"}\n'.encode()
END = b'{"reason": "stop", "in": 3, "out": 2}\n'
MAX_LINES = 80


@pytest.fixture
def parrot() -> Any:
    """Return the module of the provider."""
    module = ModuleType("parrot")
    exec(compile(PROVIDER, "parrot.py", "exec"), module.__dict__)
    return module


def test_provider_is_short() -> None:
    assert len(PROVIDER.splitlines()) < MAX_LINES


def test_tests_of_the_provider_pass(tmp_path: Path) -> None:
    """As a newcomer runs them, each in a file."""
    (tmp_path / "parrot.py").write_text(PROVIDER, encoding="utf-8")
    (tmp_path / "test_parrot.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
    path = os.pathsep.join([str(ROOT), str(tmp_path)])
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_answer_that_ends_early_is_truncated_wherever_it_ends(parrot: Any) -> None:
    """After each byte; the text of the whole lines before is kept."""
    whole = TEXT + END
    beginnings = [whole[:size] for size in range(1, len(whole))]
    scripts = [answer(raw(each), end=False, content_type="text/plain") for each in beginnings]
    with serve(scripts) as server, parrot.Parrot("m", base_url=server.url, retry=1) as provider:
        for beginning in beginnings:
            with pytest.raises(StreamTruncated) as caught:
                provider.complete("Hi")
            kept = ["", "Grüß ", "Grüß dich"][beginning.count(b"\n")]
            assert (caught.value.partial, caught.value.outcome) == (kept, "truncated")


def test_overload_is_tried_again_and_the_key_is_sent(
    parrot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the page says of errors, keys, options and addresses."""
    error = b'{"error": {"code": "503", "message": "asleep"}}\n'
    scripts = [answer(raw(error), end=False), answer(drip(raw(TEXT + END), every=0), end=False)]
    with serve(scripts) as server:
        monkeypatch.setenv("PARROT_BASE_URL", server.url)
        monkeypatch.setenv("PARROT_API_KEY", "key")
        reply = parrot.Parrot("m", volume=3, pitch=2).complete("Hi", pitch=None)
    assert (reply.text, reply.stats.attempts) == ("Grüß dich", 2)
    assert server.requests[1].headers["X-Parrot-Key"] == "key"
    assert server.requests[1].path == "/v2/generate"
    turns = [{"role": "user", "content": "Hi"}]
    assert server.requests[1].json() == {"model": "m", "turns": turns, "volume": 3}


def test_decoder_of_events_reads_the_same(parrot: Any) -> None:
    """Byte by byte, with other line ends and a comment."""
    exec(compile(EVENTS, "parrot.py", "exec"), parrot.__dict__)
    lines = (TEXT + END).splitlines()
    events = b": hello\n\n" + b"".join(b"data: %b\r\n\r\n" % line for line in lines)
    script = answer(drip(raw(events), every=0), end=False)
    with serve(script) as server:
        provider = parrot.Parrot("m", base_url=server.url)
        provider.decoder = lambda content_type="": parrot.ParrotEventsDecoder()
        reply = provider.complete("Hi")
    assert (reply.text, reply.outcome, reply.finish_reason) == ("Grüß dich", "complete", "stop")


def fault_row() -> Any:
    names = {**vars(testing), **vars(providers_sync), **vars(rows)}
    return eval(ROW, {**names, "StreamCut": providers_sync.StreamCut})


@pytest.mark.parametrize("kind", fault_row().kinds)
def test_fault_row_is_right(kind: str) -> None:
    row = fault_row()
    with serve(row.script) as server:
        check_result(row, kind, (server.url, True, server), observe)
    assert f"-k {'-'.join(row.id.split('-')[:2])}" in PAGE


def files_of_a_provider() -> list[str]:
    """Return the files in the table of what belongs to a provider in the project."""
    table = PAGE.partition("To bring it into the project")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?`) \|", table, re.M)
    return [name for cell in cells for name in re.findall(r"`([\w./]+)`", cell)]


@pytest.mark.parametrize("name", files_of_a_provider())
def test_file_of_a_provider_has_an_example_in_the_project(name: str) -> None:
    """Ollama, which is such a provider, has its part in each of these files."""
    found = [ROOT / "providers_sync" / name.replace("parrot", "ollama")]
    found += [ROOT / name.replace("parrot", "ollama")]
    path = next(path for path in found if path.exists())
    assert "ollama" in path.read_text(encoding="utf-8").lower()


def named_files() -> list[str]:
    """Return the paths in the table that says where to look."""
    table = PAGE.partition("| you want to change |")[2].partition("\n\n")[0]
    return [name for name in re.findall(r"`([\w/.*<>]+)`", table) if "." in name or "/" in name]


def test_files_that_the_page_names_exist() -> None:
    names = named_files()
    assert len(names) > 20
    for name in names:
        pattern = name.rstrip("/").replace("<name>", "ollama")
        folders = [ROOT, ROOT / "providers_sync", ROOT / "providers_sync" / "stream"]
        assert any(list(folder.glob(pattern)) for folder in folders), name


def test_commands_that_the_page_names_exist() -> None:
    """Targets of make, programs of ``.ci``, and the tests that a newcomer is told to run."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`make ([\w-]+)", PAGE))
    assert len(targets) > 10
    assert targets <= set(re.findall(r"^([\w-]+):", makefile, re.M))
    files = set(re.findall(r"(?:\.ci|tests)/[\w/]+(?:\.py)?\b", PAGE)) - {"tests/test_parrot.py"}
    assert len(files) > 15
    assert [name for name in files if not (ROOT / name).exists()] == []
