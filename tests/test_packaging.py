"""What several files say about versions, extras and sets of tests is the same everywhere."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
FOR_DEVELOPERS = {"docs", "test"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def pythons() -> list[str]:
    """Return the Pythons that the classifiers name."""
    return re.findall(r"Python :: (3\.\d+)$", setup()["metadata"]["classifiers"], re.M)


def makefile_list(name: str) -> list[str]:
    """Return the words of a variable of the Makefile."""
    found = re.search(rf"^{name} = ((?:.*\\\n)*.*)$", read("Makefile"), re.M)
    assert found
    return found[1].replace("\\\n", " ").split()


def test_the_supported_pythons_are_the_same_everywhere() -> None:
    """In the classifiers, the workflow and the version policy; the oldest also in the tools."""
    oldest, newest = pythons()[0], pythons()[-1]
    listed = re.search(r"python: \[(.*)\]", read(".github/workflows/ci.yml"))
    assert listed
    assert re.findall(r'"(.*?)"', listed[1]) == pythons()
    assert f"CPython {oldest} to {newest}." in read("docs/versions.md")
    assert setup()["options"]["python_requires"] == f">={oldest}"
    assert f'python_version = "{oldest}"' in read("pyproject.toml")


def test_getting_started_lists_every_extra_and_what_it_installs() -> None:
    """The README sends readers to that table."""
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", read("docs/getting-started.md"), re.M)
    extras = setup()["options.extras_require"]
    assert [name for name, _ in rows] == [name for name in extras if name not in FOR_DEVELOPERS]
    for name, installed in rows:
        named = [Requirement(line).name for line in extras[name].split("\n") if line]
        assert installed.split(", ") == [one for one in named if one != "providers-sync"]


def test_the_hooks_use_the_same_ruff() -> None:
    """Otherwise a hook would format what ``make lint`` refuses."""
    lines = setup()["options.extras_require"]["test"].split("\n")
    ruff = next(Requirement(line) for line in lines if line.startswith("ruff"))
    pinned = re.findall(r"ruff==([\d.]+)", read(".pre-commit-config.yaml"))
    assert len(set(pinned)) == 1
    assert ruff.specifier.contains(pinned[0])


def test_every_extra_that_an_error_or_a_page_names_exists() -> None:
    """What a user is told to install can be installed, and is not the developers' extra."""
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("providers_sync/**/*.py")]
    named = {
        extra.strip()
        for page in pages
        for extras in re.findall(r"providers-sync\[([\w, -]+)\]", page.read_text("utf-8"))
        for extra in extras.split(",")
    }
    assert {"gateway", "local", "cli"} <= named
    assert named <= set(setup()["options.extras_require"]) - FOR_DEVELOPERS


def test_the_sets_of_tests_name_files_that_exist() -> None:
    """The slowest tests are among the long ones: otherwise ``make test`` would run them."""
    long, slowest = makefile_list("LONG"), makefile_list("SLOWEST")
    assert len(set(long)) == len(long)
    for name in [*long, *slowest]:
        assert (ROOT / name.partition("::")[0]).exists(), name
    assert [name for name in slowest if not name.startswith(tuple(long))] == []
    core = re.search(r"names=\((.*?)\)", read(".ci/core"), re.S)
    assert core
    for name in core[1].split():
        assert (ROOT / f"tests/test_{name}.py").exists(), name
