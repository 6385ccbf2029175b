"""Tests of unusual ledger lines: each is read, or refused with a ``LedgerError``."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from providers_sync import OpenAICompatible, Outcome, ProviderError, Usage, batch
from providers_sync.batch.ledger import Ledger
from providers_sync.batch.ledger_lines import InvalidLine, NotJSON, format_line, parse_line
from providers_sync.batch.results import Reply
from providers_sync.batch.rows import to_row
from providers_sync.testing import ScriptedProvider
from providers_sync.types import Delta, Finish, ServedModel, ToolCall

OURS: dict[str, Any] = json.loads(
    format_line(
        to_row("Hi", 1),
        Reply(
            {
                "role": "assistant",
                "content": "Hello",
                "reasoning_content": "Hm",
                "tool_calls": [{}],
            },
            Outcome.COMPLETE,
            finish_reason="stop",
            usage=Usage(1, 2, 3, 1, None, 2),
            model="m",
            request_id="r",
            attempts=1,
            seconds=0.5,
        ),
    )
)
FAILED = {**OURS, "response": None, "error": {"code": "StreamCut", "message": "x"}}
OPENAI: dict[str, Any] = {
    "id": "batch_req_123",
    "custom_id": "row-1",
    "response": {
        "status_code": 200,
        "request_id": "req_123",
        "body": {
            "id": "chatcmpl-123",
            "object": "chat.completion",
            "created": 1711652795,
            "model": "gpt-4o-mini",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Hello.", "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 22, "completion_tokens": 2, "total_tokens": 24},
            "system_fingerprint": "fp_123",
        },
    },
    "error": None,
}
BODY = ("response", "body")
CHOICE = (*BODY, "choices", 0)
EXTRA = (*BODY, "providers_sync")


def changed(record: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a copy of a line with another value at one path."""
    record = copy.deepcopy(record)
    parent: Any = record
    for key in path[:-1]:
        parent = parent[key]
    parent[path[-1]] = value
    return record


def without(record: dict[str, Any], path: tuple[Any, ...]) -> dict[str, Any]:
    """Return a copy of a line without the value at one path."""
    record = copy.deepcopy(record)
    parent: Any = record
    for key in path[:-1]:
        parent = parent[key]
    del parent[path[-1]]
    return record


def dumped(record: Any) -> bytes:
    """Return a line's bytes."""
    return json.dumps(record).encode() + b"\n"


