"""The examples run as they are, offline, and show what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gateway_kit import needs_model

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
LINES = 35
PROVIDERS = ["Vitalentum", "CodeLinkAva", "AI365VIP"]
SHOWS = {
    "batch.py": "First run: 3 sent, 0 from the ledger.\nSecond run: 1 sent, 3 from the ledger.",
    "cancel.py": "\ncancelled; received so far: 'tick ",
    "complete.py": "You said: What did I say first?\nmodel echo, finish reason stop",
    "continue_after_break.py": "complete: 'Roses are red, violets are blue.'\njoined after 23 ",
    "demo.py": "— AI365VIP: unverified, ",
    "doctor.py": "BAD  stream   the complete answer arrived as one chunk after 1.",
    "engine.py": "TextDelta(text='GOOD ')\nTextDelta(text='MORNING ')\nFinish(reason='stop')",
    "errors.py": "\nRoses are red, violets are blue.",
    "failover.py": "Here I am.\nOpenAICompatible failed after 0.",
    "mcp_files.py": 'first_line: """Print an answer chunk by chunk',
    "recorded.py": "Second run: Cats purr when they are content. (requests sent: 0)",
    "stream.py": "You said: The first words come at once.\ncomplete: 8 chunks",
    "timeouts.py": "stalled: the server sent nothing for 0.5 s",
    "tools.py": "is told: It rains in Oslo, at 8 °C.",
    "tools_approval.py": "(paying Ann 20 €)\nAnn has got her 20 €.",
    "typed.py": "minutes=10), after 2 requests\nSalad\nTea\nskipped {'name': 'Cake', ",
    "typed_local.py": '"kind": "',
}


def run(name: str, *arguments: str, **environment: str) -> str:
    """Run an example with warnings as errors; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=90,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_example_is_run():
    """A new example states here what it shows."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SHOWS)


@pytest.mark.parametrize("name", sorted(SHOWS.keys() - {"demo.py", "typed_local.py"}))
def test_example_shows_one_idea(name):
    """It runs without a network, prints what it is about, and fits on a screen."""
    assert SHOWS[name] in run(name)
    assert fits_on_a_screen(name)


def fits_on_a_screen(name):
    return len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= LINES


def test_typed_answer_without_a_model_says_so_and_goes_on():
    """The echo engine fills the same type."""
    shown = run("typed_local.py", PROVIDERS_SYNC_WEIGHTS="no-such-file.gguf")
    assert "The local model cannot be started: " in shown
    assert '"title": "A pancake recipe"' in shown
    assert SHOWS["typed_local.py"] in shown
    assert fits_on_a_screen("typed_local.py")


@pytest.mark.model
def test_typed_answer_of_the_model_fits():
    """The real thing: what it says is JSON of the type's fields."""
    needs_model()
    recipe = json.loads(run("typed_local.py"))
    assert list(recipe) == ["title", "kind", "minutes", "ingredients"]
    assert recipe["title"] != "A pancake recipe"


def test_demo_without_a_model_says_so_and_goes_on():
    """The echo engine takes over, in plain words, and all three providers answer."""
    shown = run("demo.py", "Are you there?", PROVIDERS_SYNC_WEIGHTS="no-such-file.gguf")
    assert "The local model cannot be started: " in shown
    assert "the echo engine answers" in shown
    assert [shown.count(f"You said: Are you there?\n— {name}: ") for name in PROVIDERS] == [1, 1, 1]
    assert "— Vitalentum: complete, 5 chunks, first after 0." in shown
    assert SHOWS["demo.py"] in shown


@pytest.mark.model
@pytest.mark.timeout(100)
def test_demo_with_the_model_answers_through_all_three():
    """The real thing: the small model's own words."""
    needs_model()
    shown = run("demo.py", "Why do cats purr? Answer in one sentence.")
    assert "The local model answers at " in shown
    assert [shown.count(f"\n— {name}: ") for name in PROVIDERS] == [1, 1, 1]
    assert SHOWS["demo.py"] in shown
    assert "You said" not in shown
