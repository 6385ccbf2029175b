"""Typed answers in a conversation: what enters the history when an answer is asked again."""

from __future__ import annotations

import gc
import json
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from providers_sync import (
    APIStatusError,
    Chat,
    InvalidAnswer,
    InvalidRequestError,
    OpenAICompatible,
    StreamCancelled,
    StreamCut,
    TypedStream,
)
from providers_sync.testing import (
    ScriptedProvider,
    Server,
    answer,
    cut,
    finish,
    serve,
    stall,
    status,
    text,
    tool_call,
    wait,
)


class Recipe(BaseModel):
    name: str
    minutes: int


PANCAKES = Recipe(name="Pancakes", minutes=10)
GOOD = PANCAKES.model_dump_json()
WRONG = GOOD.replace("10", '"ten"')
QUESTION = {"role": "user", "content": "A recipe"}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def asked(provider: ScriptedProvider) -> list[list[dict[str, Any]]]:
    """Return the messages of every request."""
    return [json.loads(request.body)["messages"] for request in provider.requests]


def test_the_answer_enters_the_history() -> None:
    """As its text; the next question needs no type."""
    provider = ScriptedProvider([answer(GOOD), answer("Sugar.")])
    chat = Chat(provider, system="Cook.")
    stream = chat.send("A recipe", into=Recipe)
    assert isinstance(stream, TypedStream)
    assert stream.value == PANCAKES
    assert chat.history == [QUESTION, assistant(GOOD)]
    assert chat.send("What is missing?").read() == "Sugar."
    first, second = provider.requests
    assert "response_format" in json.loads(first.body)
    assert "response_format" not in json.loads(second.body)
    assert asked(provider)[1][:3] == [
        {"role": "system", "content": "Cook."},
        QUESTION,
        assistant(GOOD),
    ]


def test_of_an_answer_that_was_asked_again_only_the_last_text_enters() -> None:
    """Neither the wrong one nor the words of the validator; the second round has the history."""
    provider = ScriptedProvider([answer("Hello."), answer(WRONG), answer(GOOD)])
    chat = Chat(provider)
    chat.send("Hi").read()
    before = chat.history
    assert chat.send("A recipe", into=Recipe).value == PANCAKES
    assert chat.history == [*before, QUESTION, assistant(GOOD)]
    assert chat.interrupted is None
    _, first, second = asked(provider)
    assert first == [*before, QUESTION]
    assert second[:-1] == [*first, assistant(WRONG)]


def test_answer_that_stays_wrong_is_in_the_history_and_can_be_taken_back() -> None:
    """It is whole, and what a further question is about."""
    chat = Chat(ScriptedProvider(lambda _: [text(WRONG)]))
    with pytest.raises(InvalidAnswer):
        _ = chat.send("A recipe", into=Recipe).value
    assert chat.history == [QUESTION, assistant(WRONG)]
    assert chat.undo() == [QUESTION, assistant(WRONG)]
    assert chat.history == []


def test_answer_of_the_forced_tool_enters_as_text() -> None:
    """A call without a result would be refused by the server with the next question."""

    def script(request: Any) -> Any:
        if "response_format" in request.json():
            return status(400, "response_format is not supported")
        return tool_call(request.json()["tools"][0]["function"]["name"], json.loads(GOOD))

    provider = ScriptedProvider(script)
    chat = Chat(provider)
    assert chat.send("A recipe", into=Recipe).value == PANCAKES
    question, reply = chat.history
    assert (question, reply.get("tool_calls")) == (QUESTION, None)
    assert json.loads(reply["content"]) == json.loads(GOOD)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([[text(GOOD[:9]), cut()]], GOOD[:9]),
        ([answer(WRONG), [text(GOOD[:9]), cut()]], GOOD[:9]),
        ([answer(WRONG), status(400, "too long")], ""),
    ],
    ids=["first round", "second round", "second round refused"],
)
def test_broken_answer_is_interrupted(script: list[Any], said: str) -> None:
    """With the question alone, also in the second round."""
    chat = Chat(ScriptedProvider(script), retry=1)
    with pytest.raises((StreamCut, APIStatusError)) as caught:
        _ = chat.send("A recipe", into=Recipe).value
    assert caught.value.partial == said
    assert chat.history == []
    assert chat.interrupted is not None
    assert (chat.interrupted.question, chat.interrupted.text) == ([QUESTION], said)
    assert chat.interrupted.outcome == caught.value.outcome


def test_refused_first_request_leaves_the_chat_unchanged() -> None:
    chat = Chat(ScriptedProvider(status(400, "no")))
    for bad in (Recipe, object()):
        with pytest.raises((APIStatusError, InvalidRequestError)):
            chat.send("A recipe", into=bad)
    assert (chat.history, chat.interrupted) == ([], None)
    assert chat.discard() is None  # nothing runs


