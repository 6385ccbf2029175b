"""How a notebook shows an image of an answer: as itself, or as a link or a line that names it."""

from __future__ import annotations

import base64
import html

from . import Media
from .files import recognized_type
from .notebook_bundles import DIMMED, Bundle
from .printable import short_line
from .safe_markdown.links import safe_destination

MAX_IMAGE_BYTES = 2_000_000
"""A larger image would make the notebook's file large, in which it is base64."""
_OF_JUPYTER = ("image/png", "image/jpeg")
"""What nbconvert shows as an output of its own; other images stand in HTML."""
_IN_HTML = ("image/gif", "image/webp")
_SHOWN_URL = 200


def media_line(media: Media, limit: int = MAX_IMAGE_BYTES) -> str:
    """Return the line that names an image; see ``media_bundle``."""
    kind = short_line(media.mime_type or media.kind, 40)
    if media.data is None:
        return f"[{kind}: {short_line(media.url or '', _SHOWN_URL)}]"
    size = f"{-(-len(media.data) // 1000):,} KB"
    found = recognized_type(media.data)
    if found not in (*_OF_JUPYTER, *_IN_HTML):
        return f"[{kind}, {size}: not an image that a notebook can show; it is in media]"
    note = ": too large for an output; it is in media" if len(media.data) > limit else ""
    return f"[{found}, {size}{note}]"


def media_bundle(media: Media, limit: int = MAX_IMAGE_BYTES) -> Bundle:
    """Return an image, a link to what the answer names by its URL, or a line that names it.

    A line stands for an image of more than ``limit`` bytes.
    The type is that of the bytes, not what the server says it is; a URL is never fetched.
    """
    line = media_line(media, limit)
    if media.data is None:
        return _link(line, media.url or "")
    found = recognized_type(media.data)
    if found not in (*_OF_JUPYTER, *_IN_HTML) or len(media.data) > limit:
        return _line(line)
    data = base64.b64encode(media.data).decode("ascii")
    if found in _OF_JUPYTER:
        return {found: data, "text/plain": line}
    return {"text/html": f'<img alt="" src="data:{found};base64,{data}">', "text/plain": line}


def _link(line: str, url: str) -> Bundle:
    target = safe_destination(url)
    if target is None or not target.lower().startswith("http"):
        return _line(line)
    text = f"<code>{html.escape(line[1:-1])}</code>"  # in <code> nothing is taken for a formula
    link = f'<a href="{target}" target="_blank" rel="noopener noreferrer">{text}</a>'
    return {"text/html": link, "text/plain": line}


def _line(line: str) -> Bundle:
    markup = f'<span style="{DIMMED}"><code>{html.escape(line)}</code></span>'
    return {"text/html": markup, "text/plain": line}
