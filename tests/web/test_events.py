"""Tests of the events beyond text: sources, images, continued answers, and typed objects."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest
from running import events

from providers_sync import Completion, OpenAICompatible, TypedCompletion
from providers_sync.testing import cut, event, finish, serve, text, tool_call
from providers_sync.web import sse

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


def openai(url: str) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=url, retry=1)


def delta(**fields: Any) -> Any:
    """Send a chunk with fields beside the text."""
    return event({"choices": [{"index": 0, "delta": fields}]})


def sent_for(*script: Any) -> list[tuple[str, Any]]:
    with serve(list(script)) as server:
        return events(sse(openai(server.url).prepare("Hi")))


def citation(**fields: Any) -> Any:
    return delta(annotations=[{"type": "url_citation", "url_citation": fields}])


def test_sources_are_sent() -> None:
    (name, data), *_ = sent_for(
        citation(url="https://example.org/a?b=c", title="A\n\nB"), text("Hello")
    )
    assert name == "citation"
    assert data == {"url": "https://example.org/a?b=c", "title": "A\n\nB", "text": None}


@pytest.mark.parametrize(
    "url",
    [
        *("javascript:alert(1)", " javascript:alert(1)", "data:text/html,x", "//evil", "/path"),
        *("file:///etc/passwd", "https://", "https://a\nb", "https://a b", "x https://a", ""),
        "https://" + "a" * 9000,
    ],
)
def test_source_is_no_link_but_to_the_web(url: str) -> None:
    """A page may make a link of ``url`` without looking at it."""
    sent = sent_for(citation(url=url, title="A"), text("Hello"))
    assert [data for name, data in sent if name == "citation"] == [
        {"url": None, "title": "A", "text": None}
    ]


def image(data: bytes, mime_type: str = "image/png") -> Any:
    url = f"data:{mime_type};base64,{base64.b64encode(data).decode()}"
    return delta(images=[{"type": "image_url", "image_url": {"url": url}}])


def test_images_are_sent_by_what_their_bytes_are() -> None:
    """Whatever type the server names: a browser never gets HTML or SVG as a ``data:`` URL."""
    gif = b"GIF89a"
    sent = sent_for(
        image(PNG), image(gif, "image/svg+xml"), image(b"<svg onload=x>"), image(b"<html>", "a/b")
    )
    shown = [data for name, data in sent if name == "media"]
    assert [data["url"] for data in shown] == [
        f"data:image/png;base64,{base64.b64encode(PNG).decode()}",
        f"data:image/gif;base64,{base64.b64encode(gif).decode()}",
        None,
        None,
    ]


def test_image_that_is_too_large_is_named_only() -> None:
    sent = sent_for(image(PNG + bytes(20 << 20)))
    assert sent[0] == ("media", {"kind": "image", "url": None})


def test_address_of_an_image_is_checked() -> None:
    urls = ["https://example.org/a.png", "javascript:alert(1)"]
    chunks = [delta(images=[{"type": "image_url", "image_url": {"url": url}}]) for url in urls]
    sent = sent_for(*chunks, text("Hello"))
    assert [data["url"] for name, data in sent if name == "media"] == [urls[0], None]


def test_break_in_a_continued_answer_is_told() -> None:
    """Without the words of the error, which may quote the model's server."""
    with serve([[text("Hello "), cut()], [text("there.")]]) as server:
        sent = events(sse(openai(server.url).prepare("Hi", continue_after_break=1)))
    assert [name for name, _ in sent] == ["delta", "join", "delta", "done"]
    assert sent[1][1] == {"outcome": "cut"}
    assert (sent[-1][1]["outcome"], sent[-1][1]["stats"]["joins"]) == ("complete", 1)


@dataclass
class Recipe:
    name: str
    minutes: float = 5


def test_typed_answer_ends_with_its_object() -> None:
    """The text comes as it is written, the validated object with ``done``; both are saved."""
    ended: list[Completion] = []
    with serve([text('{"name": '), text('"Soup"}')]) as server:
        sent = events(sse(openai(server.url).prepare("Hi", into=Recipe), on_end=ended.append))
    assert [name for name, _ in sent] == ["delta", "delta", "done"]
    assert sent[-1][1]["value"] == {"name": "Soup", "minutes": 5}
    (answer,) = ended
    assert isinstance(answer, TypedCompletion)
    assert answer.value == Recipe("Soup")


INVALID = {
    "type": [text('{"name": 1}')],
    "no JSON": [text("Soup!")],
    "not whole": [text('{"name": "Soup"}'), finish("length")],
    "empty": [finish("stop")],
}


@pytest.mark.parametrize("fault", INVALID)
def test_object_that_is_not_valid_is_an_error(fault: str) -> None:
    """Its text has been shown, so it is not asked for again; ``on_end`` still gets the text."""
    ended: list[Completion] = []
    with serve(INVALID[fault]) as server:
        sent = events(sse(openai(server.url).prepare("Hi", into=Recipe), on_end=ended.append))
        assert len(server.requests) == 1
    (name, error), (last, done) = sent[-2:]
    assert (name, error["kind"], last, "value" in done) == ("error", "InvalidAnswer", "done", False)
    assert [(type(each), each.outcome) for each in ended] == [(Completion, "complete")]


def test_typed_answer_that_breaks_off_has_no_object() -> None:
    with serve([text('{"name": "Soup"}'), cut()]) as server:
        sent = events(sse(openai(server.url).prepare("Hi", into=Recipe)))
    assert [name for name, _ in sent] == ["delta", "error", "done"]
    assert (sent[1][1]["kind"], "value" in sent[-1][1]) == ("StreamCut", False)


def test_values_that_json_lacks() -> None:
    """A browser must be able to parse ``done``."""
    with serve([text('{"items": [NaN, Infinity, 1]}')]) as server:
        *_, (name, data) = events(sse(openai(server.url).prepare("Hi", into=list[float])))
    assert name == "done"
    assert data["value"] == [None, None, 1]


def test_typed_run_ends_with_its_object() -> None:
    def minutes(name: str) -> int:
        return 10

    call = tool_call("minutes", {"name": "Soup"})
    with serve(
        [[text("Let me see."), call], [text(json.dumps({"name": "Soup", "minutes": 10}))]]
    ) as server:
        run = openai(server.url).prepare_run("Hi", tools=[minutes], into=Recipe)
        sent = events(sse(run))
    assert sent[-1][1]["value"] == {"name": "Soup", "minutes": 10}
    assert sent[-1][1]["stats"]["attempts"] == 2
