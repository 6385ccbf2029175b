"""The pytest plugin: fixtures for the tests of programs that read streamed answers.

It stands outside the package and imports it inside the fixtures only: pytest loads every installed
plugin, in every project, before it measures coverage.
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
    """Remember a failure: its traceback keeps streams alive that the program would let go."""
    if call.excinfo is not None:
        item.stash[_failed] = True


@pytest.fixture
def scripted_provider() -> Iterator[ScriptedProvider]:
    """A provider that needs no socket: ``scripted_provider.play([text("Hel"), cut()])``.

    Its ``asked`` and ``requests`` hold what it was asked. A mistake in the script fails the test.
    """
    from providers_sync.testing import ScriptedProvider

    provider = ScriptedProvider()
    yield provider
    if provider.errors:
        raise provider.errors[0]


@pytest.fixture
def fault_server() -> Iterator[Server]:
    """A server on loopback that fails as told: ``fault_server.play([text("Hel"), cut()])``.

    Its ``url`` is the base URL for every provider. A mistake in the script fails the test.
    """
    from providers_sync.testing import serve

    with serve() as server:
        yield server


@pytest.fixture
def no_open_streams(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a stream open, neither read to its end nor closed.

    For a whole module: ``pytestmark = pytest.mark.usefixtures("no_open_streams")``.
    """
    from providers_sync.testing import open_streams

    before = weakref.WeakSet(open_streams())
    yield
    left = [stream for stream in open_streams() if stream not in before]
    if left:
        del left
        gc.collect()  # dropping a stream closes it, and one inside a cycle is dropped only here
        left = [stream for stream in open_streams() if stream not in before]
    shown = [f"{stream!r} with {stream.text[:40]!r}" for stream in left]
    for stream in left:
        stream.close()
    if shown and not request.node.stash.get(_failed, False):
        pytest.fail(
            f"left open: {'; '.join(shown)}\n"
            "Read a stream to its end, or use `with provider.stream(…) as stream:`",
            pytrace=False,
        )