def run_on(content: bytes, inputs: Any = ("Hi",)) -> list[batch.Result] | batch.LedgerError:
    """Run a batch on a ledger with this content; assert that a refused file is unchanged."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answers.jsonl")
        path.write_bytes(content)
        try:
            return list(batch.map(ScriptedProvider("New"), inputs, ledger=path))
        except batch.LedgerError as error:
            refused = error
        assert path.read_bytes() == content
        assert os.listdir(folder) == [path.name]
        assert str(path) in str(refused)
        return refused


# --- refused lines


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (without(OURS, ("id",)), "it has no 'id'"),
        (changed(OURS, ("id",), 5), "id is 5, not text"),
        (changed(OURS, ("custom_id",), []), "custom_id is a list, not text"),
        (changed(OURS, ("custom_id",), {}), "custom_id is an object, not text"),
        (changed(FAILED, ("custom_id",), None), "custom_id is null, not text"),
        (changed(OURS, ("response",), None), "neither a response nor an error"),
        (changed(OURS, ("response",), "x"), "response is text, not an object"),
        (changed(OURS, ("response",), []), "response is a list, not an object"),
        (changed(OURS, ("response",), {}), "body is null, not an object"),
        (changed(OURS, ("response", "status_code"), "200"), "status_code is text"),
        (changed(OURS, ("response", "status_code"), 500), "both an answer and an error"),
        (changed(OURS, ("response", "request_id"), 7), "request_id is 7, not text"),
        (changed(OURS, ("error",), {"code": "x"}), "both an answer and an error"),
        (changed(OURS, ("error",), False), "error is true or false"),
        (changed(OURS, ("error",), []), "error is a list"),
        (changed(OURS, BODY, "x"), "body is text, not an object"),
        (changed(OURS, BODY, {"object": "list", "data": []}), "not a chat completion"),
        (changed(OURS, (*BODY, "model"), {}), "model is an object, not text or null"),
        (changed(OURS, (*BODY, "choices"), []), "not a chat completion"),
        (changed(OURS, (*BODY, "choices"), {"0": 1}), "not a chat completion"),
        (changed(OURS, (*BODY, "choices"), [None]), r"choices\[0\] is null"),
        (changed(OURS, (*CHOICE, "message"), None), "message is null, not an object"),
        (changed(OURS, (*CHOICE, "message", "content"), ["x"]), "content is a list"),
        (changed(OURS, (*CHOICE, "message", "refusal"), 1), "refusal is 1"),
        (changed(OURS, (*CHOICE, "message", "tool_calls"), "x"), "tool_calls is text"),
        (changed(OURS, (*CHOICE, "message", "tool_calls"), [1]), r"tool_calls\[0\] is 1"),
        (changed(OURS, (*CHOICE, "finish_reason"), 1), "finish_reason is 1"),
        (changed(OURS, (*BODY, "usage"), "x"), "usage is text"),
        (changed(OURS, (*BODY, "usage", "prompt_tokens"), "x"), "prompt_tokens is text"),
        (changed(OURS, (*BODY, "usage", "prompt_tokens"), -1), "prompt_tokens is -1"),
        (changed(OURS, (*BODY, "usage", "prompt_tokens"), True), "prompt_tokens is true or false"),
        (changed(OURS, EXTRA, [1]), "providers_sync is a list"),
        (changed(OURS, (*EXTRA, "outcome"), "splendid"), "its outcome must be"),
        (changed(OURS, (*EXTRA, "outcome"), "cut"), "its outcome must be"),
        (changed(OURS, (*EXTRA, "outcome"), []), "its outcome must be"),
        (changed(OURS, (*EXTRA, "attempts"), -1), "attempts is -1"),
        (changed(OURS, (*EXTRA, "attempts"), "1"), "attempts is text"),
        (changed(OURS, (*EXTRA, "seconds"), "1"), "seconds is text"),
        (changed(OURS, (*EXTRA, "seconds"), True), "seconds is true or false"),
        (changed(OURS, (*EXTRA, "seconds"), float("nan")), "NaN is not a JSON number"),
    ],
)  # fmt: skip
def test_an_invalid_line_is_refused_and_the_file_unchanged(record: Any, message: str) -> None:
    """The ``LedgerError`` has the file, the line and the problem; valid lines stay too."""
    content = dumped(changed(FAILED, ("custom_id",), "row-2")) + dumped(record)
    with pytest.raises(batch.LedgerError, match=f"line 2 is not a line of a ledger .*{message}"):
        raise_it(run_on(content))
    with pytest.raises(batch.LedgerError, match=message):  # without a newline too
        raise_it(run_on(content.rstrip(b"\n")))


def raise_it(result: Any) -> None:
    """Assert that a result of ``run_on`` is an error, and raise it."""
    assert isinstance(result, batch.LedgerError), result
    raise result


VALID = dumped(OURS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (VALID + b"[" * 100_000 + b"]" * 100_000 + b"\n", "line 2 .*nested too deeply"),
        (VALID + b'{"id": ' + b"[" * 100_000, "line 2 .*nested too deeply"),
        (VALID.replace(b'"attempts": 1', b'"attempts": ' + b"9" * 4400), "line 1 .*cannot be read"),
        (VALID.replace(b'"seconds": 0.5', b'"seconds": 1e999'), "seconds is inf, not a number"),
        (VALID.replace(b'"seconds": 0.5', b'"seconds": -Infinity'), "-Infinity is not a JSON"),
        (VALID + VALID.replace(b"Hello", b"\xff"), "line 2 .*not JSON"),
        (VALID + VALID.replace(b"Hello", b"\xed\xa0\x80"), "line 2 .*not JSON"),
        (VALID + b'{"custom_id": "a"}', "line 2 .*it has no 'id'"),
        (b'\n{"what is this', "line 2 .*not JSON"),
        ("one prompt\nanother\n".encode("utf-16"), "line 1 .*not JSON"),
        ("one prompt\nanother\n".encode("utf-16-be"), "line 1 .*not JSON"),
        (VALID.decode().encode("utf-16-le"), "line 1 .*not JSON"),
        (bytes(40) + b"some program's data\n", "line 1 .*not JSON"),
        (VALID + b'{"id":"batch_req_1","custom_id":"a","res\n' + VALID, "line 2 .*not JSON"),
    ],
)  # fmt: skip
def test_bytes_that_are_not_a_ledger_are_refused(content: bytes, message: str) -> None:
    """For example UTF-16 text: its zeros must not be taken for those of a power loss."""
    with pytest.raises(batch.LedgerError, match=message):
        raise_it(run_on(content))


# --- accepted lines


@pytest.mark.parametrize(
    "content",
    [
        VALID.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + VALID,
        b"\n \n" + VALID + b"\n",
        VALID.replace(b'"prompt_tokens": 1', b'"prompt_tokens": 9' + b"0" * 30),
        VALID.replace(b"Hello", b"\\ud800"),
        dumped(changed(OURS, (*BODY, "usage"), None)),
        dumped(without(OURS, EXTRA)),
        dumped(changed(OURS, (*CHOICE, "message", "content"), None)),
        VALID.replace(b"Hello", b"x" * 10_000_000),
    ],
)
def test_an_unusual_but_sufficient_line_is_an_answer(content: bytes) -> None:
    """Windows line ends, a byte order mark, huge counts, and missing optional values."""
    (result,) = run_on(content)  # type: ignore[misc]
    check(result)
    assert result.recorded


def check(result: batch.Result) -> None:
    """Assert that the fields of a result have the documented types."""
    assert isinstance(result.text, str)
    assert isinstance(result.message, dict)
    assert isinstance(result.outcome, Outcome)
    assert isinstance(result.error, (ProviderError, type(None)))
    assert isinstance(result.finish_reason, (str, type(None)))
    assert isinstance(result.model, (str, type(None)))
    assert type(result.attempts) is int
    assert 0 <= result.seconds < 2**63
    counts = [] if result.usage is None else list(vars(result.usage).values())
    assert all(count is None or 0 <= count < 2**63 for count in counts)
    assert str(result)
    str(result.error).encode()


def test_the_batch_output_of_openai_is_read() -> None:
    """An answer blocks its name for other inputs; failed rows of any kind are sent again."""
    refused = {"status_code": 400, "request_id": "req_1", "body": {"error": {"message": "No"}}}
    lost = {"status_code": 200, "request_id": "", "body": {"error": {"message": "No"}}}
    bare = {"status_code": 500, "request_id": "", "body": None}
    failures = [
        {"response": refused, "error": None},
        {"response": lost, "error": None},
        {"response": bare, "error": "it broke"},
        {"response": None, "error": {"code": "batch_expired", "message": "Too late."}},
    ]
    lines = [OPENAI] + [
        {"id": f"batch_req_{n}", "custom_id": f"row-{n}", **each}
        for n, each in enumerate(failures, 2)
    ]
    results = run_on(b"".join(map(dumped, lines)), ["Hi"] * 5)
    assert isinstance(results, list)
    texts = {each.custom_id: each.text or str(each.error) for each in results}
    assert "holds an answer to a different input under 'row-1'" in texts.pop("row-1")
    assert texts == {f"row-{n}": "New" for n in range(2, 6)}
    found = parse_line(dumped(OPENAI)).reply
    assert found is not None
    assert (found.message["content"], found.usage) == ("Hello.", Usage(22, 2, 24))
    assert (found.model, found.request_id, found.outcome) == ("gpt-4o-mini", "req_123", "complete")


def test_no_answer_is_removed_if_a_name_has_two(tmp_path: Path) -> None:
    """This happens when two ledgers are joined: the last one counts, both stay in the file."""
    path = tmp_path / "answers.jsonl"
    first = dumped(changed(OURS, (*CHOICE, "message", "content"), "First"))
    path.write_bytes(first + dumped(FAILED) + VALID)
    (result,) = batch.map(ScriptedProvider("New"), ["Hi"], ledger=path)
    assert (result.text, result.recorded) == ("Hello", True)
    assert path.read_bytes() == first + VALID


def test_answers_are_found_after_failed_rows_between_them_are_removed(tmp_path: Path) -> None:
    """Each name has its own answer, before and after the rewrite."""
    path = tmp_path / "answers.jsonl"
    inputs = [str(n) for n in range(40)]
    provider = ScriptedProvider("x")
    records = []
    for number, prompt in enumerate(inputs, 1):
        answer = Reply({"content": prompt * number}, Outcome.COMPLETE)
        record = json.loads(format_line(to_row(prompt, number), answer))
        if number % 3 == 1:
            record.update(response=None, error={"code": "x" * number})
        records.append(dumped(record))
    path.write_bytes(b"".join(records))
    results = list(batch.map(provider, inputs, ledger=path, ordered=True))
    for number, result in enumerate(results, 1):
        assert result.text == ("x" if number % 3 == 1 else result.input * number)
    assert len(provider.requests) == 14


def test_a_ledger_overwritten_by_another_program_ends_the_batch(tmp_path: Path) -> None:
    """A line that cannot be read any more raises ``LedgerError``, after requests in progress."""
    path = tmp_path / "answers.jsonl"
    path.write_bytes(VALID)

    def inputs() -> Iterator[str]:
        path.write_bytes(b"x" * len(VALID))
        yield "Hi"

    with pytest.raises(batch.LedgerError, match="cannot read the ledger"):
        list(batch.map(ScriptedProvider("New"), inputs(), ledger=path))
    path.write_bytes(VALID)
    assert run_on(VALID)


def test_a_line_is_read_again_with_a_deeper_stack(tmp_path: Path) -> None:
    """If the remaining stack is too small to parse a line, that is a ``LedgerError``."""
    path = tmp_path / "answers.jsonl"
    deep = json.loads("[" * 500 + "]" * 500)
    path.write_bytes(dumped(changed(OURS, (*CHOICE, "message", "annotations"), deep)))
    ledger = Ledger(path)

    def read(depth: int) -> Any:
        try:
            return read(depth + 1)
        except RecursionError:
            return ledger.recorded("row-1")

    try:
        assert read(0) is not None  # from Python 3.12 on, JSON has its own limit
    except batch.LedgerError as error:
        message = str(error)
        assert "nested too deeply" in message
    assert ledger.recorded("row-1") is not None
    ledger.close()


# --- any mutation of valid lines

atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(st.characters(), max_size=4),
    st.sampled_from(["complete", "cut", "", "200", "\ud800", "row-1"]),
)
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["content", "choices", "message", "error", "x"]), inner)
    ),
    max_leaves=4,
)


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a line."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    result = []
    for key, item in inner:
        result.append((*prefix, key))
        if isinstance(item, (dict, list)):
            result += paths(item, (*prefix, key))
    return result


@st.composite
def mutated(draw: Callable[[st.SearchStrategy[Any]], Any]) -> bytes:
    """Return a valid line with a value replaced, removed or added, or its bytes changed."""
    record = draw(st.sampled_from([OURS, FAILED, OPENAI]))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths(record)))
        change = draw(st.sampled_from([changed, without]))
        record = changed(record, path, draw(values)) if change is changed else without(record, path)
        if not record:
            break
    raw = dumped(record)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(raw)))
        new = draw(
            st.sampled_from([b"", b"\0", b"\xff", b"\r", b"\n", b"{", b'"', b"9" * 4400, b"["])
        )
        raw = raw[:at] + new + raw[at + draw(st.integers(0, 2)) :]
    return raw


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        (None, Usage(22, 2, 24)),
        ({"cached_tokens": 5, "audio_tokens": 0}, Usage(22, 2, 24, 5)),
        ({"cached_tokens": "5"}, Usage(22, 2, 24)),
        ([], Usage(22, 2, 24)),
        ("many", Usage(22, 2, 24)),
    ],
)
def test_details_of_counts_are_read_where_they_are_counts(details: Any, expected: Usage) -> None:
    """Other writers may have anything there; lines of earlier versions have nothing."""
    usage = (*BODY, "usage", "prompt_tokens_details")
    reply = parse_line(dumped(changed(OPENAI, usage, details))).reply
    assert reply is not None
    assert reply.usage == expected


@settings(max_examples=500, deadline=None)
@given(raw=mutated())
def test_any_line_is_read_or_refused(raw: bytes) -> None:
    """Only ``NotJSON`` or ``InvalidLine`` is raised, never ``KeyError`` or ``TypeError``."""
    try:
        found = parse_line(raw)
    except (NotJSON, InvalidLine) as error:
        str(error).encode()
        return
    assert isinstance(found.id, str)
    assert isinstance(found.custom_id, str)
    if found.reply is not None:
        check(batch.results.to_result(to_row("Hi", 1), found.reply))


@settings(max_examples=100, deadline=None)
@given(lines=st.lists(mutated(), min_size=1, max_size=3))
def test_a_batch_on_any_ledger_succeeds_or_refuses_it(lines: list[bytes]) -> None:
    """Either each row has a result, or ``LedgerError`` is raised and the file is unchanged."""
    found = run_on(b"".join(lines), ["Hi", "Ho"])
    if isinstance(found, list):
        assert sorted(result.custom_id for result in found) == ["row-1", "row-2"]
        for result in found:
            check(result)


# --- any answer

texts = st.none() | st.text(st.characters(), max_size=5) | st.just("\ud83d\ude00 \udfff")


@settings(max_examples=150, deadline=None)
@given(name=texts, text=texts, counts=st.tuples(*[atoms] * 3), error=st.none() | texts)
@example(name="\ud800", text="\ud83d", counts=(10**5000, -1, float("nan")), error="\udfff")
def test_any_answer_becomes_a_line_that_is_read_again(
    name: Any, text: Any, counts: Any, error: Any
) -> None:
    """It is strict JSON in ASCII, and the same values are read back."""
    row = to_row({"custom_id": name, "prompt": "Hi"}, 1)
    reply = Reply(
        {"role": "assistant", "content": text},
        Outcome.COMPLETE if error is None else Outcome.FAILED,
        finish_reason=text,
        usage=Usage(*counts),
        model=text,
        error=None if error is None else ProviderError(error),
    )
    raw = format_line(row, reply)
    assert (raw.isascii(), raw.count(b"\n"), raw.endswith(b"\n")) == (True, 1, True)
    found = parse_line(raw)
    assert found.id == row.fingerprint
    assert found.custom_id == joined(row.custom_id)
    if error is not None:
        assert found.reply is None
        return
    assert found.reply is not None
    assert found.reply.message["content"] == found.reply.model == (text and joined(text))


def joined(text: str) -> str:
    """Return a text with its surrogate pairs joined to characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def test_lone_surrogates_are_replaced_in_the_answer_and_in_the_ledger(tmp_path: Path) -> None:
    """A custom provider may return them anywhere; the row is recorded as it was yielded."""
    path = tmp_path / "answers.jsonl"
    like = Surrogates("m", base_url="http://scripted.invalid/v1")
    (first,) = batch.map(ScriptedProvider(like=like), ["Hi"], ledger=path)
    (again,) = batch.map(ScriptedProvider("New"), ["Hi"], ledger=path)
    assert first.error is None
    assert again.recorded
    assert again.message == first.message
    assert (first.text, first.model, first.finish_reason) == ("\ufffd", "m\ufffd", "why\ufffd")
    assert (again.text, again.model, again.finish_reason) == ("\ufffd", "m\ufffd", "why\ufffd")
    assert first.message["tool_calls"][0]["function"]["name"] == "\ufffd"
    assert "\\ud" not in path.read_text().replace("\\ufffd", "")


class Surrogates(OpenAICompatible):
    """A provider whose decoder returns lone surrogates in every text of its answer."""

    def decoder(self, content_type: str = "") -> Any:
        """Return the provider itself."""
        return self

    def feed(self, data: bytes) -> list[Delta]:
        """Ignore what the server has sent."""
        return []

    def end(self) -> list[Delta]:
        """Return the answer."""
        call = ToolCall("\ud800", "\ud800", None, "\ud800")
        return [ServedModel("m\ud800"), "\udc00", call, Finish("why\ud800")]
