"""docs/tools.md: its programs print what is shown below them."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from providers_sync.testing import Request, serve, text, tool_call, usage

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/tools.md").read_text(encoding="utf-8")
LINES = r"((?:(?!^ *```).*\n)*)"
BLOCK = re.compile(rf"^( *)```python\n{LINES}^ *```\n\n *```text\n{LINES}^ *```$", re.M)
PROGRAMS = [
    (textwrap.dedent(program), textwrap.dedent(output))
    for _, program, output in BLOCK.findall(PAGE)
]
OSLO = tool_call("weather", {"city": "Oslo"}, id="call_1")
SEAT = tool_call("book", {"seat": {"row": 4, "letter": "A"}}, id="call_2")
COST = [text("It costs 40 euros.")]
DIALOGUES: dict[str, list[list[Any]]] = {
    "Do I need an umbrella in Oslo?": [
        [text("Let me see. "), OSLO, usage(5, 5)],
        [text("Yes, it rains in Oslo."), usage(10, 10)],
    ],
    "Book 4A": [[SEAT], COST],
    "Where is 'umbrella'?": [
        [tool_call("search", {"words": "umbrella"})],
        [text("On page 7.")],
    ],
    "Book 4A if it rains in Oslo": [[OSLO], [SEAT], COST],
    "Will it rain in Oslo?": [[OSLO], [text('{"value": true}')]],
}
"""What the model says to each question of the page, round by round."""


def answer(request: Request) -> list[Any]:
    question, *more = request.json()["messages"]
    return DIALOGUES[question["content"]][sum(turn["role"] == "assistant" for turn in more)]


def test_programs_print_what_is_below_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "tools_page"}
    assert len(PROGRAMS) == PAGE.count("```python\n") - 1  # that of MCP needs the network
    with serve(answer) as server:
        for program, output in PROGRAMS:
            here = program.replace("http://127.0.0.1:8000/v1", server.url)
            exec(compile(here, "tools.md", "exec", dont_inherit=True), names)
            assert capsys.readouterr().out == output
        names["provider"].close()
    assert json.loads(names["saved"])[-1]["tool_calls"]
