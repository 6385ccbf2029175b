"""The hooks of the documentation site: links to files outside ``docs/``, and its check."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HOOKS = Path(__file__).parent.parent / "docs" / "hooks"


def load(name: str) -> ModuleType:
    """Import a hook, as mkdocs does: it is in no package."""
    spec = importlib.util.spec_from_file_location(name, HOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


repository_files, site_check = load("repository_files"), load("site_check")


@pytest.mark.parametrize(
    ("link", "at", "expected"),
    [
        ("tools.md#a", "docs/web.md", "tools.md#a"),
        ("../examples/tools.py", "docs/tools.md", "repository/examples/tools.py.md"),
        ("../examples/chat_page", "docs/web.md", "repository/examples/chat_page.md"),
        ("../SECURITY.md", "docs/web.md", "repository/SECURITY.md"),
        (
            "../../CONTRIBUTING.md#layers",
            "docs/reference/a.md",
            "../repository/CONTRIBUTING.md#layers",
        ),
        ("../README.md", "docs/llm.md", "index.md"),
        ("docs/presets.md", "SECURITY.md", "../presets.md"),
        ("SECURITY.md", "CONTRIBUTING.md", "SECURITY.md"),
        ("../missing.py", "docs/web.md", "../missing.py"),
        ("../../../etc/passwd", "docs/web.md", "../../../etc/passwd"),
        ("https://example.org/a", "docs/web.md", "https://example.org/a"),
    ],
)
def test_link_leads_to_a_page_of_the_site(link, at, expected):
    """Links that a forge understands become those of the site; others stay as they are."""
    assert repository_files.rewritten(f"[text]({link})", at) == f"[text]({expected})"


def test_picture_has_an_image_for_each_colour_scheme():
    """The theme shows the one that fits; both are checked as links."""
    picture = (
        '<picture>\n  <source media="(prefers-color-scheme: dark)" srcset="p/dark.png">\n'
        '  <img alt="A chat" src="p/light.png" width="700">\n</picture>'
    )
    assert repository_files.with_images(picture) == (
        '![A chat](p/light.png#only-light){ width="700" }'
        '![A chat](p/dark.png#only-dark){ width="700" }'
    )


def site(folder: Path, **pages: str) -> Path:
    """Write a site of these pages."""
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(f"<html><body>{body}</body></html>", encoding="utf-8")
    return folder


def test_good_site_has_no_problem(tmp_path):
    """Links within the site, to anchors, and to other hosts are fine."""
    index = (
        '<a href="b.html#x">b</a> <a href="#y" id="y">y</a> <a href="https://example.org">e</a>'
        '<link rel="canonical" href="https://example.org/index.html">'
    )
    assert site_check.check(site(tmp_path, index=index, b='<h1 id="x">x</h1>')) == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="b.html">b</a>', "index.html: b.html: no such file"),
        ('<a href="#b">b</a>', "index.html: #b: no such anchor"),
        ('<img src="a.png">', "index.html: a.png: no such file"),
        ('<img src="//example.org/a.png">', "index.html: loads //example.org/a.png"),
        ('<script src="https://unpkg.com/a"></script>', "index.html: loads https://unpkg.com/a"),
        (
            '<link rel="stylesheet" href="https://fonts.x/a">',
            "index.html: loads https://fonts.x/a",
        ),
        ('<link rel="next" href="b.html">', "index.html: b.html: no such file"),
        (
            '<img srcset="index.html 1x, https://example.org/a.png 2x">',
            "index.html: loads https://example.org/a.png",
        ),
        ('<pre class="mermaid">', "index.html: the theme loads a script for mermaid"),
    ],
)
def test_bad_site_has_a_problem(tmp_path, body, problem):
    """Dead links, dead anchors, and whatever a browser would load from another host."""
    assert site_check.check(site(tmp_path, index=body)) == [problem]


def test_style_that_loads_from_another_host_is_a_problem(tmp_path):
    """Fonts and pictures in style sheets too."""
    (tmp_path / "a.css").write_text(
        "a{background:url(data:image/png;base64,x)} b{src:url(https://x.org/f)}"
    )
    assert site_check.check(site(tmp_path, index="")) == ["a.css: loads https://x.org/f"]
