"""The journal of a run: which tool calls have begun and ended, on the disk, if there is a crash.

::

    with Journal.open("run.jsonl") as journal:
        for key, call in zip(call_keys(messages, calls), calls):
            entry = journal.find(key)
            if entry is None:  # or entry.has_ended: take entry.content; or nobody knows
                journal.begin(key, call)
                ...
                journal.end(key, content, is_error=False, seconds=0.1)

The file has a JSON object per line, in ASCII; each line is on the disk before its method returns::

    {"event":"begin","key":"5f2c…","name":"book","arguments":{"seat":"4A"}}
    {"event":"end","key":"5f2c…","content":"booked","is_error":false,"seconds":0.1}

A call that has begun and not ended has perhaps had its effect, perhaps not. Whoever has found out
can edit the file while no run uses it: delete the line, and the call is made again; or add its
``end``. The last line of a key counts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

from ..errors import InvalidRequestError, ToolError
from ..locked_file import LockedFile
from ..returned_messages import RETURNED
from ..types import Message, Messages, ToolCall

_LINE_START = b'{"event":"'
"""The start of every line we write, which tells a torn line from other text."""
_REPLIES = ("assistant", "tool")
"""Roles of the messages that a run adds to its question."""


@dataclass(frozen=True)
class Entry:
    """What the journal knows of a call that has begun."""

    name: str
    arguments: Any
    """The object of the call's arguments; text if they are not JSON."""
    content: str | None = None
    """What the model was told; ``None`` if the call has not ended."""
    is_error: bool = False
    seconds: float = 0.0

    @property
    def has_ended(self) -> bool:
        """Whether the call has ended; if not, it may or may not have had its effect."""
        return self.content is not None


