"""A notebook whose provider is ``Recorded``: run again from the top, it sends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from providers_sync.testing import Request, serve, tool_call

pytest.importorskip("ipykernel")
pytest.importorskip("nbclient")

from notebook_kit import Kernel

pytestmark = pytest.mark.filterwarnings("default:::jupyter_client", "default:::zmq")


@pytest.fixture(autouse=True)
def no_leaks() -> None:
    """The client of Jupyter keeps sockets of its own."""


CELLS = [
    """
from providers_sync import Chat, OpenAICompatible, batch
from providers_sync.notebook import show
from providers_sync.recording import Recorded
provider = Recorded(OpenAICompatible("m", base_url={url!r}), "answers.jsonl")
""",
    "_ = show(provider.stream('Why do cats purr?'))",
    "print([provider.complete('Roll the dice').text for _ in range(3)])",
    """
def weather(city: str) -> str:
    "The weather in a city now."
    return f"rain in {{city}}"

print(provider.run("Weather?", tools=[weather]).read())
""",
    "print(sorted(each.text for each in batch.map(provider, ['one', 'two', 'three'])))",
    """
chat = Chat(provider)
chat.send("Hi").read()
print(chat.send("And then?").read())
""",
]


def numbered(request: Request) -> Any:
    """Answer with the number of the request, so that no two answers are the same."""
    body = request.json()
    if "tools" in body and body["messages"][-1]["role"] == "user":
        return [tool_call("weather", {"city": "Oslo"}, id="call_1")]
    return ["answer ", str(next(numbers)), " to ", str(body["messages"][-1]["content"])]


numbers = iter(range(1000))


def run(url: str, folder: Path) -> list[str]:
    """Run the cells in a kernel of its own; return what they show."""
    kernel = Kernel(folder)
    try:
        cells = [kernel.run(cell.format(url=url)) for cell in CELLS]
    finally:
        kernel.stop()
    markdown = [each["text/markdown"] for each in cells[1].outputs if "text/markdown" in each]
    return markdown + [each.printed for each in cells[2:]]


def test_notebook_that_is_run_again_sends_nothing(tmp_path: Path) -> None:
    """And it shows the same."""
    with serve(numbered) as server:
        first = run(server.url, tmp_path)
        sent = len(server.requests)
        assert run(server.url, tmp_path) == first
        assert len(server.requests) == sent == 1 + 3 + 2 + 3 + 2
    assert len(first) == 5
    assert all("answer " in each for each in first)
