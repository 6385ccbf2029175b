"""Make the pictures of the notebook and the terminal from the real thing: ``python make.py``.

Needs the small model, tmux, chromium, nbconvert and the project's ``test`` extra.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbclient
import nbformat
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CHAT = """
from providers_sync import Vitalentum
from providers_sync.gateway import serve
from providers_sync.terminal import chat

with serve(engine="local") as gateway:
    url = gateway.url("vitalentum")
    chat(Vitalentum(base_url=url, temperature=0, max_tokens=120), stats=True)
"""
"""``providers-sync chat --local --stats``, with the words that the model is surest of."""
QUESTIONS = [
    "Name three colours, as a list.",
    "Write a Python function that returns the sum of a list.",
]
PAGE = (
    '<body style="margin:0;padding:18px;background:#191919"><pre style="margin:0;color:#d4d4d4;'
    "font:15px/1.35 'DejaVu Sans Mono',monospace\">{code}</pre></body>"
)


def main() -> None:
    """Make both."""
    with tempfile.TemporaryDirectory() as folder:
        notebook(Path(folder))
        terminal(Path(folder))


def notebook(folder: Path) -> None:
    """Run the example, export it as a page, photograph the page."""
    book = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    nbclient.NotebookClient(book, timeout=120).execute(env=environment(), cwd=str(folder))
    nbformat.write(book, folder / "page.ipynb")
    export = ["nbconvert", "--to", "html", "--template", "classic", "page.ipynb"]
    subprocess.run([sys.executable, "-m", *export], cwd=folder, check=True)
    photograph(folder / "page.html", HERE / "notebook.png", "900,1180")


def terminal(folder: Path) -> None:
    """Talk in a terminal of 84 columns, and photograph what it shows."""
    tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
    window = ["new-session", "-d", "-x", "84", "-y", "25", "--", "env", "TERM=xterm-256color"]
    subprocess.run([*tmux, *window, sys.executable, "-c", CHAT], env=environment(), check=True)
    try:
        for number, question in enumerate(["", *QUESTIONS]):
            if question:
                subprocess.run([*tmux, "send-keys", question, "Enter"], check=True)
            while True:
                screen = subprocess.run(
                    [*tmux, "capture-pane", "-epN"], capture_output=True, text=True, check=True
                ).stdout
                if screen.count("complete: ") == number and screen.rstrip().endswith(">"):
                    break
                time.sleep(0.2)
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen.rstrip()), crop=False)
    code = console.export_html(inline_styles=True, code_format="{code}", theme=DIMMED_MONOKAI)
    (folder / "terminal.html").write_text(PAGE.format(code=code), encoding="utf-8")
    photograph(folder / "terminal.html", HERE / "terminal.png", "820,520")


def photograph(page: Path, picture: Path, size: str) -> None:
    """Take a screenshot with headless Chromium."""
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}"]
    subprocess.run(["chromium", *options, f"--screenshot={picture}", page.as_uri()], check=True)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": "/nonexistent"}


if __name__ == "__main__":
    main()
