"""The names of models, such as ``openai/qwen3``, that a command or a file of ``llm`` holds."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import llm

PREFIX = "providers-sync/"
"""What the names begin with in ``llm``."""
ANSWERED = "providers-sync-models.json"
"""The file of the models that have answered: ``llm -c`` goes on with one of them."""


def known_names() -> Iterator[str]:
    """Yield the names in the command that runs, the aliases, the default and ``ANSWERED``."""
    default = llm.get_default_model()  # type: ignore[no-untyped-call]
    aliases = _read("aliases.json")
    aliased = aliases.values() if isinstance(aliases, dict) else ()
    for name in [*_command_line(), *aliased, default, *_answered()]:
        if isinstance(name, str) and name.startswith(PREFIX) and name.isprintable():
            yield name.removeprefix(PREFIX)


def remember(name: str) -> None:
    """Add a name to ``ANSWERED``, unless it is there; if that fails, the answer counts more."""
    names = _answered()
    if PREFIX + name in names:
        return
    with contextlib.suppress(OSError):
        path = _file(ANSWERED)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump([*names, PREFIX + name], file, indent=1)
        os.replace(temporary, path)  # a reader never sees half a file


def _command_line() -> Iterator[object]:
    """Yield the arguments and options of the command of ``llm`` that runs, if one does."""
    context = click.get_current_context(silent=True)
    for value in context.params.values() if context else ():
        values: Iterable[object] = value if isinstance(value, (list, tuple)) else [value]
        yield from values


def _answered() -> list[Any]:
    names = _read(ANSWERED)
    return names if isinstance(names, list) else []


def _read(name: str) -> Any:
    """Return the JSON of a file; ``None`` if there is none, or nothing that can be read."""
    try:
        return json.loads(_file(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _file(name: str) -> Path:
    folder: Path = llm.user_dir()  # type: ignore[no-untyped-call]
    return folder / name
