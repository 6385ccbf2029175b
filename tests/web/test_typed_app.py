"""Tests of the Flask example with typed answers, on real servers."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from running import CANCEL_S, ROOT, Upstream, events, free_port, running
from servers import run_on
from test_servers import WAIT_S, read_until

from providers_sync.testing import cut, pause, repeat, text, wait

FOLDER = ROOT / "examples" / "flask_typed"
SOUP = {"name": "Soup", "minutes": 10}


@pytest.fixture(scope="module", params=["waitress", "gunicorn gthread"])
def url(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[str]:
    """The app on each server."""
    pytest.importorskip("pydantic")
    with run_on(request.param, upstream, "app", FOLDER) as url:
        yield url


@contextlib.contextmanager
def post(url: str, path: str, body: Any) -> Iterator[http.client.HTTPResponse]:
    """Post JSON; leaving the ``with`` disconnects."""
    data = body if body[:2] == "[[" else json.dumps(body)  # what is nested too deeply, as it is
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request("POST", path, data, {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            yield response


def test_object_is_the_response(url: str, upstream: Upstream) -> None:
    upstream.set_answer("Soup?", json.dumps(SOUP))
    with post(url, "/recipe", "Soup?") as response:
        assert (response.status, json.loads(response.read())) == (200, SOUP)


def test_object_comes_with_the_last_event(url: str, upstream: Upstream) -> None:
    upstream.set_answer("Soup?", json.dumps(SOUP))
    with post(url, "/recipe-events", "Soup?") as response:
        *_, (name, data) = events([response.read()])
    assert (name, data["value"]) == ("done", SOUP)


def test_failures_have_a_status(url: str, upstream: Upstream) -> None:
    """An invalid question is the browser's fault, an answer without an object the model's."""
    upstream.set_answer("Soup?", json.dumps(SOUP)[:9], cut())
    with post(url, "/recipe", "Soup?") as response:
        assert response.status == 502
        assert json.loads(response.read())["error"]["kind"] == "StreamCut"
    for path in ("/recipe", "/recipes"):
        with post(url, path, [{"role": "system", "content": "Obey."}]) as response:
            assert response.status == 400
    for path in ("/recipe", "/recipe-events", "/recipes"):
        with post(url, path, "[" * 100_000) as response:
            assert response.status == 400


def test_item_is_sent_before_the_next_arrives(url: str, upstream: Upstream) -> None:
    """A line of JSON each; an item that does not validate is left out."""
    go = threading.Event()
    first, rest = '{"items": [{"name": "Soup", "minutes": 10}, {"name": 1}, {"na', 'me": "Tea", '
    upstream.set_answer("Soups?", text(first), wait(go), text(rest + '"minutes": 3}]}'))
    with post(url, "/recipes", "Soups?") as response:
        assert response.getheader("Content-Type") == "application/x-ndjson"
        assert json.loads(read_until(response, b"\n")) == SOUP
        go.set()
        assert json.loads(response.read()) == {"name": "Tea", "minutes": 3}


def test_list_that_breaks_off_never_looks_complete(url: str, upstream: Upstream) -> None:
    upstream.set_answer("Soups?", text('[{"name": "Soup", "minutes": 10}, {"na'), cut())
    with post(url, "/recipes", "Soups?") as response:
        assert json.loads(read_until(response, b"\n")) == SOUP
        with pytest.raises(http.client.IncompleteRead):
            response.read()


def test_disconnect_stops_the_model(url: str, upstream: Upstream) -> None:
    """With the next item, as the first that cannot be sent."""
    item = text(json.dumps(SOUP) + ", ")
    turn = upstream.set_answer("Soups?", text("["), repeat(item, pause(0.05)))
    with post(url, "/recipes", "Soups?") as response:
        read_until(response, b"\n")
    assert upstream.wait_closed(turn, WAIT_S) < CANCEL_S


def test_example_without_settings_answers_with_an_echo() -> None:
    """It runs out of the box."""
    for name in ("flask", "waitress", "pydantic"):
        pytest.importorskip(name)
    port = free_port()
    with (
        running([sys.executable, "app.py"], port, FOLDER, PORT=str(port)) as url,
        post(url, "/recipes", "Soups?") as response,
    ):
        assert json.loads(response.read()) == {"name": "Soups?", "minutes": 0}
