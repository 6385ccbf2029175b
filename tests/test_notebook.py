"""The notebook module in a real Jupyter kernel: live updates, the stop button, ``%%chat``."""

from __future__ import annotations

import html
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gateway_kit import needs_model
from malicious_markdown import MALICIOUS, harm, mixed
from notebook_kit import ROOT, WAIT_S, Kernel, kernel, no_leaks

from providers_sync.testing import (
    Server,
    answer,
    cut,
    finish,
    reasoning,
    refusal,
    serve,
    stall,
    status,
    text,
    wait,
)

pytest.importorskip("ipykernel")
nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

from nbconvert.filters import markdown2html  # noqa: E402

from providers_sync import (  # noqa: E402
    InvalidRequestError,
    OpenAICompatible,
    Stream,
    ToolCall,
    notebook,
    notebook_output,
)
from providers_sync.notebook import markdown  # noqa: E402

EXAMPLE = ROOT / "examples" / "notebook.ipynb"
__all__ = ["kernel", "no_leaks"]
"""Fixtures."""

pytestmark = pytest.mark.filterwarnings("default:::jupyter_client", "default:::zmq")


def test_answer_is_shown_while_it_streams(kernel: Kernel) -> None:
    """There are several states, the first before the rest arrives; the last has the full text."""
    go_on = threading.Event()
    script = ["# Title\n", wait(go_on), "```py\nx = 1\n", "```\n", "$x^2$ costs \\(y\\)"]
    with serve(script) as server:
        cell = kernel.start(f"answer = show(openai({server.url!r}).stream('Hi'))")
        cell.wait("# Title\n")
        go_on.set()
        cell.end()
        full_text = "# Title\n```py\nx = 1\n```\n$x^2$ costs \\(y\\)"
        (shown,) = cell.outputs
        text, summary = cell.plain
        assert text == full_text == kernel.value("answer.text")
        assert summary.startswith("complete · 4 chunks · ")
        assert shown["text/plain"] == f"{text}\n\n— {summary}"
        # Fences need empty lines, and formulas get Jupyter's delimiters.
        markdown, _, line = shown["text/markdown"].rpartition("\n\n")
        assert markdown == "# Title\n\n```py\nx = 1\n```\n\n$x^2$ costs $y$"
        assert html.unescape(re.sub("<[^>]*>", "", line)) == summary
        assert cell.states[0] == "…"
        assert kernel.value("answer.outcome.value, answer.stats.chunks") == ("complete", 4)


def test_show_works_inside_the_kernels_running_event_loop(kernel: Kernel) -> None:
    """Blocking code needs no nest_asyncio and no await."""
    with serve(["fine"]) as server:
        cell = kernel.run(
            f"print(asyncio.get_event_loop().is_running())\nshow(openai({server.url!r}).stream('x'))"
        )
    assert cell.printed == "True\n"
    assert cell.plain[0] == "fine"


def test_typed_answers_work_inside_the_running_event_loop(kernel: Kernel) -> None:
    """Objects, items and partials in plain blocking code; a type may be made in a cell."""
    kernel.run("from pydantic import BaseModel\nclass Fruit(BaseModel):\n    name: str")
    script = [["{}"], ['{"name": "fig"}'], ['[{"name": "fig"}, {"name": "kiwi"}]']]
    with serve([*script, script[1]]) as server:
        cell = kernel.run(
            "print(asyncio.get_event_loop().is_running())\n"
            f"p = openai({server.url!r})\n"
            "print(p.complete('x', into=Fruit).value)\n"
            "print(*p.stream('x', into=list[Fruit]).items())\n"
            "print(list(p.stream('x', into=Fruit).partials())[-1])\n"
            "p.close()"
        )
        assert len(server.requests) == 4  # the first one was asked again
    shown = ["True", "name='fig'", "name='fig' name='kiwi'", "{'name': 'fig'}"]
    assert cell.printed.splitlines() == shown