def test_answer_ended_by_a_limit_enters_as_any() -> None:
    chat = Chat(ScriptedProvider(answer(GOOD[:9], finish("length"))))
    with pytest.raises(InvalidAnswer, match="length"):
        _ = chat.send("A recipe", into=Recipe).value
    assert chat.history == [QUESTION, assistant(GOOD[:9])]


@pytest.fixture
def slow_repair() -> Iterator[tuple[Server, threading.Event]]:
    """A server whose second answer waits for an event, and is good then."""
    go = threading.Event()
    with serve([answer(WRONG), answer(GOOD, before=[wait(go)]), answer("Bye.")]) as server:
        yield server, go


def test_nothing_else_may_start_while_the_second_round_runs(
    slow_repair: tuple[Server, threading.Event],
) -> None:
    """In any thread; the chat is free again with the end of the last round."""
    server, go = slow_repair
    chat = Chat(OpenAICompatible("m", base_url=server.url))
    stream = chat.send("A recipe", into=Recipe)
    values: list[Any] = []
    reader = threading.Thread(target=lambda: values.append(stream.value))
    reader.start()
    server.wait_request(2)
    for call in (lambda: chat.send("More"), chat.resume, chat.discard, chat.undo):
        with pytest.raises(InvalidRequestError, match="still running"):
            call()
    assert (chat.history, chat.interrupted) == ([], None)
    go.set()
    reader.join()
    assert values == [PANCAKES]
    assert chat.history == [QUESTION, assistant(GOOD)]
    assert chat.send("Bye").read() == "Bye."
    assert len(server.requests) == 3


def test_cancelled_second_round_is_interrupted_and_frees_the_chat(
    slow_repair: tuple[Server, threading.Event],
) -> None:
    server, _ = slow_repair
    chat = Chat(OpenAICompatible("m", base_url=server.url))
    stream = chat.send("A recipe", into=Recipe)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            _ = stream.value
        except StreamCancelled as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    server.wait_request(2)
    stream.cancel()
    reader.join()
    assert len(errors) == 1
    assert chat.interrupted is not None
    assert (chat.interrupted.question, chat.interrupted.text) == ([QUESTION], "")
    assert chat.send("Bye").read() == "Bye."


def test_dropped_answer_frees_the_chat() -> None:
    with serve([[text(GOOD[:9]), stall()], [text("Bye.")]]) as server:
        chat = Chat(OpenAICompatible("m", base_url=server.url))
        chat.send("A recipe", into=Recipe)
        gc.collect()
        assert chat.send("Bye").read() == "Bye."


def test_typed_answer_is_not_resumed_but_asked_again() -> None:
    """In a schema mode the model begins its JSON anew; the remedy in the message works."""
    provider = ScriptedProvider([[text(GOOD[:9]), cut()], answer(GOOD)])
    chat = Chat(provider)
    with pytest.raises(StreamCut):
        _ = chat.send("A recipe", into=Recipe, retry=1).value
    interrupted = chat.interrupted
    with pytest.raises(InvalidRequestError, match=r"chat\.send\(chat\.discard\(\)\.question, into"):
        chat.resume(into=Recipe)
    assert (chat.interrupted, len(provider.requests)) == (interrupted, 1)
    assert interrupted is not None
    dropped = chat.discard()
    assert dropped is interrupted
    assert chat.send(dropped.question, into=Recipe).value == PANCAKES
    assert chat.history == [QUESTION, assistant(GOOD)]


def test_interrupted_typed_answer_can_be_continued_as_text() -> None:
    provider = ScriptedProvider([[text(GOOD[:9]), cut()], answer(GOOD[9:])])
    chat = Chat(provider)
    with pytest.raises(StreamCut):
        _ = chat.send("A recipe", into=Recipe, retry=1).value
    assert chat.resume().read() == GOOD[9:]
    assert chat.history == [QUESTION, assistant(GOOD)]


@pytest.mark.parametrize("name", ["into", "repairs", "skip_invalid"])
def test_the_type_belongs_to_a_question_and_not_to_the_chat(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=rf"{name}= belongs to send\(\)"):
        Chat(ScriptedProvider(GOOD), **{name: Recipe})


def test_chat_with_typed_answers_is_saved_and_pickled(tmp_path: Path) -> None:
    """Its history is plain; a running answer stays with the original."""
    path = tmp_path / "chat.json"
    with serve([answer(WRONG), answer(GOOD), answer("Bye.")]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        chat = Chat(provider)
        stream = chat.send("A recipe", into=Recipe)
        assert pickle.loads(pickle.dumps(chat)).history == []
        assert stream.value == PANCAKES
        copy = pickle.loads(pickle.dumps(chat))
        chat.save(path)
        loaded = Chat.load(path, provider)
        assert copy.history == loaded.history == chat.history == [QUESTION, assistant(GOOD)]
        assert loaded.send("Bye", into=None).read() == "Bye."
