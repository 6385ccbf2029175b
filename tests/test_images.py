"""Tests for images in messages: a string is a URL, never a path; path objects and size limits."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    Anthropic,
    Chat,
    InvalidRequestError,
    OpenAICompatible,
    ProviderError,
    batch,
    config,
)
from providers_sync.files import image_url
from providers_sync.gateway import serve as serve_gateway
from providers_sync.messages import to_messages
from providers_sync.providers import Provider
from providers_sync.stream import CancelToken
from providers_sync.testing import ScriptedProvider, text
from providers_sync.types import Messages

PNG = b"\x89PNG\r\n\x1a\nPRIVATE"
LIMIT_S = 5.0
BOTH_PROVIDERS = pytest.mark.parametrize("kind", [OpenAICompatible, Anthropic])
FORMS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "image": lambda image: {"type": "image", "image": image},
    "image_url": lambda image: {"type": "image_url", "image_url": {"url": image}},
    "bare image_url": lambda image: {"type": "image_url", "image_url": image},
}
EACH_FORM = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def scripted(kind: type[Provider]) -> ScriptedProvider:
    """Return a provider that answers ``ok`` and records its requests."""
    return ScriptedProvider([text("ok")], like=kind("m", api_key="k"))


def messages_with(part: Any, role: str = "user") -> Messages:
    turn = {"role": role, "content": [part]}
    return [{**turn, "tool_call_id": "1"} if role == "tool" else turn]


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """An image file that an untrusted request must not read."""
    path = tmp_path / "private.png"
    path.write_bytes(PNG)
    return path


@BOTH_PROVIDERS
@EACH_FORM
@pytest.mark.parametrize("role", ["user", "tool"])
def test_a_string_is_never_a_path(
    kind: type[Provider], form: Callable[[Any], Any], role: str, private: Path
) -> None:
    """The error names the item and the accepted types, and nothing is sent."""
    provider = scripted(kind)
    for image in (str(private), private.as_uri(), os.path.relpath(private)):
        with pytest.raises(InvalidRequestError, match=r"messages\[0\].*pathlib\.Path or bytes"):
            provider.stream(messages_with(form(image), role))
    assert provider.requests == []


@BOTH_PROVIDERS
@EACH_FORM
@pytest.mark.parametrize(
    "image",
    [
        *("file:///etc/passwd", "ftp://127.0.0.1/a.png", "javascript:alert(1)", "//host/a.png"),
        *("", "a.png", "http:/a.png", " http://127.0.0.1/a.png", "C:\\a.png", "gs://a/b.png"),
        *(None, 5, True, ["http://127.0.0.1/a.png"], {}),
    ],
)
def test_what_is_not_a_url_is_refused(
    kind: type[Provider], form: Callable[[Any], Any], image: object
) -> None:
    """Other schemes and other types, in every form of a part."""
    provider = scripted(kind)
    with pytest.raises(InvalidRequestError, match=r"image.*must be an http\(s\) or data: URL"):
        provider.stream(messages_with(form(image)))
    assert provider.requests == []


@BOTH_PROVIDERS
def test_the_error_does_not_reveal_which_files_exist(kind: type[Provider], private: Path) -> None:
    """The text is the same whether the file exists or not, and quotes little of the string."""
    existing, missing = str(private), str(private.with_name("missing.png"))
    texts = []
    for path in (existing, missing, "/etc/shadow", "/etc/shadoww", "\0", "x" * 10**6):
        with pytest.raises(InvalidRequestError) as caught:
            scripted(kind).stream(messages_with(FORMS["image"](path)))
        texts.append(str(caught.value).replace(repr(path[:40]), "…"))
        assert len(str(caught.value)) < 300
    assert len(set(texts)) == 1


@BOTH_PROVIDERS
@EACH_FORM
@pytest.mark.parametrize("url", ["https://example.org/a.png", "HTTP://example.org/a.png"])
def test_a_url_is_sent_unchanged(
    kind: type[Provider], form: Callable[[Any], Any], url: str
) -> None:
    """The model's server fetches the image."""
    provider = scripted(kind)
    provider.complete(messages_with(form(url)))
    assert json.dumps(url).encode() in provider.requests[0].body


@BOTH_PROVIDERS
@EACH_FORM
def test_no_other_key_replaces_the_url(
    kind: type[Provider], form: Callable[[Any], dict[str, Any]]
) -> None:
    """The URL that was checked is the one that is sent."""
    provider = scripted(kind)
    part = form("https://example.org/a.png")
    provider.complete(messages_with({**part, "url": "file:///etc/passwd"}))
    [sent] = json.loads(provider.requests[0].body)["messages"][0]["content"]
    assert "file:" not in json.dumps(sent.get("image_url") or sent["source"])
    assert b"https://example.org/a.png" in provider.requests[0].body


@BOTH_PROVIDERS
@EACH_FORM
def test_a_program_may_pass_a_path_object_or_bytes(
    kind: type[Provider], form: Callable[[Any], Any], private: Path
) -> None:
    """In every form of a part, also in the result of a tool."""
    for image in (private, PNG, bytearray(PNG)):
        for role in ("user", "tool"):
            provider = scripted(kind)
            provider.complete(messages_with(form(image), role))
            assert base64.b64encode(PNG) in provider.requests[0].body


