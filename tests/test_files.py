"""Files in messages, on every protocol: images, PDF and sound, as paths, bytes and URLs."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    PROVIDERS,
    Anthropic,
    Gemini,
    InvalidRequestError,
    Ollama,
    OpenAICompatible,
    OpenAIResponses,
    config,
)
from providers_sync.files import load_file
from providers_sync.testing import ScriptedProvider, answer, serve, status, text

CONTENT = {
    "png": b"\x89PNG\r\n\x1a\n0000",
    "jpeg": b"\xff\xd8\xff\xe0JFIF",
    "gif": b"GIF89a0000",
    "webp": b"RIFF0000WEBPVP8 ",
    "pdf": b"%PDF-1.7\n",
    "wav": b"RIFF0000WAVEfmt ",
    "mp3": b"ID3\x03\x00",
    "flac": b"fLaC\x00",
    "ogg": b"OggS\x00",
}
TYPES = {
    **{name: f"image/{name}" for name in ("png", "jpeg", "gif", "webp")},
    **{"pdf": "application/pdf", "wav": "audio/wav", "mp3": "audio/mpeg"},
    **{"flac": "audio/flac", "ogg": "audio/ogg"},
}
IMAGES, SOUNDS = ("png", "jpeg", "gif", "webp"), ("wav", "mp3", "flac", "ogg")
PROTOCOLS = [OpenAICompatible, OpenAIResponses, Anthropic, Gemini, Ollama]
HISTORICAL = ["vitalentum", "codelinkava", "ai365vip"]
CARRIED = {
    OpenAICompatible: (*IMAGES, "pdf", "wav", "mp3"),
    OpenAIResponses: (*IMAGES, "pdf"),
    Anthropic: (*IMAGES, "pdf"),
    Gemini: (*IMAGES, "pdf", *SOUNDS),
    Ollama: IMAGES,
}
ADDRESSES = {
    OpenAICompatible: IMAGES,
    OpenAIResponses: (*IMAGES, "pdf"),
    Anthropic: (*IMAGES, "pdf"),
    Gemini: (*IMAGES, "pdf", *SOUNDS),
    Ollama: (),
}
LIMIT_S = 5.0
EACH = pytest.mark.parametrize("kind", PROTOCOLS)


def file_part(value: object) -> dict[str, Any]:
    return {"type": "file", "file": value}


def base64_of(name: str) -> str:
    return base64.b64encode(CONTENT[name]).decode()


def data_url(name: str) -> str:
    return f"data:{TYPES[name]};base64,{base64_of(name)}"


def sent(kind: Any, part: Any) -> Any:
    """Return how the body carries one part of a user's message."""
    provider = ScriptedProvider([text("ok")], like=kind("m", api_key="k"))
    provider.complete([{"role": "user", "content": [part]}])
    body = json.loads(provider.requests[0].body)
    message = (body.get("messages") or body.get("contents") or body.get("input"))[0]
    return (
        message["images"] if "images" in message else (message.get("parts") or message["content"])
    )


def refused(kind: Any, part: Any, match: str = r"messages\[0\]") -> str:
    """Return the error for one part; nothing has been sent."""
    provider = ScriptedProvider([text("ok")], like=kind("m", api_key="k"))
    with pytest.raises(InvalidRequestError, match=match) as caught:
        provider.stream([{"role": "user", "content": [part]}])
    assert provider.requests == []
    return str(caught.value)


def form_of(kind: Any, name: str, file_name: str) -> Any:
    """Return the form of a file in each protocol, by its documentation."""
    media_type, data, url = TYPES[name], base64_of(name), data_url(name)
    if kind is Ollama:
        return data
    if kind is Gemini:
        return {"inlineData": {"mimeType": media_type, "data": data}}
    if kind is Anthropic:
        source = {"type": "base64", "media_type": media_type, "data": data}
        return {"type": "image" if name in IMAGES else "document", "source": source}
    if kind is OpenAIResponses:
        if name in IMAGES:
            return {"type": "input_image", "image_url": url}
        return {"type": "input_file", "filename": file_name, "file_data": url}
    if name in IMAGES:
        return {"type": "image_url", "image_url": {"url": url}}
    if name == "pdf":
        return {"type": "file", "file": {"filename": file_name, "file_data": url}}
    return {"type": "input_audio", "input_audio": {"data": data, "format": name}}


