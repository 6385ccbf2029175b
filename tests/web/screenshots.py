"""Take screenshots of the web chat: ``python tests/web/screenshots.py [FOLDER]``.

Without a folder, only the screenshots that the docs use are written, to ``docs/pictures``; with a
folder, all of them are written there.
"""

from __future__ import annotations

import base64
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
from running import ROOT, Upstream, browser, flask_app
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from providers_sync.testing import Step, cut, event, pause, reasoning, stall, text

FOLDER = ROOT / "docs" / "pictures"
IN_DOCS = {
    *("web-desktop-light", "web-desktop-dark", "web-phone-dark"),
    *("error-phone-light",),
}
SKY = """\
Sunlight holds **every colour**. Air scatters the short waves far more than the long ones:

| colour | wavelength | scattered |
|---|--:|--:|
| blue | 450 nm | 4.4 times |
| red | 650 nm | once |

$$I \\propto \\frac{1}{\\lambda^4}$$

So blue reaches your eyes from *everywhere*, and that is the sky.
"""
SOURCE = {"url": "https://example.org/rayleigh", "title": "Rayleigh scattering, an introduction"}
CODE = """\
`Counter` does it in one line:

```python
from collections import Counter

words = "the quick fox and the slow fox".split()
print(Counter(words).most_common(2))
```

1. `split()` cuts at white space.
2. `most_common(2)` returns the two
"""
SIZES = {"desktop": (1000, 960, 1), "phone": (390, 780, 1.5)}


def main() -> None:
    """Hold a conversation, with screenshots in both sizes and both colour schemes."""
    upstream = Upstream()
    citation = {"type": "url_citation", "url_citation": SOURCE}
    upstream.set_answer(
        "Why is the sky blue?",
        reasoning("Rayleigh scattering …"),
        *word_by_word(SKY),
        event({"choices": [{"index": 0, "delta": {"annotations": [citation]}}]}),
    )
    upstream.set_answer("Count the words of a text in Python", *word_by_word(CODE), stall())
    upstream.set_answer("And in Rust?", *word_by_word("In Rust, a `HashMap` does the"), cut())
    with (
        upstream.server,
        flask_app(upstream.url) as url,
        tempfile.TemporaryDirectory() as profile,
        browser(Path(profile)) as driver,
    ):
        driver.get(url)
        take_screenshots(driver, "welcome")
        ask(driver, "Why is the sky blue?", ".outcome")
        ask(driver, "Count the words of a text in Python", "ol li:nth-child(2)")
        take_screenshots(driver, "web")
        driver.find_element(By.ID, "question").send_keys(Keys.ESCAPE)
        ask(driver, "And in Rust?", ".note.failed")
        take_screenshots(driver, "error")


def word_by_word(answer: str) -> list[Step]:
    """Return steps that send a text word by word."""
    words = re.findall(r"\S*\s*", answer)
    return [step for word in words if word for step in (text(word), pause(0.02))]


def ask(driver: Any, question: str, selector: str) -> None:
    """Ask a question, and wait until the last exchange contains a matching element."""
    driver.find_element(By.ID, "question").send_keys(question, Keys.ENTER)
    last = f".exchange:last-child {selector}"
    WebDriverWait(driver, 10).until(lambda _: driver.find_elements(By.CSS_SELECTOR, last))


def take_screenshots(driver: Any, name: str) -> None:
    """Take a screenshot in every size and colour scheme."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for size, (width, height, scale) in SIZES.items():
        for colour in ("light", "dark"):
            metrics = {"width": width, "height": height, "deviceScaleFactor": scale}
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride", {**metrics, "mobile": size == "phone"}
            )
            scheme = [{"name": "prefers-color-scheme", "value": colour}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            driver.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
            screenshot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
            title = f"{name}-{size}-{colour}"
            if folder != FOLDER or title in IN_DOCS:
                (folder / f"{title}.png").write_bytes(base64.b64decode(screenshot["data"]))


if __name__ == "__main__":
    main()
