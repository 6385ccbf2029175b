"""Files in messages: images, PDF and audio, as URLs, paths or bytes.

>>> load_file(b"%PDF-1.7", "the file")
File(kind='pdf', media_type='application/pdf', url=None, data='JVBERi0xLjc=', name='file.pdf')
>>> load_file("https://example.org/a.png", "the file").media_type
'image/png'
>>> load_file("/etc/passwd", "the file")
Traceback (most recent call last):
providers_sync.errors.InvalidRequestError: the file must be an http(s) or data: URL, \
a pathlib.Path or bytes; this string is not a URL: '/etc/passwd'
"""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union
from urllib.parse import urlsplit

from .config import FILE_BYTES, IMAGE_BYTES
from .errors import InvalidRequestError

_SCHEMES = ("http://", "https://", "data:")
_MAGIC = {
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF....WEBP",
    "application/pdf": rb"%PDF-",
    "audio/wav": rb"RIFF....WAVE",
    "audio/mpeg": rb"ID3|\xff[\xf2\xf3\xfa\xfb]",
    "audio/flac": rb"fLaC",
    "audio/ogg": rb"OggS",
}
"""What a file of each type begins with."""
_MAGIC_BYTES = 12
_LARGE_TYPES = ("application/pdf", "audio/wav", "audio/mpeg", "audio/flac", "audio/ogg")
_EXTENSIONS = {
    **{".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif"},
    **{".webp": "image/webp", ".pdf": "application/pdf", ".wav": "audio/wav"},
    **{".mp3": "audio/mpeg", ".flac": "audio/flac", ".ogg": "audio/ogg"},
}
_OTHER_NAMES = {
    **dict.fromkeys(("image/jpg", "image/pjpeg"), "image/jpeg"),
    **dict.fromkeys(("audio/mp3", "audio/x-mp3"), "audio/mpeg"),
    **dict.fromkeys(("audio/x-wav", "audio/wave", "audio/vnd.wave"), "audio/wav"),
    **dict.fromkeys(("audio/x-flac",), "audio/flac"),
}
"""Other names of types, which browsers use and servers may not know."""
_KINDS = "a PNG, JPEG, GIF, WebP, PDF, WAV, MP3, FLAC or Ogg file"
_DATA_URL = r"(?i)data:([\w.+-]+/[\w.+-]+)(?:;[\w-]+=[^;,]*)*;base64,"
_URL_CHARACTERS = 40
"""Characters of an invalid URL that an error shows."""
# Do not block on a FIFO, and do not make a terminal the controlling one.
_OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)

_Data = Union[bytes, bytearray]


@dataclass(frozen=True)
class File:
    """A file to send: its address, or its content."""

    kind: str
    """``image``, ``pdf`` or ``audio``; empty if the address does not tell."""
    media_type: str
    """Empty if the address does not tell."""
    url: str | None = None
    """An ``http:`` or ``https:`` address."""
    data: str | None = None
    """The content, in base64."""
    name: str = "file"

    @property
    def data_url(self) -> str:
        """The address, or the content as a ``data:`` URL."""
        return self.url or f"data:{self.media_type};base64,{self.data}"


def file_source(part: Mapping[str, Any], name: str) -> tuple[object, str] | None:
    """Return what a part names as its file, and the name of that place; read nothing."""
    kind = part["type"]
    if kind == "image" and "image" in part:
        return part["image"], f"{name}['image']"
    if kind == "image_url":
        detail = part.get("image_url")
        if isinstance(detail, Mapping):
            return detail.get("url"), f"{name}['image_url']['url']"
        return detail, f"{name}['image_url']"
    if kind == "file" and "file" in part and not isinstance(part["file"], Mapping):
        return part["file"], f"{name}['file']"
    return None


def check_file(value: object, name: str) -> None:
    """Raise ``InvalidRequestError`` unless it is a URL, a path object or bytes; read nothing.

    A string is a URL and never a path: untrusted JSON must not name local files, and the error must
    not reveal which of them exist.
    """
    expected = f"{name} must be an http(s) or data: URL, a pathlib.Path or bytes"
    if isinstance(value, str):
        if not value[:8].lower().startswith(_SCHEMES):
            raise InvalidRequestError(
                f"{expected}; this string is not a URL: {value[:_URL_CHARACTERS]!r}"
            )
    elif not isinstance(value, (os.PathLike, bytes, bytearray)):
        raise InvalidRequestError(f"{expected}, not {type(value).__name__}")


