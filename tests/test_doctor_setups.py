"""The doctor against set-ups, good and broken ones: each in under 10 s, and right."""

from __future__ import annotations

import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from providers_sync import PROVIDERS
from providers_sync.cli import main
from providers_sync.clock import monotonic
from providers_sync.doctor import answer as checked_answer
from providers_sync.doctor import examination, model_list
from providers_sync.testing import (
    Request,
    answer,
    cut,
    drip,
    empty,
    error,
    event,
    finish,
    html,
    json_body,
    pause,
    ping,
    reasoning,
    redirect,
    refusal,
    repeat,
    reset,
    serve,
    stall,
    status,
    text,
    whole,
    wire,
)

KEY = "sk-setups-0123456789-tail"
LIMIT_S = 10.0
"""No set-up may take longer."""
SHORT_S = 0.7
"""In place of the doctor's own limit, where a set-up uses it up."""
NUMBERS = [text(f"{number} ") for number in range(1, 13)]
STEADY = [step for chunk in NUMBERS for step in (chunk, pause(0.005))]
LISTS = {
    "openai": {"data": [{"id": "m"}, {"id": "n"}]},
    "responses": {"data": [{"id": "m"}, {"id": "n"}]},
    "anthropic": {"data": [{"id": "m"}, {"id": "n"}]},
    "gemini": {"models": [{"name": "models/m"}, {"name": "models/n"}]},
    "ollama": {"models": [{"name": "m"}, {"name": "n"}]},
}
PREFIX = {"openai": "/v1", "responses": "/v1", "gemini": "/v1beta"}
"""Where the servers of the tests have each API; the others have it at the root."""
ENCODERS = {"gemini": "gemini"}
NOWHERE = status(404, "Not Found")


@dataclass(frozen=True)
class SetUp:
    """A server, how the doctor is called, and what it must say."""

    words: tuple[str, ...]
    reply: Any = field(default_factory=lambda: STEADY)
    """The answer to a question, or a function of the request that returns it."""
    models: Any = None
    """The answer to a GET of the list; by default a list in the protocol's form."""
    everything: Any = None
    """The answer to every request, in place of these two."""
    elsewhere: Any = NOWHERE
    """The answer at any other path."""
    provider: str = "openai"
    path: str | None = None
    """The path of the ``base_url``; by default the right one."""
    address: str = "{url}"
    """The ``base_url`` without its path; ``{refused}`` is an address that refuses connections."""
    model: str | None = "m"
    environment: Mapping[str, str] = field(default_factory=dict)
    tls: str | None = None
    """The fixture with the server's certificate."""
    host: str = "127.0.0.1"
    limit_s: float | None = None
    """In place of the doctor's own limit."""

    def script(self, request: Request) -> Any:
        """Answer as the API below its prefix."""
        kind: Any = PROVIDERS[self.provider]
        prefix = PREFIX.get(self.provider, "")
        path = urlsplit(request.path).path  # a proxy is sent a whole address
        endpoint = prefix + kind.api_endpoint.partition("{")[0].partition("?")[0]
        elsewhere = self.elsewhere(request) if callable(self.elsewhere) else self.elsewhere
        if request.method == "POST":
            if path not in (endpoint, f"{endpoint}m:streamGenerateContent"):
                return elsewhere
            return self.reply(request) if callable(self.reply) else self.reply
        if not hasattr(kind, "models_endpoint"):
            return status(405) if path == endpoint else elsewhere
        if path != prefix + kind.models_endpoint.partition("?")[0]:
            return elsewhere
        return json_body(LISTS[self.provider]) if self.models is None else self.models


def held_back(after: float) -> Any:
    """Return an answer that a proxy has held back: all its events come in one read."""
    events = [{"choices": [{"index": 0, "delta": {"content": f"{n} "}}]} for n in range(1, 13)]
    data = "".join(f"data: {json.dumps(each)}\n\n" for each in events)
    return answer(pause(after), data.encode(), headers={"Via": "1.1 office"})


def wants_new_name(request: Request) -> Any:
    """Answer like OpenAI's reasoning models."""
    if "max_tokens" in request.json():
        return status(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
        )
    assert request.json()["max_completion_tokens"] == 20
    return STEADY


