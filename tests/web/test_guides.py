"""The apps of docs/flask.md and docs/django.md, in a real browser."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import docs_kit
import pytest
from running import Upstream, free_port, running

from providers_sync.testing import cut, text

pytest.importorskip("selenium")
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

WAIT_S = 10.0


@pytest.mark.parametrize(
    ("page", "app"), [("flask.md", "app:app"), ("django.md", "site_chat:application")]
)
def test_page_of_the_guide_shows_answers(
    page: str, app: str, upstream: Upstream, chromium: Any, tmp_path: Path
) -> None:
    """Each runs as the guide shows it; HTML is text, and a broken answer says so."""
    for block in docs_kit.blocks(page):
        if block.file:
            (tmp_path / block.file).parent.mkdir(exist_ok=True)
            (tmp_path / block.file).write_text(block.code, encoding="utf-8")
    upstream.set_answer("Why do cats purr?", text("They are "), text("<b>content</b>.\n"))
    upstream.set_answer("And dogs?", text("They wag"), cut())
    port = free_port()
    command = [sys.executable, "-m", "waitress", "--listen", f"127.0.0.1:{port}", app]
    with running(command, port, tmp_path, MODEL_URL=upstream.url, SECRET_KEY="x") as url:
        chromium.get(url)
        assert asked(chromium, "Why do cats purr?", ".\n") == "They are <b>content</b>.\n"
        assert asked(chromium, "And dogs?", "]").startswith("They wag [")
        chromium.get("about:blank")


def asked(chromium: Any, question: str, end: str) -> str:
    """Send a question, and return the text of the answer when it ends so."""
    field = chromium.find_element(By.NAME, "question")
    field.clear()
    field.send_keys(question)
    chromium.find_element(By.TAG_NAME, "button").click()
    shown = chromium.find_element(By.ID, "answer")

    def text_of_the_answer(_: Any) -> str:
        said: str = shown.get_property("textContent")
        return said if said.endswith(end) else ""

    return WebDriverWait(chromium, WAIT_S).until(text_of_the_answer)
