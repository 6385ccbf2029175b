"""The pytest plugin: fixtures for testing programs that read streamed answers.

It is not part of the package and imports it in the fixtures only, because pytest loads every
installed plugin in every project, before coverage measurement starts.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from providers_sync.testing import ScriptedProvider, Server

_failed = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Record a failure: its traceback keeps streams alive that the program would release."""
    if call.excinfo is not None:
        item.stash[_failed] = True


@pytest.fixture
def scripted_provider() -> Iterator[ScriptedProvider]:
    """A provider that needs no socket: ``scripted_provider.play([text("Hel"), cut()])``.

    Its ``asked`` and ``requests`` record the calls. A mistake in the script fails the test.
    """
    from providers_sync.testing import ScriptedProvider

    provider = ScriptedProvider()
    yield provider
    if provider.errors:
        raise provider.errors[0]


@pytest.fixture
def fault_server() -> Iterator[Server]:
    """A server on loopback that plays a script: ``fault_server.play([text("Hel"), cut()])``.

    Its ``url`` is the base URL for every provider. A mistake in the script fails the test.
    """
    from providers_sync.testing import serve

    with serve() as server:
        yield server


@pytest.fixture
def no_open_streams(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a stream open: neither read to its end nor closed.

    For all tests of a module: ``pytestmark = pytest.mark.usefixtures("no_open_streams")``.
    """
    from providers_sync.testing import open_streams

    before = weakref.WeakSet(open_streams())
    yield
    still_open = [stream for stream in open_streams() if stream not in before]
    if still_open:
        del still_open
        gc.collect()  # closes unreferenced streams that are part of a reference cycle
        still_open = [stream for stream in open_streams() if stream not in before]
    descriptions = [f"{stream!r} with {stream.text[:40]!r}" for stream in still_open]
    for stream in still_open:
        stream.close()
    if descriptions and not request.node.stash.get(_failed, False):
        pytest.fail(
            f"left open: {'; '.join(descriptions)}\n"
            "Read a stream to its end, or use `with provider.stream(…) as stream:`",
            pytrace=False,
        )