def knows_old_name(request: Request) -> Any:
    """Answer like servers that know ``max_tokens`` only."""
    if "max_completion_tokens" in request.json():
        return status(422, "max_completion_tokens: Extra inputs are not permitted")
    assert request.json()["max_tokens"] == 20
    return STEADY


def knows_no_limit(request: Request) -> Any:
    """Answer like a server that rejects a limit by any name."""
    given = request.json().keys() & {"max_tokens", "max_completion_tokens"}
    return status(422, f"unknown field {min(given)}") if given else STEADY


GOOD = {
    **{
        name: SetUp(
            (
                f"from {PROVIDERS[name].base_url_variable}",
                "ok model the server lists m",
                "ok answer complete",
                "ok stream 12 chunks",
            ),
            provider=name,
        )
        for name in LISTS
    },
    **{
        name: SetUp(
            ("it responds (a GET returns 405)", "ok answer", "ok stream"), provider=name, model=None
        )
        for name in ("vitalentum", "codelinkava")
    },
    "ai365vip": SetUp(("ok answer unverified", "ok stream"), provider="ai365vip", model=None),
    "no list: 404": SetUp(("a GET returns 404", "trying m", "ok answer"), models=status(404)),
    "no list: 405": SetUp(("a GET returns 405", "ok answer"), models=status(405)),
    "no list: 501": SetUp(("a GET returns 501", "ok answer"), models=status(501)),
    "list needs a permission": SetUp(
        ("note models no list of models: 403", "Missing scopes", "ok answer"),
        models=status(403, "Missing scopes: api.model.read"),
    ),
    "list needs a key": SetUp(("note models", "401", "ok answer"), models=status(401)),
    "list is limited": SetUp(("note models", "429", "ok answer"), models=status(429)),
    "list fails": SetUp(("note models", "500", "ok answer"), models=status(500)),
    "list is unavailable": SetUp(("note models", "503", "ok answer"), models=status(503)),
    "list is redirected": SetUp(("note models", "ok answer"), models=redirect("/v1/models/")),
    "list is an array": SetUp(
        ("ok model the server lists m", "ok answer"), models=json_body([{"id": "m"}])
    ),
    "list of names": SetUp(
        ("ok model the server lists m", "ok answer"), models=json_body({"models": [{"name": "m"}]})
    ),
    "list of another shape": SetUp(
        ("note models", "ok answer"), models=json_body({"items": [{"name": "m"}]})
    ),
    "empty list": SetUp(
        ("note model the server lists no models", "ok answer"), models=json_body({"data": []})
    ),
    "list is a page": SetUp(("note models", "web page", "ok answer"), models=html()),
    "list is empty": SetUp(("note models", "ok answer"), models=empty()),
    "list is cut": SetUp(("note models", "ok answer"), models=[cut()]),
    "endless list": SetUp(
        ("note models", "not received within 0.15 s", "ok answer"),
        models=answer(repeat(b" ", pause(0.01))),
    ),
    "list hangs": SetUp(
        ("note models", "not received within 0.15 s", "ok answer"), models=answer(before=[stall()])
    ),
    "alias": SetUp(("note model the server does not list alias", "ok answer"), model="alias"),
    "chooses a model for chats": SetUp(
        ("none given, so m is used",),
        model=None,
        models=json_body({"data": [{"id": "text-embedding-3"}, {"id": "whisper-1"}, {"id": "m"}]}),
    ),
    "chooses a model that does not chat": SetUp(
        ("note model m: 404", "→ trying n instead", "ok answer complete"),
        model=None,
        reply=lambda request: STEADY if request.json()["model"] == "n" else NOWHERE,
    ),
    "max_completion_tokens": SetUp(("ok answer", "ok stream"), reply=wants_new_name),
    "max_tokens": SetUp(("ok answer", "ok stream"), reply=knows_old_name),
    "no limit of tokens": SetUp(("ok answer", "ok stream"), reply=knows_no_limit),
    "limit used up": SetUp(
        ("note answer the model used its 20 tokens",),
        reply=status(
            400,
            "Could not finish the message because max_tokens or model output limit "
            "was reached. Please try again with higher max_tokens.",
        ),
    ),
    "ends by the limit": SetUp(("ok answer complete",), reply=[*STEADY, finish("length")]),
    "thinks only": SetUp(
        ("ok answer complete: 0 characters", "ok stream"),
        reply=[*[reasoning(f"{n} ") for n in range(9)], finish("length")],
    ),
    "thinks in secret": SetUp(
        ("note answer complete, but empty (finish reason: length)",), reply=[finish("length")]
    ),
    "refuses": SetUp(("ok answer complete",), reply=[refusal("I will not count.")]),
    "answers whole": SetUp(
        ("ok answer complete", "note stream the server sent the complete answer as one JSON"),
        reply=whole("1 2 3"),
    ),
    "ends without [DONE]": SetUp(
        ("ok answer complete",), reply=answer(*STEADY, finish(), end=False)
    ),
    "never ends": SetUp(("ok answer it streams", "25 chunks"), reply=[repeat("1 ", pause(0.005))]),
    "fast": SetUp(("ok stream", "too fast to tell"), reply=NUMBERS),
    "fast after a cold start": SetUp(
        ("ok stream",), reply=[pause(0.6), *[s for c in NUMBERS for s in (c, pause(0.003))]]
    ),
    "one chunk of a short answer": SetUp(
        ("note stream the complete answer arrived as one chunk",), reply=[pause(0.6), "1 2 3 4 5"]
    ),
    "slow": SetUp(
        ("note answer it streams, but slowly: ",),
        limit_s=SHORT_S,
        reply=[repeat("1 ", pause(0.3))],
    ),
    "slow to start": SetUp(
        ("note answer the server is running, but has not answered within", "is being loaded"),
        limit_s=SHORT_S,
        reply=[stall()],
    ),
    "slow to send headers": SetUp(
        ("note answer the server is running, but has not answered within",),
        limit_s=SHORT_S,
        reply=answer(before=[stall()]),
    ),
    "slow, with pings": SetUp(
        ("note answer the server is running, but has not answered within",),
        limit_s=SHORT_S,
        reply=[ping(0.05)],
    ),
    "loads its model": SetUp(
        ("note server 503", "Loading model", "try again in a minute"),
        models=status(503, "Loading model"),
        reply=status(503, "Loading model"),
    ),
    "loads its model, none given": SetUp(
        ("note server 503", "try again in a minute"),
        model=None,
        models=status(503, "Loading model"),
    ),
    "trusted TLS": SetUp(
        ("the certificate of 127.0.0.1 is valid", "ok answer"),
        tls="tls",
        environment={"REQUESTS_CA_BUNDLE": "{ca}"},
    ),
    "IPv6": SetUp(("ok DNS ::1", "ok answer"), host="::1"),
    "a proxy": SetUp(
        ("ok proxy through 127.0.0.1", "ok answer"),
        address="http://api.invalid",
        environment={"http_proxy": "{url}"},
    ),
    "a key": SetUp(
        ("ok key from OPENAI_API_KEY ok proxy none", "ok answer"),
        environment={"OPENAI_API_KEY": KEY},
    ),
}

