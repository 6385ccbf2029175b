"""An image as a caller gives it → the address that is sent, or what is wrong with it.

>>> image_url("https://example.org/a.png")
'https://example.org/a.png'
>>> image_url(b"GIF89a")
'data:image/gif;base64,R0lGODlh'
>>> image_url("/etc/passwd")
Traceback (most recent call last):
providers_sync.errors.InvalidRequestError: the image must be an http(s) or data: address, \
a pathlib.Path or bytes; this string is no address: '/etc/passwd'
"""

from __future__ import annotations

import base64
import os
import stat
from typing import Union

from .config import IMAGE_BYTES
from .errors import InvalidRequestError

_SCHEMES = ("http://", "https://", "data:")
_TYPES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"RIFF": "image/webp",
}
_SHOWN = 40
"""Characters of a wrong address in an error."""
# A FIFO must not be waited for, and a terminal must not become ours.
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)

_Data = Union[bytes, bytearray]


def check_image(image: object, name: str) -> None:
    """Raise ``InvalidRequestError`` unless it is an address, a path object or bytes; read nothing.

    A string is an address and never a path: JSON from outside must not name our files, nor learn
    from the error which of them exist.
    """
    wanted = f"{name} must be an http(s) or data: address, a pathlib.Path or bytes"
    if isinstance(image, str):
        if not image[:8].lower().startswith(_SCHEMES):
            raise InvalidRequestError(f"{wanted}; this string is no address: {image[:_SHOWN]!r}")
    elif not isinstance(image, (os.PathLike, bytes, bytearray)):
        raise InvalidRequestError(f"{wanted}, not {type(image).__name__}")


def image_url(image: object, name: str = "the image") -> str:
    """Return an address (``http:``, ``https:`` or ``data:``) as it is, a file or bytes as data.

    Raises ``InvalidRequestError`` for another string, a file that cannot be read or is not a
    regular one, more than 20 MB, and data that is no PNG, JPEG, GIF or WebP.
    """
    check_image(image, name)
    if isinstance(image, str):
        return image
    data = image if isinstance(image, (bytes, bytearray)) else _content(image, name)
    if len(data) > IMAGE_BYTES:
        raise InvalidRequestError(f"{name} is larger than {IMAGE_BYTES >> 20} MB; make it smaller")
    kind = next((kind for magic, kind in _TYPES.items() if data.startswith(magic)), None)
    if kind is None:
        raise InvalidRequestError(f"{name} is no PNG, JPEG, GIF or WebP")
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _content(path: object, name: str) -> _Data:
    """Return what a regular file holds; of more than the limit, one byte more than that."""
    assert isinstance(path, os.PathLike)
    try:
        with open(path, "rb", opener=_opened) as file:
            # Asked of what is open: whatever stood under the name before may have been replaced.
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            data: _Data = (file.read(IMAGE_BYTES + 1) or b"") if is_regular else b""
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequestError(f"{name} cannot be read: {error}") from error
    if not is_regular:
        raise InvalidRequestError(f"{name} cannot be read: {path} is not a regular file")
    return data


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | _FLAGS)