def test_data_that_is_not_base64_is_refused_where_it_cannot_be_sent() -> None:
    """Otherwise Anthropic's server would get an empty image."""
    provider = scripted(Anthropic)
    with pytest.raises(InvalidRequestError, match="base64"):
        provider.stream(messages_with(FORMS["image"]("data:image/png,x")))
    provider.complete(messages_with(FORMS["image"]("DATA:image/png;base64,aGk=")))
    block = json.loads(provider.requests[0].body)["messages"][0]["content"][0]
    assert block["source"] == {"type": "base64", "media_type": "image/png", "data": "aGk="}


def test_anthropics_own_blocks_are_accepted() -> None:
    """A ``source`` belongs to the protocol and names no local file."""
    block = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    provider = scripted(Anthropic)
    provider.complete(messages_with(block))
    assert json.loads(provider.requests[0].body)["messages"][0]["content"] == [block]


# --- the files that a path object may name


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A FIFO without a writer does not block, nor does a device, a socket or a directory."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for path in (fifo, Path("/dev/zero"), Path("/dev/null"), tmp_path, tmp_path / "socket"):
            with pytest.raises(InvalidRequestError, match="the image cannot be read"):
                image_url_in_time(path)
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        image_url(tmp_path / "missing.png")
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        image_url(Path("a\0b"))


def image_url_in_time(path: Path) -> None:
    """Read an image in a thread, which must end in ``LIMIT_S`` seconds; raise what it raises."""
    raised: list[InvalidRequestError] = []

    def read() -> None:
        try:
            image_url(path)
        except InvalidRequestError as error:
            raised.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), f"{path} hangs"
    raise raised[0]


def test_an_image_has_a_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For files, of which at most one byte more is read, and for bytes."""
    assert config.IMAGE_BYTES == 20 * 1024 * 1024
    monkeypatch.setattr("providers_sync.files.IMAGE_BYTES", len(PNG))
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    assert image_url(path) == image_url(PNG)
    path.write_bytes(PNG + b"!")
    for image in (path, PNG + b"!", bytearray(PNG + b"!")):
        with pytest.raises(InvalidRequestError, match="larger than"):
            image_url(image)


def test_a_large_file_is_read_only_up_to_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory stays bounded, whatever the file's size."""
    monkeypatch.setattr("providers_sync.files.IMAGE_BYTES", 1000)
    path = tmp_path / "large.png"
    path.write_bytes(PNG)
    os.truncate(path, 64 * 2**20)  # a sparse file takes no disk space
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequestError, match="larger than"):
            image_url(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_reports_no_size_is_read() -> None:
    """The content counts, not the size that the file system reports."""
    with pytest.raises(InvalidRequestError, match="not a PNG"):
        image_url(Path("/proc/self/status"))


# --- every source of untrusted JSON


def test_a_prompts_file_cannot_name_a_file(private: Path, tmp_path: Path) -> None:
    """The row fails, and the others are sent."""
    rows = [
        {"custom_id": "1", "body": {"messages": messages_with(FORMS["image"](str(private)))}},
        {"custom_id": "2", "prompt": "Hi"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    provider = scripted(OpenAICompatible)
    results = {each.custom_id: each for each in batch.map(provider, batch.read(path))}
    assert isinstance(results["1"].error, InvalidRequestError)
    assert (results["2"].text, len(provider.requests)) == ("ok", 1)


def test_a_programs_rows_may_contain_path_objects(private: Path) -> None:
    """They cannot come from JSON, so they come from the program."""
    provider = scripted(OpenAICompatible)
    [result] = batch.map(provider, [messages_with(FORMS["image"](private))])
    assert result.text == "ok"
    assert base64.b64encode(PNG) in provider.requests[0].body


def test_a_saved_chat_cannot_name_a_file(private: Path, tmp_path: Path) -> None:
    """Loading it raises."""
    history = [*messages_with(FORMS["image"](str(private))), {"role": "assistant", "content": "x"}]
    path = tmp_path / "chat.json"
    path.write_text(
        json.dumps({"version": 1, "system": None, "interrupted": None, "history": history})
    )
    with pytest.raises(InvalidRequestError, match=r"messages\[0\]"):
        Chat.load(path, scripted(OpenAICompatible))


class Forward:
    """An engine that forwards its client's messages to Anthropic."""

    models = ("m",)

    def __init__(self) -> None:
        self.provider = scripted(Anthropic)
        self.errors: list[ProviderError] = []

    def answer(
        self, messages: Messages, options: Mapping[str, Any], cancel: CancelToken
    ) -> Iterator[str]:
        """Forward the messages unchanged."""
        try:
            yield from self.provider.stream(messages, cancel=cancel)
        except ProviderError as error:
            self.errors.append(error)
            raise

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def test_a_gateways_client_cannot_name_a_file(private: Path) -> None:
    """Its messages reach an engine unchanged, and from there another provider."""
    engine = Forward()
    body = {"model": "m", "messages": messages_with(FORMS["image_url"](str(private)))}
    with serve_gateway(engine) as gateway:
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=LIMIT_S)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        assert connection.getresponse().status >= 400
        connection.close()
    assert [type(error) for error in engine.errors] == [InvalidRequestError]
    assert engine.provider.requests == []


@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: {"type": "x", "content": [part]}])
def test_nothing_is_read_when_messages_are_checked(wrap: Callable[[Any], Any]) -> None:
    """The check reads no file and ignores the contents of unknown parts."""
    to_messages(messages_with(wrap(FORMS["image"](Path("/no/such/file.png")))))