BROKEN = {
    "missing /v1": SetUp(("BAD address", "→ use {url}/v1"), path=""),
    "missing /v1, no model": SetUp(("BAD address", "→ use {url}/v1"), path="", model=None),
    "missing /v1, 200 for all": SetUp(
        ("BAD address", "→ use {url}/v1"),
        path="",
        elsewhere=json_body({"error": "Unexpected endpoint or method. (GET /models)"}),  # LM Studio
    ),
    "missing /v1, a page elsewhere": SetUp(
        ("BAD address", "→ use {url}/v1"), path="", elsewhere=html()
    ),
    "missing /v1, with a key": SetUp(
        ("BAD address", "→ use {url}/v1"), path="", models=status(401)
    ),
    "doubled /v1": SetUp(("BAD address", "→ use {url}/v1"), path="/v1/v1"),
    "endpoint in the address": SetUp(
        ("BAD address", "→ use {url}/v1"), path="/v1/chat/completions"
    ),
    "responses in the address": SetUp(
        ("BAD address", "→ use {url}/v1"), provider="responses", path="/v1/responses"
    ),
    "Anthropic with /v1": SetUp(("BAD address", "→ use {url}"), provider="anthropic", path="/v1"),
    "Anthropic with its endpoint": SetUp(
        ("BAD address", "→ use {url}"), provider="anthropic", path="/v1/messages"
    ),
    "Gemini without /v1beta": SetUp(
        ("BAD address", "→ use {url}/v1beta"), provider="gemini", path=""
    ),
    "Gemini with its endpoint": SetUp(
        ("BAD address", "→ use {url}/v1beta"),
        provider="gemini",
        path="/v1beta/models/m:generateContent",
    ),
    "Gemini with OpenAI's path": SetUp(
        ("BAD address", "→ use {url}/v1beta"), provider="gemini", path="/v1beta/openai"
    ),
    "Ollama with /v1": SetUp(("BAD address", "→ use {url}"), provider="ollama", path="/v1"),
    "Ollama with /api": SetUp(("BAD address", "→ use {url}"), provider="ollama", path="/api"),
    "Ollama with its endpoint": SetUp(
        ("BAD address", "→ use {url}"), provider="ollama", path="/api/chat"
    ),
    "Vitalentum with its endpoint": SetUp(
        ("BAD address", "→ use {url}"), provider="vitalentum", path="/api/converse-edge", model=None
    ),
    "404 on everything": SetUp(
        ("BAD address 404", "the path of the address"),
        path="/elsewhere",
        models=NOWHERE,
        reply=NOWHERE,
    ),
    "wrong key": SetUp(
        ("BAD key the server rejects the key: 401", "not expired"),
        models=status(401),
        reply=status(401),
        environment={"OPENAI_API_KEY": KEY},
    ),
    "no key": SetUp(
        ("BAD key the server requires a key: 401", "→ set OPENAI_API_KEY"),
        models=status(401),
        reply=status(401),
    ),
    "not in this country": SetUp(
        ("BAD access 403", "Country not supported", "the country"),
        models=status(403, "Country not supported"),
        reply=status(403, "Country not supported"),
    ),
    "no credit": SetUp(
        ("BAD account 402", "add credit"), reply=status(402, "Insufficient balance")
    ),
    "no quota": SetUp(
        ("BAD account 429", "add credit"),
        reply=status(429, "You exceeded your quota", type="insufficient_quota"),
    ),
    "too many requests": SetUp(("BAD account 429", "wait, or check"), reply=status(429)),
    "wrong model": SetUp(
        ("BAD model 404", "→ use --model with one of: m, n"),
        model="x",
        reply=status(404, "The model x does not exist", type="model_not_found"),
    ),
    "wrong model: 400": SetUp(
        ("BAD model 400", "→ use --model with one of: m, n"),
        model="x",
        reply=status(400, "unknown model x"),
    ),
    "rejects all its models": SetUp(
        ("note model m: 400", "BAD model 400 Bad Request", "no such model"),
        model=None,
        reply=status(400, "no such model"),
    ),
    "wrong model, no list": SetUp(
        ("BAD model 404", "→ check the model's name"),
        models=status(404),
        reply=status(404, "model 'm' not found, try pulling it first"),
    ),
    "too many requests, and the list is below /v1": SetUp(
        ("BAD account 429", "wait, or check"),
        path="",
        elsewhere=lambda request: status(429) if request.method == "POST" else NOWHERE,
    ),
    "no credit, and the list is below /v1": SetUp(
        ("BAD account 400", "add credit"),
        path="",
        elsewhere=lambda request: (
            status(400, type="billing_hard_limit_reached") if request.method == "POST" else NOWHERE
        ),
    ),
    "Gemini with a doubled /v1beta": SetUp(
        ("BAD address", "→ use {url}/v1beta"), provider="gemini", path="/v1beta/v1beta"
    ),
    "another protocol": SetUp(
        ("BAD answer 404", "--provider"), provider="responses", reply=NOWHERE
    ),
    "context too long": SetUp(
        ("BAD answer 400", "maximum context length"),
        reply=status(400, "maximum context length is 5 tokens"),
    ),
    "500": SetUp(("BAD server 500", "try again later"), reply=status(500)),
    "overloaded": SetUp(("BAD server 503",), models=status(503), reply=status(503)),
    "login page": SetUp(("BAD address", "web page"), models=html(), reply=html()),
    "redirect": SetUp(
        ("BAD address 308", "→ use an address that begins with https://api.example"),
        models=redirect("https://api.example/v1/models", 308),
        reply=redirect("https://api.example/v1/chat/completions", 308),
    ),
    "cut": SetUp(("BAD answer after 12 chunks: the connection broke",), reply=[*STEADY, cut()]),
    "reset": SetUp(("BAD answer after 12 chunks",), reply=[*STEADY, reset()]),
    "truncated": SetUp(
        ("BAD answer after 12 chunks", "proxy with a time limit"), reply=answer(*STEADY, end=False)
    ),
    "empty answer": SetUp(("BAD answer",), reply=empty()),
    "error event": SetUp(
        ("BAD answer after 12 chunks", "disk full"), reply=[*STEADY, error("disk full")]
    ),
    "overload event": SetUp(
        ("BAD answer", "too busy"),
        provider="anthropic",
        reply=[error("Overloaded", "overloaded_error")],
    ),
    "broken events": SetUp(("BAD answer",), reply=[event("{oops")]),
    "hangs up": SetUp(
        ("BAD server", "closed the connection without an answer"),
        models=[cut()],
        reply=answer(before=[cut()]),
    ),
    "buffering proxy": SetUp(
        (
            "BAD stream something buffers the answer (it came through 1.1 office)",
            "proxy_buffering off",
        ),
        reply=held_back(after=0.6),
    ),
    "refused": SetUp(("BAD TCP port", "connection refused"), address="{refused}"),
    "unknown host": SetUp(
        ("BAD DNS the host name nowhere.invalid does not exist",), address="http://nowhere.invalid"
    ),
    "plain HTTP to a TLS port": SetUp(
        ("BAD TLS 127.0.0.1 expects TLS", "→ use https://"),
        tls="tls",
        address="http://127.0.0.1:{port}",
    ),
    "TLS to a plain port": SetUp(
        ("BAD TLS 127.0.0.1 does not speak TLS on this port → use http://",),
        address="https://127.0.0.1:{port}",
        everything=answer(connect=[wire(b"HTTP/1.1 400 Bad Request\r\n\r\n"), cut()]),
    ),
    "TLS to a silent port": SetUp(
        ("BAD TLS no handshake",),
        address="https://127.0.0.1:{port}",
        limit_s=SHORT_S,
        everything=answer(connect=[stall()]),
    ),
    "self-signed": SetUp(("BAD TLS", "self-signed", "REQUESTS_CA_BUNDLE"), tls="tls_self_signed"),
    "unknown authority": SetUp(("BAD TLS", "does not trust", "REQUESTS_CA_BUNDLE"), tls="tls"),
    "wrong host": SetUp(
        ("BAD TLS", "another address"),
        tls="tls_wrong_host",
        environment={"REQUESTS_CA_BUNDLE": "{ca}"},
    ),
    "expired": SetUp(
        ("BAD TLS the certificate of 127.0.0.1 has expired", "clock"),
        tls="tls_expired",
        environment={"REQUESTS_CA_BUNDLE": "{ca}"},
    ),
    "dead proxy": SetUp(
        ("BAD TCP port", "of the proxy", "set NO_PROXY=127.0.0.1"),
        environment={"http_proxy": "{refused}"},
    ),
    "unknown proxy": SetUp(
        ("BAD DNS the host name proxy.invalid does not exist",),
        environment={"http_proxy": "http://proxy.invalid:3128"},
    ),
    "proxy wants a password": SetUp(
        ("BAD proxy it requires a name and a password",),
        address="http://api.invalid",
        environment={"http_proxy": "{url}"},
        everything=status(407),
    ),
    "proxy of TLS wants a password": SetUp(
        ("BAD proxy it requires a name and a password",),
        address="https://api.invalid",
        environment={"https_proxy": "{url}"},
        everything=status(407),
    ),
    "proxy refuses": SetUp(
        ("BAD access 403",),
        address="http://api.invalid",
        environment={"http_proxy": "{url}"},
        everything=status(403, "Blocked by policy"),
    ),
    "proxy of TLS refuses": SetUp(
        (
            "BAD proxy it refuses to connect to api.invalid: 403 Forbidden",
            "check the proxy's address and its rules",
        ),
        address="https://api.invalid",
        environment={"https_proxy": "{url}"},
        everything=status(403, "Blocked by policy"),
    ),
    "proxy finds no server": SetUp(
        ("BAD server 502", "check the proxy's address and its rules"),
        address="http://api.invalid",
        environment={"http_proxy": "{url}"},
        everything=status(502, "No route"),
    ),
    "dead public service": SetUp(
        ("BAD address", "no longer exists", "providers-sync serve"),
        provider="vitalentum",
        model=None,
        address="",
        path="",
    ),
    "no key for the vendor": SetUp(
        ("BAD key none is set → set OPENAI_API_KEY",), address="", path=""
    ),
    "silent server": SetUp(
        ("BAD server it accepts connections, but answered neither",),
        limit_s=SHORT_S,
        everything=answer(before=[stall()]),
    ),
    "dripped headers": SetUp(
        ("BAD server it accepts connections, but answered neither",),
        limit_s=SHORT_S,
        everything=answer(inside=[repeat(drip(b"X-Pad: 1\r\n"))]),
    ),
    "stalled stream": SetUp(("BAD stream it stalls after 12 chunks",), reply=[*STEADY, stall()]),
}
SET_UPS = {**GOOD, **BROKEN}


