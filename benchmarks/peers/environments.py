"""The virtual environments, one a peer, made once and reused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".venv-bench"
OURS = "providers_sync"
TOOLS = "tools"
PACKAGES = {
    OURS: [],  # installed from this checkout, anew each time
    "limits": ["requests", "sseclient-py", "orjson"],
    "openai": ["openai"],
    "anthropic": ["anthropic"],
    "litellm": ["litellm"],
    "aisuite": ["aisuite[openai]"],
    "llm": ["llm"],
    "g4f": ["g4f"],
    TOOLS: ["matplotlib", "trustme"],
}
LIST = """
import importlib.metadata as m, json
print(json.dumps({d.name: d.version for d in m.distributions()}))
"""


def python(name: str) -> str:
    """Return the path of an environment's Python."""
    return str(FOLDER / name / "bin" / "python")


def make_all() -> dict[str, str]:
    """Make what is missing; return what cannot be made, and why."""
    failed = {}
    for name in PACKAGES:
        try:
            make(name)
        except subprocess.CalledProcessError as error:
            failed[name] = (error.stderr or b"").decode().strip()[-300:]
            print(f"{name} cannot be installed: {failed[name]}", file=sys.stderr)
    return failed


def make(name: str) -> None:
    """Make one environment, unless it is there; ours gets the checkout as it stands."""
    done = FOLDER / name / "made.json"
    if not done.exists():
        print(f"Making {done.parent.relative_to(ROOT)}.", flush=True)
        shutil.rmtree(done.parent, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(done.parent)])
        if PACKAGES[name]:
            pip(name, *PACKAGES[name])
    if name == OURS:
        install_ours()
    run([python(name), "-m", "compileall", "-qq", str(done.parent / "lib")], check=False)
    done.write_text(json.dumps(versions(name)))


def install_ours() -> None:
    """Install the checkout, from a copy: a build leaves its traces where it is made."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "source"
        copy.mkdir()
        shutil.copytree(ROOT / OURS, copy / OURS)
        for file in (*ROOT.glob("*.py"), *ROOT.glob("*.cfg"), *ROOT.glob("*.toml"),
                     ROOT / "README.md", ROOT / "LICENSE"):  # fmt: skip
            shutil.copy(file, copy)
        pip(OURS, str(copy))
        pip(OURS, "--no-deps", "--force-reinstall", str(copy))


def pip(name: str, *arguments: str) -> None:
    """Install into an environment."""
    run([python(name), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments])


def run(command: list[str], check: bool = True) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(command, check=check, capture_output=True)
    return done.stdout.decode()


def versions(name: str) -> dict[str, str]:
    """Return the packages of an environment, without the installer's own."""
    found: dict[str, str] = json.loads(run([python(name), "-c", LIST]))
    return {p: v for p, v in sorted(found.items()) if p not in ("pip", "setuptools", "wheel")}


def megabytes(name: str) -> float:
    """Return the size of what is installed, byte code included, without the installer."""
    (site,) = (FOLDER / name).glob("lib/python3*/site-packages")
    total = 0
    for folder, _, files in os.walk(site):
        top = Path(folder).relative_to(site).parts[:1]
        if not top or top[0].split("-")[0] not in ("pip", "setuptools", "pkg_resources", "wheel",
                                                   "_distutils_hack"):  # fmt: skip
            total += sum(os.lstat(os.path.join(folder, file)).st_size for file in files)
    return total / 1e6