class Journal:
    """An open journal, which no other run can use until it is closed. Thread-safe.

    In a forked child it is closed: only the process that opened it writes.
    """

    def __init__(self, path: str, file: LockedFile, entries: dict[str, Entry]) -> None:
        self.path = path
        self._file = file
        self._entries = entries

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Journal:
        """Open and lock a journal; a missing file is created, readable by its owner only (0600).

        A symbolic link is followed, and an existing file keeps its mode. A last line that a crash
        has torn is removed.

        Raises ``InvalidRequestError`` if the file is not a journal: it names the first wrong line,
        and the file is unchanged. Raises ``ToolError`` if another run uses the journal, or if it
        cannot be opened or read.
        """
        try:
            name = os.fsdecode(path)
            file = LockedFile(name)
        except BlockingIOError as error:
            raise ToolError(
                f"another run uses the journal {name}: wait until it ends, or give this one "
                "its own file"
            ) from error
        except OSError as error:
            raise _failed("open", name, error) from error
        except (TypeError, ValueError) as error:
            raise InvalidRequestError(f"journal must be the path of a file: {error}") from error
        try:
            return cls(name, file, _load(name, file))
        except BaseException as error:
            file.close()
            if isinstance(error, (OSError, MemoryError)):
                raise _failed("read", name, error) from error
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release the lock. ``begin`` and ``end`` raise from then on."""
        self._file.close()

    def find(self, key: str) -> Entry | None:
        """Return what is known of a call; ``None`` if it has never begun."""
        return self._entries.get(key)

    def begin(self, key: str, call: ToolCall) -> None:
        """Record that a call begins; this is on the disk when ``begin`` returns.

        Raises ``ToolError`` if it cannot be written: do not make the call then.
        """
        entry = Entry(call.name, _arguments(call))
        line = {"event": "begin", "key": key, "name": entry.name, "arguments": entry.arguments}
        self._append(line, f"{call.name} has not been called")
        self._entries[key] = entry

    def end(self, key: str, content: str, is_error: bool, seconds: float) -> None:
        """Record how a call has ended that had begun; this is on the disk when ``end`` returns.

        Raises ``ToolError`` if it cannot be written: the next run will find the call begun only.
        """
        entry = self._entries[key]
        line = {"event": "end", "key": key, "content": content, "is_error": is_error}
        self._append(
            {**line, "seconds": round(seconds, 3)},
            f"a call of {entry.name} has ended, but the next run will not know that",
        )
        self._entries[key] = replace(entry, content=content, is_error=is_error, seconds=seconds)

    def _append(self, line: Mapping[str, Any], consequence: str) -> None:
        # ASCII: a lone surrogate can only be written as a JSON escape.
        data = json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n"
        try:
            self._file.append(data)
        except OSError as error:
            raise _failed("write", self.path, error, f"; {consequence}") from error


def _failed(action: str, path: str, error: OSError | MemoryError, more: str = "") -> ToolError:
    reason = getattr(error, "strerror", None) or str(error) or "not enough memory"
    return ToolError(f"cannot {action} the journal {path}: {reason}{more}")


# --- reading


def _load(path: str, file: LockedFile) -> dict[str, Entry]:
    """Return what all lines say; once they have been checked, repair the last one."""
    entries: dict[str, Entry] = {}
    size, is_torn, raw = 0, False, b"\n"
    with open(file.path, "rb") as lines:
        for number, raw in enumerate(lines, 1):
            try:
                line = json.loads(raw)
            except (ValueError, RecursionError) as error:
                if is_torn := _is_torn(raw) and not lines.read(1):
                    break
                raise _refused(path, number, "is not JSON") from error
            try:
                entries.update([_read_line(line, entries)])
            except ValueError as error:
                raise _refused(path, number, str(error)) from error
            size += len(raw)
    if is_torn:
        file.truncate(size)
    elif not raw.endswith(b"\n"):
        file.append(b"\n")  # an editor has removed it, or a crash: the call may have been made
    return entries


def _refused(path: str, number: int, reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{path} is not a journal of tool calls: line {number} {reason}; "
        "use another file, or correct that line"
    )


def _read_line(line: Any, entries: Mapping[str, Entry]) -> tuple[str, Entry]:
    """Return the key of a line, and what is known after it. Raises ``ValueError``."""
    event = line.get("event") if isinstance(line, dict) else None
    if event == "begin" and _has(line, key=str, name=str, arguments=object):
        return line["key"], Entry(line["name"], line["arguments"])
    if event == "end" and _has(line, key=str, content=str, is_error=bool, seconds=(int, float)):
        if line["key"] not in entries:
            raise ValueError("ends a call that no earlier line begins")
        ended = {name: line[name] for name in ("content", "is_error", "seconds")}
        return line["key"], replace(entries[line["key"]], **ended)
    raise ValueError("neither begins nor ends a call")


def _has(line: Any, **kinds: type | tuple[type, ...]) -> bool:
    return all(name in line and isinstance(line[name], kind) for name, kind in kinds.items())


def _is_torn(raw: bytes) -> bool:
    r"""Return whether a crash may have damaged this last line, which is not JSON.

    A power loss may leave zero bytes, which no line of ours has.

    >>> [_is_torn(raw) for raw in (b'{"ev', b'{"event":"end"', b"\0\0", b"a,b", b"{}x\n")]
    [True, True, True, False, False]
    """
    text, zero, rest = raw.partition(b"\0")
    is_ours = text.startswith(_LINE_START) or (
        _LINE_START.startswith(text) and not rest.strip(b"\0")
    )
    return is_ours and (bool(zero) or not raw.endswith(b"\n"))


# --- keys


def call_keys(messages: Messages, calls: Sequence[ToolCall]) -> list[str]:
    """Return the keys of the calls of one answer, which are the same in a run after a crash.

    ``messages``: the conversation before the answer. A key is a hash of

    - the question: the messages up to the last one that is neither an assistant's nor a tool's.
      What a protocol wants back and the ids of calls do not count: servers change them. Files count
      by their path, bytes by their content.
    - the round: how many assistant messages follow the question.
    - the call's name and arguments. How the JSON is written does not count, and 1 is 1.0.
    - the call's place among those of the answer with the same name and arguments. The others do not
      count: a model may give the same calls in another order when it is asked again.
    """
    begins = [i for i, message in enumerate(messages) if message["role"] not in _REPLIES]
    end = begins[-1] + 1 if begins else 1
    question = _hash([_without_ids(message) for message in messages[:end]])
    rounds = sum(message["role"] == "assistant" for message in messages[end:])
    seen: Counter[str] = Counter()
    keys = []
    for call in calls:
        content = _hash([question, rounds, call.name, _arguments(call)])
        keys.append(_hash([content, seen[content]]))
        seen[content] += 1
    return keys


def _arguments(call: ToolCall) -> Any:
    return call.raw if call.arguments is None else call.arguments


def _without_ids(message: Message) -> Message:
    """Return a message without what a server changes; parts may be in Anthropic's form."""
    kept = {k: v for k, v in message.items() if k not in (RETURNED, "tool_call_id")}
    for place in ("tool_calls", "content"):
        if isinstance(items := kept.get(place), (list, tuple)):
            kept[place] = [
                _without_id(item) if isinstance(item, Mapping) else item for item in items
            ]
    return kept


def _without_id(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in item.items() if name not in ("id", "tool_use_id")}


def _hash(value: object) -> str:
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _canonical(value: object) -> object:
    """Return a value as JSON that is the same in every process; read no file.

    >>> from pathlib import Path
    >>> _canonical([1.0, True, {"image": Path("a.png")}])
    [1, True, {'image': {'path': 'a.png'}}]
    """
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, Mapping):
        return {str(name): _canonical(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, os.PathLike):
        return {"path": os.fsdecode(value)}
    return {"type": type(value).__qualname__}  # cannot be sent; its repr may hold an address
