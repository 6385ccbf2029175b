"""The file of a ``Chat``: the system message, the history, and the interrupted answer, as JSON."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import dataclass
from typing import Any

from .errors import InvalidRequestError
from .messages import to_messages
from .types import Messages, Outcome

VERSION = 1
"""Version of the format."""


@dataclass(frozen=True)
class InterruptedAnswer:
    """An answer that failed or was cancelled, kept outside the history.

    Attributes:
        question: The messages that it answers; for a run with tools, also its finished rounds.
        text: The text that had arrived; for a run, only that of its last round. May be empty.
        outcome: How it ended.
    """

    question: Messages
    text: str
    outcome: Outcome


def write_chat(
    path: str | os.PathLike[str],
    system: str | None,
    history: Messages,
    interrupted: InterruptedAnswer | None,
) -> None:
    """Write a conversation, in place of an older file; raise as ``Chat.save`` does."""
    data: dict[str, Any] = {
        "version": VERSION,
        "system": system,
        "history": history,
        "interrupted": None,
    }
    if interrupted is not None:
        data["interrupted"] = {**vars(interrupted), "outcome": str(interrupted.outcome)}
    try:
        text = json.dumps(data, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
        encoded = text.encode("utf-8", "backslashreplace")  # a lone surrogate: JSON's escape
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the history cannot be saved as JSON: {error}") from error
    try:
        _replace(os.path.realpath(path), encoded)
    except OSError as error:  # name the target, not the temporary file
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def read_chat(
    path: str | os.PathLike[str],
) -> tuple[str | None, Messages, InterruptedAnswer | None]:
    """Return system message, history and interrupted answer; raise as ``Chat.load`` does."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        data = json.loads(content.decode("utf-8"))
        if data["version"] != VERSION:
            raise ValueError(f"its version is {data['version']!r}, not {VERSION}")
        history, interrupted, system = data["history"], data["interrupted"], data["system"]
        if not isinstance(history, list) or not isinstance(system, (str, type(None))):
            raise ValueError("history must be a list, and system text or null")
        messages = to_messages(history) if history else []
        if interrupted is None:
            return system, messages, None
        question = to_messages(interrupted["question"])
        outcome = Outcome(interrupted["outcome"])
        return system, messages, InterruptedAnswer(question, str(interrupted["text"]), outcome)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise InvalidRequestError(f"{path} is not a saved conversation: {error}") from error


def _replace(target: str, content: bytes) -> None:
    import tempfile

    if os.path.exists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        # Replacing a device or a pipe would break it for every other process.
        raise OSError(errno.EINVAL, "not a regular file")
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".chat-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
