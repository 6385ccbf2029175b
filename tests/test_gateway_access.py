"""Tests of the gateway's access checks and of its errors for bad requests."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import pytest
import requests
from gateway_kit import PATHS, WAIT_S, Scripted, body_of

from providers_sync.errors import InvalidRequestError
from providers_sync.gateway import Gateway, serve

# --- bad requests


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/nothing", {}, 404, "not_found"),
        ("POST", "/v1/completions", {"json": {}}, 404, "not_found"),
        ("GET", PATHS["openai"], {}, 405, "method_not_allowed"),
        ("OPTIONS", PATHS["openai"], {}, 405, "method_not_allowed"),
        ("POST", PATHS["openai"], {"data": "{}"}, 415, "not_json"),
        ("POST", PATHS["openai"], {"data": {"a": "b"}}, 415, "not_json"),
        ("POST", PATHS["openai"], {"data": "{}", "type": "text/plain"}, 415, "not_json"),
        ("POST", PATHS["openai"], {"data": "{", "type": "application/json"}, 400, "invalid_json"),
        ("POST", PATHS["openai"], {"data": b"\xff", "type": "application/json"}, 400, None),
        (
            "POST",
            PATHS["openai"],
            {"data": '{"temperature": NaN}', "type": "application/json"},
            400,
            "invalid_json",
        ),
        ("POST", PATHS["openai"], {"data": "[" * 99_999, "type": "application/json"}, 400, None),
        ("POST", PATHS["vitalentum"], {"json": {}}, 400, None),
        (
            "POST",
            PATHS["codelinkava"],
            {"data": " " * (17 * 1024 * 1024), "type": "application/json"},
            413,
            "request_entity_too_large",
        ),
    ],
)
def test_bad_request_is_json(
    echo: Gateway, method: str, path: str, options: dict[str, Any], status: int, code: str | None
) -> None:
    """A bad request gets the right status and a JSON error."""
    if "type" in options:
        options = {**options, "headers": {"Content-Type": options["type"]}}
        del options["type"]
    response = requests.request(method, echo.url() + path, timeout=WAIT_S, **options)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/json"
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert code is None or error["code"] == code


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "state"),
    [
        ("GET", "", {}, 404, "NOT_FOUND"),
        ("POST", "/v1/models/echo:countTokens", {"json": {}}, 404, "NOT_FOUND"),
        ("POST", "/v1/models/echo", {"json": {}}, 404, "NOT_FOUND"),
        ("GET", "/v1beta/models/echo:generateContent", {}, 404, "NOT_FOUND"),
        ("PUT", "/v1/models", {}, 405, "INVALID_ARGUMENT"),
        ("POST", "/v1/models/echo:generateContent", {"data": "{}"}, 415, "INVALID_ARGUMENT"),
        ("POST", "/v1/models/echo:generateContent", {"json": {}}, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/models", {"headers": {"Host": "evil.example"}}, 403, "PERMISSION_DENIED"),
    ],
)
def test_bad_request_under_gemini(
    echo: Gateway, method: str, path: str, options: dict[str, Any], status: int, state: str
) -> None:
    """Under ``/gemini`` errors have the form of Google's services."""
    response = requests.request(method, f"{echo.url()}/gemini{path}", timeout=WAIT_S, **options)
    assert response.status_code == status
    error = response.json()["error"]
    assert (error["code"], error["status"]) == (status, state)
    assert error["message"]


@pytest.mark.parametrize("path", ["chat", "show"])
@pytest.mark.parametrize(
    ("options", "status"),
    [({"data": "{}"}, 415), ({"data": "{}", "headers": {"Content-Type": "text/plain"}}, 415)],
)
def test_bad_request_under_ollama(
    echo: Gateway, path: str, options: dict[str, Any], status: int
) -> None:
    """Under ``/api`` an error is a text; a page cannot post to any of the paths."""
    response = requests.post(f"{echo.url('ollama')}/api/{path}", timeout=WAIT_S, **options)
    assert response.status_code == status
    assert response.json() == {"error": "the Content-Type must be application/json"}
    missing = requests.post(f"{echo.url('ollama')}/api/pull", json={}, timeout=WAIT_S)
    assert missing.status_code == 404
    assert isinstance(missing.json()["error"], str)


HUGE = " " * 17_000_000
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "kind"),
    [
        ("GET", "/nothing", {}, 404, "not_found_error"),
        ("GET", "", {}, 404, "not_found_error"),
        ("GET", "/v1/models/nothing", {}, 404, "not_found_error"),
        ("GET", "/v1/messages", {}, 405, "invalid_request_error"),
        ("POST", "/v1/messages", {"data": "{}"}, 415, "invalid_request_error"),
        ("POST", "/v1/messages", {"data": "{", "headers": JSON}, 400, "invalid_request_error"),
        ("POST", "/v1/messages", {"json": {}}, 400, "invalid_request_error"),
        ("POST", "/v1/messages", {"data": HUGE, "headers": JSON}, 413, "request_too_large"),
        ("GET", "/v1/models", {"headers": {"Host": "evil.example"}}, 403, "permission_error"),
    ],
)
def test_bad_request_under_anthropic(
    echo: Gateway, method: str, path: str, options: dict[str, Any], status: int, kind: str
) -> None:
    """Under ``/anthropic`` errors have Anthropic's form, also those of the HTTP server."""
    response = requests.request(method, echo.url("anthropic") + path, timeout=WAIT_S, **options)
    assert response.status_code == status
    body = response.json()
    assert (body["type"], body["error"]["type"]) == ("error", kind)
    assert body["error"]["message"]


