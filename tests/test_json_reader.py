"""Reading JSON as it arrives, and finding it in an answer."""

from __future__ import annotations

import contextlib
import itertools
import json
import pickle
import re
import time
from typing import Any

import jiter
import pytest
from decode_kit import split
from hypothesis import given, settings
from hypothesis import strategies as st

from providers_sync import json_reader
from providers_sync.json_answer import AnswerReader, json_values
from providers_sync.json_reader import (
    COST_PER_CHARACTER,
    MAX_DEPTH,
    MAX_NUMBER,
    NOT_CHANGED,
    SMALL,
    InvalidJSON,
    JSONReader,
)

many = settings(max_examples=120, deadline=None)

# --- JSON texts, and cuts

cuts = st.lists(st.integers(0, 200), max_size=30)
spaces = st.text(" \t\n\r", max_size=2)
escapes = st.sampled_from(
    [
        *('\\"', "\\\\", "\\/", "\\n", "\\b", "\\u0041", "\\u00e9", "\\uFFFF", "\\u0000"),
        *("\\ud83d\\ude00", "\\uD83D\\uDE00", "\\ud83d", "\\ude00", "\\ud83d\\ud83d\\ude00"),
        *("\\ud83d\\n", "\\ud83d\\u0041", "\ud83d", "\ude00"),
    ]
)
strings = st.lists(st.one_of(escapes, st.characters(exclude_characters='"\\')), max_size=6).map(
    lambda characters: '"' + "".join(characters) + '"'
)
scalars = st.one_of(
    strings,
    st.sampled_from(["true", "false", "null", "NaN", "Infinity", "-Infinity", "-0", "0"]),
    st.sampled_from(["1E+2", "1e999", "-0.0", "12e-3", "123456789012345678901234567890"]),
    st.integers().map(str),
    st.floats().map(json.dumps),
)


@st.composite
def _spaced(draw: Any, inner: Any) -> str:
    return draw(spaces) + draw(inner) + draw(spaces)


def _containers(inner: Any) -> Any:
    keys = st.one_of(strings, st.sampled_from(['"a"', '"b"']))
    pairs = st.tuples(_spaced(keys), _spaced(inner)).map(":".join)
    return st.one_of(
        st.lists(_spaced(inner), min_size=1, max_size=4).map(lambda items: f"[{','.join(items)}]"),
        st.lists(pairs, min_size=1, max_size=4).map(lambda items: f"{{{','.join(items)}}}"),
        spaces.map(lambda space: f"[{space}]"),
        spaces.map(lambda space: f"{{{space}}}"),
    )


texts = _spaced(st.recursive(scalars, _containers, max_leaves=12))


def loads(text: str) -> Any:
    return json.loads(text, strict=False)


def read(text: str, at: list[int] = []) -> tuple[Any, list[Any]]:  # noqa: B006
    """Return the value and what was reported of it."""
    reader = JSONReader()
    closed = [each for piece in split(text, at) for each in reader.feed(piece)]
    closed += reader.end()
    assert reader.is_complete
    return reader.partial(), closed


def read_pieces(reader: JSONReader | AnswerReader, text: str, size: int) -> None:
    for begin in range(0, len(text), size):
        reader.feed(text[begin : begin + size])
    reader.end()


def has_key_twice(text: str) -> bool:
    found = []
    json.loads(
        text,
        strict=False,
        object_pairs_hook=lambda pairs: found.append(len(pairs) > len(dict(pairs))),
    )
    return any(found)


def is_prefix(partial: Any, final: Any) -> bool:
    """Tell whether a value is a prefix of another in the sense of the module's docstring."""
    if type(partial) is not type(final):
        return False
    if isinstance(final, str):
        return final.startswith(partial)
    if isinstance(final, dict):
        if list(partial) != list(final)[: len(partial)]:
            return False
        partial, final = list(partial.values()), list(final.values())
    if isinstance(final, list):
        *first, last = partial or [None]
        return not partial or (
            len(partial) <= len(final)
            and repr(first) == repr(final[: len(first)])
            and is_prefix(last, final[len(first)])
        )
    return repr(partial) == repr(final)


