"""Fixtures of the web tests: the model's server, the example apps and one browser, all shared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from running import Upstream, django_app, flask_app, moody_app, needs

collect_ignore = ["moody.py"]  # a program
FLAGS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1100,800"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The model's server behind every app."""
    upstream = Upstream()
    with upstream.server:
        yield upstream


@pytest.fixture(scope="session")
def flask_url(upstream: Upstream) -> Iterator[str]:
    """Flask's example, run as its users do."""
    pytest.importorskip("flask")
    with flask_app(upstream.url) as url:
        yield url


@pytest.fixture(scope="session")
def django_url(upstream: Upstream) -> Iterator[str]:
    """Django's example on its own ``runserver``."""
    pytest.importorskip("django")
    with django_app(upstream.url) as url:
        yield url


@pytest.fixture(scope="session")
def moody_url(upstream: Upstream) -> Iterator[str]:
    """Flask's example with providers that do not wait for long."""
    pytest.importorskip("flask")
    with moody_app(upstream.url) as url:
        yield url


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with an empty profile; its first window stays open."""
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = needs("chromium")
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    service = webdriver.ChromeService(needs("chromedriver"))
    # A kept connection would look like a leak to the tests that open it anew.
    driver = webdriver.Chrome(options, service, keep_alive=False)
    try:
        yield driver
    finally:
        driver.quit()
