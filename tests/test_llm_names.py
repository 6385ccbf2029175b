"""How the ``llm`` command finds models: their names in the command and in files of ``llm``."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from llm_kit import MODEL, WAIT_S, Llm, llm_at

from providers_sync.llm_plugin.model_names import known_names
from providers_sync.testing import Request, answer, json_body, serve, status, text

pytestmark = pytest.mark.timeout(180)
ANSWERED = "llm/providers-sync-models.txt"


def test_any_model_is_asked_by_its_name_and_found_again(tmp_path):
    """A name that no one has registered works, and ``-c`` and the list know it afterwards."""
    with serve([answer("Hello"), answer("Again")]) as server:
        llm = llm_at(tmp_path, server.url)
        assert llm.run("-m", "providers-sync/openai/org/new-model", "Hi") == ("Hello\n", "")
        assert llm.run("-c", "And now?") == ("Again\n", "")
        assert "providers-sync/openai/org/new-model\n" in llm.run("models")[0]
    first, second = (request.json() for request in server.requests)
    assert first["model"] == second["model"] == "org/new-model"
    assert second["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And now?"},
    ]
    assert "org/new-model" in (tmp_path / ANSWERED).read_text()


def test_a_name_that_has_not_answered_is_not_remembered(tmp_path):
    """A mistake in a name stays out of the list of models."""
    with serve([status(404)]) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("-m", "providers-sync/openai/qwem", "Hi", code=1)
        assert "qwem" not in llm.run("models")[0]


def test_aliases_and_the_default_name_models(tmp_path):
    """Both of ``llm``'s settings work for a model that has never been asked."""
    with serve([answer("One"), answer("Two")]) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("aliases", "set", "q", MODEL)
        llm.run("models", "default", "providers-sync/openai/other")
        assert llm.run("-m", "q", "Hi")[0] == "One\n"
        assert llm.run("Hi")[0] == "Two\n"
    assert [request.json()["model"] for request in server.requests] == ["qwen3", "other"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (ANSWERED, b"1\n\xff\xfe\nproviders-sync/y/z\nproviders-sync/openai/a\x1b[2J\n"),
        ("llm/default_model.txt", b"\xff\xfe"),
    ],
)
def test_broken_files_of_names_stop_no_command(tmp_path, name, content):
    """The plugin ignores what it cannot read: ``llm`` must go on working for other models."""
    llm = Llm(tmp_path)
    (tmp_path / "llm").mkdir()
    (tmp_path / name).write_bytes(content)
    assert "providers-sync/" not in llm.run("aliases")[0]
    listed = llm.run("models", "-q", "providers-sync")[0]
    assert "providers-sync/openai\n" in listed
    assert "y/z" not in listed
    assert "openai/a" not in listed


