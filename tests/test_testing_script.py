"""Tests of script steps and answers: the bytes that the server sends for each of them."""

from __future__ import annotations

import gzip
import json
import zlib
from contextlib import suppress
from typing import Any

import pytest
import requests
from raw_client import (
    ANTHROPIC,
    BAD,
    DONE,
    HELLO,
    OPENAI,
    body_of,
    dial,
    post,
    read_all,
    read_until,
    receive,
)

from providers_sync.testing import (
    FAULTS,
    Answer,
    Request,
    ScriptError,
    answer,
    comment,
    cut,
    done,
    drip,
    empty,
    error,
    event,
    finish,
    garbage,
    html,
    json_body,
    part,
    ping,
    raw,
    reasoning,
    redirect,
    refusal,
    repeat,
    serve,
    stall,
    status,
    text,
    tool_call,
    usage,
    whole,
)


def events(body: bytes) -> list[Any]:
    """Return the JSON of every ``data:`` line except the end marker."""
    lines = [line[6:] for line in body.splitlines() if line.startswith(b"data: ")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


# Steps in each protocol


def test_steps_without_an_answer_are_sent_and_ended_properly() -> None:
    """A plain list of steps becomes a good answer with the protocol's ending."""
    assert body_of([text("Hello")]) == HELLO + DONE


def test_a_string_is_a_complete_answer() -> None:
    """The shortest script is a string."""
    assert body_of("Hello") == body_of(["Hello"]) == HELLO + DONE


def test_bytes_are_sent_unchanged() -> None:
    """Bytes among the steps are raw bytes of the body."""
    assert body_of(answer(b"\xff\n", end=False)) == b"\xff\n"


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (OPENAI, {}, "openai"),
        ("/api/converse-edge", {}, "vitalentum"),
        ("/api/chat", {}, "codelinkava"),
        ("/api/chat", {"key": ""}, "ai365vip"),
        ("/v1/messages", {}, "anthropic"),
    ],
)
def test_default_protocol_follows_the_request(path: str, body: Any, name: str) -> None:
    """Without a protocol the path decides; the answer is the same as with the protocol's name."""
    with serve("Hi") as guessing, serve("Hi", protocol=name) as named:
        replies = [requests.post(s.url + path, json=body, timeout=5) for s in (guessing, named)]
    assert replies[0].content == replies[1].content
    assert replies[0].headers["Content-Type"] == replies[1].headers["Content-Type"]


def test_openai_answer_has_role_finish_reason_and_marker() -> None:
    """The chunks have the fields of a chat completion."""
    body = body_of(["Hel", "lo", usage(3, 2)], OPENAI)
    first, second, used, last = events(body)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "Hel"}
    assert second["choices"][0]["delta"] == {"content": "lo"}
    assert used["usage"]["total_tokens"] == 5
    assert last["choices"][0]["finish_reason"] == "stop"
    assert body.endswith(DONE)


def test_anthropic_answer_opens_and_closes_its_blocks() -> None:
    """Every event of the protocol is sent with its name, in order."""
    body = body_of([reasoning("Hm"), "Hi", tool_call("now", {"a": 1})], ANTHROPIC)
    found = events(body)
    names = [line[7:].decode() for line in body.splitlines() if line.startswith(b"event: ")]
    assert names == [each["type"] for each in found]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    tool = [block[0], block[1], block[1], block[2]]
    assert names == ["message_start", *block, *block, *tool, "message_delta", "message_stop"]
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    assert "".join(e["delta"]["partial_json"] for e in found[8:10]) == '{"a": 1}'


def test_openai_tool_call_is_split() -> None:
    """The arguments are split, and the finish reason is that of a tool call."""
    found = events(body_of([refusal("No"), tool_call("now", '{"a":', pieces=3)], OPENAI))
    calls = [c for e in found for c in e["choices"][0]["delta"].get("tool_calls", [])]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"a":'
    assert len(calls) == 4
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("script", "body"),
    [
        (["Hello", done()], HELLO + DONE),
        (answer("Hello", end=False), HELLO),
        (["Hello", error("Bad", "x")], HELLO + BAD),
        ([comment("c"), event("a\nb", "n")], b": c\n\nevent: n\ndata: a\ndata: b\n\n" + DONE),
        ([ping(0.001, times=2)], b": ping\n\n" * 2 + DONE),
        ([repeat(raw(b"a"), raw(b"b"), times=2)], b"abab" + DONE),
        ([part(b"abcd"), part(b"abcd", -1), part(b"abcd", b"c")], b"ababcabc" + DONE),
        ([garbage(), finish("length")], None),
        (empty(), b""),
    ],
)  # fmt: skip
def test_step_becomes_these_bytes(script: Any, body: bytes | None) -> None:
    """Each step is checked in the simplest event stream."""
    assert body is None or body_of(script) == body


