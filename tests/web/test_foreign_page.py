"""Tests in a real browser that a page of another origin cannot use the gateway's model."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from gateway_kit import PATHS, body_of

from providers_sync.echo import EchoEngine
from providers_sync.engines import EngineEvent
from providers_sync.gateway import Gateway, serve
from providers_sync.stream import CancelToken
from providers_sync.types import Messages

WAIT_S = 30.0
TRY_ALL = r"""
const [target, body, sameOrigin, done] = arguments;
const kinds = ["application/json", "text/plain", "text/plain; charset=application/json",
  "application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json"];
const results = [];
const note = (how, result) => results.push([how, result]);
async function ask(how, options) {
  try {
    const response = await fetch(target, {method: "POST", body, ...options});
    note(how, `${response.type} ${response.status}`);
  } catch (error) {
    note(how, error.name);
  }
}
function form(enctype) {
  const [frame, form, input] = ["iframe", "form", "input"].map(
    name => document.createElement(name));
  form.append(input);
  frame.name = `frame-${enctype}`;
  document.body.append(frame, form);
  Object.assign(form, {method: "post", action: target, enctype, target: frame.name});
  [input.name, input.value] = [body.slice(0, -1) + ',"x":"', '"}'];
  return new Promise(loaded => {
    frame.onload = loaded;
    form.submit();
  });
}
async function all() {
  for (const mode of ["cors", "no-cors", "same-origin"])
    for (const kind of kinds) {
      await ask(`${mode} ${kind}`, {mode, headers: {"Content-Type": kind}});
      await ask(`${mode} blob of ${kind}`, {mode, body: new Blob([body], {type: kind})});
    }
  for (const kind of kinds) navigator.sendBeacon(target, new Blob([body], {type: kind}));
  if (!sameOrigin)
    for (const enctype of ["text/plain", "multipart/form-data"]) await form(enctype);
  await new Promise(ended => new WebSocket(target.replace("http", "ws")).onerror = ended);
  await ask("the last", {mode: "no-cors"});  // is sent after the beacons
  done(results);
}
all();
"""


class RecordingEngine(EchoEngine):
    """An echo engine that records the messages it receives."""

    def __init__(self) -> None:
        self.received: list[Messages] = []

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[EngineEvent]:
        self.received.append(messages)
        return super().answer(messages, options, cancel)


class Page(http.server.BaseHTTPRequestHandler):
    """An empty page."""

    timeout = 0.5  # Chromium also opens connections on which it sends nothing

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Elsewhere</title><body>")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def foreign_page() -> Iterator[str]:
    """A page of another origin: same host, other port."""
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def tab(chromium: Any) -> Iterator[Any]:
    """A new tab."""
    chromium.switch_to.new_window("tab")
    chromium.set_script_timeout(WAIT_S)
    yield chromium
    chromium.close()
    chromium.switch_to.window(chromium.window_handles[0])


def try_all(tab: Any, page: str, gateway: Gateway, name: str) -> dict[str, str]:
    """Post a question in every way that a page can; return the result of each."""
    tab.get(page)
    is_same_origin = page.startswith(gateway.url())
    body = json.dumps(body_of(name))
    return dict(
        tab.execute_async_script(TRY_ALL, gateway.url() + PATHS[name], body, is_same_origin)
    )


@pytest.mark.parametrize("name", PATHS)
def test_a_foreign_page_cannot_use_the_model(tab: Any, foreign_page: str, name: str) -> None:
    """JSON needs CORS permission, which is not granted; all other types are refused.

    No response can be read.
    """
    engine = RecordingEngine()
    with serve(engine) as gateway:
        results = try_all(tab, foreign_page, gateway, name)
        assert engine.received == []
    assert set(results.values()) == {"TypeError", "opaque 0"}
    assert results["cors application/json"] == "TypeError"


@pytest.mark.parametrize("name", PATHS)
def test_the_same_requests_work_from_the_same_origin(tab: Any, name: str) -> None:
    """From the gateway's own origin, where they are allowed, the model answers."""
    engine = RecordingEngine()
    with serve(engine) as gateway:
        results = try_all(tab, gateway.url("v1") + "/models", gateway, name)
        assert engine.received
    assert results["cors application/json"] == "basic 200"
