"""Conversations: what enters the history, what is sent of it, and interrupted answers."""

from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import threading
from typing import Any

import pytest

from providers_sync import (
    AI365VIP,
    APIStatusError,
    Chat,
    InvalidRequestError,
    OpenAICompatible,
    Provider,
    StreamCancelled,
    StreamCut,
)
from providers_sync.testing import (
    answer,
    cut,
    refusal,
    serve,
    stall,
    status,
    text,
    tool_call,
    wait,
)


def openai(url: str, **settings: Any) -> Provider:
    return OpenAICompatible("m", base_url=url, api_key="s3cret", **settings)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def test_finished_answers_enter_the_history_and_the_next_request() -> None:
    """Each request contains the conversation so far, with the system message first."""
    with serve([[text("One"), text(".")], [text("Two.")]]) as server:
        chat = Chat(openai(server.url), system="Count.", temperature=0)
        assert list(chat.send("First?")) == ["One", "."]
        assert chat.send("Second?", top_p=1).read() == "Two."
        first, second = [request.json() for request in server.requests]
    assert first["messages"] == [{"role": "system", "content": "Count."}, user("First?")]
    assert second["messages"] == [*first["messages"], assistant("One."), user("Second?")]
    assert (second["temperature"], second["top_p"]) == (0, 1)
    assert chat.history == [user("First?"), assistant("One."), user("Second?"), assistant("Two.")]
    assert chat.interrupted is None


def test_unverified_end_is_a_finished_answer() -> None:
    """A protocol without an end marker can be used for a chat, too."""
    with serve(["Hello"]) as server:
        chat = Chat(AI365VIP(base_url=server.url))
        chat.send("Hi").read()
    assert chat.history == [user("Hi"), assistant("Hello")]


def test_answer_enters_only_at_its_end() -> None:
    """While it runs, the history is unchanged, and nothing else may start."""
    go_on = threading.Event()
    with serve([text("Half "), wait(go_on), text("whole")]) as server:
        chat = Chat(openai(server.url))
        stream = chat.send("Hi")
        assert next(stream) == "Half "
        assert chat.history == []
        for call in (lambda: chat.send("More"), chat.resume, chat.discard, chat.undo):
            with pytest.raises(InvalidRequestError, match="still running"):
                call()
        go_on.set()
        assert stream.read() == "whole"
    assert chat.history[-1] == assistant("Half whole")


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ([text("Half"), cut()], "cut"),
        (answer(text("Half"), end=False), "truncated"),
    ],
)
def test_broken_answer_stays_outside_the_history(script: Any, outcome: str) -> None:
    """Neither the question nor half an answer enters the history."""
    with serve(script) as server:
        chat = Chat(openai(server.url))
        with pytest.raises(Exception, match=r"broke|marker|end"):
            chat.send("Hi").read()
    assert chat.history == []
    assert chat.interrupted is not None
    assert (chat.interrupted.question, chat.interrupted.text, chat.interrupted.outcome) == (
        [user("Hi")],
        "Half",
        outcome,
    )
    assert "an interrupted answer" in repr(chat)


@pytest.mark.parametrize("how", ["close", "cancel", "with", "drop"])
def test_stopped_answer_stays_outside_the_history(how: str) -> None:
    """However the caller stops it, the text so far is in ``interrupted``."""
    with serve([text("Half"), stall()]) as server:
        chat = Chat(openai(server.url))
        stream = chat.send("Hi")
        if how == "with":
            with stream:
                next(stream)
        else:
            next(stream)
        if how == "close":
            stream.close()
        if how == "cancel":
            stream.cancel()
            with pytest.raises(StreamCancelled):
                next(stream)
        del stream
        gc.collect()
        server.wait_closed()
    assert chat.interrupted is not None
    assert (chat.interrupted.text, chat.interrupted.outcome) == ("Half", "cancelled")
    assert chat.undo() == [user("Hi"), assistant("Half")]
    assert (chat.history, chat.interrupted) == ([], None)


def test_resume_continues_the_interrupted_answer() -> None:
    """The request contains the text so far; the history gets both parts as one turn."""
    with serve([[text("Roses are "), cut()], [text("red, "), cut()], [text("violets")]]) as server:
        chat = Chat(openai(server.url))
        for step in (lambda: chat.send("A poem"), chat.resume):
            with pytest.raises(StreamCut):
                step().read()
        assert chat.interrupted is not None
        assert chat.interrupted.text == "Roses are red, "
        assert chat.resume().read() == "violets"
        assert server.requests[2].json()["messages"] == [
            user("A poem"),
            assistant("Roses are red,"),
        ]
    assert chat.history == [user("A poem"), assistant("Roses are red, violets")]
    with pytest.raises(InvalidRequestError, match="no interrupted answer"):
        chat.resume()


