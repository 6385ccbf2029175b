"""The pytest plugin: fixtures for testing programs that read streamed answers.

It is not part of the package and imports it in the fixtures only, because pytest loads every
installed plugin in every project, before coverage measurement starts.
"""

from __future__ import annotations

import gc
import hashlib
import re
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from providers_sync import Provider
    from providers_sync.recording import Recorded
    from providers_sync.testing import ScriptedProvider, Server

_failed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--recording``."""
    parser.getgroup("providers_sync").addoption(
        "--recording",
        choices=("auto", "record", "replay"),
        default="replay",
        help="what the fixture recorded does: replay (the default) sends nothing; auto sends what "
        "has no whole answer yet; record sends everything",
    )


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
def recorded(request: pytest.FixtureRequest) -> Iterator[Callable[..., Recorded]]:
    """Record the answers of a provider once, and play them: ``recorded(OpenAICompatible("m"))``.

    They are in ``recordings/<module>/<test>.jsonl`` beside the test module; ``name=`` replaces the
    test's name, for a file that several tests share. A request without a recording fails the test;
    ``pytest --recording=auto`` records it.
    """
    from providers_sync.recording import Recorded

    mode = request.config.getoption("recording")
    folder = request.path.parent / "recordings" / request.path.stem
    own = folder / f"{_file_name(request.node.nodeid.partition('::')[2])}.jsonl"
    if mode == "record":
        own.unlink(missing_ok=True)
    made: list[Recorded] = []

    def record(provider: Provider, name: str | None = None) -> Recorded:
        if name is not None and (not isinstance(name, str) or not name or name != _file_name(name)):
            raise ValueError(f"name must be the name of a file, without a folder, not {name!r}")
        if mode != "replay":
            folder.mkdir(parents=True, exist_ok=True)
        recorded = Recorded(provider, folder / f"{name}.jsonl" if name else own, mode)
        recorded.remedy = "run pytest --recording=auto"
        made.append(recorded)
        return recorded

    yield record
    for each in made:
        each.close()
    errors = [error for each in made for error in each.errors]
    if errors and not request.node.stash.get(_failed, False):
        pytest.fail(str(errors[0]), pytrace=False)


def _file_name(name: str) -> str:
    """Return a name that every file system takes; a changed one has a hash, to stay unique."""
    safe = re.sub(r"[^\w.\[\]-]+", "_", name.replace("::", "."))[:100]
    if name.replace("::", ".") == safe:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


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
