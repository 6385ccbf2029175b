"""``make release``: refuses what is not ready, builds, checks and tags the rest."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import providers_sync

ROOT = Path(__file__).parent.parent
VERSION = providers_sync.__version__
SOURCES = ("providers_sync", "docs", "examples", ".ci")
FILES = ("*.py", "*.toml", "*.cfg", "*.in", "*.md", "LICENSE", "Makefile", ".gitignore")
RELEASED = f"""# Changelog

## [Unreleased]

## [{VERSION}] - 2026-12-01

### Added

- Answers.

## [0.0.1] - 2026-01-01

- Nothing. TODO: everything.
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git with an author of its own; return what it prints."""
    author = ["-c", "user.name=A", "-c", "user.email=a@b.invalid"]
    command = ["git", *author, *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a copy of this project, ready to be released."""
    folder = tmp_path_factory.mktemp("project")
    for name in SOURCES:
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "pictures")
        )
    for pattern in FILES:
        for path in ROOT.glob(pattern):
            shutil.copy(path, folder)
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests/conftest.py", folder / "tests")
    (folder / "CHANGELOG.md").write_text(RELEASED, encoding="utf-8")
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "config", "user.name", "A")
    git(folder, "config", "user.email", "a@b.invalid")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "Prepare the release")
    return folder


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Path:
    """A clone to spoil."""
    git(tmp_path, "clone", "--quiet", str(project), "clone")
    return tmp_path / "clone"


def release(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what ``make release`` runs."""
    return subprocess.run(
        [sys.executable, ".ci/release.py"], cwd=folder, capture_output=True, text=True
    )


def commit(folder: Path, name: str, old: str, new: str) -> None:
    """Commit a change of a file."""
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    git(folder, "-c", "user.name=A", "commit", "--quiet", "--all", "--message", "Change")


def in_changelog(old: str, new: str) -> Callable[[Path], None]:
    """Return a function that commits this change of the changelog."""
    return lambda folder: commit(folder, "CHANGELOG.md", old, new)


def in_config(new: str) -> Callable[[Path], None]:
    """Return a function that commits another version."""
    return lambda folder: commit(folder, "providers_sync/config.py", f'"{VERSION}"', f'"{new}"')


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "new.txt").touch(), "these files are not committed:\n?? new.txt"),
        (lambda folder: git(folder, "switch", "-qc", "x"), "this is the branch x, not main"),
        (lambda folder: git(folder, "switch", "-q", "--detach"), "this is the branch (none), not "),
        (lambda folder: git(folder, "tag", f"v{VERSION}"), f"the tag v{VERSION} exists: raise "),
        (in_config("0.2.0.dev1"), "0.2.0.dev1 in providers_sync/config.py is not the version of a"),
        (in_config("1.x"), "'1.x' in providers_sync/config.py is not a version"),
        (in_config("9.0"), "the newest section of CHANGELOG.md is not ## [9.0] - DATE"),
        (
            in_changelog("[Unreleased]\n", "[Unreleased]\n\n- More.\n"),
            f"CHANGELOG.md has entries under Unreleased: move them to {VERSION}",
        ),
        (in_changelog(" - 2026-12-01", ""), "CHANGELOG.md: write the date as ## ["),
        (in_changelog("2026-12-01", "2026-13-01"), "CHANGELOG.md: write the date as ## ["),
        (
            in_changelog("### Added\n\n- Answers.\n", ""),
            f"CHANGELOG.md says nothing about {VERSION}",
        ),
        (in_changelog("Answers.", "Answers. TODO: when?"), "CHANGELOG.md: TODO in the section of "),
    ],
)
def test_what_is_not_ready_is_not_released(
    spoil: Callable[[Path], object], reason: str, clone: Path
) -> None:
    """The reason is one sentence, nothing is built, no tag is made."""
    spoil(clone)
    tags = git(clone, "tag")
    done = release(clone)
    assert done.stderr.startswith(f"No release: {reason}")
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert git(clone, "tag") == tags
    assert not (clone / "dist").exists()


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("setup.cfg", "Typing :: Typed", "Typing :: Tpyed", "the index does not know the class"),
        ("setup.cfg", "text/markdown", "text/x-rst", "the long description is not README.md"),
        ("MANIFEST.in", "recursive-include docs *.md *.py *.png\n", "", "the sdist has no "),
    ],
)
def test_a_build_with_a_mistake_is_not_released(
    name: str, old: str, new: str, reason: str, clone: Path
) -> None:
    """What the index would reject or show wrongly is found in the files that were built."""
    commit(clone, name, old, new)
    done = release(clone)
    assert done.stderr.startswith(f"No release: {reason}"), done.stderr
    assert done.returncode == 1
    assert git(clone, "tag") == ""


def test_what_is_ready_is_built_and_tagged_once(clone: Path) -> None:
    """The tag has the notes of this version; a second time, it is there already."""
    git(clone, "config", "user.name", "A")
    git(clone, "config", "user.email", "a@b.invalid")
    done = release(clone)
    assert done.returncode == 0, done.stderr
    assert f"Tagged v{VERSION}. Nothing has been uploaded" in done.stdout
    wheel = clone / f"dist/providers_sync-{VERSION}-py3-none-any.whl"
    assert sorted(path.name for path in (clone / "dist").iterdir()) == [
        wheel.name,
        f"providers_sync-{VERSION}.tar.gz",
    ]
    with zipfile.ZipFile(wheel) as archive:
        assert "providers_sync/py.typed" in archive.namelist()
    message = git(clone, "for-each-ref", f"refs/tags/v{VERSION}", "--format=%(contents)")
    assert message == f"providers_sync {VERSION}\n\n### Added\n\n- Answers."
    assert git(clone, "status", "--porcelain") == ""
    again = release(clone)
    assert again.stderr.startswith(f"No release: the tag v{VERSION} exists")
