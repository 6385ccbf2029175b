"""docs/failover.md: its programs print what is shown below them, and its tables are true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from providers_sync import APIStatusError, Failover, InvalidRequestError
from providers_sync.config import FAILOVER_COOLDOWN_S, FAILOVER_FAILURES
from providers_sync.failure_reasons import MOVES_ON, REASONS
from providers_sync.providers import seams
from providers_sync.testing import Request, ScriptedProvider, answer, cut, serve, status

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs/failover.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.M | re.S)
ROWS = {
    name: (said, moves)
    for name, said, moves in re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", PAGE, re.M)
}


def healthy(request: Request) -> Any:
    """Go on with a prefix of the answer, or begin."""
    is_rest = request.json()["messages"][-1]["role"] == "assistant"
    return answer(*([] if is_rest else ["One two", " three"]), " four", " five")


def test_programs_print_what_is_below_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, as a reader would run them."""
    names: dict[str, Any] = {}
    assert len(PROGRAMS) == PAGE.count("```python\n")
    with serve() as bad, serve(healthy) as good:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", good.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
        for program, output in PROGRAMS:
            broken = answer("One two", " three", cut())
            bad.play(status(503) if "move_on=" in program else broken)
            here = program.replace("http://127.0.0.1:8000/v1", bad.url)
            exec(compile(here, "failover.md", "exec", dont_inherit=True), names)
            assert capsys.readouterr().out == output
        names["provider"].close()


def test_table_lists_every_reason() -> None:
    assert tuple(ROWS) == REASONS
    moves_on = tuple(name for name, (_, moves) in ROWS.items() if moves.startswith("yes"))
    assert moves_on == MOVES_ON


@pytest.mark.parametrize("reason", ROWS)
def test_what_servers_say_has_the_reason(reason: str) -> None:
    """The codes and messages, which come with status 400, and the statuses alone."""
    said, _ = ROWS[reason]
    bodies: list[tuple[int, Any]] = [(int(each), {}) for each in re.findall(r"status (\d+)", said)]
    bodies += [(400, {"error": {"code": each}}) for each in re.findall(r"`(\w+)`", said)]
    bodies += [(400, {"error": {"message": each}}) for each in re.findall("“(.*?)”", said)]
    for code, body in bodies:
        message = body.get("error", {}).get("message", "")
        error = APIStatusError(message, status_code=code, body=json.dumps(body))
        assert error.reason == reason, body
    assert bodies or reason in ("timeout", "connection", "broken", "other")


def test_table_of_cases_is_that_of_the_tests() -> None:
    """Each case has its test, and the requests that it asserts."""
    bench = (TESTS / "test_failover_bench.py").read_text(encoding="utf-8")
    asserted = {}
    for name, body in re.findall(r"^def test_s(\d\d)_(.*?)(?=^@|^def|\Z)", bench, re.M | re.S):
        found = re.search(r"run\.attempts(?:, [\w.]+\))? == \(+(\w+), (\w+)", body)
        asserted[f"S{name}"] = found and ", ".join(found.groups()).replace("ATTEMPTS", "3")
    told = dict(re.findall(r"^\| (S\d\d) \|.*\| ([^|]+) \|$", PAGE, re.M))
    assert [*told] == [*asserted] == [f"S{number:02}" for number in range(1, 17)]
    known = {case: requests for case, requests in asserted.items() if requests}
    assert known == {case: told[case] for case in known}
    assert len(known) >= 12


def test_numbers_of_the_page_are_those_of_the_code() -> None:
    page = " ".join(PAGE.split())
    assert f"`failures={FAILOVER_FAILURES}` times" in page
    assert f"`cooldown={FAILOVER_COOLDOWN_S:g}` seconds" in page
    assert f"{seams.LONG} equal characters or more" in page


@pytest.mark.parametrize("arguments", [{"into": int}, {"tools": [{"type": "function"}]}])
def test_default_of_a_failover_is_not_applied_to_calls_that_cannot_go_on(arguments: Any) -> None:
    provider = Failover([ScriptedProvider(answer("1"))], continue_after_break=1)
    provider.complete("Hi", **arguments)
    with pytest.raises(InvalidRequestError):
        provider.complete("Hi", continue_after_break=1, **arguments)
