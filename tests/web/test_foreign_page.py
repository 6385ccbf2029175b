"""A page of another origin in a real browser cannot make the gateway's model work."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from providers_sync.echo import EchoEngine
from providers_sync.engines import EngineEvent
from providers_sync.gateway import Gateway, serve
from providers_sync.stream import CancelToken
from providers_sync.types import Messages

WAIT_S = 30.0
TRY_ALL = r"""
const [target, granted, done] = arguments;
const body = JSON.stringify({model: "m", messages: [{role: "user", content: "work"}]});
const kinds = ["application/json", "text/plain", "text/plain; charset=application/json",
  "application/x-www-form-urlencoded", "multipart/form-data; boundary=application/json"];
const said = [];
const note = (how, result) => said.push([how, result]);
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
  if (!granted)
    for (const enctype of ["text/plain", "multipart/form-data"]) await form(enctype);
  await new Promise(ended => new WebSocket(target.replace("http", "ws")).onerror = ended);
  await ask("the last", {mode: "no-cors"});  // behind the beacons
  done(said);
}
all();
"""


class Noting(EchoEngine):
    """An echo that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Messages] = []

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[EngineEvent]:
        self.asked.append(messages)
        return super().answer(messages, options, cancel)


class Page(http.server.BaseHTTPRequestHandler):
    """An empty page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Elsewhere</title><body>")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """A page of another origin: the same host, another port."""
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
    """A tab of its own."""
    chromium.switch_to.new_window("tab")
    chromium.set_script_timeout(WAIT_S)
    yield chromium
    chromium.close()
    chromium.switch_to.window(chromium.window_handles[0])


def try_all(tab: Any, page: str, gateway: Gateway) -> dict[str, str]:
    """Post a question in every way that a page has; return what it was told of each."""
    tab.get(page)
    is_own = page.startswith(gateway.url())
    target = gateway.url("openai") + "/chat/completions"
    return dict(tab.execute_async_script(TRY_ALL, target, is_own))


def test_a_foreign_page_cannot_make_the_model_work(tab: Any, elsewhere: str) -> None:
    """JSON would need a grant that is not given; all else is refused, and no answer can be read."""
    engine = Noting()
    with serve(engine) as gateway:
        said = try_all(tab, elsewhere, gateway)
        assert engine.asked == []
    assert set(said.values()) == {"TypeError", "opaque 0"}
    assert said["cors application/json"] == "TypeError"


def test_the_tries_of_a_foreign_page_are_questions(tab: Any) -> None:
    """From the gateway's own origin, where nothing is in their way, the model answers."""
    engine = Noting()
    with serve(engine) as gateway:
        said = try_all(tab, gateway.url(), gateway)
        assert engine.asked
    assert said["cors application/json"] == "basic 200"
