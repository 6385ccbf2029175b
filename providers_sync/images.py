"""Validation of images, and conversion of image files and bytes to data: URLs.

>>> image_url("https://example.org/a.png")
'https://example.org/a.png'
>>> image_url(b"GIF89a")
'data:image/gif;base64,R0lGODlh'
>>> image_url("/etc/passwd")
Traceback (most recent call last):
providers_sync.errors.InvalidRequestError: the image must be an http(s) or data: URL, \
a pathlib.Path or bytes; this string is not a URL: '/etc/passwd'
"""

from __future__ import annotations

import base64
import os
import stat
from typing import Union

from .config import IMAGE_BYTES
from .errors import InvalidRequestError

_SCHEMES = ("http://", "https://", "data:")
_MEDIA_TYPES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
_URL_CHARACTERS = 40
"""Characters of an invalid URL that an error shows."""
# Do not block on a FIFO, and do not make a terminal the controlling one.
_OPEN_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)

_Data = Union[bytes, bytearray]


def check_image(image: object, name: str) -> None:
    """Raise ``InvalidRequestError`` unless it is a URL, a path object or bytes; read nothing.

    A string is a URL and never a path: untrusted JSON must not name local files, and the error must
    not reveal which of them exist.
    """
    expected = f"{name} must be an http(s) or data: URL, a pathlib.Path or bytes"
    if isinstance(image, str):
        if not image[:8].lower().startswith(_SCHEMES):
            raise InvalidRequestError(
                f"{expected}; this string is not a URL: {image[:_URL_CHARACTERS]!r}"
            )
    elif not isinstance(image, (os.PathLike, bytes, bytearray)):
        raise InvalidRequestError(f"{expected}, not {type(image).__name__}")


def image_url(image: object, name: str = "the image") -> str:
    """Return a URL (``http:``, ``https:`` or ``data:``) unchanged, a file or bytes as a data: URL.

    Raises ``InvalidRequestError`` for any other string, a file that cannot be read or is not a
    regular one, more than 20 MB, and data that is not PNG, JPEG, GIF or WebP.
    """
    check_image(image, name)
    if isinstance(image, str):
        return image
    data = image if isinstance(image, (bytes, bytearray)) else _read_file(image, name)
    if len(data) > IMAGE_BYTES:
        raise InvalidRequestError(f"{name} is larger than {IMAGE_BYTES >> 20} MB; make it smaller")
    media_type = next(
        (kind for magic, kind in _MEDIA_TYPES.items() if data.startswith(magic)), None
    )
    if media_type is None:
        raise InvalidRequestError(f"{name} is not a PNG, JPEG, GIF or WebP")
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _read_file(path: object, name: str) -> _Data:
    """Return the content of a regular file, at most one byte more than ``IMAGE_BYTES``."""
    assert isinstance(path, os.PathLike)
    try:
        with open(path, "rb", opener=_open_file) as file:
            # Check the open file: what the path names may have been replaced in the meantime.
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data: _Data = (file.read(IMAGE_BYTES + 1) or b"") if is_regular else b""
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequestError(f"{name} cannot be read: {error}") from error
    if not is_regular:
        raise InvalidRequestError(f"{name} cannot be read: {path} is not a regular file")
    return data


def _open_file(path: str, flags: int) -> int:
    return os.open(path, flags | _OPEN_FLAGS)