def test_deeply_nested_aliases_are_none(monkeypatch, tmp_path):
    """Python's reader of JSON gives up on them."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    (tmp_path / "aliases.json").write_text("[" * 100_000)
    assert list(known_names()) == []


def test_names_that_answer_at_once_are_all_remembered(tmp_path):
    """Each process adds a line; one that is there is not added again."""
    llm = Llm(tmp_path)
    (tmp_path / "llm").mkdir()
    (tmp_path / ANSWERED).write_text("providers-sync/openai/edited")
    code = (
        "import sys; from providers_sync.llm_plugin.model_names import remember; sys.stdin.read()\n"
        "for n in range(9): remember(f'openai/{sys.argv[1]}-{n}'); remember('openai/edited')"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(each)], env=llm.environment, stdin=subprocess.PIPE
        )
        for each in range(4)
    ]
    for process in processes:
        process.stdin.close()
    assert [process.wait(WAIT_S) for process in processes] == [0] * 4
    lines = (tmp_path / ANSWERED).read_text().split()
    wanted = {f"providers-sync/openai/{each}-{n}" for each in range(4) for n in range(9)}
    assert set(lines) == wanted | {"providers-sync/openai/edited"}
    assert lines.count("providers-sync/openai/edited") == 1
    assert os.listdir(tmp_path / "llm") == [Path(ANSWERED).name]


def test_a_query_of_others_finds_no_provider(tmp_path):
    """``llm -q`` takes the shortest name; all providers are listed when the command asks for it."""
    llm = Llm(tmp_path)
    assert "No model found" in llm.run("-q", "groq", "Hi", code=1)[1]
    listed = llm.run("models", "-q", "providers-sync", "-q", "o")[0]
    assert "providers-sync/groq\n" in listed
    assert "providers-sync/ollama\n" in listed


def test_a_template_names_its_model(tmp_path):
    """Also one that has never answered."""
    with serve(lambda _: [text("Joy.")]) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("-m", "providers-sync/openai/new", "--system", "Be brief.", "--save", "short")
        assert llm.run("-t", "short", "Hi")[0] == "Joy.\n"
        (tmp_path / "own.yaml").write_text("model: 'providers-sync/openai/other'\n")
        assert llm.run("-t", "own.yaml", "Hi")[0] == "Joy.\n"
        (tmp_path / "own.yaml").write_text("model: providers-sync/openai/with space  # mine\n")
        assert llm.run("-t", "own.yaml", "Hi")[0] == "Joy.\n"
    models = [request.json()["model"] for request in server.requests]
    assert models == ["new", "other", "with space"]


def test_a_template_that_is_a_pipe_is_left_to_llm(tmp_path):
    """As with ``-t <(make-template)``: what the plugin has read, ``llm`` cannot read any more."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("system: Be brief.\n",))
    writer.start()
    with serve([answer("Joy.")]) as server:
        llm_at(tmp_path, server.url).run("-m", MODEL, "-t", str(pipe), "Hi")
    writer.join()
    assert server.requests[0].json()["messages"][0]["content"] == "Be brief."


def test_without_a_name_the_only_model_of_the_server_answers(tmp_path):
    """With several models the error lists them, and says how to choose one."""

    def script(request: Request) -> Any:
        return [text("Hello")] if request.method == "POST" else models

    with serve(script) as server:
        llm = llm_at(tmp_path, server.url)
        models = json_body({"data": [{"id": "m1"}]})
        assert llm.run("-m", "providers-sync/openai", "Hi")[0] == "Hello\n"
        models = json_body({"data": [{"id": "m1"}, {"id": "m2"}]})
        chosen = {"PROVIDERS_SYNC_PROVIDER": "openai", "PROVIDERS_SYNC_MODEL": "m2"}
        llm_at(tmp_path, server.url, **chosen).run("-m", "providers-sync/openai", "Hi")
        assert server.requests[-1].json()["model"] == "m2"
        error = llm.run("-m", "providers-sync/openai", "Hi", code=1)[1]
    assert "use -m providers-sync/openai/NAME" in error
    assert "m1, m2" in error


def test_a_conversation_goes_on_with_the_model_that_has_answered(tmp_path):
    """Without the variable that had named it."""
    chosen = {"PROVIDERS_SYNC_PROVIDER": "openai", "PROVIDERS_SYNC_MODEL": "m2"}
    with serve(lambda _: [text("Hello")]) as server:
        llm_at(tmp_path, server.url, **chosen).run("-m", "providers-sync/openai", "Hi")
        llm_at(tmp_path, server.url).run("-c", "And now?")
    assert [request.json()["model"] for request in server.requests] == ["m2", "m2"]


def test_a_name_of_the_server_controls_no_terminal(tmp_path):
    """A model that the user has not named is known by the name of its provider then."""
    listed = json_body({"data": [{"id": "m\x1b[2J"}]})
    with serve(lambda request: [text("Hello")] if request.method == "POST" else listed) as server:
        llm = llm_at(tmp_path, server.url)
        llm.run("-m", "providers-sync/openai", "Hi")
        assert llm.logs()[0]["model"] == "providers-sync/openai"
    assert not (tmp_path / ANSWERED).exists()
