"""docs/coming-from.md: its table says what openai and this library really do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from providers_sync import OpenAICompatible, ProviderError, Timeouts
from providers_sync.testing import (
    answer,
    comment,
    cut,
    error,
    finish,
    pause,
    repeat,
    serve,
    stall,
    text,
)

PAGE = (Path(__file__).parent.parent / "docs/coming-from.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("| after `Hello`, the server |")[2].partition("\n\n")[0].splitlines()[2:]
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE]
TIMEOUT_S = 0.3
SCRIPTS: dict[str, Any] = {
    "closes cleanly, without a finish reason and an end marker": answer("Hello", end=False),
    "breaks the connection": [text("Hello"), cut()],
    "sends an error event": [text("Hello"), error("Overloaded")],
    "is silent": [text("Hello"), stall()],
    "sends only keep-alive comments": [text("Hello"), repeat(comment(), pause(TIMEOUT_S / 4))],
    "says that a limit has ended the answer": answer("Hello", finish("length")),
}


def with_openai(url: str) -> Iterator[str]:
    with openai.OpenAI(base_url=url, api_key="k", timeout=TIMEOUT_S) as client:
        messages: Any = [{"role": "user", "content": "Hi"}]
        for chunk in client.chat.completions.create(model="m", messages=messages, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content


def with_this(url: str) -> Iterator[str]:
    timeouts = Timeouts(idle=TIMEOUT_S, total=4 * TIMEOUT_S)
    with OpenAICompatible("m", base_url=url, timeouts=timeouts) as provider:
        stream = provider.stream("Hi")
        yield from stream
        assert not stream.is_whole


def end_of(chunks: Iterator[str], ended: threading.Event, found: list[str]) -> None:
    received = ""
    try:
        for chunk in chunks:
            received += chunk
        found += ["the loop ends as usual", received]
    except openai.OpenAIError as failure:
        found += [f"`{type(failure).__name__}`", received]
    except ProviderError as failure:
        found += [f"`{type(failure).__name__}`", failure.partial]
    ended.set()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_columns_of_openai_and_this_library_are_measured(row: list[str]) -> None:
    name, theirs, _, ours = row
    for client, cell in ((with_openai, theirs), (with_this, ours)):
        found: list[str] = []
        ended = threading.Event()
        with serve(SCRIPTS[name]) as server:
            arguments = (client(server.url), ended, found)
            thread = threading.Thread(target=end_of, args=arguments)
            thread.start()
            is_waiting = not ended.wait(8 * TIMEOUT_S)
            assert is_waiting is cell.startswith("still waiting")
            if not is_waiting:
                assert cell.startswith(found[0])
                assert found[1] == "Hello"
        thread.join(5)  # the server is closed


def test_every_row_is_tested() -> None:
    assert [row[0] for row in ROWS] == list(SCRIPTS)
