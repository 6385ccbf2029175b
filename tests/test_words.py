"""Words and names: the field's own terms, unique class names, no access to private attributes."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "providers_sync"

BANNED = {
    *("house", "room", "floor", "door", "face", "joint", "verdict", "plumbing", "homeless"),
    *("shelf", "basin", "keeper", "bell", "patience", "manner", "worthwhile", "trial"),
}
"""Words that this project once used in a sense of its own, in names and in prose."""
ORDINARY = {
    "tests/test_words.py": "",  # the list itself
    "tests/test_mock_servers.py": "_llmock/verdict",  # a path of another project
    **dict.fromkeys(("providers_sync/providers/presets.py", "docs/presets.md"), "Hugging Face"),
}
"""Files, and a part of each line in them that may contain a banned word ("": any line)."""
TEXT = {".py", ".md", ".js", ".css", ".html", ".cfg", ".toml", ".ipynb", ""}
FOLDERS = (".ci", "benchmarks", "docs", "examples", "providers_sync", "tests")
GENERATED = ("benchmarks/results/", ".coverage")


def banned_words(line: str) -> set[str]:
    """Return the banned words of a line, plurals and parts of names included.

    >>> sorted(banned_words("class DoorFaces: rooms_of = interface"))
    ['door', 'face', 'room']
    """
    lower = re.sub(r"([a-z])([A-Z])", r"\1 \2", line).lower()
    return {word for word in re.findall(r"[a-z]+?(?=s?(?![a-z]))", lower) if word in BANNED}


def text_files() -> Iterator[Path]:
    """Yield the project's own text files."""
    folders = [ROOT / name for name in FOLDERS]
    for path in [*ROOT.iterdir(), *(path for folder in folders for path in folder.rglob("*"))]:
        name = path.relative_to(ROOT).as_posix()
        is_ours = "__pycache__" not in name and not name.startswith(GENERATED)
        if is_ours and path.suffix in TEXT and path.is_file():
            yield path


def banned_lines() -> Iterator[str]:
    """Yield each line with a banned word that is not listed as ordinary English."""
    for path in text_files():
        name = path.relative_to(ROOT).as_posix()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = banned_words(line)
            if found and not (name in ORDINARY and ORDINARY[name] in line):
                yield f"{name}:{number}: {', '.join(found)}: {line.strip()}"


def test_no_file_uses_a_banned_word():
    """Code, tests and documents use the field's terms (see CONTRIBUTING.md)."""
    assert list(banned_lines()) == []


# --- texts that people see

ODD_ENGLISH = re.compile(
    r"(?<!there )\b(is|are) no (?!longer\b)[a-zA-Z]|\bknows? no\b|\b(is|are) that of\b|honoured"
    r"|\bin silence\b|all the same\b|\bin line \{"
)
"""What a native speaker would not write: "text is no string", "it knows no tools", …"""


def messages(tree: ast.Module) -> Iterator[str]:
    """Yield the texts in a module that are no docstrings, with ``{}`` for what is filled in."""
    comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        if id(node) in comments | parts:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(p.value) if isinstance(p, ast.Constant) else "{}" for p in node.values
            )


def test_messages_are_plain_english() -> None:
    """Errors, warnings, notes and help texts."""
    found = [f"{name}: {text}" for name, tree in modules() for text in messages(tree)]
    assert len(found) > 1000
    assert [text for text in found if ODD_ENGLISH.search(text)] == []


@pytest.mark.parametrize(
    ("source", "is_odd"),
    [
        ("raise TypeError('text is no string')", True),
        ("raise TypeError(f'{name} is no string')", True),
        ("'the error in line {}'.format(1)", True),
        ("'there is no model'", False),
        ("'it is no longer open'", False),
        ("'a docstring is no message'", False),
    ],
)
def test_odd_english_is_found(source: str, is_odd: bool) -> None:
    texts = messages(ast.parse(source))
    assert bool([text for text in texts if ODD_ENGLISH.search(text)]) == is_odd


# --- names in the package


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield every module of the package: its dotted name and its syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def test_no_two_classes_have_one_name():
    """A traceback or a search result names a class without its module."""
    places = defaultdict(list)
    for name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    assert {kind: names for kind, names in places.items() if len(names) > 1} == {}


def test_no_function_hides_a_module():
    """``package.name`` is the module ``name`` also after everything has been imported."""
    names = {name for name, _ in modules()}
    hidden = [
        f"{name}.{found.name}"
        for name, tree in modules()
        for found in tree.body
        if isinstance(found, (ast.FunctionDef, ast.ClassDef))
        and (f"{name}.{found.name}" in names or name.rpartition(".")[2] == found.name)
    ]
    imported = [
        f"{name}.{alias.asname or alias.name}"
        for name, tree in modules()
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        for alias in node.names
        if f"{name}.{alias.asname or alias.name}" in names
    ]
    assert hidden + imported == []


def private_accesses(tree: ast.Module) -> Iterator[str]:
    """Yield the accesses to private attributes and names that this module does not define."""
    defined = {
        getattr(node, "name", None) or getattr(node, "attr", None) or getattr(node, "id", None)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        or (isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Store))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr):
            owner = ast.unparse(node.value)
            # ``self._x`` may come from a base class: that is what "protected" is for.
            if owner not in ("self", "cls", "super()") and node.attr not in defined:
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if re.match(r"_[^_]", alias.name))


def test_no_module_reads_a_private_attribute_of_another():
    """What another module needs has a public name, or a function in the module that owns it."""
    found = [f"{name}: {access}" for name, tree in modules() for access in private_accesses(tree)]
    assert [each for each in found if not each.endswith("os._exit")] == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("stream._channel.lock", ["stream._channel"]),
        ("from .base import _key", ["_key"]),
        ("class A:\n    def f(self, other): self._x = other._x", []),
        ("self._from_base_class()", []),
        ("value.__dict__", []),
    ],
)
def test_private_access_is_found(source, found):
    assert list(private_accesses(ast.parse(source))) == found


@pytest.mark.parametrize("line", ["the Doors", "open_door = 1", "class FrontDoor:", "verdicts"])
def test_banned_word_is_found(line):
    assert banned_words(line)


@pytest.mark.parametrize("line", ["interface", "surface", "indoors", "import typeface", "trialled"])
def test_other_word_is_not_banned(line):
    assert not banned_words(line)
