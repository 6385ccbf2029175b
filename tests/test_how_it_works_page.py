"""docs/how-it-works.md and its drawings: the names and numbers are those of the code."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest

from providers_sync import OpenAICompatible, config
from providers_sync.testing import serve, text, wait

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "how-it-works.md").read_text(encoding="utf-8")
DRAWINGS = re.findall(r"\((pictures/\w+\.svg)\)", PAGE)


def words(drawing: str) -> str:
    """Return what a drawing says."""
    return " ".join(ElementTree.parse(DOCS / drawing).getroot().itertext())


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_drawing_is_described(drawing: str) -> None:
    """For those who do not see it; and it has colours for both themes."""
    source = (DOCS / drawing).read_text(encoding="utf-8")
    assert "<title" in source
    assert "<desc" in source
    assert "prefers-color-scheme: dark" in source


def test_numbers_are_those_of_the_code() -> None:
    drawn = " ".join(map(words, DRAWINGS))
    idle = f"at most {config.IDLE_WORKERS}"
    seconds = f"{config.IDLE_THREAD_S:g} s"
    assert idle in drawn
    assert f"{idle} idle ones are kept, for {seconds}" in PAGE
    assert seconds in drawn
    received = f"at most {config.READ_BYTES // 1024} KiB"
    assert received in drawn
    assert received in PAGE
    assert f"after {config.BUFFER_BYTES // 1024} KiB in its buffer" in PAGE


def test_threads_have_the_names_of_the_page() -> None:
    """A request has a thread of its own at first; then the reader has the stream."""
    names = set(re.findall(r"^\| `(providers-sync-\w+)` \|", PAGE, re.M))
    may_end = threading.Event()
    seen: list[set[str]] = []

    def script(request: object) -> list[object]:
        seen.append({thread.name for thread in threading.enumerate()})
        return [text("Hello"), wait(may_end)]

    with serve(script) as server, OpenAICompatible("m", base_url=server.url) as provider:
        stream = provider.stream("Hi")
        next(stream)
        seen.append({thread.name for thread in threading.enumerate()})
        may_end.set()
        stream.read()
    assert "providers-sync-request" in seen[0]
    assert "providers-sync-reader" in seen[1]
    ours = {name for each in seen for name in each if name.startswith("providers-sync-re")}
    assert ours == names
