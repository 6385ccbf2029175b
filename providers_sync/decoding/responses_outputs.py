"""Tells which output item an event of OpenAI's Responses API is about.

Items have an ``output_index`` and an id. llama.cpp sends no indexes, and names a call by its
``call_id`` (its ``server-task.cpp``, ``to_json_oaicompat_resp_partial``); other servers send ids
that change in each event, or several items under one index.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..config import TOOL_CALLS
from ..error_words import as_text
from ..errors import MalformedStream
from .parsing import json_text
from .responses_items import CALLS, kind_of

CALL = "call"
_IDS = ("id", "call_id")
_SAID = ("name", "arguments", "input", "content", "summary")


@dataclass(eq=False)
class OutputItem:
    """An item of the answer whose events arrive."""

    position: int
    """How many items began before it."""
    family: str
    """``message``, ``reasoning``, ``call``, or the type of another item."""
    index: int | None = None
    value: dict[str, Any] = field(default_factory=dict)
    """The item as it came last; empty if only its parts have come."""
    is_done: bool = False
    said: dict[tuple[str, Any], int] = field(default_factory=dict)
    """How many characters each part has said, by its kind and index."""
    parts: Counter[str] = field(default_factory=Counter)
    """How many parts of each kind have said something."""
    characters: Counter[str] = field(default_factory=Counter)
    """How many characters all parts of each kind have said."""
    input: list[str] = field(default_factory=list)
    """The pieces of a call's arguments."""
    head: dict[str, Any] = field(default_factory=dict)
    """What the events with arguments tell of a call."""

    @property
    def path(self) -> str:
        return f"output[{self.order}]"

    @property
    def order(self) -> int:
        return self.position if self.index is None else self.index

    def add(self, kind: str, index: Any, characters: int) -> None:
        """Note that a part has said so many more characters."""
        said = self.said.get((kind, index))
        self.parts[kind] += said is None
        self.said[kind, index] = (said or 0) + characters
        self.characters[kind] += characters

    def whole(self) -> dict[str, Any]:
        """Return the item, a call with all of its arguments."""
        if self.family != CALL:
            return self.value
        item = self.value or self.head
        key = "input" if item.get("type") == "custom_tool_call" else "arguments"
        if self.input and (not self.is_done or item.get(key) in (None, "", "{}")):
            return {**item, key: "".join(self.input)}
        return item


