"""Reads the code blocks of the documentation, and runs those of one page after another.

- A ``python`` block runs in the namespace of its page; a ``text`` block right below is its output.
- A block below a line such as ``**`app.py`**`` is written to that file instead.
- In a ``console`` block, the commands ``providers-sync``, and ``python FILE`` and ``pytest`` with
  files of the page, run; what stands below a command is its output, if anything does.
- ``<!-- not run: reason -->`` above a block leaves it out. Readers do not see it.

``…`` at the end of a line of output stands for anything.
"""

from __future__ import annotations

import difflib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any
from unittest import mock

from providers_sync.cli import main

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.M | re.S)
FILE = re.compile(r"\*\*`([\w./]+)`\*\*$")
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->$", re.S)
ADDRESS = re.compile(r"http://(?:127\.0\.0\.1|localhost):(?:8000(?:/v1)?|11434)")
VENDOR = re.compile(r'base_url="(https?://[^"]*)"')
SHELL = re.compile(r"[|<>;&{}$]")
WAITS = re.compile(r"providers-sync (serve|replay .*--serve)")


@dataclass(frozen=True)
class Block:
    """A code block of a page."""

    page: str
    line: int
    language: str
    code: str
    output: str | None
    """What stands in the ``text`` block below it."""
    file: str | None
    not_run: str | None
    """The reason, if it is marked as one that does not run."""


def pages() -> list[str]:
    """Return the names of all pages, relative to ``docs``."""
    return sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


def blocks(page: str) -> Iterator[Block]:
    """Yield the blocks of a page, each with the output below it."""
    source = (DOCS / page).read_text(encoding="utf-8")
    found = list(FENCE.finditer(source))
    for match, following in zip_longest(found, found[1:]):
        before = source[: match.start()].rstrip()
        is_shown = (
            following is not None
            and following[2] == "text"
            and not source[match.end() : following.start()].strip()
        )
        marked, named = NOT_RUN.search(before.rpartition("\n\n")[2]), FILE.search(before)
        yield Block(
            page=page,
            line=source.count("\n", 0, match.start()) + 2,
            language=match[2],
            code=textwrap.dedent(match[3]),
            output=textwrap.dedent(following[3]) if following and is_shown else None,
            file=named and named[1],
            not_run=marked and marked[1],
        )


