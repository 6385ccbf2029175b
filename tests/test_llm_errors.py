"""What the ``llm`` command prints when an answer ends badly: nothing that arrived is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from llm_kit import ADD, MODEL, OWN, WAIT_S, Llm, llm_at

from providers_sync.testing import (
    answer,
    cut,
    event,
    finish,
    reasoning,
    serve,
    stall,
    status,
    text,
    tool_call,
)

pytestmark = pytest.mark.timeout(180)
SCHEMA = ("--schema", "name str")


def test_a_cut_answer_is_an_error_after_its_text(tmp_path):
    """It is not logged as if it were an answer."""
    with serve([text("Hel"), text("lo"), cut()]) as server:
        llm = llm_at(tmp_path, server.url)
        out, error = llm.run("-m", MODEL, "Hi", code=1)
        assert out == "Hello"
        assert error.startswith("\nError: the connection broke")
        assert llm.logs() == []


def test_the_text_of_a_cut_answer_is_not_lost_without_streaming(tmp_path):
    """Standard output is for a whole answer then, so it goes to the other one."""
    with serve([text("Hel\x1b[2Jlo"), cut()]) as server:
        out, error = llm_at(tmp_path, server.url).run("-m", MODEL, "Hi", "--no-stream", code=1)
    assert out == ""
    assert error.startswith("Hel␛[2Jlo\nError: the connection broke")


def test_an_answer_that_a_limit_has_ended_says_so(tmp_path):
    """On standard error: the answer itself is data."""
    with serve([text("Hel"), finish("length")]) as server:
        llm = llm_at(tmp_path, server.url)
        out, error = llm.run("-m", MODEL, "Hi")
        assert out == "Hel\n"
        assert error == (
            "\nproviders-sync: the answer was cut off by a limit on its length "
            "(finish reason length)\n"
        )
        assert llm.logs()[0]["response_json"]["finish_reason"] == "length"


def test_a_timeout_ends_a_silent_answer(tmp_path):
    """The option ``timeout`` is the time of the whole answer, in seconds."""
    with serve(["One", stall()]) as server:
        out, error = llm_at(tmp_path, server.url).run(
            *("-m", MODEL, "Hi", "-o", "timeout", "0.5", "--no-stream"), code=1
        )
    assert out == ""
    assert "total" in error


def test_server_words_in_errors_control_no_terminal(tmp_path):
    """``llm`` prints an error as it is."""
    with serve([status(400, "no \x1b[2J such model")]) as server:
        error = llm_at(tmp_path, server.url).run("-m", MODEL, "Hi", code=1)[1]
    assert "␛[2J such model" in error
    assert "\x1b" not in error


def test_a_broken_answer_to_a_schema_is_printed_before_its_error(tmp_path):
    """Nothing that the model has said is lost."""
    with serve([text('{"name": "Re'), finish("length")]) as server:
        out, error = llm_at(tmp_path, server.url).run(
            *("-m", MODEL, "--schema", "name str", "A dog"), code=1
        )
    assert out == ""
    assert error.startswith('{"name": "Re\nError: ')
    assert "length" in error


@pytest.mark.parametrize("last", [status(400), [cut()]], ids=["refused", "cut"])
def test_the_first_answer_to_a_schema_is_not_lost_if_asking_again_fails(tmp_path, last):
    """It may have been what the model wanted to say."""
    with serve([[text("I would rather not.")], last]) as server:
        llm = llm_at(tmp_path, server.url)
        out, error = llm.run("-m", MODEL, "A dog", *SCHEMA, "-o", "retry", "1", code=1)
    assert out == ""
    assert error.startswith("I would rather not.\nError: ")


@pytest.mark.parametrize("more", [["--no-stream"], ["--json"], SCHEMA], ids=["", "json", "schema"])
def test_reasoning_is_not_lost(tmp_path, more):
    """It may be all that has arrived; ``-R`` hides it."""
    with serve(lambda _: [reasoning("Hm."), text("Hel"), cut()]) as server:
        llm = llm_at(tmp_path, server.url)
        assert llm.run("-m", MODEL, "Hi", *more, code=1)[1].startswith("Hm.\nHel\nError: ")
        assert llm.run("-m", MODEL, "Hi", *more, "-R", code=1)[1].startswith("Hel\nError: ")


def test_an_error_after_printed_reasoning_begins_a_line(tmp_path):
    """Also if no text has come."""
    with serve([[reasoning("Hm."), cut()]]) as server:
        error = llm_at(tmp_path, server.url).run("-m", MODEL, "Hi", code=1)[1]
    assert "Hm.\nError: " in error


@pytest.mark.parametrize("last", [status(400), [text("Tw"), cut()]], ids=["refused", "cut"])
def test_the_text_before_a_tool_is_not_lost_without_streaming(tmp_path, last):
    """``llm`` prints the answers of all rounds together at the end; the earlier turns it has."""
    first = [reasoning("Hm."), text("Let me see."), tool_call("add", {"a": 1})]
    with serve([answer("Hello"), first, last]) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("-m", MODEL, "Hi")
        out, error = llm.run("-c", "1 + 1?", "--functions", ADD, "--no-stream", code=1)
    assert out == ""
    said = "Hm.\nLet me see.\n" + ("Tw\n" if isinstance(last, list) else "")
    assert error.startswith(said + "Error: ")


@pytest.mark.parametrize(
    "more",
    [("--functions", ADD, "--no-stream"), ("--functions", ADD, "-x"), SCHEMA],
    ids=["", "extract", "schema"],
)
def test_ctrl_c_prints_what_has_not_been_printed(tmp_path, more):
    """On standard error: standard output is for a whole answer. The second request is running."""
    first = [text("One")] if more == SCHEMA else [text("One"), tool_call("add", {"a": 1})]
    with (
        serve([first, answer(before=[stall()])]) as server,
        llm_at(tmp_path, server.url).start("-m", MODEL, "Hi", *more, **OWN) as process,
    ):
        server.wait_request(2, timeout=WAIT_S)
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=WAIT_S)
    assert out == b""
    assert error.startswith(b"One\n")
    assert b"Abort" in error


def test_an_error_in_a_chat_is_one_line(tmp_path):
    """``llm`` prints a traceback for any other error; ``-c`` goes on after the last answer."""
    with serve([answer("One"), [text("Hel"), cut()], answer("Two")]) as server:
        llm = llm_at(tmp_path, server.url)
        with llm.start("chat", "-m", MODEL, stdin=subprocess.PIPE) as process:
            out, error = process.communicate(b"Hi\nMore\n", timeout=WAIT_S)
        assert out.endswith(b"Hel")
        assert error.startswith(b"\nError: the connection broke")
        assert error.count(b"\n") == 2
        with llm.start("chat", "-c", stdin=subprocess.PIPE) as process:
            assert b"Two" in process.communicate(b"Again\nexit\n", timeout=WAIT_S)[0]
    sent = [message["content"] for message in server.requests[2].json()["messages"]]
    assert sent == ["Hi", "One", "Again"]


def test_an_unknown_provider_is_an_error_that_names_the_known_ones(tmp_path):
    """For ``-m`` only: a prompt may say anything."""
    assert "choose one of" in Llm(tmp_path).run("-m", "providers-sync/opnai/x", "Hi", code=1)[1]
    with serve([answer("Hello")]) as server:
        out, _ = llm_at(tmp_path, server.url).run("-m", MODEL, "providers-sync/opnai/x")
    assert out == "Hello\n"


def test_images_are_mentioned_and_sources_logged(tmp_path):
    """``llm`` can show neither."""
    cited = {"url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
    delta = {
        "content": "See.",
        "annotations": [{"type": "url_citation", "url_citation": cited}],
        "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}}],
    }
    with serve([[event({"choices": [{"index": 0, "delta": delta}]}), finish()]]) as server:
        llm = llm_at(tmp_path, server.url)
        out, error = llm.run("-m", MODEL, "Hi")
        (source,) = llm.logs()[0]["response_json"]["citations"]
    assert out == "See.\n"
    assert "cannot show the images" in error
    assert source == {"url": "https://a.example", "title": "A"}


PROGRAM = """
import sys
import click
from llm_providers_sync import get_model

@click.command()
def main():
    try:
        print(get_model("openai/m").prompt("Hi", stream=False).text())
    except Exception as error:
        print(type(error).__name__)

if "llm" in sys.argv:
    import llm.cli
main([])
"""


@pytest.mark.parametrize("more", [[], ["llm"]], ids=["", "with llm.cli"])
def test_a_program_built_on_click_is_not_the_command(tmp_path, more):
    """It gets our errors, and nothing is printed for it."""
    with serve([[text("Hel"), cut()]]) as server:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *more],
            env=llm_at(tmp_path, server.url).environment,
            capture_output=True,
            text=True,
        )
    assert (done.stdout, done.stderr) == ("StreamCut\n", "")