@EACH
@pytest.mark.parametrize("name", CONTENT)
def test_every_kind_of_file(kind: Any, name: str, tmp_path: Path) -> None:
    """The same from a path, bytes and a data: URL; what cannot be carried is an error."""
    path = tmp_path / f"My file.{name}"
    path.write_bytes(CONTENT[name])
    for value in (path, CONTENT[name], bytearray(CONTENT[name]), data_url(name)):
        if name in CARRIED[kind]:
            file_name = path.name if value is path else f"file.{name}"
            assert sent(kind, file_part(value)) == [form_of(kind, name, file_name)]
        else:
            refused(kind, file_part(value), r"messages\[0\]\['content'\]\[0\] ")


@EACH
def test_every_kind_of_file_by_its_address(kind: Any) -> None:
    """The server fetches it, where the protocol knows that; we never do."""
    for name in CONTENT:
        url = f"https://example.org/a.{name}?x=1"
        if name not in ADDRESSES[kind]:
            refused(kind, file_part(url))
            continue
        [part] = sent(kind, file_part(url))
        assert url in json.dumps(part)
        if kind is Gemini:
            assert part == {"fileData": {"mimeType": TYPES[name], "fileUri": url}}


@pytest.mark.parametrize("name", HISTORICAL)
@pytest.mark.parametrize("value", [CONTENT["png"], "https://example.org/a.png"])
def test_historical_providers_carry_text_only(name: str, value: Any) -> None:
    """They say so."""
    refused(lambda *_, **__: PROVIDERS[name](base_url="http://127.0.0.1:9"), file_part(value),
            "this provider supports only text")  # fmt: skip


# --- OpenAI's own parts


@EACH
def test_image_url_parts(kind: Any) -> None:
    """With a data: URL, in both forms of the part."""
    for name in IMAGES:
        for detail in ({"url": data_url(name)}, data_url(name)):
            [made] = sent(kind, {"type": "image_url", "image_url": detail})
            if kind is OpenAICompatible:
                assert made == {"type": "image_url", "image_url": detail}
            else:
                assert made == form_of(kind, name, "")


@EACH
def test_image_detail_goes_where_the_protocol_has_it(kind: Any) -> None:
    """Chat completions and Responses have it; the others know no such setting."""
    parts = [
        {"type": "image_url", "image_url": {"url": data_url("png"), "detail": "low"}},
        {"type": "image", "image": CONTENT["png"], "detail": "low"},
        {**file_part(CONTENT["png"]), "detail": "low"},
    ]
    for part in parts:
        [made] = sent(kind, part)
        if kind is OpenAICompatible:
            expected = {"url": data_url("png"), "detail": "low"}
            assert made == {"type": "image_url", "image_url": expected}
        elif kind is OpenAIResponses:
            assert made["detail"] == "low"
        else:
            assert "low" not in json.dumps(made)


def test_media_types_of_browsers_are_understood() -> None:
    """They have several names for one type; servers take one."""
    for name, used in (("wav", "audio/x-wav"), ("wav", "audio/wave"), ("mp3", "audio/mp3")):
        url = f"data:{used};base64,{base64_of(name)}"
        assert sent(OpenAICompatible, file_part(url)) == [form_of(OpenAICompatible, name, "")]
        assert sent(Gemini, file_part(url)) == [form_of(Gemini, name, "")]
    url = f"data:image/JPG;base64,{base64_of('jpeg')}"
    assert sent(Anthropic, file_part(url)) == [form_of(Anthropic, "jpeg", "")]