def test_broken_http_is_json(echo: Gateway) -> None:
    """Errors of the HTTP server itself are JSON as well."""
    with socket.create_connection(("127.0.0.1", echo.port), timeout=WAIT_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\nbroken\r\n\r\n")
        answer = client.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.0 400")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


CHAT = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]}).encode()
REQUEST_HEAD = (
    b"POST /v1/chat/completions HTTP/%s\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CHAT), CHAT)


@pytest.mark.parametrize(
    ("version", "lengths", "body"),
    [
        (b"1.1", b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
        (b"1.1", b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n" % len(CHUNKED), CHUNKED),
        (b"1.0", b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n", CHUNKED),
        (b"1.1", b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(CHAT), CHAT),
    ],
)
def test_contradicting_lengths_are_refused(
    echo: Gateway, version: bytes, lengths: bytes, body: bytes
) -> None:
    """The client gets one error and is disconnected: further bytes are not read as a request."""
    length = b"Content-Length: %d\r\n" % len(CHAT)
    smuggled = REQUEST_HEAD % b"1.1" + length + b"\r\n" + CHAT
    with socket.create_connection(("127.0.0.1", echo.port), timeout=WAIT_S) as client:
        client.sendall(REQUEST_HEAD % version + lengths + b"\r\n" + body + smuggled)
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # the gateway has not read the rest
            while data := client.recv(65536):
                answer += data
    assert answer.count(b"HTTP/1.") == 1
    assert answer[9:12] == b"400"


@pytest.mark.parametrize("origin", ["https://evil.example", "http://127.0.0.1:1", "null"])
@pytest.mark.parametrize("path", PATHS.values())
def test_no_other_origin_is_granted_anything(echo: Gateway, path: str, origin: str) -> None:
    """A page can post JSON to another origin only if a preflight allows it."""
    preflight_headers = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    for headers in ({"Origin": origin, **preflight_headers}, {"Origin": origin}):
        preflight = requests.options(echo.url() + path, headers=headers, timeout=WAIT_S)
        assert preflight.status_code == 405
        posted = requests.post(echo.url() + path, data=CHAT, headers=headers | JSON, timeout=WAIT_S)
        for response in (preflight, posted):
            assert not [name for name in response.headers if name.lower().startswith("access-")]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:65000", 200),
        ("[::1]:80", 200),
        ("evil.example", 403),
        ("localhost.evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example:localhost", 403),
        ("", 403),
    ],
)
def test_host_header(echo: Gateway, host: str, status: int) -> None:
    """Only local host names are accepted: a malicious page cannot use the gateway."""
    response = requests.get(echo.url(), headers={"Host": host})
    assert response.status_code == status


@pytest.mark.parametrize("name", PATHS)
def test_other_host_reaches_no_engine(scripted: tuple[Gateway, Scripted], name: str) -> None:
    """A page whose domain resolves to this machine (DNS rebinding) gets no answer on any path."""
    gateway, engine = scripted
    sent = {"json": body_of(name), "headers": {"Host": f"evil.example:{gateway.port}"}}
    response = requests.post(gateway.url() + PATHS[name], timeout=WAIT_S, **sent)
    assert response.status_code == 403
    assert "evil.example" in response.text
    assert not engine.started.is_set()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Basic clé"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"Authorization": "Bearer clé"}, 200),
        ({"authorization": "bearer clé"}, 200),
        ({"x-api-key": "clé"}, 200),
        ({"x-goog-api-key": "wrong"}, 401),
        ({"x-goog-api-key": "clé"}, 200),
    ],
)
def test_token_is_required(headers: dict[str, str], status: int) -> None:
    """With a token, every path requires it, also on this machine."""
    with serve(token="clé") as gateway:
        sent = {name: value.encode() for name, value in headers.items()}
        response = requests.get(gateway.url(), headers=sent)
        anthropic = requests.get(gateway.url("anthropic"), headers=sent)
    assert response.status_code == status
    assert anthropic.status_code == (401 if status == 401 else 404)
    if status == 401:
        assert response.json()["error"]["type"] == "authentication_error"
        assert anthropic.json()["type"] == "error"
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_other_addresses_need_a_token() -> None:
    """Other machines can reach the gateway only if it has a token; then any host name works."""
    for host in ("0.0.0.0", "::", "127.0.0.2", ""):
        with pytest.raises(InvalidRequestError, match="token"):
            serve(host=host)
    with serve(host="0.0.0.0", token="s3cret") as gateway:
        headers = {"Host": "gpu-box.example:8000", "x-api-key": "s3cret"}
        assert requests.get(gateway.url(), headers=headers).status_code == 200