def test_resume_does_not_double_the_space_between() -> None:
    """A model that received no trailing space may send its own."""
    with serve([[text("Roses are "), cut()], [text(" red")]]) as server:
        chat = Chat(openai(server.url))
        with pytest.raises(StreamCut):
            chat.send("A poem").read()
        chat.resume().read()
    assert chat.history[-1] == assistant("Roses are red")


def test_a_new_question_drops_the_interrupted_answer() -> None:
    """The history continues without it."""
    with serve([[text("Half"), cut()], [text("Whole")]]) as server:
        chat = Chat(openai(server.url))
        with pytest.raises(StreamCut):
            chat.send("First").read()
        chat.send("Second").read()
        assert server.requests[1].json()["messages"] == [user("Second")]
    assert chat.interrupted is None


def test_failed_call_leaves_the_chat_unchanged() -> None:
    """A ``send`` or ``resume`` that raises changes nothing."""
    script = [[text("Half"), cut()], status(400), status(400), [text(" done")]]
    with serve(script) as server:
        chat = Chat(openai(server.url))
        with pytest.raises(StreamCut):
            chat.send("First").read()
        before = chat.interrupted
        for call in (lambda: chat.send("Second"), chat.resume):
            with pytest.raises(APIStatusError):
                call()
            assert chat.interrupted is before
        with pytest.raises(InvalidRequestError):
            chat.send([])
        chat.resume().read()
    assert chat.history == [user("First"), assistant("Half done")]


def test_undo_removes_one_exchange_after_another() -> None:
    """A question is removed with its answer; at the start there is nothing to remove."""
    chat = Chat(OpenAICompatible("m", base_url="http://x/v1"), history=[user("1"), assistant("2")])
    chat.history += [user("3"), user("4"), {"role": "system", "content": "s"}, assistant("5")]
    assert chat.undo() == [user("3"), user("4"), assistant("5")]
    assert chat.undo() == [user("1"), assistant("2")]
    assert chat.undo() == []
    assert chat.history == [{"role": "system", "content": "s"}]


def test_tool_calls_and_refusals_enter_the_history() -> None:
    """A call is stored in the form the protocol expects; its result is the next question."""
    with serve([[tool_call("add", {"a": 1}, id="c1")], ["Two"], [refusal("No.")]]) as server:
        chat = Chat(openai(server.url))
        chat.send("1+1?").read()
        chat.send({"role": "tool", "tool_call_id": "c1", "content": "2"}).read()
        chat.send("Harm?").read()
        call = server.requests[1].json()["messages"][1]
    assert call["content"] is None
    assert call["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert chat.history[-1] == assistant("No.")
    assert len(chat.undo()) == 2
    assert len(chat.undo()) == 4


def test_budget_drops_the_oldest_exchanges_never_the_system_message() -> None:
    """Exchanges are left out as units; the history keeps them."""
    old = [user("a" * 10), assistant("b" * 10), user("c" * 10), assistant("d" * 10)]
    with serve(["ok"]) as server:
        chat = Chat(openai(server.url), system="s" * 10, budget=45, history=old)
        chat.send("e" * 10).read()
        chat.budget = 5
        chat.send("f" * 10).read()
        first, second = [request.json()["messages"] for request in server.requests]
    system = {"role": "system", "content": "s" * 10}
    assert first == [system, *old[2:], user("e" * 10)]
    assert second == [system, user("f" * 10)]
    assert len(chat.history) == 8


def test_budget_counts_parts_and_keeps_system_turns_in_place() -> None:
    """Text in parts counts; a system turn inside the history is always sent."""
    inside = {"role": "system", "content": "x"}
    parts = {"role": "user", "content": [{"type": "text", "text": "a" * 50}]}
    chat = Chat(
        OpenAICompatible("m", base_url="http://x/v1"),
        budget=20,
        history=[parts, assistant("b"), inside, user("c"), assistant("d")],
    )
    assert chat.to_send("e") == [inside, user("c"), assistant("d"), user("e")]


def test_save_and_load_keep_the_conversation_and_no_secret(tmp_path: Any) -> None:
    """System message, history and interrupted answer are restored; no key is in the file."""
    path = tmp_path / "chat.json"
    with serve([["Grüße 😀 \ud83d"], [text("Half"), cut()], [text(" whole")]]) as server:
        chat = Chat(openai(server.url, user="me"), system="Be brief.")
        chat.send("Hi").read()
        with pytest.raises(StreamCut):
            chat.send("More").read()
        path.write_text("old")
        chat.save(path)
        loaded = Chat.load(path, openai(server.url), budget=100)
        assert (loaded.system, loaded.history, loaded.interrupted) == (
            chat.system,
            chat.history,
            chat.interrupted,
        )
        loaded.resume().read()
    assert loaded.history[-1] == assistant("Half whole")
    assert "s3cret" not in path.read_text("utf-8")
    assert set(json.loads(path.read_bytes())) == {"version", "system", "history", "interrupted"}
    assert "Grüße" in path.read_text("utf-8")
    assert path.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == [path]
    assert Chat.load(path, openai(server.url), system="Other").system == "Other"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b'{"version": 2}',
        b'{"version": 1, "system": 3, "history": [], "interrupted": null}',
        b'{"version": 1, "system": null, "history": [{"role": "user"}], "interrupted": null}',
        b'{"version": 1, "system": null, "history": "x", "interrupted": null}',
        b'{"version": 1, "system": null, "history": [], '
        b'"interrupted": {"question": "x", "text": "y"}}',
    ],
)
def test_loading_an_invalid_file_raises(tmp_path: Any, content: bytes) -> None:
    """One error class for every invalid file; a missing file raises the system's error."""
    path = tmp_path / "chat.json"
    path.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=r"chat\.json is not a saved conversation"):
        Chat.load(path, OpenAICompatible("m", base_url="http://x/v1"))
    with pytest.raises(FileNotFoundError):
        Chat.load(tmp_path / "none.json", OpenAICompatible("m", base_url="http://x/v1"))