@EACH
@pytest.mark.parametrize("name", ["wav", "mp3"])
def test_input_audio_parts(kind: Any, name: str) -> None:
    """As a file of that kind."""
    part = {"type": "input_audio", "input_audio": {"data": base64_of(name), "format": name}}
    if name in CARRIED[kind]:
        assert sent(kind, part) == [form_of(kind, name, "")]
    else:
        refused(kind, part, "'input_audio', which .* does not support")


@EACH
def test_file_data_parts(kind: Any) -> None:
    """A PDF in OpenAI's own form; an id belongs to OpenAI's server."""
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": data_url("pdf")}}
    with_id = {"type": "file", "file": {"file_id": "file-1"}}
    if kind is Ollama:
        refused(kind, part)
    else:
        assert sent(kind, part) == [form_of(kind, "pdf", "a.pdf")]
    if kind in (OpenAICompatible, OpenAIResponses):
        assert "file-1" in json.dumps(sent(kind, with_id))
    else:
        refused(kind, with_id)


@pytest.mark.parametrize(
    "part",
    [
        *(file_part(value) for value in (None, 5, "", "a.png", "/etc/passwd", "file:///a.png")),
        file_part("data:image/png,x"),
        file_part("ftp://example.org/a.png"),
        {"type": "image", "image": "C:\\a.png"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
    ],
)
def test_what_names_no_file_is_refused(part: Any) -> None:
    """The error names the place, and nothing is sent or read."""
    place = r"messages\[0\]\['content'\]\[0\]\['(file|image|image_url)'\].* must be"
    for kind in PROTOCOLS:
        refused(kind, part, place)


@pytest.mark.parametrize("kind", [Anthropic, Gemini, OpenAIResponses, Ollama])
@pytest.mark.parametrize("name", ["input_audio", "file", "video_url"])
def test_parts_without_content_are_refused(kind: Any, name: str) -> None:
    """Chat completions pass them on."""
    refused(kind, {"type": name}, rf"messages\[0\].*{name}")


def test_text_is_no_file(tmp_path: Path) -> None:
    """Send it as text; a protocol with a place for it takes a data: URL of its type."""
    path = tmp_path / "a.txt"
    path.write_text("Hello")
    for kind in PROTOCOLS:
        for value in (path, b"Hello"):
            refused(kind, file_part(value), r"\['file'\] is not a PNG, JPEG")
    for kind in (Anthropic, Ollama):
        refused(kind, file_part("data:text/plain;base64,SGVsbG8="))


# --- what a path may name


@EACH
def test_content_counts_and_not_the_name(kind: Any, tmp_path: Path) -> None:
    """Servers read the type from the name of a PDF, so that it gets the right ending."""
    path = tmp_path / "scan.PNG"
    for name in ("jpeg", "pdf"):
        path.write_bytes(CONTENT[name])
        if name in CARRIED[kind]:
            assert sent(kind, file_part(path)) == [form_of(kind, name, f"scan.PNG.{name}")]
        else:
            refused(kind, file_part(path))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.pdf", "a.pdf"),
        ("A.PDF", "A.PDF"),
        ("a", "a.pdf"),
        ("a.b", "a.b.pdf"),
        ("é.pdf", "é.pdf"),
        (b"a\xff.pdf", "a?.pdf"),
    ],
)
def test_file_names_are_text(name: Any, expected: str, tmp_path: Path) -> None:
    """With an ending of their type, and without what no JSON can carry."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), os.fsencode(name))))
    path.write_bytes(CONTENT["pdf"])
    assert load_file(path, "the file").name == expected


class BytesPath:
    """A path object whose path is bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> bytes:
        return os.fsencode(self.path)


def test_every_path_object_is_read(tmp_path: Path) -> None:
    """And a symbolic link leads to its file."""
    path, link = tmp_path / "a.pdf", tmp_path / "link.pdf"
    path.write_bytes(CONTENT["pdf"])
    link.symlink_to(path)
    assert load_file(BytesPath(path), "the file") == load_file(path, "the file")
    assert load_file(link, "the file").name == "link.pdf"
    path.unlink()
    with pytest.raises(InvalidRequestError, match=r"the file cannot be read: .*No such file"):
        load_file(link, "the file")


