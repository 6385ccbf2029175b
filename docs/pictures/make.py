"""Take the notebook and terminal screenshots for the docs: ``python make.py``.

Needs the small model, tmux, chromium and the project's ``test`` extra.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests" / "web"))
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, DIMMED_MONOKAI
from rich.text import Text
from running import ROOT, browser, free_port, running
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

FOLDER = Path(__file__).resolve().parent
CHAT = ["chat", "--local", "--stats", "-o", "temperature=0", "--max-tokens", "120"]
QUESTIONS = [
    "Name three colours, as a list.",
    "Write a Python function that returns the sum of a list.",
]
PAGE = (
    '<body style="margin:0;padding:18px;background:{back}"><pre style="margin:0;color:{fore};'
    "font:15px/1.35 'DejaVu Sans Mono',monospace\">{code}</pre></body>"
)
THEMES = {
    "dark": (DIMMED_MONOKAI, {"back": "#191919", "fore": "#d4d4d4"}),
    "light": (DEFAULT_TERMINAL_THEME, {"back": "#ffffff", "fore": "#1f1f1f"}),
}


def main() -> None:
    """Take all screenshots."""
    with tempfile.TemporaryDirectory() as folder:
        for colours in ("light", "dark"):
            (inside := Path(folder) / colours).mkdir()
            notebook(inside, colours)
        terminal(Path(folder))


def notebook(folder: Path, colours: str) -> None:
    """Run the example in Jupyter and take screenshots of its first and of its last answers."""
    shutil.copy(ROOT / "examples" / "notebook.ipynb", folder)
    settings = folder / "settings" / "@jupyterlab"
    for name, value in {
        "apputils-extension/themes": {"theme": f"JupyterLab {colours.title()}"},
        "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are on the page
    }.items():
        path = settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    port = free_port()
    options = ["--allow-root", "--no-browser", f"--port={port}", "--IdentityProvider.token="]
    options += [f"--LabApp.user_settings_dir={folder / 'settings'}", "--LabApp.news_url="]
    directories = {
        name: str(folder / "home") for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "HOME")
    }
    command = [sys.executable, "-m", "jupyterlab", *options]
    with running(command, port, folder, **directories) as url, browser(folder / "profile") as page:
        metrics = {"width": 960, "height": 5000, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        page.get(f"{url}/doc/tree/notebook.ipynb")
        run_cells(page)
        if colours == "light":
            image = FOLDER / "notebook.png"
            take_cells_screenshot(page, "Answers in a notebook", "colours, as a list", image)
        image = FOLDER / f"notebook-answers-{colours}.png"
        take_cells_screenshot(page, "Objects instead of text", "nobody.complete", image)


def run_cells(page: Any) -> None:
    """Run one cell after the other, from the top."""
    wait = WebDriverWait(page, 60)
    wait.until(lambda _: "gateway.close()" in page.find_element(By.TAG_NAME, "body").text)
    for number, cell in enumerate(page.find_elements(By.CSS_SELECTOR, ".jp-CodeCell"), 1):
        while f"[{number}]:" not in cell.text:  # ignored while the kernel is still starting
            cell.click()
            ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.ENTER).perform()
            wait.until(lambda _, cell=cell: "[*]:" not in cell.text)
            time.sleep(0.5)


def take_cells_screenshot(page: Any, first: str, last: str, image: Path) -> None:
    """Take a screenshot from the cell with one text to the cell with another."""
    cells = page.find_elements(By.CSS_SELECTOR, ".jp-Cell")
    start, end = (next(cell for cell in cells if text in cell.text).rect for text in (first, last))
    height = end["y"] + end["height"] - start["y"]
    clip = {"x": start["x"], "y": start["y"], "width": start["width"], "height": height}
    screenshot = page.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "clip": {**clip, "scale": 1}}
    )
    image.write_bytes(base64.b64decode(screenshot["data"]))


def terminal(folder: Path) -> None:
    """Run a chat in a terminal of 84 columns and take a screenshot of it, dark and light."""
    tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
    window = ["new-session", "-d", "-x", "84", "-y", "25", "--", "env", "TERM=xterm-256color"]
    command = [*tmux, *window, sys.executable, "-m", "providers_sync", *CHAT]
    subprocess.run(command, env=environment(), check=True)
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
    for name, (theme, colors) in THEMES.items():
        console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True)
        console.print(Text.from_ansi(screen.rstrip()), crop=False)
        code = console.export_html(inline_styles=True, code_format="{code}", theme=theme)
        page = folder / "terminal.html"
        page.write_text(PAGE.format(code=code, **colors), encoding="utf-8")
        take_file_screenshot(page, FOLDER / f"terminal-{name}.png", "820,420")


def take_file_screenshot(page: Path, image: Path, size: str) -> None:
    """Take a screenshot of an HTML file with headless Chromium."""
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}"]
    subprocess.run(["chromium", *options, f"--screenshot={image}", page.as_uri()], check=True)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": "/nonexistent"}


if __name__ == "__main__":
    main()
