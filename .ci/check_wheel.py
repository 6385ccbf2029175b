"""Check the installed wheel: run by ``.ci/wheel`` in an environment with nothing else."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = 8
MEGABYTES = 9.0
TOOLS = {"pip", "setuptools"}
"""Installed by ``python -m venv`` itself."""
UNWANTED = ["asyncio", "werkzeug", "waitress", "xllamacpp", "tenacity", "providers_sync.cli"]
BIN = Path(sys.executable).parent


def main() -> None:
    """Run all checks; stop at the first that fails."""
    packages = sorted(
        {each.name for each in importlib.metadata.distributions() if each.name not in TOOLS}
    )
    print(f"{len(packages)} packages: {', '.join(packages)}")
    assert len(packages) <= PACKAGES

    size = installed_bytes() / 1e6
    print(f"{size:.2f} MB installed, compiled modules included")
    assert size < MEGABYTES

    loaded = run(
        [sys.executable, "-c", "import providers_sync, sys; print(*sorted(sys.modules))"]
    ).split()
    unwanted = [name for name in UNWANTED if name in loaded]
    print(f"import providers_sync loads {len(loaded)} modules, unwanted ones: {unwanted or 'none'}")
    assert not unwanted

    version = importlib.metadata.version("providers-sync")
    for command in ([str(BIN / "providers-sync")], [sys.executable, "-m", "providers_sync"]):
        assert run([*command, "--version"]) == f"providers-sync {version}\n"
    print(f"providers-sync --version prints {version}")

    files = {str(file) for file in importlib.metadata.files("providers-sync") or ()}
    expected = {"providers_sync/py.typed", "pytest_providers_sync.py", "llm_providers_sync.py"}
    assert expected <= files
    assert any(file.endswith("LICENSE") for file in files)
    assert not any(file.startswith(("tests/", "examples/")) for file in files)

    missing(["serve", "--engine", "echo"], "pip install 'providers-sync[gateway]'")
    missing(
        ["ask", "--local", "Hello"], "pip install 'providers-sync[local]' && pip install --no-deps "
    )
    local = "from providers_sync.local import LocalServer; LocalServer({!r})".format
    output = run([sys.executable, "-c", local(__file__)], code=1).splitlines()[-1]
    print(f"LocalServer() -> {output}")
    assert "pip install 'providers-sync[local]'" in output


def installed_bytes() -> int:
    """Return the size of everything installed except Python and its tools."""
    folder = Path(sysconfig.get_path("purelib"))
    entries = [entry for entry in folder.iterdir() if not is_tool(entry.name)]
    files = [file for entry in entries for file in (entry, *entry.rglob("*")) if file.is_file()]
    return sum(file.stat().st_size for file in files)


def is_tool(name: str) -> bool:
    """Return whether this entry of site-packages came with ``python -m venv``."""
    tools = (*TOOLS, "pkg_resources", "_distutils_hack", "distutils-precedence")
    return name.startswith(tools)


def run(command: list[str], code: int = 0) -> str:
    """Run a command that must exit with ``code``; return its output, stderr included."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == code, f"{command} exited with {done.returncode}:\n{done.stdout}"
    return done.stdout


def missing(arguments: list[str], remedy: str) -> None:
    """Check that a command without its extra prints one line that says what to install."""
    output = run([str(BIN / "providers-sync"), *arguments], code=1)
    print(f"providers-sync {' '.join(arguments)} -> {output.strip()}")
    assert remedy in output
    assert output.count("\n") == 1


if __name__ == "__main__":
    main()