def test_half_a_surrogate_pair_is_sent_escaped() -> None:
    """JSON can represent it, UTF-8 cannot."""
    assert rb"\ud83d" in body_of([text("\ud83d")])


def test_drip_sends_byte_by_byte() -> None:
    """Each byte is a separate HTTP chunk."""
    got = receive(answer(drip(b"abc", every=0), end=False, keep_alive=False))
    assert got.endswith(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")


# Framing


@pytest.mark.parametrize("framing", ["chunked", "one-chunk", "length", "close"])
@pytest.mark.parametrize("zipped", [False, True])
def test_framing_carries_the_same_body(framing: str, zipped: bool) -> None:
    """The body does not depend on the framing and the content coding."""
    assert body_of(answer("Hello", framing=framing, gzip=zipped)) == HELLO + DONE


@pytest.mark.parametrize("framing", ["chunked", "one-chunk", "length", "close"])
def test_framing_of_an_empty_body_ends(framing: str) -> None:
    """An empty body works with every framing."""
    assert body_of(answer(end=False, framing=framing)) == b""


def test_one_chunk_holds_every_step() -> None:
    """There is one size line."""
    got = receive(answer("Hello", framing="one-chunk", keep_alive=False))
    assert got.count(b"\r\n\r\n41\r\n" + HELLO + DONE + b"\r\n0\r\n\r\n") == 1


def test_endless_one_chunk_promises_a_gigabyte() -> None:
    """An endless script promises a size too."""
    with serve(answer(repeat("x"), framing="one-chunk")) as server, dial(server) as sock:
        assert read_until(sock, b"\r\n\r\n40000000\r\n")


def test_gzip_without_trailer_is_incomplete() -> None:
    """The text arrives, the end of the gzip stream does not."""
    got = receive(answer("Hello", framing="close", gzip=True, trailer=False))
    decoder = zlib.decompressobj(wbits=31)
    assert decoder.decompress(got.partition(b"\r\n\r\n")[2]) == HELLO + DONE
    assert not decoder.eof


def test_gzip_is_flushed_after_each_step() -> None:
    """A client can decode a step before the next one is sent."""
    script = answer("Hello", stall(), gzip=True, framing="close")
    with serve(script) as server, dial(server) as sock:
        decoder = zlib.decompressobj(wbits=31)
        data = read_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")[2]
        got = decoder.decompress(data)
        while len(got) < len(HELLO):  # times out if the rest was not flushed
            got += decoder.decompress(sock.recv(65536))
        assert got == HELLO


def test_explicit_length_is_sent_and_the_server_closes() -> None:
    """The server closes the connection if the body is shorter."""
    got = receive(answer("Hello", framing="length", length=1000))
    assert b"Content-Length: 1000\r\n" in got
    assert got.endswith(HELLO + DONE)


def test_headers_replace_and_remove_defaults() -> None:
    """Names are compared without regard to case."""
    headers = {"content-type": "x/y", "X-Id": "é", "Transfer-Encoding": None}
    got = receive(answer(end=False, headers=headers, keep_alive=False))
    assert b"Content-Type: x/y\r\n" in got
    assert "X-Id: é\r\n".encode() in got
    assert b"Transfer-Encoding" not in got


def test_content_type_none_sends_none() -> None:
    """The header is missing."""
    assert b"Content-Type" not in receive(answer(content_type=None, keep_alive=False))


def test_one_answer_may_use_another_protocol() -> None:
    """The answer's protocol overrides the server's."""
    assert body_of(answer("Hello", protocol="plain")) == b"Hello"


# Ready-made answers


def test_status_has_the_protocols_error_body() -> None:
    """OpenAI and Anthropic have different error formats."""
    with serve(status(429, "Slow", headers={"Retry-After": "1"})) as server:
        openai, anthropic = post(server, OPENAI), post(server, ANTHROPIC)
    assert (openai.status_code, openai.headers["Retry-After"]) == (429, "1")
    expected = {"message": "Slow", "type": "rate_limit_error", "param": None, "code": None}
    assert openai.json() == {"error": expected}
    assert anthropic.json()["error"] == {"type": "rate_limit_error", "message": "Slow"}


def test_ready_made_answers() -> None:
    """Redirect, web page, JSON and a non-streamed answer, one after another."""
    script = [redirect("http://elsewhere/"), html(), json_body([1], 418), whole("Hi"), status(529)]
    with serve(script) as server:
        moved, page, value, full, busy = (post(server, OPENAI) for _ in range(5))
        assert post(server).status_code == 529  # the last one repeats
    assert (moved.status_code, moved.headers["Location"]) == (307, "http://elsewhere/")
    assert page.headers["Content-Type"] == "text/html"
    assert (value.status_code, value.json()) == (418, [1])
    assert full.json()["choices"][0]["message"]["content"] == "Hi"
    assert busy.reason == "Overloaded"


def test_whole_anthropic_answer_is_a_message() -> None:
    """The JSON document has the protocol's format."""
    found = json.loads(body_of(whole("Hi"), ANTHROPIC))
    assert found["content"] == [{"type": "text", "text": "Hi"}]


# Scripts


def test_list_of_answers_goes_to_successive_requests() -> None:
    """Lists, answers, faults and functions may be mixed."""
    script = [["a"], status(500), FAULTS["401"], lambda request: ["b"]]
    with serve(script, protocol="plain") as server:
        replies = [post(server) for _ in range(5)]
    assert [r.status_code for r in replies] == [200, 500, 401, 200, 200]
    assert replies[0].text == "a"
    assert replies[3].text == replies[4].text == "b"


def test_function_answers_the_request() -> None:
    """The answer may depend on the request."""

    def script(request: Request) -> Answer:
        return json_body({"n": request.json()["n"], "path": request.path})

    with serve(script) as server:
        assert post(server, "/x?y=1").json() == {"n": 1, "path": "/x?y=1"}


@pytest.mark.parametrize(
    ("script", "message"),
    [([1], "is not a step"), ([text("a"), answer()], "put it into a list"), (7, "not iterable")],
)
def test_invalid_script_fails_immediately(script: Any, message: str) -> None:
    """The error is raised where the mistake is."""
    with pytest.raises((ScriptError, TypeError), match=message):
        serve(script)


def test_invalid_arguments_fail_immediately() -> None:
    """The error lists the valid names."""
    with pytest.raises(ScriptError, match="codelinkava"):
        serve(protocol="gpt")
    with pytest.raises(ScriptError, match="one-chunk"):
        answer(framing="http2")
    with pytest.raises(ScriptError, match="bytes of the body"):
        drip(cut())


@pytest.mark.parametrize(
    "script", [answer(error(), protocol="plain"), lambda request: 1 / 0, lambda request: 7]
)
def test_mistake_in_the_script_is_raised_at_the_end(script: Any) -> None:
    """An exception in a thread of the server is not lost."""
    server = serve(script)
    with pytest.raises((ScriptError, ZeroDivisionError)), server, dial(server) as sock:
        read_all(sock)
    assert len(server.errors) == 1


# Canned faults


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC])
def test_fault_is_played_without_a_mistake(name: str, path: str) -> None:
    """During each, the client can disconnect and the server can stop; the description is short."""
    fault = FAULTS[name]
    assert fault.name == name
    assert 10 < len(fault.about) < 80
    with serve(fault) as server, suppress(OSError), dial(server, path) as sock:
        sock.settimeout(0.03)
        for _ in range(10):
            if not sock.recv(65536):
                break
    assert server.errors == []


@pytest.mark.parametrize("name", ["429", "500", "503-then-good", "redirect", "html", "empty"])
def test_fault_looks_like_its_name(name: str) -> None:
    """Check the status of some faults."""
    with serve(FAULTS[name]) as server:
        first, second = post(server), post(server)
    expected = {
        "429": (429, 429),
        "500": (500, 500),
        "503-then-good": (503, 200),
        "redirect": (307, 307),
    }
    assert (first.status_code, second.status_code) == expected.get(name, (200, 200))


def test_half_character_ends_inside_a_character() -> None:
    """The last byte is the first of a multi-byte character."""
    assert body_of(FAULTS["half-character"]).endswith(b"\xc3")


def test_gzip_fault_is_an_incomplete_gzip_stream() -> None:
    """The standard library refuses to decompress it."""
    got = receive(FAULTS["gzip-cut"].script)
    with pytest.raises(EOFError):
        gzip.decompress(got.partition(b"\r\n\r\n")[2])
