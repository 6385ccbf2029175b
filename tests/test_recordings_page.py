"""docs/recordings.md: its programs print what is shown below them, and its line can be read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from providers_sync.recording import Exchange, exchange, recorded
from providers_sync.testing import answer, pause, serve

PAGE = (Path(__file__).parent.parent / "docs/recordings.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.M | re.S)
[LINE] = [json.loads(each) for each in re.findall(r"^```json\n(.*?)^```$", PAGE, re.M | re.S)]
ADDRESS = "http://127.0.0.1:8000"


def test_programs_print_what_is_below_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, and once more without the server: only the first sends a request."""
    monkeypatch.chdir(tmp_path)
    assert len(PROGRAMS) == PAGE.count("```python\n")
    with serve(answer("Cats purr", pause(0.01), " when they are content.")) as server:
        here = json.dumps(LINE).replace(ADDRESS, server.url)
        Path("line.json").write_text(here, "utf-8")
        run(server.url, capsys)
        assert len(server.requests) == 1
    run(server.url, capsys)


def run(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for program, output in PROGRAMS:
        here = program.replace(ADDRESS, url)
        exec(compile(here, "recordings.md", "exec", dont_inherit=True), names)
        assert capsys.readouterr().out == output
    names["model"].close()


def test_line_is_one_of_ours() -> None:
    """It is read and written as it is, in the order of its fields."""
    read = Exchange.from_line(json.dumps(LINE).encode())
    assert list(json.loads(read.to_line()).items()) == list(LINE.items())
    assert read.body.endswith(b"data: [DONE]\n\n")


def test_table_lists_every_field() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE, re.M))
    assert list(rows) == list(LINE)
    endings = re.findall(r"`(\w+)`", rows["how"])
    assert tuple(endings) == exchange.HOW


@pytest.mark.parametrize("field", [name for name in LINE if name != "fingerprint"])
def test_all_fields_must_be_there(field: str) -> None:
    line = {name: value for name, value in LINE.items() if name != field}
    with pytest.raises(ValueError, match=field):
        Exchange.from_line(json.dumps(line).encode())


def test_page_lists_every_mode_and_kept_header() -> None:
    assert set(re.findall(r'^\| `"(\w+)"` \|', PAGE, re.M)) == {*recorded.MODES}
    [told] = re.findall(r"only these are: (.*?)\. `", " ".join(PAGE.split()))
    kept, prefixes = (re.findall(r"`([\w-]+)`", each) for each in told.split(", and those"))
    assert (tuple(kept), tuple(prefixes)) == (exchange._SAFE_HEADERS, exchange._SAFE_PREFIXES)