def test_stop_button_ends_a_typed_answer(kernel: Kernel) -> None:
    """At once, although nobody reads the text."""
    with serve([text('{"a'), stall()]) as server:
        cell = kernel.start(f"openai({server.url!r}).complete('x', into=dict[str, int]).value")
        server.wait_request()
        kernel.interrupt()
        assert [error["ename"] for error in cell.end().errors] == ["KeyboardInterrupt"]
        assert server.wait_closed() < 1


def test_updates_are_few_even_if_the_model_is_fast(kernel: Kernel) -> None:
    """Two thousand chunks cause few updates; the last one has the full text."""
    with serve([text(f"{number} ") for number in range(2000)]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x'))")
    seconds = kernel.value("answer.stats.duration_s")
    assert cell.plain[0] == "".join(f"{number} " for number in range(2000))
    assert len(cell.states) <= seconds / 0.1 + 5


def test_completion_displays_itself_as_markdown_but_not_twice_in_one_cell(kernel: Kernel) -> None:
    """A cell that shows an answer and ends with it has it once; the next cell displays it again."""
    with serve([text("Say "), text("**hi**")]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x'))\nanswer")
        assert cell.plain[0] == "Say **hi**"
        assert len(cell.outputs) == 1
        two = f"one, two = (show(openai({server.url!r}).stream('x')) for _ in 'ab')"
        assert len(kernel.run(f"{two}\ndisplay(one)\ntwo").outputs) == 2
        assert len(kernel.run("display(one)\ntwo").outputs) == 2
        again = kernel.run("answer")
        assert again.outputs == [{"text/markdown": "Say **hi**", "text/plain": "Say **hi**"}]
        other = kernel.run(f"openai({server.url!r}).complete('x')")
        assert other.outputs[0]["text/markdown"] == "Say **hi**"


def test_completion_that_is_not_whole_says_so(kernel: Kernel) -> None:
    """At the end of a cell, after a ``show`` of another one, and by its own method."""
    with serve([["Whole."], *[["Half", finish("length")]] * 2]) as server:
        kernel.run(f"answer = show(openai({server.url!r}).stream('x'))")
        (output,) = kernel.run(f"openai({server.url!r}).complete('x')").outputs
        markdown = kernel.value(f"openai({server.url!r}).complete('x')._repr_markdown_()")
    words = "the answer was cut off by a limit on its length (finish reason length)"
    assert output["text/plain"] == f"Half\n\n— {words}"
    assert line_of(output) == words
    assert markdown == f"Half\n\n**{words}**"


def test_stop_button_during_the_text_keeps_the_text_and_the_kernel(kernel: Kernel) -> None:
    """Run, interrupt, run again: it stops at once, and the partial text is kept and shown."""
    with serve([[text("Half "), text("an **ans"), stall()], ["Complete."]]) as server:
        kernel.run(f"stream = openai({server.url!r}).stream('x')")
        cell = kernel.start("show(stream)").wait("an **ans")
        started = time.monotonic()
        kernel.interrupt()
        cell.end()
        assert time.monotonic() - started < 1
        assert server.wait_closed() < 1
        assert cell.plain[0] == "Half an **ans"
        assert cell.plain[1].startswith("cancelled · 2 chunks")
        (error,) = cell.errors
        assert error["ename"] == "Stopped"
        assert len(error["traceback"]) == 1
        assert kernel.value("stream.text, stream.outcome.value") == ("Half an **ans", "cancelled")
        assert kernel.run(f"show(openai({server.url!r}).stream('x'))").plain[0] == "Complete."


@pytest.mark.parametrize("phase", ["headers", "text", "reasoning"])
def test_stop_button_before_the_first_text(kernel: Kernel, phase: str) -> None:
    """It works in every phase and leaves the conversation unchanged."""
    scripts: dict[str, Any] = {
        "headers": answer(before=[stall()]),
        "text": [stall()],
        "reasoning": [reasoning("Hm"), stall()],
    }
    with serve([scripts[phase], ["Complete."]]) as server:
        options = f"--provider openai --model m --base-url {server.url}"
        cell = kernel.start(f"%%chat early {options} --new\nOne")
        server.wait_request()
        if phase != "headers":
            cell.wait("…")
        kernel.interrupt()
        assert [error["ename"] for error in cell.end().errors] == ["Stopped"]
        assert server.wait_closed() < 1
        assert kernel.value("early.history") == []
        assert kernel.run("%%chat early\nTwo").plain[0] == "Complete."


def test_stop_button_before_the_response_of_a_prepared_call(kernel: Kernel) -> None:
    """``show`` opens it itself, so the stop button works and shows one line."""
    with serve([answer(before=[stall()]), ["Complete."], ["[1]"]]) as server:
        kernel.run(f"p = openai({server.url!r})")
        cell = kernel.start("show(p.prepare('x'))").wait("…")
        server.wait_request()
        kernel.interrupt()
        cell.end()
        assert server.wait_closed() < 1
        (error,) = cell.errors
        assert (error["ename"], len(error["traceback"])) == ("Stopped", 1)
        assert kernel.run("show(p.prepare('x'))").plain[0] == "Complete."
        assert kernel.value("show(p.prepare('x', into=list[int])).value") == [1]
        kernel.run("p.close()")


def test_stop_button_during_the_last_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is pressed: the whole text and the outcome are shown first."""
    ended = []

    class Output(notebook_output.PrintedOutput):
        def end(self, stream: Stream) -> None:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)
            ended.append(stream.text)

    monkeypatch.setattr(notebook, "make_output", Output)
    with serve(["Complete."]) as server, pytest.raises(notebook.Stopped):
        notebook.show(notebook_stream(server))
    assert ended == ["Complete."]


def test_stopped_does_not_print_the_text_of_the_model() -> None:
    """A script that ends with it would print it a second time, with its control characters."""
    stopped = pickle.loads(pickle.dumps(notebook.Stopped("a\x1b[2J")))
    assert stopped.partial == "a\x1b[2J"
    assert str(stopped) == "the answer was stopped; what had arrived is in .partial"


@pytest.mark.parametrize("value", ["x", None, ["x"]])
def test_show_says_what_it_takes(value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"show\(provider\.stream\(…\)\), not"):
        notebook.show(value)


def test_stop_button_ends_a_loop_over_answers(kernel: Kernel) -> None:
    """One press stops the cell, not only the current answer."""
    with serve([text("Half"), stall()]) as server:
        cell = kernel.start(
            f"for n in range(9):\n    stream = openai({server.url!r}).stream('x'); show(stream)"
        )
        cell.wait("Half")
        kernel.interrupt()
        cell.end()
        assert [error["ename"] for error in cell.errors] == ["Stopped"]
        assert len(server.requests) == 1
        assert kernel.value("n, stream.text") == (0, "Half")


def test_broken_answer_is_shown_before_its_error(kernel: Kernel) -> None:
    """The text stays on the page with its outcome, and the error is the library's own."""
    with serve([text("Half"), cut()]) as server:
        cell = kernel.start(f"show(openai({server.url!r}).stream('x'))").end()
        assert cell.plain[0] == "Half"
        assert cell.plain[1].startswith("cut · 1 chunk · ")
        assert [error["ename"] for error in cell.errors] == ["StreamCut"]


def test_status_line_says_why_an_answer_is_not_whole(kernel: Kernel) -> None:
    """In words, as text; a refusal takes the place of the text."""
    limit = " s · the answer was cut off by a limit on its length (finish reason length)"
    odd = " s · the answer is empty: it ended for an unknown reason (finish reason <b>␛</b>)"
    script = [["Hel", finish("length")], [finish("<b>\x1b</b>")], [refusal("I **won't**.")], ["Hi"]]
    with serve(script) as server:
        options = f"--provider openai --model m --base-url {server.url}"
        cells = [kernel.run(f"%%chat other --new {options}\n{n}") for n in range(4)]
    assert [cell.plain[0] for cell in cells] == ["Hel", "", "I **won't**.", "Hi"]
    assert cells[0].plain[1].endswith(limit)
    assert cells[1].plain[1].endswith(odd)
    assert all(cell.plain[1] == line_of(cell.outputs[0]) for cell in cells)
    assert cells[2].plain[1].endswith(" s · the answer is a refusal (finish reason stop)")
    assert cells[3].plain[1].endswith(" s")


@pytest.mark.parametrize("way", ["stream", "typed", "run", "%%chat"])
def test_every_way_shows_that_an_answer_is_not_whole(kernel: Kernel, way: str) -> None:
    """A limit, a filter, a refusal: below the text, and not dimmed as the numbers are."""
    endings = {
        "length": "was cut off by a limit on its length",
        "content_filter": "was ended by a content filter",
        "refusal": "was ended by a refusal",
    }
    code = {
        "stream": "show(p.stream('x'))",
        "typed": "show(p.stream('x', into=dict))",
        "run": "show(p.run('x', tools=[lambda: 1]))",
        "%%chat": "%%chat other\nx",
    }[way]
    kernel.run("def noop() -> int:\n    return 1")
    with serve([['{"a": [1, ', finish(reason)] for reason in endings]) as server:
        kernel.run(f"p = openai({server.url!r})\nother = Chat(p)")
        for words in endings.values():
            cell = kernel.start(code.replace("lambda: 1", "noop")).end()
            assert [each["ename"] for each in cell.errors] == ["InvalidAnswer"] * (way == "typed")
            assert words in cell.plain[-1]
            markup = cell.outputs[-1].get("text/html") or cell.outputs[-1]["text/markdown"]
            numbers, warning = markup.split("<strong")
            assert "opacity" in numbers
            assert words in warning
            assert "opacity" not in warning
        kernel.run("p.close()")


def line_of(output: dict[str, Any]) -> str:
    """Return the text of the last line of a Markdown output, whose punctuation is entities."""
    line = output["text/markdown"].rpartition("\n\n")[2]
    assert not re.search(r"[*_`$\\\[]", line)
    return html.unescape(re.sub("<[^>]*>", "", line))


def test_answers_of_threads_in_one_cell_keep_their_lines(kernel: Kernel) -> None:
    """The line is in the display of its answer, whichever ends first."""
    both, go_on = threading.Barrier(2), threading.Event()

    def reply(request: Any) -> Any:
        number = int(request.json()["messages"][0]["content"])
        both.wait(WAIT_S)
        return [text(f"answer {number}"), *([] if number else [wait(go_on)]), *["."] * number]

    code = (
        "def ask(n): show(p.stream(str(n)))\n"
        "threads = [threading.Thread(target=ask, args=[n]) for n in range(2)]\n"
        "for thread in threads: thread.start()\nfor thread in threads: thread.join()\np.close()"
    )
    with serve(reply) as server:
        cell = kernel.start(f"p = openai({server.url!r})\n{code}")
        cell.wait("answer 1.\n\n— complete")
        go_on.set()
        cell.end()
    first, second = sorted(output["text/plain"] for output in cell.outputs)
    assert first.startswith("answer 0\n\n— complete · 1 chunk · ")
    assert second.startswith("answer 1.\n\n— complete · 2 chunks · ")


def test_stop_button_ends_the_answers_of_threads_by_their_token(kernel: Kernel) -> None:
    """As the docs page shows it."""
    page = (ROOT / "docs" / "notebook.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n( *from concurrent.futures .*?)```", page, re.S)
    with serve([[text("Half"), stall()]] * 2) as server:
        code = code.replace('OpenAICompatible("qwen3")', f"openai({server.url!r})")
        cell = kernel.start(textwrap.dedent(code))
        while sum("Half" in output["text/plain"] for output in cell.outputs) < 2:
            assert not cell._next()
        kernel.interrupt()
        cell.end()
        kernel.run("provider.close()")
    assert [error["ename"] for error in cell.errors] == ["KeyboardInterrupt"]
    assert [line.partition(" · ")[0] for line in cell.plain] == ["Half", "cancelled"] * 2


def test_line_counts_the_breaks_of_an_answer(kernel: Kernel) -> None:
    """An answer that broke and went on says so."""
    with serve([[text("One two three "), cut()], ["four."]]) as server:
        cell = kernel.run(
            f"answer = show(openai({server.url!r}).stream('x', continue_after_break=1))"
        )
    assert cell.plain[0] == "One two three four."
    assert " · 1 break · " in cell.plain[1]


# --- the Markdown (more in test_safe_markdown.py, and in web/test_jupyterlab.py)


def test_exported_page_contains_no_html_of_the_model() -> None:
    """nbconvert keeps HTML in Markdown unchanged, even in ``mermaid`` blocks."""
    sources = [*MALICIOUS, *mixed(300)]
    found = {source: harm(markdown2html(markdown(source))) for source in sources}
    assert {source: harms for source, harms in found.items() if harms} == {}
    page = markdown2html(markdown("Cats cost $5 and `<b>` $6.\n```html\n<c>\n```"))
    text = html.unescape(re.sub("<[^>]*>", "", page))
    assert text.split("\n")[:2] == ["Cats cost $5 and <b> $6.", "<c>"]


def test_control_characters_are_made_visible(kernel: Kernel) -> None:
    """In the plain text, which terminal notebooks show, and in error lines."""
    with serve([[text("a\x1b[2J\u202eb")], status(401, "No\x1b[2J key")]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x'))")
        assert cell.plain[0] == "a␛[2J<U+202E>b"
        options = f"--provider openai --model m --base-url {server.url}"
        cell = kernel.start(f"%%chat early {options} --new\nOne").end()
    line, _hint = cell.errors[0]["traceback"]
    assert "\x1b" not in line


def test_updates_take_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is slow to render has few updates, and the stream does not wait for them."""
    clock = [0.0]
    shown: list[str] = []
    slept: list[float] = []

    class Handle:
        def update(self, bundle: dict[str, str], raw: bool) -> None:
            clock[0] += 2.0  # the time it takes to render
            shown.append(bundle["text/plain"])

    output = notebook_output.NotebookOutput(None)
    output._handle, output._displayed = Handle(), "a"
    monkeypatch.setattr(notebook_output, "monotonic", lambda: clock[0])
    monkeypatch.setattr(notebook_output.time, "sleep", slept.append)
    stream = SimpleNamespace(text="", refusal="")
    for _ in range(1000):
        stream.text += "b"
        clock[0] += 0.1
        output.refresh(stream)
    assert 2.0 * len(shown) <= clock[0] / 10 + 2.0
    assert max(slept) <= notebook_output.MAX_WAIT_S


def test_updates_wait_for_the_size_of_all_that_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTML of a table is much longer than its JSON."""
    sent: list[dict[str, str]] = []
    handle = SimpleNamespace(update=lambda bundle, raw: sent.append(bundle))
    monkeypatch.setattr(notebook_output, "monotonic", lambda: 0.0)
    output = notebook_output.NotebookOutput(None)
    output._handle = handle
    with serve([json.dumps({str(n): "$" * 300 for n in range(60)})]) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("x", into=dict[str, str])
        stream.read()
        output.refresh(stream)
    size = sum(map(len, sent[0].values()))
    assert size > 300_000
    assert output._next_update_at == size / notebook_output.MAX_CHARACTERS_PER_S


def test_updates_of_many_calls_wait_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although no text has arrived."""
    clock = [0.0]
    sent: list[dict[str, str]] = []

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    handle = SimpleNamespace(update=lambda bundle, raw: sent.append(bundle))
    monkeypatch.setattr(notebook_output, "_display", lambda bundle, **more: handle)
    monkeypatch.setattr(notebook_output, "monotonic", lambda: clock[0])
    monkeypatch.setattr(notebook_output.time, "sleep", sleep)
    output = notebook_output.NotebookOutput(None)
    stream: Any = SimpleNamespace(text="", refusal="")
    for number in range(100):
        output.see(ToolCall(str(number), "f", {}, "{}"), stream)
        output.refresh(stream)
    updates = sum("more tool call" in bundle["text/plain"] for bundle in sent)
    assert updates > 80
    assert clock[0] > (updates - 3) * notebook_output.UPDATE_EVERY_S


# --- without a notebook


def test_without_a_notebook_the_text_is_printed() -> None:
    """In a script ``show`` prints the text as it arrives."""
    with serve([text("One "), text("two.")]) as server:
        code = (
            "from providers_sync import *; from providers_sync.notebook import show\n"
            f"answer = show(OpenAICompatible('m', base_url={server.url!r}).stream('x'))\n"
            "assert answer.text == 'One two.'"
        )
        shown = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
            capture_output=True,
            encoding="utf-8",
        )
    assert shown.stderr == ""
    assert shown.stdout.startswith("One two.\n— complete · 2 chunks · ")


def test_without_a_notebook_the_refusal_and_the_end_are_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The refusal in place of the text, and the end in words."""
    with serve([refusal("I\x1b won't.")]) as server:
        answer = notebook.show(notebook_stream(server))
    assert re.fullmatch(
        r"I␛ won't\.\n— complete · 0 chunks · [\d.]+ s · "
        r"the answer is a refusal \(finish reason stop\)\n",
        capsys.readouterr().out,
    )
    text, words = answer._repr_markdown_().split("\n\n")
    assert text == "I␛ won't."
    assert words == "**the answer is a refusal (finish reason stop)**"


def notebook_stream(server: Server) -> Stream:
    """Return a running answer."""
    return OpenAICompatible("m", base_url=server.url).stream("x")


def test_without_ipython_the_error_names_what_to_install() -> None:
    """The error is one line, with the remedy."""
    code = "import sys; sys.modules['IPython'] = None; import providers_sync.notebook"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert shown.stderr.splitlines()[-1] == (
        "ImportError: providers_sync.notebook needs IPython: pip install 'providers-sync[notebook]'"
    )


# --- the example


def run_example(engine: str, folder: Path) -> Any:
    """Run the example in a separate kernel, with this engine behind the gateway."""
    book = nbformat.read(EXAMPLE, as_version=4)
    for cell in book.cells:
        cell.source = cell.source.replace('engine="local"', f'engine="{engine}"')
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder)}
    client = nbclient.NotebookClient(book, timeout=120, kernel_name="python3")
    client.execute(env=environment, cwd=str(folder))
    return book


def check(book: Any) -> None:
    outputs = [output for cell in book.cells for output in cell.get("outputs", ())]
    (error,) = [each for each in outputs if each.output_type == "error"]
    assert error.ename == "APIConnectionError"
    assert len("\n".join(error.traceback).splitlines()) < 10
    data = [each.data for each in outputs if "data" in each]
    answers = [each for each in data if "text/markdown" in each]
    assert len(answers) == 4
    assert all("\n\n— complete · " in answer["text/plain"] for answer in answers)
    (table,) = [each["text/html"] for each in data if "<table>" in each.get("text/html", "")]
    assert re.search("<tr>.*name.*colour.*</tr><tr>.*(red|green|yellow).*</tr>", table)
    (call,) = [each["text/plain"] for each in data if "<details>" in each.get("text/html", "")]
    assert call.endswith(": It rains in Oslo, at 8 °C.")
    assert any(each["text/plain"].startswith("Fruit(name=") for each in data)


def test_example_notebook_runs_on_a_real_kernel(tmp_path: Path) -> None:
    """It runs from top to bottom with the echo engine instead of the model."""
    check(run_example("echo", tmp_path))


@pytest.mark.model
def test_example_notebook_runs_with_the_model(tmp_path: Path) -> None:
    """It runs unchanged, with the small model."""
    needs_model()
    check(run_example("local", tmp_path))
