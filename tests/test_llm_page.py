"""docs/llm.md: its commands and its program print what the page shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from llm_kit import Llm

from providers_sync.testing import Request, serve, text, tool_call

PAGE = (Path(__file__).parent.parent / "docs/llm.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000/v1"
PIXEL = b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
SAYS: dict[str, list[Any]] = {
    "And dogs?": [text("They wag their tails.")],
    "Invent a dog": [text('{"name": "Rex", "age": 3}')],
    "What is 6 x 7?": [tool_call("multiply", {"x": 6, "y": 7}, id="call_1")],
    "What is in it?": [text("A cat.")],
    "Why do cats purr?": [text("They are content.")],
}


def answer(request: Request) -> list[Any]:
    turns = request.json()["messages"]
    if turns[0] == {"role": "system", "content": "Answer in one word."}:
        return [text("Joy.")]
    if turns[-1]["role"] == "tool":
        return [text(f"It is {turns[-1]['content']}.")]
    content = turns[-1]["content"]
    return SAYS[content if isinstance(content, str) else content[0]["text"]]


@pytest.mark.timeout(240)
def test_commands_and_program_print_what_the_page_shows(tmp_path: Path) -> None:
    """One after the other, in one folder, with one set of files of ``llm``."""
    (tmp_path / "cat.png").write_bytes(PIXEL)
    commands = [
        entry.partition("\n")[::2]
        for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.M | re.S)
        for entry in re.split(r"^\$ ", block, flags=re.M)[1:]
    ]
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    (output,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(commands) == 14
    with serve(answer) as server:
        llm = Llm(tmp_path, OPENAI_BASE_URL=server.url)
        llm.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        for command, shown in [*commands, (f"{sys.executable} -c '{program}'", output)]:
            done = subprocess.run(
                ["bash", "-c", command.replace(ADDRESS, server.url)],
                env=llm.environment,
                cwd=tmp_path,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, (command, done.stderr)
            assert done.stdout.replace(server.url, ADDRESS) == shown, command
    assert any(b"keep_alive" in request.body for request in server.requests)
