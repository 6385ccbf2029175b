"""Run the README's commands, except those in SKIPPED, in a copy of the checkout."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = ("make ", ".venv/bin/python -m pytest", "providers-sync ", ". ")
"""``.ci/run`` runs make and the suite itself; tests run ``providers-sync`` commands with a server;
activating an environment has no effect here, where each command has its own shell."""


def main() -> None:
    """Run one command after the other; stop at the first that fails."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", readme, re.M | re.S)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line[:2] == "$ "]
    # python3 must be the Python that runs this script, not the one of the machine.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    quiet = {"PIP_QUIET": "2", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PATH": path}
    with tempfile.TemporaryDirectory() as folder:
        copy(Path(folder))
        for command in commands:
            if command.startswith(SKIPPED):
                print(f"$ {command}   (skipped)", flush=True)
                continue
            print(f"$ {command}", flush=True)
            subprocess.run(
                ["bash", "-c", command], cwd=folder, env={**os.environ, **quiet}, check=True
            )


def copy(folder: Path) -> None:
    """Copy the checkout's own files to ``folder``, without generated ones."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())


if __name__ == "__main__":
    main()
