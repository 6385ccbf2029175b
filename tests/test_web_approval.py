"""The code for approval in ``docs/web.md``: what was done is kept, whatever a browser sends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faults.phases import wait_until

from providers_sync import OpenAICompatible
from providers_sync.testing import Request, cut, serve, status, text, tool_call
from providers_sync.testing.answers import to_answer
from providers_sync.web import SSE_HEADERS, question, sse

PAGE = Path(__file__).parent.parent / "docs" / "web.md"
FAILURES = {"refused": status(500), "cut": [text("Boo"), cut()]}


class Site:
    """The app of the docs; its model calls ``book``, and answers when it has the result."""

    def __init__(self) -> None:
        self.booked: list[str] = []
        self.failure: Any = None
        self.asked: list[Any] = []
        self.server = serve(self._answer)

    def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Run the code of the docs."""
        flask = pytest.importorskip("flask")
        monkeypatch.setenv("SECRET_KEY", "x")
        self.app = flask.Flask("docs")
        names = {
            **{"app": self.app, "book": self.book, "question": question, "sse": sse},
            **{"Response": flask.Response, "request": flask.request, "SSE_HEADERS": SSE_HEADERS},
            "provider": OpenAICompatible("m", base_url=self.server.url, retry=1),
        }
        section = PAGE.read_text("utf-8").split("\n## Answers with tools\n")[1]
        found = re.search(r"```python\n(.*?)```", section, re.S)
        assert found is not None
        exec(found[1], names)
        self.client = self.app.test_client()

    def book(self, place: str) -> str:
        """Book a place."""
        self.booked.append(place)
        return "booked"

    def post(self, path: str, body: Any) -> tuple[int, str]:
        """Return the status and the body."""
        response = self.client.post(path, json=body)
        return response.status_code, response.get_data(as_text=True)

    def _answer(self, request: Request) -> Any:
        self.asked.append(request.json()["messages"][0]["content"])
        script: Any = [text("I will."), tool_call("book", {"place": "Oslo"})]
        if any(message["role"] == "tool" for message in request.json()["messages"]):
            script = self.failure or [text("It is booked.")]
        return replace(to_answer(script), keep_alive=False)  # no test leaves a connection open


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site()
    with site.server:
        site.run(monkeypatch)
        yield site


def test_call_is_made_once_it_is_approved(site: Site) -> None:
    assert '"outcome":"paused"' in site.post("/booking", "Book")[1]
    assert '"outcome":"paused"' in site.post("/approve", {})[1]
    assert site.booked == []
    assert "It is booked." in site.post("/approve", {"call_1": True})[1]
    assert site.booked == ["Oslo"]
    assert site.post("/approve", {"call_1": True})[0] == 409


@pytest.mark.parametrize("failure", FAILURES)
def test_model_that_fails_after_the_call(site: Site, failure: str) -> None:
    """The result is kept: going on does not call the function again."""
    site.post("/booking", "Book")
    site.failure = FAILURES[failure]
    assert "event: error" in site.post("/approve", {"call_1": True})[1]
    site.failure = None
    assert "It is booked." in site.post("/approve", {"call_1": True})[1]
    assert site.booked == ["Oslo"]


@pytest.mark.parametrize("body", [{"call_1": None}, [1], 5, {"call_1": {"a": 1}}, {"call_1": 1}])
def test_decisions_that_are_none(site: Site, body: Any) -> None:
    """They are refused, and the call still waits."""
    site.post("/booking", "Book")
    assert site.post("/approve", body)[0] == 400
    assert "It is booked." in site.post("/approve", {"call_1": True})[1]


def test_old_answer_that_ends_after_a_new_question(site: Site) -> None:
    """Its call cannot be approved any more."""
    response = site.client.post("/booking", json="Old", buffered=False)
    next(response.iter_encoded())
    wait_until(lambda: "Old" in site.asked)  # what comes first is sent before the request
    site.post("/booking", "New")
    response.close()
    site.asked.clear()
    assert "It is booked." in site.post("/approve", {"call_1": True})[1]
    assert set(site.asked) == {"New"}


def test_nothing_is_paused(site: Site) -> None:
    assert site.post("/approve", {"call_1": True})[0] == 409
