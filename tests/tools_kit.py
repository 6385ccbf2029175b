"""A module of functions for the tests of ``--tool``."""

from __future__ import annotations

from pathlib import Path

import pytest

TOOLS = '''
import pathlib, time

def add(a: int, b: int) -> int:
    """Add two numbers."""
    pathlib.Path("called").touch()
    return a + b

def free(a: int, b: int) -> int:
    return a + b

def slow() -> str:
    pathlib.Path("called").touch()
    time.sleep(60)

def say(words: str) -> str:
    return words

free.needs_approval = False

def strict(a: int, b: int) -> int:
    raise ValueError("not \\x1b[2J today")

strict.needs_approval = True
NUMBER = 3

class Box:
    @staticmethod
    def get() -> str:
        return "in the box"
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with a module of functions in it."""
    (tmp_path / "mine.py").write_text(TOOLS)
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    (tmp_path / "ends.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path
