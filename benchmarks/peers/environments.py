"""Create and reuse the virtual environments, one per client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
FOLDER = ROOT / ".venv-bench" / PYTHON
OURS = "providers_sync"
OURS_TYPED = "providers_sync_typed"
TOOLS = "tools"
PACKAGES = {
    OURS: [],  # installed from this checkout, each time
    OURS_TYPED: ["pydantic"],  # and this checkout, each time
    "limits": ["requests", "sseclient-py", "orjson"],
    "openai": ["openai"],
    "anthropic": ["anthropic"],
    "litellm": ["litellm"],
    "aisuite": ["aisuite[openai]"],
    "llm": ["llm"],
    "g4f": ["g4f"],
    "instructor": ["instructor"],
    "pydantic-ai": ["pydantic-ai-slim[openai]"],
    "mirascope": ["mirascope[openai]"],
    "jiter": ["requests", "sseclient-py", "jiter", "pydantic"],
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
    """Create missing environments; return those that failed, and why."""
    failed = {}
    for name in PACKAGES:
        try:
            make(name)
        except subprocess.CalledProcessError as error:
            failed[name] = (error.stderr or b"").decode().strip()[-300:]
            print(f"{name} cannot be installed: {failed[name]}", file=sys.stderr)
    return failed


def make(name: str) -> None:
    """Create one environment unless it exists; reinstall this checkout in ours."""
    done = FOLDER / name / "made.json"
    if not done.exists():
        print(f"Creating {done.parent.relative_to(ROOT)}.", flush=True)
        shutil.rmtree(done.parent, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(done.parent)])
        if PACKAGES[name]:
            pip(name, *PACKAGES[name])
    if name in (OURS, OURS_TYPED):
        install_ours(name)
    run([python(name), "-m", "compileall", "-qq", str(done.parent / "lib")], check=False)
    done.write_text(json.dumps(versions(name)))


def install_ours(name: str) -> None:
    """Install the checkout from a copy, as a build leaves files in its source folder."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "source"
        copy.mkdir()
        shutil.copytree(ROOT / OURS, copy / OURS)
        for file in (*ROOT.glob("*.py"), *ROOT.glob("*.cfg"), *ROOT.glob("*.toml"),
                     ROOT / "README.md", ROOT / "LICENSE"):  # fmt: skip
            shutil.copy(file, copy)
        pip(name, str(copy))
        pip(name, "--no-deps", "--force-reinstall", str(copy))


def pip(name: str, *arguments: str) -> None:
    """Install into an environment."""
    run([python(name), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments])


def run(command: list[str], check: bool = True) -> str:
    """Run a command and return its output."""
    done = subprocess.run(command, check=check, capture_output=True)
    return done.stdout.decode()


def versions(name: str) -> dict[str, str]:
    """Return the packages of an environment, without pip and its helpers."""
    packages: dict[str, str] = json.loads(run([python(name), "-c", LIST]))
    return {p: v for p, v in sorted(packages.items()) if p not in ("pip", "setuptools", "wheel")}


def megabytes(name: str) -> float:
    """Return the size of the installed packages with byte code, without pip and its helpers."""
    (site,) = (FOLDER / name).glob("lib/python3*/site-packages")
    total = 0
    for folder, _, files in os.walk(site):
        top = Path(folder).relative_to(site).parts[:1]
        if not top or top[0].split("-")[0] not in ("pip", "setuptools", "pkg_resources", "wheel",
                                                   "_distutils_hack"):  # fmt: skip
            total += sum(os.lstat(os.path.join(folder, file)).st_size for file in files)
    return total / 1e6
