"""The models of the ``llm`` plugin in programs that import ``llm``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llm
import pytest
from llm.parts import ReasoningPart, ToolCallPart

from llm_providers_sync import get_model
from providers_sync import InvalidRequestError, StreamCut
from providers_sync.returned_messages import RETURNED
from providers_sync.testing import answer, cut, finish, reasoning, serve, stall, text, tool_call

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes a model of a server."""

    def model(url: str) -> llm.KeyModel:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        return get_model("openai/m")

    return model


def test_a_model_is_made_by_its_name() -> None:
    """With or without the prefix; an unknown provider is an error that names the known ones."""
    assert get_model("openai/org/m").model_id == "providers-sync/openai/org/m"
    assert get_model("providers-sync/groq").model_id == "providers-sync/groq"
    with pytest.raises(InvalidRequestError, match=r"'opnai'; choose one of .*groq"):
        get_model("opnai/m")


def test_leaving_the_loop_stops_the_model(at: Any) -> None:
    """As soon as the response is released."""
    with serve(["One", stall()]) as server:
        response = iter(at(server.url).prompt("Hi"))
        assert next(response) == "One"
        del response
        server.wait_closed(timeout=1)


def test_a_program_gets_errors_and_no_output(at: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """The notes on standard error are for the command."""
    with serve([[text("Hel"), finish("length")], [text("Hel"), cut()]]) as server:
        model = at(server.url)
        response = model.prompt("Hi")
        assert response.text() == "Hel"
        assert response.json()["finish_reason"] == "length"
        with pytest.raises(StreamCut) as caught:
            model.prompt("Hi").text()
    assert caught.value.partial == "Hel"
    assert capfd.readouterr() == ("", "")


def test_files_go_where_the_protocol_has_them(at: Any, tmp_path: Path) -> None:
    """PDF and sound, by path and as bytes; what the provider does not take is an error before."""
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7 x")
    files = [
        llm.Attachment(path=str(tmp_path / "a.pdf")),
        llm.Attachment(type="audio/wav", content=b"RIFF\0\0\0\0WAVEfmt "),
    ]
    with serve(["Yes."]) as server:
        assert at(server.url).prompt("What is it?", attachments=files).text() == "Yes."
        words, pdf, sound = server.requests[0].json()["messages"][0]["content"]
    assert words == {"type": "text", "text": "What is it?"}
    assert (pdf["type"], pdf["file"]["filename"]) == ("file", "a.pdf")
    assert (sound["type"], sound["input_audio"]["format"]) == ("input_audio", "wav")
    with pytest.raises(ValueError, match="does not support attachments of type 'audio/wav'"):
        get_model("ollama/m").prompt("Hi", attachments=files[1:])


def test_messages_of_a_program_are_sent_as_they_are(at: Any) -> None:
    """With the files that a tool has returned, and a system prompt apart from them."""
    picture = llm.Attachment(type="image/png", url="http://example.org/p")
    result = llm.ToolResult(name="draw", output="done", tool_call_id="c1", attachments=[picture])
    call = ToolCallPart(name="draw", arguments={}, tool_call_id="c1")
    history = [llm.user("Draw"), llm.assistant("I draw.", call)]
    with serve(["Here."]) as server:
        model = at(server.url)
        model.prompt(messages=history, tool_results=[result], system="Be brief.").text()
        system, user, said, tool, files = server.requests[0].json()["messages"]
    assert (system["content"], user["content"], said["content"]) == (
        *("Be brief.", "Draw", "I draw."),
    )
    assert said["tool_calls"][0]["id"] == tool["tool_call_id"] == "c1"
    assert tool["content"] == "done"
    assert files["content"][0]["image_url"]["url"] == "http://example.org/p"


def test_beside_tools_a_schema_gets_calls_or_json(at: Any) -> None:
    """A call is no answer that fails to validate."""

    def add(a: int) -> int:
        return a + 1

    script = [tool_call("add", {"a": 1})], ["Two."], ["So: ", '{"age": 2}']
    with serve([answer(*each) for each in script]) as server:
        model = at(server.url)
        assert model.chain("1 + 1?", tools=[add], schema=SCHEMA).text() == "Two."
        assert model.prompt("1 + 1?", tools=[add], schema=SCHEMA).text() == '{"age": 2}'
        assert len(server.requests) == 3


def test_a_key_of_the_model_is_sent(at: Any) -> None:
    """``llm`` lets programs set it."""
    with serve(["Yes."]) as server:
        model = at(server.url)
        model.key = "own"
        model.prompt("Hi").text()
    assert server.requests[0].headers["Authorization"] == "Bearer own"


def test_what_others_have_logged_is_left_out(at: Any) -> None:
    """Calls that another vendor has made itself, and what another version wants back."""
    done = ToolCallPart(name="search", arguments={}, tool_call_id="s1", server_executed=True)
    other = {RETURNED: {"version": 999, "fields": {}}}
    sealed = ReasoningPart(text="", provider_metadata=other)
    history = [llm.user("Hi"), llm.assistant("Hello", done, sealed), llm.user("More")]
    with serve(["Yes."]) as server:
        assert at(server.url).prompt(messages=history).text() == "Yes."
        said = server.requests[0].json()["messages"][1]
    assert said == {"role": "assistant", "content": "Hello"}


def test_a_typed_answer_has_its_reasoning(at: Any) -> None:
    """Beside its JSON."""
    with serve([[reasoning("Hm."), text('{"age": 2}')]]) as server:
        response = at(server.url).prompt("How old?", schema=SCHEMA)
        events = [(each.type, each.chunk) for each in response.stream_events() if each.chunk]
    assert events == [("reasoning", "Hm."), ("text", '{"age": 2}')]