def below(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, Any]]:
    """Return the values whose path has at most two steps, inner ones first."""
    items: Any = ()
    if len(path) < 2 and isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
    return [*(found for key, item in items for found in below(item, (*path, key))), (path, value)]


# --- the reader


@many
@given(texts, cuts)
def test_value_is_that_of_json_loads(text, at):
    """However the text is split; ``repr`` tells 1 from 1.0 and keeps the order of keys."""
    value, closed = read(text, at)
    assert repr(value) == repr(loads(text))
    assert repr(closed) == repr(read(text)[1])
    if not has_key_twice(text):
        assert repr(closed) == repr(below(value))


@many
@given(texts, cuts)
def test_partial_values_are_prefixes_and_never_change(text, at):
    """Both kinds; the one that tells of changes leaves none of a small value out."""
    final = loads(text)
    reader = JSONReader()
    taken: list[tuple[Any, str]] = []
    for piece in split(text, at):
        reader.feed(piece)
        partial, changed = reader.partial(), reader.changed_partial()
        if not reader.has_begun:
            assert partial is None
            assert changed is NOT_CHANGED
            continue
        if changed is NOT_CHANGED:
            assert repr(partial) == taken[-1][1]
        else:
            assert repr(partial) == repr(changed)
        assert is_prefix(partial, final) or has_key_twice(text)
        taken += [(partial, repr(partial))]
    reader.end()
    assert all(repr(partial) == then for partial, then in taken)


def without_last_scalar(text: str) -> str:
    """Remove the number or literal at the end, which may go on."""
    outside = re.sub(r'"(?:[^"\\]|\\.)*("|\\?\Z)', lambda m: "s" * len(m[0]) + m[1], text)
    return text if "s" in outside[-1:] else re.sub(r"[-+.\w]+\Z", "", text)


@many
@given(texts, st.integers(0, 200))
def test_partial_value_is_that_of_jiter(text, cut):
    """Where they agree on what is valid.

    jiter shows a number or literal at the end of the text, which may go on. It refuses control
    characters in strings and lone surrogates, and text in which nothing has begun.
    """
    text = text[:cut]
    reader = JSONReader()
    reader.feed(text)
    try:
        data = without_last_scalar(text).encode()
        expected = jiter.from_json(data, partial_mode="trailing-strings")
    except ValueError:
        return
    assert repr(reader.partial()) == repr(expected)


def test_most_texts_are_compared_with_jiter():
    """A number at the end is the only difference in an ordinary text."""
    text = '{"a\\n": [1, -2.5e3, true, {"b": "x\\ud83d\\ude00y\\\\", "c": null}], "d": {}, '
    text += '"a\\n": "z"}'
    for cut in range(1, len(text) + 1):
        reader = JSONReader()
        reader.feed(text[:cut])
        data = without_last_scalar(text[:cut]).encode()
        assert reader.partial() == jiter.from_json(data, partial_mode="trailing-strings")


@many
@given(texts, st.integers(0, 60), st.sampled_from([*'[]{},:"\\x1 u', "", "\\u12", "٣"]), cuts)
def test_malformed_text_is_refused_where_json_loads_refuses_it(text, place, wrong, at):
    """A character is replaced; both stop at the end of the value."""
    text = f"[{text[:place]}{wrong}{text[place + 1 :]}]"
    try:
        expected = json.JSONDecoder(strict=False).raw_decode(text)
    except ValueError:
        with pytest.raises(InvalidJSON) as caught:
            read(text, at)
        assert 0 < caught.value.position <= len(text)
    else:
        reader = JSONReader()
        for piece in split(text, at):
            reader.feed(piece)
        assert repr((reader.partial(), reader.position)) == repr(expected)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        *(
            ("", 0),
            (" [", 2),
            ("[1,]", 3),
            ("{,", 1),
            ('{"a" 1}', 5),
            ('{"a":1,}', 7),
            ("[1 2]", 3),
        ),
        *(("[tru]", 1), ("[01]", 1), ("]", 0), ('["\\x"]', 2), ('["\\ud8zz"]', 2), ('["ab', 4)),
        *(('"\\ud8zz\\x"', 1), ("[" * MAX_DEPTH + "[", MAX_DEPTH), (f"[{'1' * 5001}]", 1)),
        *((f"[{'1' * 4999}]", 1), ('{"a":]', 5), ("[}", 1), ("nul", 0), ('"\\ud83d\\u00', 11)),
    ],
)
def test_mistake_has_a_position(text, position):
    """In one piece and in single characters, at every later call, too; the error pickles."""
    for size in (1, len(text) or 1):
        reader = JSONReader()
        with pytest.raises(InvalidJSON, match=f"at character {position}$") as caught:
            read_pieces(reader, text, size)
        assert pickle.loads(pickle.dumps(caught.value)).position == position
        for call in (reader.end, lambda: reader.feed("1")):  # noqa: B023
            with pytest.raises(InvalidJSON, match=f"at character {position}$"):
                call()


