"""Checks the built site: no dead link, and nothing that a browser would fetch from another host."""

from __future__ import annotations

import posixpath
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

LOADED = {
    *(("img", "src"), ("img", "srcset"), ("source", "src"), ("source", "srcset")),
    *(("script", "src"), ("iframe", "src"), ("audio", "src"), ("video", "src"), ("object", "data")),
    ("link", "href"),
}
"""Attributes whose address a browser loads by itself."""
ONLY_NAMED = {"alternate", "author", "canonical", "license", "next", "prev"}
"""The ``rel`` of ``link`` elements whose address it does not load."""
CSS_ADDRESS = re.compile(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""")
FETCHING = {"mermaid"}
"""Classes for which the theme loads a script from unpkg.com."""


class Document(HTMLParser):
    """The links, loaded addresses, ids and classes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.classes: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.classes |= {*values.get("class", "").split()}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") in ONLY_NAMED:
            self.links.append(values["href"])
            return
        for name, value in values.items():
            if (tag, name) in LOADED:
                addresses = value.split(",") if name == "srcset" else [value]
                self.loaded += [address.split()[0] for address in addresses if address.strip()]


def on_post_build(config: MkDocsConfig) -> None:
    """Fail the build, with a list, if something is wrong with the site."""
    from mkdocs.exceptions import PluginError

    problems = check(Path(config.site_dir))
    if problems:
        raise PluginError("The built site is wrong:\n" + "\n".join(problems))


def check(site: Path) -> list[str]:
    """Return what is wrong with the site in a folder, one line each."""
    pages = {
        path.relative_to(site).as_posix(): Document(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    problems = []
    for name, page in pages.items():
        problems += [
            f"{name}: {link}: {reason}"
            for link in dict.fromkeys(page.links + page.loaded)
            if (reason := _dead(link, name, pages, site))
        ]
        problems += [f"{name}: loads {link}" for link in page.loaded if _is_foreign(link)]
        problems += [f"{name}: the theme loads a script for {it}" for it in page.classes & FETCHING]
    for path in sorted(site.rglob("*.css")):
        addresses = CSS_ADDRESS.findall(path.read_text(encoding="utf-8"))
        problems += [f"{path.name}: loads {it}" for it in addresses if _is_foreign(it)]
    return problems


def _is_foreign(link: str) -> bool:
    return bool(urlsplit(link).netloc)


def _dead(link: str, name: str, pages: dict[str, Document], site: Path) -> str | None:
    """Return why a link within the site leads nowhere; ``None`` if it leads somewhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    path, anchor = unquote(parts.path), unquote(parts.fragment)
    base = "" if path.startswith("/") else posixpath.dirname(name)
    target = posixpath.normpath(posixpath.join(base, path.lstrip("/"))) if path else name
    if (site / target).is_dir():
        target = posixpath.normpath(posixpath.join(target, "index.html"))
    if not (site / target).is_file():
        return "no such file"
    if anchor and target in pages and anchor not in pages[target].ids:
        return "no such anchor"
    return None