class OutputItems:
    """The items of one answer."""

    def __init__(self) -> None:
        self._items: list[OutputItem] = []
        self._by_index: dict[int | None, OutputItem] = {}
        self._by_id: dict[str, OutputItem] = {}
        self._open: dict[str, OutputItem] = {}
        """The last item of each family, until it is done."""

    def ordered(self) -> list[OutputItem]:
        """Return the items in the order of the answer."""
        return sorted(self._items, key=lambda item: item.order)

    def of_event(self, event: dict[str, Any], family: str) -> OutputItem:
        """Return the item that an event with a piece of it is about; it may be a new one."""
        index, item_id = _index(event), as_text(event.get("item_id") or "")
        found = self._by_index.get(index)
        if found is None or found.family != family:
            found = self._by_id.get(item_id)
            if found is not None and found.index not in (None, index) and index is not None:
                found = None  # all items have one id
        if found is None and index is None:
            found = self._open.get(family)
        if found is None or found.family != family:
            found = self._add(family)
            self._note(found, index, item_id)
        return found

    def of_item(self, event: dict[str, Any], value: dict[str, Any], is_done: bool) -> OutputItem:
        """Return the item that came whole, or as it begins."""
        family, index = family_of(value), _index(event)
        ids = [as_text(value[key]) for key in _IDS if value.get(key)]
        found = [self._by_index.get(index), *map(self._by_id.get, ids)]
        begun = self._open.get(family)
        if is_done and begun is not None and None in (index, begun.index):
            found.append(begun)
        known = [each for each in found if each is not None and each.family == family]
        item = next(
            (each for each in known if _is_same(each, value, index)),
            next((each for each in known if _may_be(each, value, index, is_done)), None),
        )
        item = item or self._add(family)
        self._note(item, index, *ids)
        if is_done and self._open.get(family) is item:
            del self._open[family]
        if is_done or not item.is_done:  # an item that begins once more says nothing
            item.value, item.is_done = value, is_done
        return item

    def of_output(
        self, output: list[dict[str, Any]]
    ) -> Iterator[tuple[OutputItem | None, dict[str, Any]]]:
        """Yield the items of the whole response, each with the one that events have brought.

        Their indexes and ids need not be those of the events.
        """
        free, pairs = list(self._items), dict[int, OutputItem]()
        for key in _KEYS:
            same: defaultdict[Hashable, deque[OutputItem]] = defaultdict(deque)
            for item in free:
                same[key(item.family, item.whole())].append(item)
            for position, value in enumerate(output):
                if position in pairs:
                    continue
                if candidates := same.get(key(family_of(value), value)):
                    pairs[position] = candidates.popleft()
            taken = set(map(id, pairs.values()))
            free = [item for item in free if id(item) not in taken]
        yield from ((pairs.get(position), value) for position, value in enumerate(output))

    def ended(self, item: OutputItem | None, value: dict[str, Any]) -> OutputItem:
        """Return the item, or a new one, as it is in the whole response."""
        item = item or self._add(family_of(value))
        if not item.is_done:
            item.value, item.is_done = value, True
        return item

    def _add(self, family: str) -> OutputItem:
        if len(self._items) >= TOOL_CALLS:
            raise MalformedStream(f"the answer has more than {TOOL_CALLS} items")
        item = OutputItem(len(self._items), family)
        self._items.append(item)
        return item

    def _note(self, item: OutputItem, index: int | None, *ids: str) -> None:
        if index is not None:
            item.index = index
            self._by_index[index] = item
        self._by_id.update({each: item for each in ids if each})
        if not item.is_done:
            self._open[item.family] = item


def family_of(value: dict[str, Any]) -> str:
    """Return which items can be one: calls of two types are, as their events need not tell.

    >>> family_of({"type": "custom_tool_call"}), family_of({"type": "message"})
    ('call', 'message')
    """
    kind = kind_of(value)
    return CALL if kind in CALLS else kind


def _index(event: dict[str, Any]) -> int | None:
    index = event.get("output_index")
    return index if isinstance(index, int) else None


def _is_same(item: OutputItem, value: dict[str, Any], index: int | None) -> bool:
    """Return whether the ids say that an item is this one."""
    for key in reversed(_IDS):
        if (old := item.value.get(key)) and (new := value.get(key)):
            is_elsewhere = None not in (item.index, index) and item.index != index
            return bool(old == new) and not (is_elsewhere and item.is_done)
    return False


def _may_be(item: OutputItem, value: dict[str, Any], index: int | None, is_done: bool) -> bool:
    """Return whether an item can be this one, although the ids do not say so."""
    if not item.value:
        return True  # only its parts have come
    if item.is_done:
        return _without_ids(item.value) == _without_ids(value)  # sent again
    call_ids = item.value.get("call_id"), value.get("call_id")
    is_other_call = index is None and all(call_ids) and call_ids[0] != call_ids[1]
    return is_done and not is_other_call


def _without_ids(value: dict[str, Any]) -> dict[str, Any]:
    return {key: each for key, each in value.items() if key != "id"}


_KEYS: tuple[Callable[[str, dict[str, Any]], Hashable], ...] = (
    lambda family, value: (family, json_text(value.get("call_id") or value.get("id"))),
    lambda family, value: (family, json_text([value.get(key) for key in _SAID])),
    lambda family, value: family,
)
"""By what the items of the response are found again: ids, content, the order in a family."""
