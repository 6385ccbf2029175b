"""Session fixtures of the web tests: the model's server, the example apps and a browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from running import Upstream, browser, django_app, flask_app, short_timeouts_app

collect_ignore = [
    *("flask_test_app.py", "compressed_flask.py", "compressed_django.py", "screenshots.py")
]  # programs, not tests


@pytest.fixture(scope="session")
def upstream() -> Iterator[Upstream]:
    """The model's server behind every app."""
    upstream = Upstream()
    with upstream.server:
        yield upstream


@pytest.fixture(scope="session")
def flask_url(upstream: Upstream) -> Iterator[str]:
    """The Flask example, run as a user runs it."""
    pytest.importorskip("flask")
    with flask_app(upstream.url) as url:
        yield url


@pytest.fixture(scope="session")
def django_url(upstream: Upstream) -> Iterator[str]:
    """The Django example, on ``runserver``."""
    pytest.importorskip("django")
    with django_app(upstream.url) as url:
        yield url


@pytest.fixture(scope="session")
def short_timeouts_url(upstream: Upstream) -> Iterator[str]:
    """The Flask example with providers that have short timeouts."""
    pytest.importorskip("flask")
    with short_timeouts_app(upstream.url) as url:
        yield url


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium; its first window stays open."""
    pytest.importorskip("selenium")
    with browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver
