"""Typed answers in a notebook: a table that grows, and the validated object at the end."""

from __future__ import annotations

import html
import json
import re
import threading
from typing import Any

import pytest
from notebook_kit import Kernel, kernel, no_leaks

from providers_sync import notebook
from providers_sync.testing import cut, finish, refusal, serve, stall, text, tool_call, wait
from providers_sync.typed import to_json
from providers_sync.value_table import (
    MAX_CELL,
    MAX_COLUMNS,
    MAX_HTML,
    MAX_ROWS,
    html_answer,
    html_table,
)

__all__ = ["kernel", "no_leaks"]
"""Fixtures."""

pytestmark = pytest.mark.filterwarnings("default:::jupyter_client", "default:::zmq")
RECIPE = """
from pydantic import BaseModel
class Recipe(BaseModel):
    name: str
    minutes: int
    tags: list[str] = []
"""


def rows(markup: str) -> list[list[str]]:
    """Return the text of the cells of a table."""
    (table,) = re.findall("<table>(.*)</table>", markup, re.S)
    return [
        [
            html.unescape(re.sub("<[^>]*>", "", cell))
            for cell in re.findall("<t[hd].*?</t[hd]>", row)
        ]
        for row in re.findall("<tr>(.*?)</tr>", table)
    ]


def text_of(markup: str) -> str:
    return html.unescape(re.sub("<[^>]*>", "", markup))


def test_list_is_a_table_that_grows(kernel: Kernel) -> None:
    """Partial rows while it streams; at the end the validated objects, with their defaults."""
    kernel.run(RECIPE)
    go_on = threading.Event()
    first, second = '{"name": "Soup", "minutes": 20}', '{"name": "Salad", "minutes": "5"}'
    with serve(
        [text(f'{{"items": [{first}, {{"name": "Sal'), wait(go_on), f"{second[13:]}]}}"]
    ) as (server):
        url = server.url
        cell = kernel.start(f"answer = show(openai({url!r}).stream('x', into=list[Recipe]))")
        cell.wait('"Sal')
        assert rows(cell.outputs[0]["text/html"])[1:] == [["Soup", "20"], ["Sal", ""]]
        go_on.set()
        cell.end()
        (output,) = cell.outputs
        assert rows(output["text/html"]) == [
            ["name", "minutes", "tags"],
            ["Soup", "20", "[]"],
            ["Salad", "5", "[]"],
        ]
        assert output["text/plain"].startswith(f'{{"items": [{first}, {second}]}}\n\n— complete · ')
        assert "complete" in output["text/html"]
        assert kernel.value("answer.value[1].minutes") == 5
        again = kernel.run("answer")
        assert rows(again.outputs[0]["text/html"]) == rows(output["text/html"])


def test_json_that_has_only_begun_is_not_shown(kernel: Kernel) -> None:
    """A placeholder stands for it; and an escape that has begun is no mistake in the JSON."""
    begun, escape = threading.Event(), threading.Event()
    script = [text('{"ite'), wait(begun), 'ms": ["a", "b\\', wait(escape), 'u00e9"]}']
    with serve(script) as server:
        cell = kernel.start(f"answer = show(openai({server.url!r}).stream('x', into=list[str]))")
        while len(cell.states) < 2:
            assert not cell._next()
        assert cell.states == ["…", "…"]
        begun.set()
        cell.wait('"b')
        markup = cell.outputs[0]["text/html"]
        escape.set()
        cell.end()
    assert rows(markup) == [["a"], ["b"]]
    assert "all of the JSON" not in markup
    assert rows(cell.outputs[0]["text/html"]) == [["a"], ["bé"]]


def test_object_is_a_table_of_its_fields(kernel: Kernel) -> None:
    """Also at the end of a cell that has not shown it, with or without the notebook module."""
    kernel.run(RECIPE)
    with serve(['{"name": "Soup", "minutes": 20, "tags": ["a", "b"]}']) as server:
        shown = kernel.run(f"answer = show(openai({server.url!r}).stream('x', into=Recipe))")
        alone = kernel.run(f"openai({server.url!r}).complete('x', into=Recipe)")
        method = kernel.value(f"openai({server.url!r}).complete('x', into=Recipe)._repr_html_()")
    expected = [["name", "Soup"], ["minutes", "20"], ["tags", '["a", "b"]']]
    for markup in (shown.outputs[0]["text/html"], alone.outputs[0]["text/html"], method):
        assert rows(markup) == expected