def test_failed_save_leaves_the_old_file(tmp_path: Any) -> None:
    """If JSON cannot represent the history, nothing is written."""
    path = tmp_path / "chat.json"
    chat = Chat(OpenAICompatible("m", base_url="http://x/v1"))
    chat.save(path)
    before = path.read_bytes()
    image = {"role": "user", "content": [{"type": "image", "image": b"\x89PNG\r\n\x1a\n"}]}
    chat.history.append(image)
    with pytest.raises(InvalidRequestError, match="saved as JSON"):
        chat.save(path)
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (before, [path])


def test_save_that_fails_names_the_target_file(tmp_path: Any) -> None:
    """Not the temporary file, which is deleted."""
    chat = Chat(OpenAICompatible("m", base_url="http://x/v1"))
    for path, kind in [(tmp_path, IsADirectoryError), (tmp_path / "no" / "a", FileNotFoundError)]:
        with pytest.raises(kind) as caught:
            chat.save(path)
        assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_save_does_not_replace_a_pipe(tmp_path: Any) -> None:
    """Nor a device: as root, ``/dev/null`` would become a file for the whole machine."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="not a regular file") as caught:
        Chat(OpenAICompatible("m", base_url="http://x/v1")).save(pipe)
    assert caught.value.filename == str(pipe)
    assert (pipe.is_fifo(), list(tmp_path.iterdir())) == (True, [pipe])


def test_chat_pickles_and_copies_even_while_it_runs() -> None:
    """It is a plain object; a running answer stays with the original."""
    with serve([text("Half"), stall()]) as server:
        chat = Chat(openai(server.url), system="S", budget=9, temperature=0)
        stream = chat.send("Hi")
        next(stream)
        for twin in (pickle.loads(pickle.dumps(chat)), copy.deepcopy(chat), copy.copy(chat)):
            assert (twin.system, twin.budget, twin.options) == ("S", 9, {"temperature": 0})
            assert twin.discard() is None
        stream.close()
    assert chat.interrupted is not None


@pytest.mark.parametrize(
    "settings", [{"budget": 0}, {"budget": True}, {"system": 3}, {"history": [{"role": "user"}]}]
)
def test_bad_settings_raise_at_once(settings: Any) -> None:
    """Invalid settings raise in the constructor."""
    with pytest.raises(InvalidRequestError):
        Chat(OpenAICompatible("m", base_url="http://x/v1"), **settings)
    with pytest.raises(InvalidRequestError, match="needs a provider"):
        Chat(OpenAICompatible)  # type: ignore[arg-type]