@pytest.fixture(autouse=True)
def own_environment(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove what this machine configures of providers and proxies, and shorten some waits."""
    for variable in list(os.environ):
        if re.search(r"_(BASE_URL|API_KEY|PROXY)$|^(PROVIDERS_SYNC|OLLAMA)_", variable.upper()):
            monkeypatch.delenv(variable)
    monkeypatch.setattr(model_list, "LIST_S", 0.15)
    monkeypatch.setattr(checked_answer, "SILENCE_S", 0.5)


@pytest.fixture(scope="session")
def tls_expired(authority: Any) -> Any:
    """A server context whose certificate was valid last year."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert("127.0.0.1", not_after=datetime(2025, 1, 1))
    certificate.configure_cert(context)
    return context


@pytest.mark.parametrize("name", SET_UPS)
def test_set_up(
    name: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    refused: tuple[str, int],
) -> None:
    """The exit code, the cause and the remedy are right, and the report comes in seconds."""
    setup = SET_UPS[name]
    tls = request.getfixturevalue(setup.tls) if setup.tls else None
    if setup.limit_s:
        monkeypatch.setattr(examination, "LIMIT_S", setup.limit_s)
    script = setup.script if setup.everything is None else setup.everything
    protocol = ENCODERS.get(setup.provider, setup.provider)
    with serve(script, protocol=protocol, tls=tls, host=setup.host) as server:
        values = {
            "url": server.url,
            "port": server.port,
            "refused": "http://{}:{}".format(*refused),
        }
        if any("{ca}" in value for value in setup.environment.values()):
            values["ca"] = request.getfixturevalue("ca")
        for variable, value in setup.environment.items():
            monkeypatch.setenv(variable, value.format(**values))
        path = PREFIX.get(setup.provider, "") if setup.path is None else setup.path
        address = setup.address.format(**values) + path
        variable = PROVIDERS[setup.provider].base_url_variable
        if address:
            monkeypatch.setenv(variable, address)
        arguments = ["--provider", setup.provider]
        arguments += ["--model", setup.model] if setup.model else []
        started = monotonic()
        code = main(["doctor", *arguments])
        took = monotonic() - started
    shown = " ".join(capsys.readouterr().out.split())
    for words in setup.words:
        assert re.search(re.escape(words.format(**values)) + "(?!/)", shown), (words, shown)
    assert (code, "BAD" in shown) == ((1, True) if name in BROKEN else (0, False)), shown
    assert took < LIMIT_S
    assert KEY[:8] not in shown
    posted = [each.json() for each in server.requests if each.method == "POST"]
    assert all('": 20' in json.dumps(each) for each in posted[:2]), posted
    assert len(posted) <= (3 if name == "no limit of tokens" else 2)
