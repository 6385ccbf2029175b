"""Runs the real ``llm`` command with this project's plugin and a user folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

WAIT_S = 40.0
"""Timeout of one command: it loads for half a second on an idle machine."""
MODEL = "providers-sync/openai/qwen3"
ADDRESSES = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GEMINI_BASE_URL", "OLLAMA_BASE_URL")
ADD = "def add(a: int) -> int:\n    return a + 1"
"""A function for ``--functions``."""
OWN = {"start_new_session": True}
"""A process group of its own, which gets Ctrl-C."""
KEYS = ("_API_KEY", "_BASE_URL", "_TOKEN", "_ENDPOINT")


class Llm:
    """``llm`` with its settings and logs in ``folder``, and no key of the person who tests."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        own = {name: value for name, value in os.environ.items() if not name.endswith(KEYS)}
        self.environment = {
            **own,
            "LLM_USER_PATH": str(folder / "llm"),
            # Other plugins that somebody has installed here must not change what llm does.
            "LLM_LOAD_PLUGINS": "providers-sync",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command; its output comes in pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "llm", *arguments],
            env=self.environment,
            cwd=self.folder,
            **{"stdin": subprocess.DEVNULL, **options},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """Run a command that must exit with ``code``; return its two outputs."""
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(timeout=WAIT_S)
            finally:
                process.kill()
        assert process.returncode == code, f"{arguments}: {out!r} {err!r}"
        return out.decode(), err.decode()

    def logs(self) -> list[dict[str, Any]]:
        """Return the log, newest first."""
        entries: list[dict[str, Any]] = json.loads(self.run("logs", "--json", "-n", "0")[0])
        return entries


def llm_at(folder: Path, url: str, **environment: str) -> Llm:
    """Return an ``llm`` whose providers of every protocol have this address."""
    return Llm(folder, **dict.fromkeys(ADDRESSES, url), **environment)