def test_broken_or_invalid_answer_keeps_its_partial_table(kernel: Kernel) -> None:
    """What had arrived stays on the page, then comes the error."""
    kernel.run(RECIPE)
    with serve([[text('{"name": "So'), cut()], ['{"name": "Soup", "minutes": "x"}']]) as server:
        for name, expected in (("StreamCut", [["name", "So"]]), ("InvalidAnswer", None)):
            cell = kernel.start(f"show(openai({server.url!r}).stream('x', into=Recipe))").end()
            found = rows(cell.outputs[0]["text/html"])
            assert found == (expected or [["name", "Soup"], ["minutes", "x"]])
            assert [error["ename"] for error in cell.errors] == [name]


def test_serializer_that_fails_loses_no_answer(kernel: Kernel) -> None:
    """A type of the user's that cannot be made JSON again keeps the table of what arrived."""
    kernel.run(
        f"{RECIPE}\nfrom pydantic import field_serializer\nclass Odd(Recipe):\n"
        "    @field_serializer('name')\n    def fail(self, name): raise KeyError(name)"
    )
    with serve(['{"name": "Soup", "minutes": 20}']) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x', into=Odd))")
    assert rows(cell.outputs[0]["text/html"]) == [["name", "Soup"], ["minutes", "20"]]
    again = kernel.run("answer")
    assert kernel.value("answer._repr_html_()") is None
    assert again.outputs[0]["text/plain"] == '{"name": "Soup", "minutes": 20}'
    assert again.printed == ""
    assert kernel.value("answer.value.name") == "Soup"


def test_stop_button_keeps_the_partial_table(kernel: Kernel) -> None:
    """And the text, as with any answer."""
    kernel.run(RECIPE)
    with serve([text('{"name": "So'), stall()]) as server:
        kernel.run(f"stream = openai({server.url!r}).stream('x', into=Recipe)")
        cell = kernel.start("show(stream)").wait('"So')
        kernel.interrupt()
        cell.end()
        assert [error["ename"] for error in cell.errors] == ["Stopped"]
        assert rows(cell.outputs[0]["text/html"]) == [["name", "So"]]
        assert cell.plain[1].startswith("cancelled · ")


@pytest.mark.parametrize(
    ("script", "shown", "fails"),
    [
        ([text('Careful:\n```json\n{"name": "a", "minutes": 1}\n```\nDo <b>not</b>.')],
         ["Careful:", "Do <b>not</b>."], False),
        ([text('{"name": "a", "minutes": 1}'), refusal("I $won't$.")], ["I $won't$."], True),
        ([text('{"name": "a", "minutes": 1} So I'), finish("length")], ["So I"], True),
        ([text('{"name": "a", "minutes": 1, "tags": x} Sorry')],
         ['all of the JSON{"name": "a", "minutes": 1, "tags": ', "x} Sorry"], True),
        ([text('[note] {"name": "a", "minutes": 1, "hint": "hot"}')],
         ["[note]", 'all of the JSON{"name": "a", "minutes": 1, "hint": "hot"}'], False),
    ],
)  # fmt: skip
def test_what_is_said_around_the_object_is_shown(
    kernel: Kernel, script: list[Any], shown: list[str], fails: bool
) -> None:
    """Above and below the table, as text: a warning must not get lost."""
    kernel.run(RECIPE)
    with serve([script]) as server:
        ways = (
            f"answer = show(openai({server.url!r}).stream('x', into=Recipe))",
            f"openai({server.url!r}).complete('x', into=Recipe)",
            f"from IPython.display import HTML\n"
            f"HTML(openai({server.url!r}).complete('x', into=Recipe)._repr_html_())",
        )
        for way in ways[:1] if fails else ways:  # one that fails shows what had arrived
            markup = kernel.start(way).end().outputs[0]["text/html"]
            assert rows(markup)[:2] == [["name", "a"], ["minutes", "1"]]
            around = text_of(re.sub("<table>.*</table>", "|", markup, flags=re.S))
            positions = [around.index(each) for each in shown]
            assert positions == sorted(positions)
            assert "```" not in around


