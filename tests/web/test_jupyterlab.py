"""A model's Markdown in a real JupyterLab: it runs no scripts and is displayed as intended."""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from malicious_markdown import HOST, IMAGE, MALICIOUS, harm, mixed
from running import free_port, running

pytest.importorskip("selenium")
pytest.importorskip("jupyterlab")
from selenium.webdriver.support.ui import WebDriverWait

from providers_sync import ToolCall, ToolResult
from providers_sync.notebook_bundles import OutcomeLine, table_bundle
from providers_sync.notebook_calls import ShownCall
from providers_sync.notebook_output import MAX_CALLS, MAX_IMAGES

WAIT_S = 50.0
TOKEN = "a-token-for-the-test"
SETTINGS = {"windowingMode": "none"}
"""This keeps all cells on the page, whatever the scroll position; all else is the default."""
MAX_OUTPUTS = 50
"""JupyterLab hides the outputs of a cell that follow."""
SHOW = """
from providers_sync.notebook import show
from providers_sync.testing import ScriptedProvider, text
for source in {sources!r}:
    show(ScriptedProvider([text(source)]).stream("?"))
"""
COMPLETION = """
from providers_sync import Completion, Outcome
from providers_sync.types import Stats
Completion({source!r}, None, None, None, Outcome.COMPLETE, Stats(None, 0.0, 1, 1, 1))
"""
ANSWERS = """
import base64, json
from pydantic import BaseModel
from providers_sync.notebook import show
from providers_sync.testing import ScriptedProvider, finish, raw, text, tool_call
class Place(BaseModel):
    name: str
    n: int
def find(words: str) -> str:
    return words
hostile = HOSTILE
places = json.dumps({"items": [{"name": hostile, "n": 1}]})
picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,PNG"}}
image = json.dumps({"choices": [{"delta": {"images": [picture]}}]})
rounds = [
    [tool_call("find", {"words": hostile})],
    [raw(f"data: {image}\\n\\n".encode()), text("Half"), finish("length")],
]
show(ScriptedProvider(places).stream("?", into=list[Place]))
show(ScriptedProvider(rounds).run("?", tools=[find]))
"""
MANY = """
from providers_sync.testing import raw, tool_call
def find(n: int) -> str:
    return "found"
pictures = [raw(f"data: {image}\\n\\n".encode()), text("A picture.")] * 60
rounds = [[text("A remark."), tool_call("find", {"n": n})] for n in range(60)]
show(ScriptedProvider([*rounds, [*pictures, text("The answer.")]]).run(
    "?", tools=[find], max_rounds=99))
"""
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR4nGMwaDiAFTEMLQkAztVcAX2XhiIAAAAA"
    "SUVORK5CYII="
)
CONTROL = """
from IPython.display import Markdown
Markdown({source!r})
"""

pytestmark = pytest.mark.timeout(180)


class Lab:
    """A JupyterLab in a browser, and the image server that its pages must not contact."""

    def __init__(
        self, url: str, folder: Path, driver: Any, requested: list[str], host: str
    ) -> None:
        self._url = url
        self._folder = folder
        self._driver = driver
        self.requested = requested
        """The paths that were requested from the image server."""
        self.host = host

    def run(self, *cells: str, outputs: int) -> list[str]:
        """Run cells in a new notebook until this many Markdown outputs are rendered.

        Return the HTML of the outputs.
        """
        sources = [cell.replace(HOST, self.host) for cell in cells]
        name = self._open(_notebook([*sources, "'The ' + 'end'"]))
        self._script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        self._wait(
            "const outputs = [...document.querySelectorAll('.jp-OutputArea-output')];"
            "return outputs.some(output => output.innerText.includes('The end'))"
        )
        shown = "return document.querySelectorAll('.jp-RenderedMarkdown:not(:empty)').length"
        self._wait(f"{shown} == {outputs}")
        self._wait("return !document.querySelector('mjx-container:empty')")
        self._wait_for_requests(name)
        return list(self._script(_OUTPUTS))

    def show_unsigned(self, bundles: list[dict[str, str]]) -> None:
        """Open a notebook with these outputs that somebody else has run: Jupyter sanitizes them."""
        outputs = [
            {"output_type": "display_data", "metadata": {}, "data": bundle} for bundle in bundles
        ]
        book = _notebook(["1"])
        book["cells"][0].update(outputs=outputs, execution_count=1)
        self._open(book)
        shown = "return document.querySelectorAll('.jp-OutputArea-output').length"
        self._wait(f"{shown} == {len(bundles)}")

    def _open(self, book: dict[str, Any]) -> str:
        """Open a notebook, and wait for its kernel; return the name of its file."""
        name = f"book{len(list(self._folder.glob('*.ipynb')))}.ipynb"
        (self._folder / name).write_text(json.dumps(book))
        self._driver.get(f"{self._url}/lab/tree/{name}?token={TOKEN}&reset")
        self._wait(
            "const panel = window.jupyterapp?.shell.currentWidget;"
            "const kernel = panel?.sessionContext?.session?.kernel;"
            "return panel?.context?.isReady && kernel?.status == 'idle'"
        )
        return name

    def find(self, selector: str) -> list[Any]:
        """Return the elements in outputs that match a CSS selector."""
        return list(self._driver.find_elements("css selector", f".jp-OutputArea-output {selector}"))

    def ran(self) -> bool:
        """Return whether a script from the model's text has run."""
        return bool(self._script("return 'ran' in window"))

    def texts(self) -> list[str]:
        """Return the visible text of each Markdown output, with formulas in braces."""
        return list(self._script(_TEXTS))

    def _wait_for_requests(self, name: str) -> None:
        """Request one more image and wait for it: the page's earlier requests have then arrived."""
        self._script(f"new Image().src = {self.host!r} + '/last-{name}'")
        self._wait_for(lambda: f"/last-{name}" in self.requested)
        self.requested.remove(f"/last-{name}")

    def _script(self, code: str) -> Any:
        return self._driver.execute_script(code)

    def _wait(self, code: str) -> None:
        self._wait_for(lambda: self._script(code))

    def _wait_for(self, condition: Callable[[], Any]) -> None:
        WebDriverWait(self._driver, WAIT_S, poll_frequency=0.05).until(lambda _: condition())


