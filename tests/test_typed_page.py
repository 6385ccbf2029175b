"""docs/typed.md: its programs print what is shown below them, and its tables are true."""

from __future__ import annotations

import json
import re
import threading
from functools import partial
from pathlib import Path
from typing import Any, Union

import pytest
from pydantic import BaseModel, create_model
from test_system_argument import bodies, provider_of

from providers_sync import PROVIDERS, ProviderError, json_reader
from providers_sync import errors as errors_module
from providers_sync.encoding import schema_trees
from providers_sync.encoding.schemas import ANTHROPIC, OPENAI
from providers_sync.testing import (
    Request,
    ScriptedProvider,
    answer,
    cut,
    finish,
    refusal,
    serve,
    status,
    text,
    wait,
)
from providers_sync.typed.stream import MAX_WORDS
from providers_sync.typed.targets import MAX_ERRORS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/typed.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.M | re.S)
ANSWERS: dict[str, Any] = {
    "A recipe for pancakes": {"name": "Pancakes", "minutes": 20},
    "Three recipes": [{"name": name, "minutes": 9} for name in ("Soup", "Salad", "Cake")],
    "Two recipes": [{"name": "Soup", "minutes": 9}, {"name": "Bread", "minutes": "ninety"}],
    "The capital of Italy": {"name": "Rome", "people": 2_750_000},
    "Is 91 a prime?": False,
    "Good or bad: 'Not again!'": "bad",
    "Three colours": ["red", "green", "blue"],
    "Letters in these words: to be": {"to": 2, "be": 2},
    "A recipe for tea, or null": None,
    "A recipe for bread": {"name": "Bread", "minutes": "ninety"},
}
"""What the model says to each question of the page."""
LIMITS: Any = ANTHROPIC.limits
OPENAI_LIMITS: Any = OPENAI.limits
REPAIRED = {"name": "Bread", "minutes": 90}


class Recipe(BaseModel):
    name: str
    minutes: int


GOOD = '{"name": "Soup", "minutes": 9}'


class Model:
    """The server of the model: each piece of an answer waits until the program has printed one."""

    def __init__(self, pieces: int) -> None:
        self.printed = [threading.Event() for _ in range(pieces)]
        self.numbers = iter(self.printed)

    def print(self, *values: Any) -> None:
        print(*values)
        next(self.numbers, threading.Event()).set()

    def answer(self, request: Request) -> list[Any]:
        question, *more = [
            turn["content"] for turn in request.json()["messages"] if turn["role"] == "user"
        ]
        value = REPAIRED if more else ANSWERS[question]
        schema = request.json()["response_format"]["json_schema"]["schema"]
        [*names] = schema.get("properties", ())
        said = {names[0]: value} if names in (["items"], ["value"]) else value
        if not self.printed:
            return [text(json.dumps(said))]
        first, second = self.printed
        return ['{"name": "Pan', wait(first), 'cakes"', wait(second), ', "minutes": 20}']


def test_programs_print_what_is_below_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One after the other, as a reader would run them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    assert len(PROGRAMS) == PAGE.count("```python\n")
    for program, output in PROGRAMS:
        model = Model(pieces=2 if ".partials()" in program else 0)
        names["print"] = model.print
        with serve(model.answer) as server:
            if "provider" in names:
                names["provider"].base_url = server.url
            here = program.replace("http://127.0.0.1:8000/v1", server.url)
            exec(compile(here, "typed.md", "exec", dont_inherit=True), names)
            names["provider"].close()
        assert capsys.readouterr().out == output


# --- tables


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the page's table that begins so."""
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]


MODES = {row[0].strip("`"): row[1] for row in rows("provider")}
HISTORICAL = ("vitalentum", "codelinkava", "ai365vip")


def test_table_lists_every_protocol() -> None:
    others = {kind.__name__ for name, kind in PROVIDERS.items() if name not in HISTORICAL}
    assert {*MODES} == {*others, "the three historical ones"}


@pytest.mark.parametrize("name", PROVIDERS)
def test_schema_is_where_the_table_says(name: str) -> None:
    provider = provider_of(name)
    provider.play([answer(GOOD)])
    provider.complete("Hi", into=Recipe)
    [body] = bodies(provider)
    if name in HISTORICAL:
        assert "Answer with JSON only" in json.dumps(body)
        return
    cell = MODES[PROVIDERS[name].__name__]
    [path, *more] = re.findall(r"`([\w.]+)`", cell)
    place: Any = body
    for key in path.split("."):
        place = place[key]
    assert "minutes" in json.dumps(place)
    assert more == (["strict"] if "strict" in place else [])


class Tree(BaseModel):
    children: list[Tree]


class OptionalTree(BaseModel):
    children: list[OptionalTree] = []


