"""Pages for the files outside ``docs/`` that the pages link to; pictures for light and dark.

On a forge, ``[the example](../examples/typed.py)`` in ``docs/typed.md`` opens the file. For the
site this hook makes a page of each such file and lets the link lead there, so that the sources need
only the links that a forge understands.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
FOLDER = "repository"
"""Where the pages made here are: nothing in ``docs/`` can have their names."""
IN_NAV = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
LINK = re.compile(r"(?<!!)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">\s*'
    r'<img alt="(?P<alt>[^"]*)" src="(?P<light>[^"]+)" width="(?P<width>\d+)">\s*</picture>'
)
PICTURES = (".png",)
LANGUAGES = {".py": "python", ".js": "javascript", ".css": "css", ".html": "html", ".sh": "bash"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file outside ``docs/`` that a page links to, or that is in the nav."""
    from mkdocs.structure.files import File

    texts = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    waiting = [*IN_NAV, *(path for at, text in texts.items() for path in _linked(text, at))]
    done: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in done:
            continue
        done.add(path)
        if path.endswith(PICTURES):
            files.append(File.generated(config, _page_of(path), abs_src_path=str(ROOT / path)))
            continue
        text = _page_text(path)
        files.append(File.generated(config, _page_of(path), content=rewritten(text, path)))
        waiting += _linked(text, path)
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let the links of a page lead to the pages made here, and rewrite its pictures."""
    if page.file.generated_by:
        return markdown
    return with_images(rewritten(markdown, f"docs/{page.file.src_uri}"))


def _linked(text: str, at: str) -> list[str]:
    """Return the paths, from the project's root, of the files outside ``docs/`` that are linked."""
    paths = (_target(match[1], at) for match in LINK.finditer(text))
    return [path for path in paths if _is_outside(path)]


def _target(link: str, at: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(at), link))


def _is_outside(path: str) -> bool:
    """Whether a link leads to a file of the project that is neither in ``docs/`` nor the README."""
    if path.startswith(("docs/", "..")) or path == "README.md":
        return False
    return (ROOT / path).exists()


def _page_of(path: str) -> str:
    """Return the name, relative to ``docs/``, of the page for a file or folder."""
    return f"{FOLDER}/{path}" if path.endswith((".md", *PICTURES)) else f"{FOLDER}/{path}.md"


def rewritten(text: str, at: str) -> str:
    """Return a page's text with links that lead to the pages of the site."""
    page = at.removeprefix("docs/") if at.startswith("docs/") else _page_of(at)

    def link(match: re.Match[str]) -> str:
        path, anchor = _target(match[1], at), match[2] or ""
        if path == "README.md":
            target = "index.md"  # the site's first page takes its place
        elif path.startswith("docs/"):
            target = path.removeprefix("docs/")
        elif _is_outside(path):
            target = _page_of(path)
        else:
            return match[0]
        return f"]({posixpath.relpath(target, posixpath.dirname(page) or '.')}{anchor})"

    return LINK.sub(link, text)


def _page_text(path: str) -> str:
    """Return the Markdown of the page for a file or folder."""
    file = ROOT / path
    if file.is_dir():
        names = [child.name for child in sorted(file.iterdir()) if child.is_file()]
        items = "\n".join(f"- [{name}]({posixpath.basename(path)}/{name})" for name in names)
        return f"# {path}\n\n{items}\n"
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return text
    if file.suffix == ".ipynb":
        return _notebook(text)
    return f"# {path}\n\n{_fenced(text, LANGUAGES.get(file.suffix, 'text'))}\n"


def _notebook(text: str) -> str:
    """Return the cells of a notebook as Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        is_code = cell["cell_type"] == "code"
        parts.append(_fenced(source, "python") if is_code else source)
    return "\n\n".join(parts) + "\n"


def _fenced(code: str, language: str) -> str:
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", code))])
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def with_images(text: str) -> str:
    """Return a page's text with two images in place of each picture, for light and dark colours."""

    def images(match: re.Match[str]) -> str:
        return "".join(
            f'![{match["alt"]}]({match[scheme]}#only-{scheme}){{ width="{match["width"]}" }}'
            for scheme in ("light", "dark")
        )

    return PICTURE.sub(images, text)