_OUTPUTS = "return [...document.querySelectorAll('.jp-RenderedMarkdown')].map(o => o.innerHTML)"
_TEXTS = """
return [...document.querySelectorAll('.jp-RenderedMarkdown')].map(output => {
    const copy = output.cloneNode(true)
    for (const formula of copy.querySelectorAll('mjx-container'))
        formula.replaceWith('{' + formula.querySelector('mjx-assistive-mml').textContent + '}')
    return copy.textContent.trim()
})
"""


def _notebook(sources: list[str]) -> dict[str, Any]:
    empty = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    cells = [{**empty, "id": f"c{n}", "source": source} for n, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture(scope="module")
def image_server() -> Iterator[tuple[str, list[str]]]:
    """A server that records the path of each request."""
    requested: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_error(404)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", requested
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def lab(
    tmp_path_factory: pytest.TempPathFactory, chromium: Any, image_server: tuple[str, list[str]]
) -> Iterator[Lab]:
    """One JupyterLab for all tests in this file, with its own settings and home directory."""
    folder, home = tmp_path_factory.mktemp("books"), tmp_path_factory.mktemp("home")
    settings = home / "settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text(json.dumps(SETTINGS))
    port = free_port()
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *(f"--port={port}", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"),
        *(f"--LabApp.user_settings_dir={home / 'settings'}", "--expose-app-in-browser"),
        *("--LabApp.news_url=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"),
    ]
    directories = {
        "HOME": str(home),
        "IPYTHONDIR": str(home),
        "JUPYTER_RUNTIME_DIR": str(home / "run"),
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    host, requested = image_server
    with running(command, port, folder, PATH=path, **directories) as url:
        yield Lab(url, folder, chromium, requested, host)
        chromium.get("about:blank")


def test_malicious_markdown_is_harmless_in_jupyterlab(lab: Lab) -> None:
    """No script runs, no image is requested, and the page contains nothing harmful."""
    sources = [f"{source}\n\n---\n" for source in [*MALICIOUS, *mixed(200)]]
    before = len(lab.requested)
    cells = [
        SHOW.format(sources=sources[start : start + MAX_OUTPUTS])
        for start in range(0, len(sources), MAX_OUTPUTS)
    ]
    found = lab.run(*cells, outputs=len(sources))
    harms = {source: harm(page) for source, page in zip(sources, found, strict=True)}
    assert {source: items for source, items in harms.items() if items} == {}
    assert not lab.ran()
    assert lab.requested[before:] == []


def test_text_is_displayed_in_jupyterlab_as_intended(lab: Lab) -> None:
    """Prices are prices, formulas are formulas, and code is code."""
    expected = {
        "Cats cost $5 and dogs $6.": "Cats cost $5 and dogs $6.",
        r"Cats cost \$5, and \(x\) is not \\(y\\).": r"Cats cost $5, and {x} is not \(y\).",
        "$x^2$, $$y$$, \\(a\\)\\(b\\), \\[c\n+\nd\\]": "{x2}, {y}, {a} {b}, {c+d}",
        "$a<b$ costs $5 or $6 and `$7`": "{a<b} costs $5 or $6 and $7",
        "a <b> &lt;c&gt; AT&T @@0@@ $z$": "a <b> <c> AT&T @@0@@ {z}",
        "`<div>` and ``a ` $b`` $c `\\(d\\)`": "<div> and a ` $b $c \\(d\\)",
        "```html\n<div>$a &lt;</div>\n```": "<div>$a &lt;</div>",
        "```\n\\begin{a}<b>\\end{a} @@0@@\n```": "\\begin{a}<b>\\end{a} @@0@@",
        "```bash\necho $HOME $PATH > `x`\n```": "echo $HOME $PATH > `x`",
        "1. a\n   ```py\n   b = '<c>'\n   if $d:\n   ```": "a\nb = '<c>'\nif $d:",
        "> ~~~\n> <b>\n> ~~~": "<b>",
        "a\n\n    <b>\n\n- c\n\n      <d>": "a\n<b>\n\nc\n<d>",
        "| a | b |\n|---|---|\n| `x\\|y` | $z$ |": "a\nb\n\n\n\n\nx|y\n{z}",
        "![a cat](https://example.invalid/)": "a cat",
        "\\begin{align}\na&=b\\\\[2pt]\n\\end{align}": "{a=b}",
    }
    lab.run(SHOW.format(sources=list(expected)), outputs=len(expected))
    for source, text in zip(expected, lab.texts(), strict=True):
        shown = text.partition("complete · ")[0]  # the line at the end
        assert "".join(shown.split()) == "".join(expected[source].split()), source


def test_a_completion_is_harmless_in_jupyterlab(lab: Lab) -> None:
    """It is the last line of a cell that has not imported ``providers_sync.notebook``."""
    before = len(lab.requested)
    (found,) = lab.run(COMPLETION.format(source=f"a {IMAGE} `<b>` $5 or $6"), outputs=1)
    assert harm(found) == []
    assert not lab.ran()
    assert lab.requested[before:] == []
    assert lab.texts()[0].endswith("> <b> $5 or $6")


def test_tables_calls_and_images_of_an_answer_in_jupyterlab(lab: Lab) -> None:
    """All of it is text except the image; a click unfolds a call; the warning is not dimmed."""
    hostile = f"{IMAGE} $\\href{{javascript:window.ran=1}}{{x}}$"
    before = len(lab.requested)
    hostile = hostile.replace(HOST, lab.host)
    lab.run(ANSWERS.replace("HOSTILE", repr(hostile)).replace("PNG", PNG), outputs=1)
    check_answers(lab, hostile)
    (warning,) = lab.find("strong")
    assert "cut off by a limit" in warning.text
    assert float(warning.value_of_css_property("opacity")) == 1
    assert lab.find("img[src^='data:image/png']")[0].size["width"] == 8
    assert lab.requested[before:] == []


def test_end_of_an_answer_with_many_outputs_is_shown(lab: Lab) -> None:
    """JupyterLab hides none of them: not the answer, and not its outcome."""
    imports = ANSWERS.partition("show(")[0].replace("HOSTILE", "''").replace("PNG", PNG)
    lab.run(imports + MANY, outputs=MAX_CALLS + MAX_IMAGES + 2)
    assert lab.texts()[-1].startswith("A picture.")
    assert "The answer." in lab.texts()[-1]
    assert "complete · " in lab.texts()[-1]
    assert len(lab.find("img")) == MAX_IMAGES
    (others,) = [each for each in lab.find("summary") if "more tool calls" in each.text]
    others.click()
    assert len([each for each in lab.find("summary") if each.is_displayed()]) == 61


def test_outputs_that_jupyterlab_sanitizes(lab: Lab) -> None:
    """A notebook that somebody else has run looks the same."""
    hostile = f"{IMAGE} $x$".replace(HOST, lab.host)
    call = ToolCall("1", "find", {"words": hostile}, json.dumps({"words": hostile}))
    lab.show_unsigned(
        [
            table_bundle([{"name": hostile, "n": 1}], "", OutcomeLine("complete", "")),
            ShownCall(call, ToolResult("1", "find", hostile)).bundle(),
        ]
    )
    check_answers(lab, hostile)


def check_answers(lab: Lab, hostile: str) -> None:
    """Check a table and a call with this text in them."""
    cells = lab.find("td")
    assert [cell.text for cell in cells] == [hostile, "1"]
    assert cells[1].value_of_css_property("text-align") == "left"
    (summary,), (arguments, result) = lab.find("summary"), lab.find("details pre")
    assert summary.text.startswith("find(")
    assert not result.is_displayed()
    summary.click()
    assert result.is_displayed()
    assert json.loads(arguments.text) == {"words": hostile}
    assert result.text == hostile
    assert lab.find("mjx-container") == []
    assert lab.find("img:not([src^='data:image/png'])") == []
    assert not lab.ran()


def test_these_tests_would_detect_a_script(lab: Lab) -> None:
    """The tests above can fail: unsanitized Markdown runs its script."""
    (found,) = lab.run(CONTROL.format(source=f"a {IMAGE}"), outputs=1)
    assert "<img>" in harm(found)
    assert lab.ran()
    assert lab.requested == ["/img.png"]
