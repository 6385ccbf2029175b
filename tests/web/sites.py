"""Helpers of the web tests: sites that serve the chat page, and reply as they like."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from running import ROOT


class Site(ThreadingHTTPServer):
    """A site that serves the page; its handler replies to the questions."""

    daemon_threads = False

    def __init__(self, handler: type[PageHandler]) -> None:
        self.received: list[Any] = []
        """The conversations that were posted."""
        self.released = threading.Event()
        """Set at the end of the test, for handlers that wait."""
        super().__init__(("127.0.0.1", 0), partial(handler, directory=str(ROOT / "examples")))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class PageHandler(SimpleHTTPRequestHandler):
    """Serves the page."""

    timeout = 0.5  # Chromium also opens connections on which it sends nothing
    server: Site

    def translate_path(self, path: str) -> str:
        name = "/index.html" if path == "/" else path.removeprefix("/page")
        return super().translate_path(f"/chat_page{name}")

    def do_POST(self) -> None:
        messages = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append(messages)
        self.reply(messages[-1]["content"])

    def reply(self, question: str) -> None:
        """Answer a question."""
        raise NotImplementedError

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


@contextlib.contextmanager
def serving(handler: type[PageHandler]) -> Iterator[Site]:
    """Run a site until the ``with`` ends."""
    with Site(handler) as site:
        thread = threading.Thread(target=site.serve_forever)
        thread.start()
        try:
            yield site
        finally:
            site.released.set()
            site.shutdown()
            thread.join()


def done(outcome: str) -> str:
    """Return the last event of an answer."""
    stats = {"chunks": 1, "duration_s": 1}
    data = {"outcome": outcome, "note": None, "model": "m", "stats": stats}
    return f"event: done\ndata: {json.dumps(data)}\n\n"