def load_file(value: object, name: str) -> File:
    """Return what a URL names, or the content of a path or bytes, with its kind.

    The content tells the kind, whatever the file's name says.

    Raises ``InvalidRequestError`` for any other string, a file that cannot be read or is not a
    regular one, more than 20 MB of an image or 50 MB of another file, and content of an unknown
    kind.
    """
    check_file(value, name)
    if isinstance(value, str):
        return _from_url(value, name)
    data = value if isinstance(value, (bytes, bytearray)) else _read_file(value, name)
    media_type = recognized_type(data)
    if media_type is None:
        raise InvalidRequestError(f"{name} is {'not' if data else 'empty, not'} {_KINDS}")
    if len(data) > (limit := _limit(media_type)):
        raise InvalidRequestError(f"{name} is larger than {limit >> 20} MB; make it smaller")
    file_name = _file_name(value, media_type) if isinstance(value, os.PathLike) else ""
    return _file(media_type, data=base64.b64encode(data).decode("ascii"), name=file_name)


def _file_name(path: os.PathLike[Any], media_type: str) -> str:
    """Return the name of a file, with an extension of its type: servers read it from there."""
    name = os.path.basename(os.fsdecode(path)).encode("utf-8", "replace").decode()
    if _EXTENSIONS.get(os.path.splitext(name)[1].lower()) == media_type:
        return name
    return name + next(key for key, value in _EXTENSIONS.items() if value == media_type)


def image_url(image: object, name: str = "the image") -> str:
    """Return a URL (``http:``, ``https:`` or ``data:``) unchanged, a file or bytes as a data: URL.

    >>> image_url(b"GIF89a")
    'data:image/gif;base64,R0lGODlh'

    Raises ``InvalidRequestError`` like ``load_file``, and for anything that is not an image.
    """
    if isinstance(image, str):
        check_file(image, name)
        return image
    file = load_file(image, name)
    if file.kind != "image":
        raise InvalidRequestError(f"{name} is not a PNG, JPEG, GIF or WebP")
    return file.data_url


def _from_url(url: str, name: str) -> File:
    if url[:5].lower() != "data:":
        path = urlsplit(url).path
        media_type = _EXTENSIONS.get(os.path.splitext(path)[1].lower(), "")
        return _file(media_type, url=url, name=os.path.basename(path))
    match = re.match(_DATA_URL, url)
    if match is None:
        raise InvalidRequestError(f"{name} must be a data: URL with a media type and base64")
    media_type = match[1].lower()
    return _file(_OTHER_NAMES.get(media_type, media_type), data=url[match.end() :])


def _file(
    media_type: str, *, url: str | None = None, data: str | None = None, name: str = ""
) -> File:
    kind = media_type.partition("/")[0]
    kind = "pdf" if media_type == "application/pdf" else kind if kind in ("image", "audio") else ""
    extension = media_type.rpartition("/")[2]
    return File(kind, media_type, url, data, name or f"file.{extension}" if extension else "file")


def recognized_type(data: _Data) -> str | None:
    """Return the MIME type that a file begins like, if it is one that messages may hold."""
    return next((kind for kind, magic in _MAGIC.items() if re.match(magic, data, re.DOTALL)), None)


def _limit(media_type: str | None) -> int:
    return FILE_BYTES if media_type in _LARGE_TYPES else IMAGE_BYTES


def _read_file(path: object, name: str) -> _Data:
    """Return the content of a regular file, at most one byte more than its limit."""
    assert isinstance(path, os.PathLike)
    try:
        with open(path, "rb", opener=_open_file) as file:
            # Check the open file: what the path names may have been replaced in the meantime.
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data: _Data = (file.read(_MAGIC_BYTES) or b"") if is_regular else b""
            if is_regular:
                data += file.read(_limit(recognized_type(data)) + 1 - len(data)) or b""
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequestError(f"{name} cannot be read: {error}") from error
    if not is_regular:
        raise InvalidRequestError(f"{name} cannot be read: {path} is not a regular file")
    return data


def _open_file(path: str, flags: int) -> int:
    return os.open(path, flags | _OPEN_FLAGS)