def test_items_left_out_are_counted(kernel: Kernel) -> None:
    """With ``skip_invalid=True`` the table has the good ones."""
    items = '{"items": [{"name": "a", "minutes": 1}, {"name": "b"}]}'
    kernel.run(RECIPE)
    with serve([items]) as server:
        options = "into=list[Recipe], skip_invalid=True"
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x', {options}))")
    again = kernel.run("display(answer)").outputs[0]
    assert "1 invalid item" in again["text/html"]
    assert kernel.value("answer._repr_html_()").endswith("<strong>1 invalid item</strong>")
    assert again["text/plain"].endswith("— 1 invalid item")
    assert "{&quot;name&quot;: &quot;b&quot;}" in again["text/html"]
    assert [row[0] for row in rows(cell.outputs[0]["text/html"])] == ["name", "a"]
    assert " · 1 invalid item · " in cell.plain[1]


def test_run_shows_its_remark_its_call_and_its_table(kernel: Kernel) -> None:
    """Text before a call is Markdown, the object of the last round is a table."""
    kernel.run(f"{RECIPE}\ndef add(a: int, b: int) -> int:\n    return a + b")
    script = [[text("Let me see."), tool_call("add", {"a": 1, "b": 2})]]
    with serve([*script, ['{"name": "Soup", "minutes": 3}']]) as server:
        cell = kernel.run(
            f"answer = show(openai({server.url!r}).run('x', tools=[add], into=Recipe))"
        )
    remark, call, table = cell.outputs
    assert remark["text/markdown"] == "Let me see."
    assert call["text/plain"] == 'add({"a": 1, "b": 2}): 3'
    assert rows(table["text/html"]) == [["name", "Soup"], ["minutes", "3"], ["tags", "[]"]]