LONG: Any = create_model("Long", **{f"f{n}": (int, 0) for n in range(25)})
UNIONS: Any = create_model("Unions", **{f"f{n}": (Union[int, str], ...) for n in range(17)})
LACKING: dict[str, tuple[list[Any], list[Any]]] = {
    "Anthropic": (
        [list[Any], tuple[int, str], dict[str, int], OptionalTree, LONG, UNIONS],
        [Recipe, list[Recipe], Union[int, str]],
    ),
    "Gemini": ([list[Any], Tree], [tuple[int, str], dict[str, int], OptionalTree, LONG, UNIONS]),
}
"""What the mode of a protocol lacks, in the order of the table, and what it has."""


@pytest.mark.parametrize("name", ["anthropic", "gemini"])
def test_tool_is_forced_where_the_mode_lacks_something(name: str) -> None:
    """For each reason that the table gives, and for nothing else."""
    for forced, types in zip((True, False), LACKING[PROVIDERS[name].__name__], strict=True):
        for into in types:
            provider = provider_of(name)
            provider.play([answer("{}", finish("stop"))])
            with provider.stream("Hi", into=into) as stream:
                stream.read()
            [body] = bodies(provider)
            assert ("tools" in body) is forced, into


def test_strict_rules_that_cannot_hold_a_schema_are_not_sent() -> None:
    provider = ScriptedProvider("{}")
    for into in (dict[str, int], Recipe):
        with provider.stream("Hi", into=into) as stream:
            stream.read()
    formats = [body["response_format"]["json_schema"] for body in bodies(provider)]
    assert [each["strict"] for each in formats] == [False, True]


def stopped(provider: ScriptedProvider) -> Any:
    with provider.stream("Hi", into=Recipe) as stream:
        next(stream)
        stream.cancel()
        return stream.value


ENDS: dict[str, Any] = {
    "the connection broke": [text(GOOD[:9]), cut()],
    "the stream ended too early": answer(text(GOOD), end=False),
    "a timeout": [text(GOOD), wait(threading.Event())],
    "`cancel()`": [text(GOOD), wait(threading.Event())],
    "a limit or a filter ended the answer": answer(GOOD, finish("length")),
    "a refusal": answer(refusal("No.")),
    "the answer is whole, but not JSON": answer("Sorry"),
    "the answer does not validate": answer('{"name": "Soup"}'),
}


def test_table_lists_the_tested_ends() -> None:
    assert [row[0] for row in rows("what happened")] == list(ENDS)


@pytest.mark.parametrize(("end", "raised", "again"), rows("what happened"))
def test_ends_raise_what_the_table_says(end: str, raised: str, again: str) -> None:
    """With the text, and with the object as far as it has arrived."""
    provider = ScriptedProvider(ENDS[end])
    ask: Any = partial(provider.complete, "Hi", into=Recipe, timeouts=0.2, retry=None)
    if end == "`cancel()`":
        ask = partial(stopped, provider)
    with pytest.raises(ProviderError) as caught:
        ask()
    assert type(caught.value) is getattr(errors_module, raised.strip("`"))
    assert len(provider.requests) == (2 if again == "yes" else 1)
    has_text = end not in ("a refusal", "the answer is whole, but not JSON")
    assert (caught.value.partial_value is not None) is has_text
    assert bool(caught.value.partial) is (end != "a refusal")


def test_numbers_of_the_page_are_those_of_the_code() -> None:
    page = " ".join(PAGE.split())
    for words in (
        f"(up to {MAX_WORDS:,} characters)",
        f"at most {MAX_ERRORS};",
        f"for `Anthropic` the default is {default_max_tokens()},",
        f"{json_reader.MAX_DEPTH} levels of lists and objects",
        f"{json_reader.MAX_CHARACTERS // 2**20} million characters",
        f"{json_reader.MAX_NUMBER:,} characters in a number",
        f"A schema may have {schema_trees.MAX_DEPTH} levels",
        f"more than {OPENAI_LIMITS['levels']} levels of objects",
        f"more than {LIMITS['optional properties']} optional fields or {LIMITS['unions']} unions",
    ):
        assert words in page


def default_max_tokens() -> int:
    provider = provider_of("anthropic")
    provider.complete("Hi")
    tokens: int = bodies(provider)[0]["max_tokens"]
    return tokens


@pytest.mark.parametrize("code", [400, 404, 422, 501])
def test_statuses_lead_to_another_way(code: int) -> None:
    assert str(code) in PAGE
    provider = ScriptedProvider([status(code, "response_format?"), answer(GOOD)])
    assert provider.complete("Hi", into=Recipe).stats.attempts == 2


def test_linked_examples_exist() -> None:
    for path in re.findall(r"\]\(\.\./(examples/[^)]+)\)", PAGE):
        assert (ROOT / path).is_file(), path