def test_values_before_a_mistake_are_returned():
    """The error comes with the next call; what had arrived stays."""
    reader = JSONReader()
    assert reader.feed('[1, "a", "b\\x"]') == [((0,), 1), ((1,), "a")]
    with pytest.raises(InvalidJSON):
        reader.feed("")
    assert reader.partial() == [1, "a", "b"]


def test_limits_of_depth_and_length(monkeypatch):
    """The deepest value is read; too much text is refused."""
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert read(deep)[0] == json.loads(deep)
    assert read(f"[{'1' * (MAX_NUMBER - 1000)}]")[0] == [int("1" * (MAX_NUMBER - 1000))]
    monkeypatch.setattr(json_reader, "MAX_CHARACTERS", 10)
    reader = JSONReader()
    reader.feed('["12345678')
    with pytest.raises(InvalidJSON, match="more than 10 characters"):
        reader.feed("9")
    assert reader.partial() == ["12345678"]


def test_number_at_the_root_needs_an_end():
    """It may go on; a delimiter ends it, too, and what follows is not read."""
    reader = JSONReader()
    assert reader.feed("42") == []
    assert not reader.has_begun
    assert not reader.is_complete
    assert reader.end() == [((), 42)]
    reader = JSONReader()
    assert reader.feed("42 {x") == [((), 42)]
    assert reader.feed("}") == reader.end() == []
    assert (reader.partial(), reader.position) == (42, 2)


def test_report_depth_limits_what_is_reported():
    """The root only, or all levels."""
    text = '{"a": [1, [2]]}'
    assert JSONReader(report_depth=0).feed(text) == [((), {"a": [1, [2]]})]
    paths = [path for path, _ in JSONReader(report_depth=9).feed(text)]
    assert paths == [("a", 0), ("a", 1, 0), ("a", 1), ("a",), ()]


def test_second_value_of_a_key_replaces_the_first_one_when_it_begins():
    """In its place among the keys."""
    reader = JSONReader()
    seen = []
    for character in '{"a":1,"b":2,"a":[3]}':
        reader.feed(character)
        seen.append(repr(reader.partial()))
    assert [value for value, _ in itertools.groupby(seen)] == [
        *("{}", "{'a': 1}", "{'a': 1, 'b': 2}"),
        *("{'a': [], 'b': 2}", "{'a': [3], 'b': 2}"),
    ]


def test_partial_value_of_the_caller_is_a_copy():
    """Changing the open containers of one changes no other."""
    reader = JSONReader()
    reader.feed('{"a": [1, {"b": "x')
    partial = reader.partial()
    partial["a"][1]["b"] = partial["a"][0] = partial["c"] = None
    reader.feed('y"}]}')
    assert reader.partial() == {"a": [1, {"b": "xy"}]}


# --- time

