"""Build, check and tag a release of what is committed; ``make release`` runs it, uploads nothing.

The version is ``__version__`` in ``providers_sync/config.py``. Before: rename *Unreleased* in
CHANGELOG.md to ``## [VERSION] - YYYY-MM-DD``, put an empty ``## [Unreleased]`` above it, commit,
and run ``make release-check``. Afterwards: push the tag, upload ``dist/``.
"""

from __future__ import annotations

import datetime
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from packaging.metadata import ExceptionGroup, Metadata  # Python 3.10 has no ExceptionGroup
from packaging.version import InvalidVersion, Version
from trove_classifiers import classifiers

BRANCH = "main"
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|TBD|XXX)\b")
CONFIG = "providers_sync/config.py"
NEEDED = ("LICENSE", "README.md", "CHANGELOG.md", "docs/versions.md", "tests/conftest.py")
"""Files of the sdist: whoever packages it can read and test it."""


class ReleaseError(Exception):
    """What is wrong, and what to do."""


def main() -> None:
    """Release the checkout in the current folder."""
    try:
        version = read_version()
        check_repository(f"v{version}")
        notes = changelog_section(version)
        wheel = build(version)
        check_wheel(wheel, version)
    except ReleaseError as error:
        sys.exit(f"No release: {error}")
    # The notes are Markdown: git must not take their titles for comments.
    git("tag", "--annotate", f"v{version}", "--cleanup=whitespace", "--message", notes)
    print(f"Tagged v{version}. Nothing has been uploaded; the files are in dist/.")


def git(*arguments: str) -> str:
    """Return what a git command prints."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"git {arguments[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def read_version() -> str:
    """Return the version, which must be one of a release."""
    found = re.search(r'^__version__ = "(.*)"$', Path(CONFIG).read_text("utf-8"), re.M)
    if not found:
        raise ReleaseError(f"there is no __version__ in {CONFIG}")
    try:
        version = Version(found[1])
    except InvalidVersion:
        raise ReleaseError(f"{found[1]!r} in {CONFIG} is not a version") from None
    if version.is_devrelease or version.local or str(version) != found[1]:
        raise ReleaseError(f"{found[1]} in {CONFIG} is not the version of a release")
    return found[1]


def check_repository(tag: str) -> None:
    """Everything is committed, on the right branch, and the tag is new."""
    if changed := git("status", "--porcelain"):
        raise ReleaseError(f"these files are not committed:\n{changed}")
    if (branch := git("branch", "--show-current")) != BRANCH:
        raise ReleaseError(f"this is the branch {branch or '(none)'}, not {BRANCH}")
    if git("tag", "--list", tag):
        raise ReleaseError(f"the tag {tag} exists: raise __version__ in {CONFIG}")


def changelog_section(version: str) -> str:
    """Return the version's part of CHANGELOG.md, which must be the newest, dated and complete."""
    text = Path("CHANGELOG.md").read_text("utf-8")
    titles = list(re.finditer(r"^## \[(.+?)\](?: - (\S+))?$", text, re.M))
    parts = {
        title[1]: (title[2], text[title.end() : following].strip())
        for title, following in zip(
            titles, [*(each.start() for each in titles[1:]), len(text)], strict=True
        )
    }
    if parts.get("Unreleased", (None, ""))[1]:
        raise ReleaseError(f"CHANGELOG.md has entries under Unreleased: move them to {version}")
    released = [name for name in parts if name != "Unreleased"]
    if released[:1] != [version]:
        raise ReleaseError(f"the newest section of CHANGELOG.md is not ## [{version}] - DATE")
    date, notes = parts[version]
    try:
        datetime.date.fromisoformat(date or "")
    except ValueError:
        raise ReleaseError(f"CHANGELOG.md: write the date as ## [{version}] - YYYY-MM-DD") from None
    if not notes:
        raise ReleaseError(f"CHANGELOG.md says nothing about {version}")
    if unfinished := UNFINISHED.search(notes):
        raise ReleaseError(f"CHANGELOG.md: {unfinished[0]} in the section of {version}")
    return f"providers_sync {version}\n\n{notes}"


def build(version: str) -> Path:
    """Build the sdist and, from it, the wheel into an empty ``dist``; return the wheel."""
    shutil.rmtree("dist", ignore_errors=True)
    # The date of the commit, so that everybody who builds the wheel gets the same bytes.
    date = {"SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct")}
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **date})
    if done.returncode:
        raise ReleaseError(f"the build failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    name = f"providers_sync-{version}"
    sdist, wheel = Path(f"dist/{name}.tar.gz"), Path(f"dist/{name}-py3-none-any.whl")
    found = sorted(Path("dist").iterdir())
    if found != sorted([sdist, wheel]):
        raise ReleaseError(f"built {', '.join(path.name for path in found)}, not {name}")
    with tarfile.open(sdist) as archive:
        missing = {f"{name}/{file}" for file in NEEDED} - set(archive.getnames())
    if missing:
        raise ReleaseError(f"the sdist has no {', '.join(sorted(missing))}: see MANIFEST.in")
    return wheel


def check_wheel(wheel: Path, version: str) -> None:
    """Its metadata is valid, and its description is the README."""
    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read(f"providers_sync-{version}.dist-info/METADATA")
        outside = [
            name
            for name in archive.namelist()
            if not re.match(r"providers_sync[-/]|\w+_providers_sync\.py|providers_sync_", name)
        ]
    if outside:
        raise ReleaseError(f"the wheel contains {', '.join(outside)}")
    try:
        Metadata.from_email(raw, validate=True)
    except ExceptionGroup as error:
        reasons = "; ".join(str(each) for each in error.exceptions)
        raise ReleaseError(f"the metadata is not valid: {reasons}") from None
    check_fields(BytesParser().parsebytes(raw), version)


def check_fields(metadata: Message, version: str) -> None:
    """What the index shows is there."""
    if metadata["Version"] != version:
        raise ReleaseError(f"the wheel has the version {metadata['Version']}")
    unknown = set(metadata.get_all("Classifier", [])) - set(classifiers)
    if unknown:
        raise ReleaseError(f"the index does not know the classifiers {', '.join(unknown)}")
    payload = metadata.get_payload(decode=True)
    assert isinstance(payload, bytes)
    readme = Path("README.md").read_text("utf-8").strip()
    if metadata["Description-Content-Type"] != "text/markdown" or (
        payload.decode("utf-8").strip() != readme
    ):
        raise ReleaseError("the long description is not README.md")
    if not metadata.get_all("Project-URL"):
        print("Note: setup.cfg has no project_urls; add the project's address once it has one.")


if __name__ == "__main__":
    main()
