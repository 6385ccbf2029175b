"""Tests of the ledger: its format, reruns, damaged lines, the lock, and a full disk."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from providers_sync import Anthropic, InvalidRequestError, OpenAICompatible, Outcome, Usage, batch
from providers_sync.batch.ledger import Ledger, LedgerError
from providers_sync.testing import (
    Request,
    Server,
    cut,
    event,
    finish,
    reasoning,
    refusal,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
)

ROOT = Path(__file__).parent.parent
PROMPTS = ["one", "two", "three", "four"]


def echo(request: Request) -> Any:
    """Answer with the prompt."""
    return [text(f"You said: {prompt_of(request)}"), usage(3, 4)]


def prompt_of(request: Request) -> str:
    """Return the prompt of a request."""
    content: str = request.json()["messages"][-1]["content"]
    return content


def run(server: Server, path: Path, inputs: Any = PROMPTS, **options: Any) -> list[batch.Result]:
    """Return all results of a batch with a ledger."""
    provider = OpenAICompatible("m", base_url=server.url, retry=None)
    return list(batch.map(provider, inputs, ledger=path, ordered=True, **options))


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the ledger's lines, all of which must be complete."""
    data = path.read_bytes()
    assert data.endswith(b"\n") or not data
    return [json.loads(line) for line in data.splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a new ledger."""
    return tmp_path / "answers.jsonl"


@pytest.fixture
def written(path: Path) -> bytes:
    """Write a valid ledger of four rows to ``path``; return its bytes."""
    with serve(echo) as server:
        run(server, path)
    return path.read_bytes()


# --- the format


def test_a_line_has_the_format_of_openais_batch_output(path: Path) -> None:
    """It has the four keys, and a chat completion as the body."""
    with serve(echo) as server:
        run(server, path, [{"custom_id": "mine", "prompt": "Hi"}])
    (line,) = lines(path)
    assert list(line) == ["id", "custom_id", "response", "error"]
    assert line["id"].startswith("batch_req_")
    assert (line["custom_id"], line["error"]) == ("mine", None)
    assert list(line["response"]) == ["status_code", "request_id", "body"]
    assert line["response"]["status_code"] == 200
    body = line["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "You said: Hi"},
            "finish_reason": "stop",
        }
    ]
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert body["providers_sync"]["outcome"] == "complete"


COUNTS = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 40},
}


def test_all_counts_are_recorded_in_openais_form_and_read_back(path: Path) -> None:
    """The details too: those that the server has reported."""
    with serve([text("Hi"), event({"choices": [], "usage": COUNTS})]) as server:
        (first,) = run(server, path, ["Hi"])
        (again,) = run(server, path, ["Hi"])
    (line,) = lines(path)
    assert line["response"]["body"]["usage"] == COUNTS
    assert first.usage == again.usage == Usage(100, 50, 150, 80, 10, 40)
    assert again.recorded


def test_a_cut_off_answer_is_recorded_and_not_whole(path: Path) -> None:
    """It is an answer: a rerun sends nothing, and tells the same."""
    with serve([[text("Hel"), finish("length")], [refusal("No.")], [text("Hi")]]) as server:
        first = run(server, path, ["one", "two", "three"], concurrency=1)
        again = run(server, path, ["one", "two", "three"])
        assert len(server.requests) == 3
    assert [each.is_whole for each in first] == [each.is_whole for each in again]
    assert [each.is_whole for each in first] == [False, False, True]


def test_a_failed_row_is_not_whole(path: Path) -> None:
    """Whatever had arrived."""
    with serve([text("Half"), cut()]) as server:
        (result,) = run(server, path, ["Hi"])
    assert not result.is_whole


def test_a_message_has_sources_and_images(path: Path) -> None:
    """Under the keys that OpenAI and OpenRouter use."""
    cited = {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
    delta = {
        "content": "Hi",
        "annotations": [{"type": "url_citation", "url_citation": cited}],
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}],
        "audio": {"id": "audio_1", "data": "AAAA", "transcript": "!"},
    }
    with serve([event({"choices": [{"index": 0, "delta": delta}]})]) as server:
        run(server, path, ["Hi"])
        (again,) = run(server, path, ["Hi"])
    assert again.message == {
        "role": "assistant",
        **{"content": "!Hi", "annotations": delta["annotations"], "images": delta["images"]},
        "audio": {"id": "audio_1", "data": "AAAA"},
    }


def test_reasoning_is_recorded_once_and_goes_back(path: Path) -> None:
    """A server that wants its ``reasoning_content`` back gets it from a recorded answer."""
    script = [[reasoning("Hm"), tool_call("add", {"a": 1})], ["Two."]]
    with serve(script) as server:
        run(server, path, ["Hi"])
        (again,) = run(server, path, ["Hi"])
        provider = OpenAICompatible("m", base_url=server.url)
        provider.complete([{"role": "user", "content": "Hi"}, again.message, RESULT])
        sent = server.requests[1].json()["messages"][1]
    assert path.read_text().count("Hm") == 1
    assert "providers_sync" not in again.message
    assert (sent["reasoning_content"], sent["tool_calls"][0]["id"]) == ("Hm", "call_1")


RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "2"}


def test_signed_reasoning_goes_back_from_a_recorded_answer(path: Path) -> None:
    """To the server that it came from, unchanged; to another one it is not sent."""
    signature = {"type": "signature_delta", "signature": "signed"}
    script = [
        reasoning("Hm"),
        event({"type": "content_block_delta", "index": 0, "delta": signature}),
        tool_call("add", {"a": 1}),
    ]
    with serve([script, ["Two."]]) as server, serve(["Other."]) as other:
        provider = Anthropic("claude-1", base_url=server.url)
        (first,) = batch.map(provider, ["Hi"], ledger=path)
        (again,) = batch.map(provider, ["Hi"], ledger=path)
        assert (again.recorded, again.message) == (True, first.message)
        dialogue = [{"role": "user", "content": "Hi"}, again.message, RESULT]
        Anthropic("claude-2", base_url=server.url).complete(dialogue)
        Anthropic("claude-2", base_url=other.url).complete(dialogue)
        blocks = server.requests[1].json()["messages"][1]["content"]
        others = other.requests[0].json()["messages"][1]["content"]
    assert blocks[0] == {"type": "thinking", "thinking": "Hm", "signature": "signed"}
    assert [block["type"] for block in blocks] == ["thinking", "tool_use"]
    assert [block["type"] for block in others if block.get("text") != ""] == ["tool_use"]


def test_lone_surrogates_are_replaced_in_what_goes_back(path: Path) -> None:
    """As everywhere in a ledger."""
    block = {"type": "server_tool_use", "id": "s", "name": "search", "input": {"q": "\ud800"}}
    start = {"type": "content_block_start", "index": 1, "content_block": block}
    with serve([text("Hi"), event(start)]) as server:
        (result,) = batch.map(Anthropic("m", base_url=server.url), ["Hi"], ledger=path)
    assert result.message["providers_sync"]["fields"]["content"][1]["input"] == {"q": "\ufffd"}
    assert b"\\ud800" not in path.read_bytes()


def test_what_is_nested_too_deeply_for_a_line_is_not_recorded(path: Path) -> None:
    """A ledger that only a short stack can read would be lost."""
    deep: Any = "end"
    for _ in range(300):
        deep = [deep]
    block = {"type": "server_tool_use", "id": "s", "name": "search", "input": {"q": deep}}
    start = {"type": "content_block_start", "index": 1, "content_block": block}
    with serve([text("Hi"), event(start)]) as server:
        (result,) = batch.map(Anthropic("m", base_url=server.url), ["Hi"], ledger=path)
    assert result.message == {"role": "assistant", "content": "Hi"}


def test_a_row_refused_by_status_keeps_the_status(path: Path) -> None:
    """It is in ``response``, as in OpenAI's output, and ``error`` has the error too."""
    with serve(status(400, "No", headers={"X-Request-Id": "r1"})) as server:
        run(server, path, ["Hi"])
    (line,) = lines(path)
    assert (line["response"]["status_code"], line["response"]["request_id"]) == (400, "r1")
    assert "No" in line["response"]["body"]["error"]["message"]
    assert line["error"]["code"] == "APIStatusError"


def test_a_cut_answer_is_not_a_response(path: Path) -> None:
    """The partial text is in ``error``, so it cannot be mistaken for a complete answer."""
    with serve([text("Half"), cut()]) as server:
        run(server, path, ["Hi"])
    (line,) = lines(path)
    assert line["response"] is None
    assert line["error"]["code"] == "StreamCut"
    assert line["error"]["partial"] == "Half"


def test_every_result_is_on_the_disk_before_it_is_yielded(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a result is yielded, the file has been synced with its line in it."""
    synced: list[bytes] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            synced.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    with serve(echo) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        for result in batch.map(provider, map(str, range(50)), ledger=path):
            assert f'"custom_id":"{result.custom_id}"'.encode() in synced[-1]


# --- a rerun


def test_a_rerun_sends_no_recorded_row(path: Path, written: bytes) -> None:
    """The answers are read from the ledger, with all their fields."""
    with serve(status(500)) as server:
        results = run(server, path)
        assert server.requests == []
    assert path.read_bytes() == written
    assert [each.text for each in results] == [f"You said: {prompt}" for prompt in PROMPTS]
    assert [each.input for each in results] == PROMPTS
    for each in results:
        assert (each.recorded, each.error, each.outcome) == (True, None, Outcome.COMPLETE)
        assert (each.usage, each.attempts, each.finish_reason) == (Usage(3, 4, 7), 1, "stop")
        assert each.seconds > 0


def test_a_rerun_sends_only_failed_rows(path: Path) -> None:
    """In the end each row has one line, with its answer."""

    def script(request: Request) -> Any:
        return status(500, "No") if prompt_of(request) == "two" else echo(request)

    with serve(script) as server:
        first = run(server, path)
    assert [each.error is None for each in first] == [True, False, True, True]
    with serve(echo) as server:
        second = run(server, path)
        assert [prompt_of(request) for request in server.requests] == ["two"]
    assert [each.recorded for each in second] == [True, False, True, True]
    assert sorted(line["custom_id"] for line in lines(path)) == [f"row-{n}" for n in range(1, 5)]
    assert all(line["error"] is None for line in lines(path))


def test_rows_added_to_the_input_are_sent(path: Path, written: bytes) -> None:
    """A ledger can be reused if the input has grown."""
    with serve(echo) as server:
        run(server, path, [*PROMPTS, "five"])
        assert [prompt_of(request) for request in server.requests] == ["five"]
    assert path.read_bytes().startswith(written)


def test_a_changed_row_is_refused_by_name_and_the_others_are_read(
    path: Path, written: bytes
) -> None:
    """It is not sent, its line is not overwritten, and the error names the remedy."""
    with serve(echo) as server:
        results = run(server, path, ["one", "TWO", "three", "four"])
        assert server.requests == []
    assert [each.recorded for each in results] == [True, False, True, True]
    refused = results[1]
    assert isinstance(refused.error, LedgerError)
    assert "holds an answer to a different input under 'row-2'" in str(refused.error)
    assert path.read_bytes() == written
    with serve(echo) as server, pytest.raises(LedgerError, match="row-2"):
        run(server, path, ["one", "TWO"], on_error="raise")


def test_a_duplicate_custom_id_is_refused(path: Path) -> None:
    """A line of the ledger can hold the answer to one row only."""
    inputs = [{"custom_id": "a", "prompt": "x"}, {"custom_id": "a", "prompt": "y"}]
    with serve(echo) as server:
        results = run(server, path, inputs)
        assert len(server.requests) == 1
    assert "'a' is in the input twice" in str(results[1].error)
    assert len(lines(path)) == 1


def test_an_invalid_row_is_recorded_as_failed(path: Path) -> None:
    """The ledger has a line for every row."""
    with serve(echo) as server:
        _, result = run(server, path, ["x", {"question": "x"}])
    assert isinstance(result.error, InvalidRequestError)
    found = {line["custom_id"]: line["error"] for line in lines(path)}
    assert found["row-1"] is None
    assert found["row-2"]["code"] == "InvalidRequestError"


def test_a_rewrite_keeps_mode_and_link(tmp_path: Path) -> None:
    """After failed rows are removed, the file has the same path and permissions."""
    real, link = tmp_path / "real.jsonl", tmp_path / "link.jsonl"
    with serve(status(500)) as server:
        run(server, real)
    real.chmod(0o640)
    link.symlink_to(real)
    with serve(echo) as server:
        run(server, link)
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert [line["error"] for line in lines(real)] == [None] * 4
    assert sorted(os.listdir(tmp_path)) == ["link.jsonl", "real.jsonl"]


# --- torn lines


def test_a_line_torn_anywhere_is_repaired(path: Path, written: bytes) -> None:
    """Cut anywhere in the last line, three answers remain; four if only the newline is missing."""
    start = written[:-1].rindex(b"\n") + 1
    for end in [*range(start, len(written) - 1, 5), len(written) - 2, len(written) - 1]:
        path.write_bytes(written[:end])
        ledger = Ledger(path)
        held = len(ledger)
        ledger.close()
        assert held == (4 if end == len(written) - 1 else 3), end
        assert path.read_bytes() == (written if held == 4 else written[:start])


def test_a_torn_line_of_another_writer_is_repaired(path: Path, written: bytes) -> None:
    """After valid lines it may start differently from ours; as the first line it may not."""
    path.write_bytes(written + b'{"custom_id": "row-9", "resp')
    Ledger(path).close()
    assert path.read_bytes() == written
    for foreign in (b'{"custom_id": "row-9", "resp', written + b"what is this?"):
        path.write_bytes(foreign)
        with pytest.raises(LedgerError, match="not a line of a ledger"):
            Ledger(path)
        assert path.read_bytes() == foreign


def test_only_the_torn_row_is_sent_again(path: Path, written: bytes) -> None:
    """After a kill in the middle of a write and a rerun, every row has one line."""
    path.write_bytes(written[:-20])
    with serve(echo) as server:
        run(server, path)
        assert len(server.requests) == 1
    assert sorted(line["custom_id"] for line in lines(path)) == [f"row-{n}" for n in range(1, 5)]


@pytest.mark.parametrize("where", ["middle", "end"])
def test_a_row_lost_in_a_power_cut_is_sent_again(path: Path, written: bytes, where: str) -> None:
    """Its line consists of zero bytes."""
    first, second, *rest = written.splitlines(keepends=True)
    if where == "middle":
        path.write_bytes(first + bytes(len(second) - 1) + b"\n" + b"".join(rest))
    else:
        path.write_bytes(first + second + rest[0] + bytes(300))
    with serve(echo) as server:
        run(server, path)
        assert len(server.requests) == 1
    assert len(lines(path)) == 4


@pytest.mark.parametrize(
    "content",
    [
        b"one prompt\nanother",
        b"one prompt without an end",
        b'{"custom_id": "a", "body": {}}\n',
        b'{"id": 5}',
        b"[1, 2]\n",
        b"\xff\xfe\n",
    ],
)
def test_a_file_that_is_not_a_ledger_is_refused_and_unchanged(path: Path, content: bytes) -> None:
    """The most likely case is the input file given as the output."""
    path.write_bytes(content)
    with (
        serve(echo) as server,
        pytest.raises(LedgerError, match="line 1 is not a line of a ledger"),
    ):
        run(server, path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("name", "message"),
    [("/dev/null", "not a regular file"), ("nowhere/x", "No such file"), (".", "Is a directory")],
)
def test_a_path_that_is_not_a_file_is_refused(tmp_path: Path, name: str, message: str) -> None:
    """The error has the reason."""
    with serve(echo) as server, pytest.raises(LedgerError, match=message):
        run(server, tmp_path / name)


# --- the lock

HOLDER = """
import os, sys
from providers_sync.batch.ledger import Ledger
ledger, pid = Ledger(sys.argv[1]), os.getpid()
if sys.argv[2] == "alone" or os.fork() == 0:  # in the child, once it runs
    print(pid, flush=True)
os.read(0, 1)
"""


@pytest.mark.parametrize("kind", ["alone", "fork"])
def test_the_lock_dies_with_its_process(path: Path, kind: str) -> None:
    """A second process is refused; kill -9 releases the lock, even if a forked child is alive."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), kind],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin
    assert holder.stdout
    with holder:
        pid = int(holder.stdout.readline())
        with serve(echo) as server:
            with pytest.raises(LedgerError, match="another process is writing it"):
                run(server, path)
            os.kill(pid, signal.SIGKILL)
            holder.wait()
            assert len(run(server, path)) == 4
        holder.stdin.close()


def test_two_batches_of_one_process_cannot_share_a_ledger(path: Path) -> None:
    """The second is refused while the first runs, and works after it."""

    def script(request: Request) -> Any:
        return "first" if prompt_of(request) == "one" else stall()

    with serve(script) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        first = batch.map(provider, PROMPTS, ledger=path)
        next(first)
        with pytest.raises(LedgerError, match="another process"):
            next(batch.map(provider, PROMPTS, ledger=path))
        first.close()
        second = batch.map(provider, PROMPTS, ledger=path)
        assert next(second).recorded
        second.close()


# --- a full disk

FULL = """
import resource, sys
from providers_sync import OpenAICompatible, batch
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
provider = OpenAICompatible("m", base_url=sys.argv[1])
for result in batch.map(provider, map(str, range(100)), ledger=sys.argv[2]):
    print(result.custom_id)
"""


def test_a_full_disk_stops_with_a_clear_error(path: Path) -> None:
    """Every yielded result is in the ledger; with free space again, a rerun sends the rest."""
    with serve(echo) as server:
        done = subprocess.run(
            [sys.executable, "-c", FULL, server.url, str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert f"LedgerError: cannot write the ledger {path}: File too large" in done.stderr
        assert "run the same batch again to resume" in done.stderr
        held = {line["custom_id"] for line in lines(path)}
        assert set(done.stdout.split()) <= held  # a short line may still have fitted
        assert 0 < len(held) < 100
        before = len(server.requests)
        run(server, path, map(str, range(100)))
        assert len(server.requests) - before == 100 - len(held)
    assert len(lines(path)) == 100