SHAPES = {
    "a string": lambda n: '["' + "x" * n,
    "escapes": lambda n: '["' + "\\n\\ud83d\\ude00" * (n // 14),
    "a list": lambda n: "[" + "12, " * (n // 4),
    "an object": lambda n: "{" + "".join(f'"k{i}":{i},' for i in range(n // 12)),
    "objects": lambda n: '{"a": [' + '{"b": "some text", "c": [1]}, ' * (n // 30),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_copying_is_in_proportion_to_the_text(shape):
    """Counted: each large partial value costs what its text pays for; small ones always come."""
    text = SHAPES[shape](120_000)
    reader, large, last, missed = JSONReader(), 0, 0, 0
    for begin in range(0, len(text), 4):
        before = repr(reader.partial()) if begin < 2000 else ""
        reader.feed(text[begin : begin + 4])
        partial = reader.changed_partial()
        if partial is NOT_CHANGED:
            missed += begin < 2000 and before != repr(reader.partial())
            continue
        items = partial.get("a", []) if shape == "objects" else partial
        cost = len(items) + (len(items[0]) // 16 if shape in ("a string", "escapes") else 0)
        large += cost if cost > SMALL else 0
        last = begin
    assert not missed
    assert 0 < large <= COST_PER_CHARACTER * len(text)
    assert last > 0.9 * len(text)


HOSTILE = {
    "lists in prose": lambda n: "[" * n,
    "objects in objects": lambda n: '{"a":' * (n // 5),
    "beginnings": lambda n: "[x" * (n // 2),
    "objects that fail": lambda n: '{"a": x} ' * (n // 9),
    "strings that fail": lambda n: '["[{"x' * (n // 6),
    "quotation marks": lambda n: '"' * n,
    "brackets in quotes": lambda n: '"' + "[x" * (n // 2),
    "spaces": lambda n: " " * n + "[" + " " * n,
    "a fence": lambda n: "```" + "json" * (n // 4),
    "fences": lambda n: "```\n" * (n // 4),
}


def seconds(text: str, size: int) -> float:
    """Return the CPU time of reading an answer and looking at it after each piece."""
    begun = time.process_time()
    reader = AnswerReader()
    for begin in range(0, len(text), size):
        reader.feed(text[begin : begin + size])
        reader.changed_partial()
    with contextlib.suppress(InvalidJSON):
        reader.end()
    json_values(text)
    return time.process_time() - begun


@pytest.mark.parametrize("name", [*SHAPES, *HOSTILE])
@pytest.mark.parametrize("size", [4, 1_000_000])
def test_time_is_in_proportion_to_the_text(name, size):
    """Eight times the text takes about eight times as long, not sixty-four times."""
    make = {**SHAPES, **HOSTILE}[name]
    short = min(seconds(make(2_000), size) for _ in range(3))
    long = min(seconds(make(16_000), size) for _ in range(2))
    assert long < 24 * max(short, 0.001)


# --- answers


def answer(text: str, size: int = 1_000_000, **kinds: bool) -> Any:
    reader = AnswerReader(**kinds)
    read_pieces(reader, text, size)
    return reader.partial()


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        ('Here it is:\n```json\n{"a": [1, "}"]}\n```\nAnything else? {"b": 2}', {"a": [1, "}"]}),
        ('As [note] in {x} and {1: {"a": 1} says', {"a": 1}),
        ('An [interval, 1) and [0, 1): {"a": 1}', {"a": 1}),
        ('[link](http://x) {{"a": 1}}', {"a": 1}),
        ('["quoted" text] [1, 2 and] {"a": 1}', {"a": 1}),
        ('The form is {"a": ..., "b": [..., {}]}. So: {"a": 1}', {"a": 1}),
        ('["\\u12[3]', [3]),
        ("42", 42),
        (" -1.5e3\n", -1500.0),
        ("true", True),
        ("null", None),
        ('"red [1] {x}"', "red [1] {x}"),
        ('```json\n"red"\n```', "red"),
        ("```\n42\n```\n", 42),
        ('"Yes" it said: {"a": 1}', {"a": 1}),
        ('"C:\\path": [1]', [1]),
        ('12 items: ["x"]', ["x"]),
    ],
)
def test_json_is_found_in_an_answer(text, value, size):
    """Amid prose and fences, after what only looks like JSON, or alone; however it is split."""
    assert repr(answer(text, size)) == repr(value)


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize(
    ("text", "message", "partial"),
    [
        ("Sorry, no.", "no JSON in the text at character 10", None),
        ("", "no JSON", None),
        (" \n", "no JSON", None),
        ("It is 42", "no JSON", None),
        ("42.", "no JSON", None),
        ("[note] {x}", "no JSON", None),
        ('Sure: {"a": "re', "incomplete: the text ends at character 15", {"a": "re"}),
        (' "re', "incomplete: the text ends at character 4", "re"),
        ('"Well": {"a": 1, "b', "the JSON is incomplete", {"a": 1}),
        ('A: {"a": [{"b": 1}, {"b": oops}, {"b": 2}]}', "'oops' at char", {"a": [{"b": 1}, {}]}),
        ("A: [1, 2, oops]", "unexpected 'oops' at character 10", [1, 2]),
        ("[" * 300 + "]" * 300, "more than 200 levels at character 200", None),
    ],
)
def test_answer_without_whole_json_is_refused(text, message, partial, size):
    """What has arrived stays; nothing inside a malformed object is taken for the answer."""
    reader = AnswerReader()
    with pytest.raises(InvalidJSON, match=message):
        read_pieces(reader, text, size)
    if "levels" not in message:
        assert reader.partial() == partial
        assert reader.has_begun == (partial is not None)
    assert not reader.is_complete


def test_kinds_of_values_are_chosen():
    """Lists in prose are passed over when the answer is an object, and so on."""
    text = '[1] says {"a": 1}'
    assert answer(text, lists=False) == {"a": 1}
    assert answer('{"a": [1]}', objects=False) == [1]
    assert answer('"say [1]"', scalars=False) == [1]
    assert answer("7", objects=False, lists=False) == 7
    for kinds in ({"scalars": False}, {"scalars": False, "lists": False, "objects": False}):
        with pytest.raises(InvalidJSON, match="no JSON"):
            answer("7", **kinds)
    with pytest.raises(InvalidJSON, match="no JSON"):
        answer('{"a": 1}', objects=False)


def test_answer_is_reported_as_it_arrives():
    """Text that begins with a quotation mark waits for the end, if it may be a string."""
    reader = AnswerReader()
    assert reader.feed('Well: {"items": [{"a": 1}, ') == [(("items", 0), {"a": 1})]
    assert reader.changed_partial() == {"items": [{"a": 1}]}
    assert reader.changed_partial() is NOT_CHANGED
    assert [path for path, _ in reader.feed("2]} [3]")] == [("items", 1), ("items",), ()]
    assert reader.feed("[4]") == reader.end() == []
    reader = AnswerReader()
    assert reader.feed('"Well": [1]') == []
    assert not reader.has_begun
    assert reader.end() == [((0,), 1), ((), [1])]


def test_limit_of_length_ends_the_search(monkeypatch):
    """Brackets beyond the limit are not tried one by one."""
    monkeypatch.setattr(json_reader, "MAX_CHARACTERS", 10)
    with pytest.raises(InvalidJSON):
        answer("x" * 20 + "[1] [2]")


def test_search_ends_after_many_beginnings():
    """So many brackets that begin no JSON are no prose; a thousand may be."""
    assert answer("[x] " * 1000 + "[1]") == [1]
    with pytest.raises(InvalidJSON, match="no JSON"):
        answer("[x] " * 10_000 + "[1]")


@many
@given(
    _spaced(_containers(scalars)),
    st.sampled_from(["", "So: ", "```json\n", "A [x] of {y}:\n"]),
    cuts,
)
def test_any_object_or_list_is_found(text, before, at):
    """Wherever the text is split."""
    value = loads(text)
    reader = AnswerReader()
    for piece in split(before + text + "\n```\nDone [1].", at):
        reader.feed(piece)
    assert reader.end() == []
    assert repr(reader.partial()) == repr(value)


def test_all_values_of_a_text_are_returned():
    """In order, at most 16; nothing inside of others, nothing that is not whole."""
    text = 'For example {"a": 1}, [x], "{}": ["b"] then {"a": {"c": x}} {"d": [{}]} and {"e": '
    assert json_values(text) == [{"a": 1}, {}, ["b"], {"d": [{}]}]
    assert json_values(text, lists=False) == [{"a": 1}, {}, {"d": [{}]}]
    assert json_values("[1] " * 20) == [[1]] * 16
    assert json_values("[" * 100_000) == json_values("42") == []
    assert json_values("[" + "9" * 5000 + "]") == []