def error_in_time(path: Path) -> str:
    """Return the error for a path, which must come in ``LIMIT_S`` seconds."""
    errors: list[str] = []
    thread = threading.Thread(target=lambda: errors.append(refused(Gemini, file_part(path))))
    thread.daemon = True
    thread.start()
    thread.join(LIMIT_S)
    assert errors, f"{path} hangs"
    return errors[0]


def test_no_other_kind_of_file_is_read(tmp_path: Path) -> None:
    """A FIFO and a device do not hang; nor does a link to one."""
    fifo, link, empty = tmp_path / "fifo.pdf", tmp_path / "link.pdf", tmp_path / "empty.pdf"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    empty.write_bytes(b"")
    for path in (fifo, link, Path("/dev/zero"), Path("/dev/tty"), tmp_path, tmp_path / "missing"):
        assert "['file'] cannot be read" in error_in_time(path)
    assert "['file'] is empty, not a PNG" in error_in_time(empty)


@contextlib.contextmanager
def without_rights() -> Iterator[None]:
    """Take away root's right to read any file."""
    if is_root := os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_unreadable_file(tmp_path: Path) -> None:
    """The error says why."""
    path = tmp_path / "a.pdf"
    assert "No such file" in refused(Gemini, file_part(path))  # this also imports what it needs
    path.write_bytes(CONTENT["pdf"])
    path.chmod(0)
    with without_rights():
        assert "Permission denied" in refused(Gemini, file_part(path))


@pytest.mark.parametrize("name", ["png", "pdf", "wav"])
def test_huge_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images have a smaller limit; at the limit a file is read."""
    monkeypatch.setattr("providers_sync.files.IMAGE_BYTES", 100)
    monkeypatch.setattr("providers_sync.files.FILE_BYTES", 200)
    limit = 100 if name == "png" else 200
    path = tmp_path / "a"
    path.write_bytes(CONTENT[name].ljust(limit, b"x"))
    assert load_file(path, "the file").media_type == TYPES[name]
    os.truncate(path, 10**12)  # a sparse file takes no disk space
    with pytest.raises(InvalidRequestError, match="the file is larger than"):
        load_file(path, "the file")
    assert (config.IMAGE_BYTES, config.FILE_BYTES) == (20 << 20, 50 << 20)


# --- where files stand


@EACH
@pytest.mark.parametrize("role", ["system", "assistant", "tool"])
def test_files_in_other_messages(kind: Any, role: str) -> None:
    """In the result of a tool everywhere; elsewhere it is sent or refused, never left out."""
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"role": role, "content": [file_part(CONTENT["png"])]}
    messages: list[Any] = [{"role": "user", "content": "Hi"}, message]
    if role == "tool":
        messages.insert(1, {"role": "assistant", "content": None, "tool_calls": [call]})
        message["tool_call_id"] = "1"
    provider = ScriptedProvider([text("ok")], like=kind("m", api_key="k"))
    refusing = {"system": (OpenAIResponses, Anthropic, Gemini), "assistant": (OpenAIResponses,)}
    if kind in refusing.get(role, ()):
        with pytest.raises(InvalidRequestError, match=r"messages\[0\]\['content'\]\[0\]"):
            provider.stream([message])
        assert provider.requests == []
        return
    provider.complete(messages)
    assert base64_of("png") in provider.requests[0].body.decode()


def test_file_is_read_once_for_all_attempts(tmp_path: Path) -> None:
    """A file that changes or goes between two attempts changes nothing."""
    path = tmp_path / "a.png"
    path.write_bytes(CONTENT["png"])
    with serve([status(503, headers={"Retry-After": "0"}), answer("ok")]) as server:
        provider = OpenAICompatible("m", base_url=server.url)
        call = provider.prepare([{"role": "user", "content": [file_part(path)]}])
        path.unlink()
        with call.open() as stream:
            assert stream.read() == "ok"
    assert [base64_of("png") in each.body.decode() for each in server.requests] == [True, True]