@dataclass
class PageRun:
    """Runs the blocks of a page in the current folder, with a server at ``url`` for its models."""

    url: str
    names: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    """What the page exports, besides the environment of the test."""
    addresses: set[str] = field(default_factory=set)
    """Those of servers that the page names: the server of the tests takes their place."""

    def here(self, code: str) -> str:
        """Return the code with the addresses of the page replaced by that of the server."""
        self.addresses |= set(VENDOR.findall(code))
        for address in self.addresses:
            code = code.replace(f'base_url="{address}"', f'base_url="{self.url}"')
        code = ADDRESS.sub(self.url, code)
        return code.replace('engine="local"', "engine=LOCAL").replace(" --local", "")

    def run(self, block: Block) -> None:
        """Run a block, and compare its output with what the page shows."""
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(self.here(block.code), encoding="utf-8")
        elif block.language == "console":
            self._run_commands(block)
        elif block.language == "python":
            padded = "\n" * (block.line - 1) + self.here(block.code)
            code = compile(padded, block.page, "exec", dont_inherit=True)
            output = io.StringIO()
            with redirect_stdout(output):
                exec(code, self.names)
            self._compare(output.getvalue(), block.output, f"{block.page}:{block.line}")

    def _run_commands(self, block: Block) -> None:
        text = re.sub(r"\\\n +", "", block.code)
        for entry in re.split(r"^\$ ", text, flags=re.M)[1:]:
            line, _, shown = entry.partition("\n")
            command = re.sub(r" +#.*", "", self.here(line))
            if command.startswith("export "):
                self._export(command)
            elif is_run(command):
                self._compare(self._output(command), shown, f"{block.page}:{block.line}: {line}")

    def _export(self, command: str) -> None:
        for setting in shlex.split(command)[1:]:
            name, _, value = setting.partition("=")
            self.environment[name] = "key" if "$(" in value else value

    def _output(self, command: str) -> str:
        if WAITS.match(command):
            return self._until_ctrl_c(command)
        with mock.patch.dict(os.environ, self.environment):
            if command.startswith("providers-sync ") and not SHELL.search(command):
                return run_here(shlex.split(command)[1:])
            return subprocess.run(
                ["bash", "-c", f"set -o pipefail; {command}"],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            ).stdout

    def _until_ctrl_c(self, command: str) -> str:
        """Return the output of a server, which is stopped when it has named its addresses."""
        arguments = [sys.executable, "-m", "providers_sync", *shlex.split(command)[1:]]
        arguments += ["--port", "0"]  # another program may have the usual one
        process = subprocess.Popen(
            arguments,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "OLLAMA_BASE_URL" in line or "list" in command:
                    process.send_signal(signal.SIGINT)
                    break
            lines += process.stdout.readlines()
        return "".join(lines)

    def _compare(self, output: str, shown: str | None, where: str) -> None:
        if not shown:
            return
        got, expected = self._lines(output), self._lines(shown)
        for number, line in enumerate(expected):
            if line.endswith("…") and number < len(got) and got[number].startswith(line[:-1]):
                got[number] = line
        if expected[-1] == "…":
            got[len(expected) - 1 :] = ["…"]
        assert got == expected, "\n".join([where, *difflib.ndiff(expected, got)])

    def _lines(self, text: str) -> list[str]:
        """Return the lines without what differs from run to run: ports, times, dates, folders."""
        for address in self.addresses:
            text = text.replace(address, self.url)
        text = text.replace(self.url.removeprefix("http://"), "127.0.0.1:8000")
        text = re.sub(r"(127\.0\.0\.1:)\d+(/v1)?", r"\1PORT", text.replace(f"{Path.cwd()}/", ""))
        text = re.sub(r"\b\d+\.\d+( ?s\b|  )", r"0.0\1", text)
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE", text)
        text = re.sub(r"clean +\d+ +0\.0 +\d+", "clean N 0.0 N", text)  # how it was split
        return [re.sub(" {2,}", "  ", line).strip() for line in text.strip().splitlines()]


def is_run(command: str) -> bool:
    """Return whether a command is one of ours, or runs a file that the page has written."""
    words = re.split(r"\s+", command)
    is_ours = any(word == "providers-sync" for word in words)
    has_file = bool(re.search(r"(^|[|;&] )(\w+=\S+ )*(python|pytest)\b", command)) and any(
        re.fullmatch(r"[\w/]+\.py;?", word) and Path(word.rstrip(";")).is_file() for word in words
    )
    return is_ours or (has_file and "runserver" not in words)


def environment() -> dict[str, str]:
    """Return the environment of a command: this Python and this checkout come first."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    only_ours = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # the other plugins take seconds to load
        "PYTEST_ADDOPTS": "-p pytest_providers_sync -p no:cacheprovider",
    }
    return {**os.environ, "PATH": programs, "PYTHONPATH": path, **only_ours}


def run_here(arguments: list[str]) -> str:
    """Run a command of ours in this process, with an empty input; return all that it prints."""
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with (
        open(os.devnull, encoding="utf-8") as empty,
        mock.patch.object(sys, "stdin", empty),
        redirect_stdout(output),
        redirect_stderr(output),
    ):
        try:
            code = main(arguments)
        except SystemExit as stopped:  # wrong usage
            code = int(stopped.code or 0)
    printed = bytes(output.buffer.getvalue()).decode("utf-8")  # type: ignore[attr-defined]
    assert code == 0, printed
    return printed
