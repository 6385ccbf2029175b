"""Middleware that compresses responses must not hold answers back: it would hide a disconnect."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator

import pytest
from running import CANCEL_S, Upstream, events
from servers import run_on
from test_servers import WAIT_S, post, read_until

from providers_sync.testing import cut, pause, repeat, stall, text, wait

BROWSER = {"Accept-Encoding": "gzip, deflate, br, zstd"}
APPS = {"compressed_flask": "flask_compress", "compressed_django": "django"}


@pytest.fixture(scope="module", params=APPS)
def url(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[str]:
    """Each example with compressing middleware, and WhiteNoise beside it."""
    for module in (APPS[request.param], "whitenoise"):
        pytest.importorskip(module)
    with run_on("gunicorn gthread", upstream, request.param) as url:
        yield url


def test_other_responses_are_compressed(url: str) -> None:
    """The middleware is there."""
    request = urllib.request.Request(f"{url}/", headers=BROWSER)
    with urllib.request.urlopen(request, timeout=WAIT_S) as response:
        assert response.headers["Content-Encoding"] in ("gzip", "br", "zstd", "deflate")


def test_chunk_arrives_before_the_next_is_sent(url: str, upstream: Upstream) -> None:
    go = threading.Event()
    upstream.set_answer("Hi", text("Hello "), wait(go), text("there."))
    with post(url, "Hi", headers=BROWSER) as response:
        assert response.getheader("Content-Encoding") == "identity"
        read_until(response, b'"Hello "}\n\n')
        go.set()
        (name, data), (last, outcome) = events([response.read()])
    assert (name, data) == ("delta", {"text": "there."})
    assert (last, outcome["is_whole"]) == ("done", True)


@pytest.mark.parametrize("phase", ["waiting", "silent", "streaming"])
def test_disconnect_cancels_the_call(url: str, upstream: Upstream, phase: str) -> None:
    """Within a second, as without the middleware."""
    first = [] if phase == "waiting" else [text("Hello ")]
    rest = repeat(text("word "), pause(0.05)) if phase == "streaming" else stall()
    turn = upstream.set_answer("Hi", *first, rest)
    with post(url, "Hi", headers=BROWSER) as response:
        assert turn.received.wait(WAIT_S)
        read_until(response, b'"Hello "' if first else b":\n\n")
    assert upstream.wait_closed(turn, WAIT_S) < CANCEL_S


def test_cut_answer_is_reported(url: str, upstream: Upstream) -> None:
    upstream.set_answer("Hi", text("Hello "), cut())
    with post(url, "Hi", headers=BROWSER) as response:
        sent = [(name, data.get("outcome")) for name, data in events([response.read()])]
    assert sent == [("delta", None), ("error", "cut"), ("done", "cut")]


def test_plain_text_arrives_as_it_is_sent(url: str, upstream: Upstream) -> None:
    """Flask-Compress compresses plain text by default."""
    go = threading.Event()
    upstream.set_answer("Hi", text("Hello "), wait(go), text("there."))
    with post(url, "Hi", "/plain", headers=BROWSER) as response:
        assert read_until(response, b"Hello ") == b"Hello "
        go.set()
        assert response.read() == b"there."