def test_typed_answer_in_a_script_is_its_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a notebook nothing has changed."""
    from providers_sync import OpenAICompatible

    with serve(['{"a": 1}']) as server:
        stream = OpenAICompatible("m", base_url=server.url).stream("x", into=dict[str, int])
        assert notebook.show(stream).value == {"a": 1}
    assert capsys.readouterr().out.startswith('{"a": 1}\n— complete · 1 chunk · ')


# --- the table


ITEM = {"name": "a", "n": 1}


@pytest.mark.parametrize(
    ("value", "text", "shown"),
    [
        ([ITEM], '{"warning": "raw!"}\n{"items": [{"name": "a", "n": "1"}]} So',
         '{"warning": "raw!"}|So'),
        ([ITEM], '[1] says: {"items": [{"name": "a", "n": 1.0}]}', "[1] says:|"),
        (ITEM, '{"q": 11}\n\n```json\n{"name": "a", "n": 1}\n```', '{"q": 11}|'),
        (ITEM, '{"name": "a"} {"n": 1, "name": "a"}', '{"name": "a"}|'),
        (ITEM, '{"warning": "raw!"} {"Name": "a"}', '{"warning": "raw!"} {"Name": "a"}|'),
        ([ITEM], '{"items": [{"name": "a", "n": 1}, 2]}',
         '|all of the JSON{"items": [{"name": "a", "n": 1}, 2]}'),
        ([ITEM], '{"items": [{"name": "b", "n": 1}]}',
         '|all of the JSON{"items": [{"name": "b", "n": 1}]}'),
        ([], '{"warning": []}', '|all of the JSON{"warning": []}'),
        ({"a": {"b": 1}}, '{"a": "{\\"b\\": 1}"}', "|"),
    ],
)  # fmt: skip
def test_table_is_in_the_place_of_its_json(value: Any, text: str, shown: str) -> None:
    """Not of another one, whose text would be lost; without one, it is below all of the text."""
    around = re.sub("<table>.*</table>", "|", html_answer(value, text), flags=re.S)
    assert text_of(around) == shown


def test_remark_that_is_json_stays(kernel: Kernel) -> None:
    """The object is made of the first JSON that validates."""
    kernel.run(RECIPE)
    items = '{"items": [{"name": "a", "minutes": 1}]}'
    for into, last in (("list[Recipe]", items), ("int", '{"value": 5}')):
        with serve([f'{{"warning": "raw!"}} {last}']) as server:
            cell = kernel.run(f"openai({server.url!r}).complete('x', into={into})")
        assert text_of(cell.outputs[0]["text/html"]).startswith('{"warning": "raw!"}')
        assert "all of" not in cell.outputs[0]["text/html"]


def test_table_of_hostile_values_is_text() -> None:
    """No markup, no formula, no control character, in names and in cells."""
    hostile = "<img src=x onerror=alert(1)>&lt;\x1b[2J\u202e$\\href{javascript:f()}{y}$"
    shown = hostile.replace("\x1b", "␛").replace("\u202e", "<U+202E>")
    nested = [hostile, "a" * MAX_CELL]
    folded = json.dumps([shown, nested[1]], ensure_ascii=False).replace("␛", "\\u001b")
    tables = {
        html_table({hostile: hostile}): [[shown, shown]],
        html_table([{hostile: hostile}]): [[shown], [shown]],
        html_table([hostile, nested]): [[shown], [folded]],
    }
    alone = html_table(hostile)
    amid = html_answer({"a": 1}, f'{hostile} {{"a": 1, "b": 2}} {hostile}')
    for markup in (*tables, alone, amid):
        tags = {"table", "tr", "th", "td", "span", "div", "details", "summary"}
        assert set(re.findall(r"<(\w+)", markup)) <= tags
        assert not {"$", "\\", "\x1b"} & {*markup}
    assert [rows(markup.replace("…", "")) for markup in tables] == list(tables.values())
    assert text_of(alone) == shown


def test_large_table_says_what_is_left_out() -> None:
    """Rows, columns, characters of a cell, and of the whole."""
    assert rows(html_table(list(range(MAX_ROWS + 1))))[-1] == [str(MAX_ROWS - 1)]
    assert html_table(list(range(MAX_ROWS + 1))).endswith("<div>… 1 more row</div>")
    wide = html_table([{str(n): n for n in range(MAX_COLUMNS + 2)}])
    assert wide.endswith("<div>… 2 more columns</div>")
    assert html_table({str(n): n for n in range(MAX_ROWS + 3)}).endswith("… 3 more fields</div>")
    assert rows(html_table(["a" * (MAX_CELL + 7)])) == [["a" * MAX_CELL + "…" + "a" * 7]]
    huge = html_table([{str(n): "$" * MAX_CELL for n in range(MAX_COLUMNS)}] * MAX_ROWS)
    assert len(huge) < MAX_HTML + 1000
    shown = len(rows(huge)) - 1
    assert huge.endswith(f"<div>… {MAX_ROWS - shown} more rows</div>")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([{"a": 1}, {"b": None}], [["a", "b"], ["1", ""], ["", "null"]]),
        ([{"a": 1}, 2], [['{"a": 1}'], ["2"]]),
        ([], []),
        ({}, []),
        ({"a": {"b": [True]}}, [["a", '{"b": [true]}']]),
        ([10**5000], [["…"]]),
    ],
)
def test_table_of(value: object, expected: list[list[str]]) -> None:
    """Missing fields are empty, what is nested is compact JSON."""
    assert rows(html_table(value)) == expected


def test_bytes_that_are_no_text_are_base64() -> None:
    """A field of a user's type may hold them."""
    assert to_json({"a": b"b", "c": b"\xff"}) == {"a": "Yg==", "c": "_w=="}


def test_value_that_is_no_container_is_itself() -> None:
    """A long text is whole."""
    for value, shown in ((False, "false"), ("a\nb" * MAX_CELL, "a\nb" * MAX_CELL)):
        assert text_of(html_table(value)) == shown
