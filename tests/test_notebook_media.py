"""Images of an answer in a notebook: shown if their bytes are those of one, links otherwise."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib

import nbformat
import pytest
from nbconvert import HTMLExporter
from notebook_kit import Kernel, kernel, no_leaks

from providers_sync import Media, ToolCall, ToolResult
from providers_sync.notebook_bundles import OutcomeLine, table_bundle
from providers_sync.notebook_calls import ShownCall
from providers_sync.notebook_media import MAX_IMAGE_BYTES, media_bundle
from providers_sync.notebook_output import MAX_BYTES, MAX_IMAGES
from providers_sync.testing import Step, raw, serve, text

__all__ = ["kernel", "no_leaks"]
"""Fixtures."""

pytestmark = pytest.mark.filterwarnings("default:::jupyter_client", "default:::zmq")


def png(width: int = 8, height: int = 8, colour: bytes = b"\x30\x80\xc0") -> bytes:
    """Return an image of one colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + colour * width) * height)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'


def event(**delta: object) -> Step:
    """Send an event with this delta."""
    return raw(b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n")


def image(url: str) -> Step:
    """Send an image as OpenRouter does."""
    return event(images=[{"type": "image_url", "image_url": {"url": url}}])


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def test_image_is_an_output_between_the_texts(kernel: Kernel) -> None:
    """The image itself; the outcome stays with the text, or takes the place of text to come."""
    scripts = [[text("Look: "), image(data_url(png())), text("Nice?")], [image(data_url(png()))]]
    with serve(scripts) as server:
        cells = [kernel.run(f"answer = show(openai({server.url!r}).stream('x'))") for _ in scripts]
    before, shown, after = cells[0].outputs
    assert before["text/plain"] == "Look: "
    assert base64.b64decode(shown["image/png"]) == png()
    assert shown["text/plain"] == "[image/png, 1 KB]"
    assert after["text/plain"].startswith("Nice?\n\n— complete · ")
    alone, line = cells[1].outputs
    assert "image/png" in alone
    assert line["text/plain"].startswith("— complete · ")


def test_many_images_are_counted(kernel: Kernel) -> None:
    """A page with thousands of outputs would be of no use."""
    with serve([[*[image("https://example.org/a.png")] * (MAX_IMAGES + 9), text("Hi")]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x'))")
    assert len(cell.outputs) == MAX_IMAGES + 1
    assert cell.plain[-2] == "Hi"
    assert f" · {MAX_IMAGES + 9} images · " in cell.plain[-1]


def test_images_are_limited_to_ten_megabytes_together(kernel: Kernel) -> None:
    """The others are named; the notebook's file stays of a size that can be opened."""
    large = png() + bytes(1_500_000)
    with serve([[*[image(data_url(large))] * 8, text("Hi")]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x'))")
    shown = ["image/png" in output for output in cell.outputs]
    assert shown == [True] * (MAX_BYTES // len(large)) + [False] * 3
    assert "too large" in cell.outputs[-2]["text/plain"]


def test_large_images_that_are_only_named_leave_space_for_others(kernel: Kernel) -> None:
    """They do not count."""
    large = image(data_url(png() + bytes(MAX_IMAGE_BYTES)))
    with serve([[*[large] * (MAX_BYTES // MAX_IMAGE_BYTES), image(data_url(png()))]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x'))")
    assert ["image/png" in output for output in cell.outputs[:-1]] == [False] * 5 + [True]


def test_image_after_sound_is_shown(kernel: Kernel) -> None:
    """Pieces of sound do not count as images."""
    piece = base64.b64encode(b"\0" * 300).decode()
    sound = [event(audio={"id": "a", "data": piece})] * (MAX_IMAGES + 1)
    with serve([[*sound, image(data_url(png()))]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x'))")
    assert "image/png" in cell.outputs[0]


def test_image_in_a_typed_answer_is_above_its_table(kernel: Kernel) -> None:
    """The JSON is not torn apart."""
    with serve([[text('{"a": '), image(data_url(png())), text("1}")]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x', into=dict[str, int]))")
    picture, table = cell.outputs
    assert "image/png" in picture
    assert "<table>" in table["text/html"]
    assert table["text/plain"].startswith('{"a": 1}')


def test_sound_is_told_of_at_the_end(kernel: Kernel) -> None:
    """It comes in many pieces, which are no outputs."""
    piece = base64.b64encode(b"\0" * 3000).decode()
    with serve([[*[event(audio={"id": "a", "data": piece})] * 4, text("Hi")]]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x'))")
    assert len(cell.outputs) == 1
    assert " · 12 KB of sound in media · " in cell.plain[1]


def test_url_is_a_link_and_nothing_else_is(kernel: Kernel) -> None:
    """It is not fetched before a click; other schemes are text."""
    urls = ["https://example.org/a.png?x=1&y", "javascript:alert(1)", "file:///etc/passwd"]
    with serve([list(map(image, urls))]) as server:
        cell = kernel.run(f"answer = show(openai({server.url!r}).stream('x'))")
    link, *others = (output["text/html"] for output in cell.outputs[:3])
    assert 'href="https://example.org/a.png?x=1&amp;y"' in link
    assert "noopener" in link
    assert not any("href" in other or "<img" in other for other in others)


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (png(), "image/png"),
        (b"\xff\xd8\xff\xe0rest", "image/jpeg"),
        (GIF, "text/html"),
        (b"RIFF0000WEBPrest", "text/html"),
    ],
)
def test_type_is_that_of_the_bytes(data: bytes, form: str) -> None:
    """Whatever the server says it is."""
    bundle = media_bundle(Media("image", "image/svg+xml", data))
    assert set(bundle) == {form, "text/plain"}
    assert "svg" not in str(bundle)
    assert base64.b64encode(data).decode() in bundle[form]


@pytest.mark.parametrize(
    "media",
    [
        Media("image", "image/png", SVG),
        Media("image", "image/svg+xml", SVG),
        Media("image", '"><script>alert(1)</script>\x1b', b"<script>"),
        Media("video", "video/mp4", b"\0\0\0 ftypisom"),
        Media("image", None, png() + bytes(MAX_IMAGE_BYTES)),
        Media("image", None, None, 'https:"onclick=alert(1)'),
        Media("image"),
    ],
)
def test_what_is_no_small_image_is_a_line(media: Media) -> None:
    """It names the type and the size, as text."""
    bundle = media_bundle(media)
    assert set(bundle) == {"text/html", "text/plain"}
    assert set(re.findall(r"<(\w+)", bundle["text/html"])) == {"span", "code"}
    assert "\x1b" not in str(bundle)


def test_exported_page_shows_images_tables_and_calls() -> None:
    """A saved notebook holds them, and nbconvert puts them into the page."""
    hostile = "<script>ran = 1</script>"
    bundles = [media_bundle(Media("image", None, data)) for data in (png(), GIF)]
    bundles.append(table_bundle([{hostile: hostile}], "", OutcomeLine(hostile, hostile)))
    bundles.append(
        ShownCall(ToolCall("1", "f", None, hostile), ToolResult("1", "f", hostile)).bundle()
    )
    outputs = [nbformat.v4.new_output("display_data", bundle) for bundle in bundles]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)])
    nbformat.validate(book)
    page = HTMLExporter().from_notebook_node(book)[0]
    for data, kind in ((png(), "image/png"), (GIF, "image/gif")):
        assert f'src="{data_url(data, kind)}"' in page
    assert page.count("<table>") == page.count("<details><summary") == 1
    assert "ran = 1" in page
    assert hostile not in page
