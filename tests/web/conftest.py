"""Fixtures of the web tests: the model's server, the example apps and one browser, all shared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from running import Upstream, browser, django_app, flask_app, moody_app

collect_ignore = ["moody.py", "pictures.py"]  # programs


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
    """A headless Chromium; its first window stays open."""
    pytest.importorskip("selenium")
    with browser(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver
