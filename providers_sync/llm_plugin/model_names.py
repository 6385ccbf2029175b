"""The names of models, such as ``openai/qwen3``, that a command or a file of ``llm`` holds."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import llm

PREFIX = "providers-sync/"
"""What the names begin with in ``llm``."""
_MODEL = re.compile(r"""^model:[ \t]+["']?(.+?)["']?[ \t]*(?:[ \t]#.*)?$""", re.M)
"""The line of a template that names its model."""
ANSWERED = "providers-sync-models.txt"
"""The file of the models that have answered, one a line: ``llm -c`` goes on with one of them."""


def key_name(provider: str) -> str:
    """Return the name of a provider's key in ``llm keys``."""
    return "openai" if provider == "responses" else provider


def command() -> click.Context | None:
    """Return the context of the command of ``llm`` that this thread runs.

    ``None`` in a program that uses ``llm``, also if it is built on click itself.
    """
    context = click.get_current_context(silent=True)
    cli = sys.modules.get("llm.cli")
    if context is None or cli is None or context.find_root().command is not cli.cli:
        return None
    return context


def known_names() -> Iterator[str]:
    """Yield the names in the command that runs, in files of ``llm`` that it uses, and ``ANSWERED``.

    An empty name stands for all providers: the command names this project alone.
    """
    context = command()
    parameters = context.params if context else {}
    given = [each for value in parameters.values() for each in _values(value)]
    templates = _template_models(_values(parameters.get("template")))
    aliases, default = _aliased(), _read("default_model.txt").strip()
    for name in [*given, *templates, *aliases, default, *_read(ANSWERED).splitlines()]:
        if isinstance(name, str) and f"{name}/".startswith(PREFIX) and name.isprintable():
            yield name[len(PREFIX) :]


def name_to_ask() -> str | None:
    """Return the name of ours that ``-m`` or ``LLM_MODEL`` gives to the command that runs."""
    context = command()
    name = context.params.get("model_id") if context else None
    return name if isinstance(name, str) and name.startswith(PREFIX) else None


def remember(name: str) -> None:
    """Add a name to ``ANSWERED``, unless it is there; if that fails, the answer counts more."""
    known = _read(ANSWERED)
    if PREFIX + name in known.splitlines() or not name.isprintable():
        return
    line = f"{PREFIX}{name}\n" if known.endswith("\n") or not known else f"\n{PREFIX}{name}\n"
    with contextlib.suppress(OSError), open(_file(ANSWERED), "a", encoding="utf-8") as file:
        file.write(line)  # at once: other processes may add theirs


def _values(value: Any) -> Iterable[object]:
    return value if isinstance(value, (list, tuple)) else [value]


def _template_models(names: Iterable[object]) -> Iterator[str]:
    for name in filter(None, names):
        for path in (Path(str(name)), _file(f"templates/{name}.yaml")):
            if path.is_file():  # not a pipe, which ``llm`` will read
                yield from _MODEL.findall(_read(path))


def _aliased() -> list[object]:
    try:
        aliases = json.loads(_read("aliases.json"))
    except (ValueError, RecursionError):
        return []
    return list(aliases.values()) if isinstance(aliases, dict) else []


def _read(path: Path | str) -> str:
    """Return the text of a file; nothing if there is none, or none that can be read."""
    try:
        return _file(path).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def _file(path: Path | str) -> Path:
    folder: Path = llm.user_dir()  # type: ignore[no-untyped-call]
    return path if isinstance(path, Path) else folder / path
