"""Fixtures for all tests: leak checks, a ban on outside connections, TLS and gateway fixtures."""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from _pytest.runner import runtestprotocol

from providers_sync.stream import call, reader, workers

EXEMPT_THREAD = "providers-sync-resolver"
"""A thread in a DNS query cannot be interrupted; it ends with the resolver and owns no socket."""
SETTLE_S = 2.0
"""How long the threads and sockets of a test may take to close."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts background jobs with SIGINT ignored, and then no test of Ctrl-C could pass.
    signal.signal(signal.SIGINT, signal.default_int_handler)

workers.IDLE_THREAD_S = reader.IDLE_THREAD_S = call.IDLE_THREAD_S = 0.01
"""Every test waits for idle threads: a tenth of a second each would add up to minutes."""

failed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--repeat``, which finds races: a test that fails once in a hundred runs is a bug."""
    parser.addoption("--repeat", type=int, default=1, metavar="N", help="run all tests N times")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Repeat the full list of tests, so that each run of a test follows the other tests."""
    items *= config.getoption("repeat")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Tear down a test that is followed by itself: pytest would keep it for the next run."""
    if nextitem is not item:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=None)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish() -> None:
    """Unfreeze, so that plugins that count references at the end see all objects."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Record a failure: its traceback keeps sockets alive, which is not a leak."""
    if call.excinfo is not None:
        item.stash[failed] = True
    return (yield)


def open_sockets() -> set[str]:
    """Return ``socket:[inode]`` of every socket this process has open (Linux; elsewhere none)."""
    found = set()
    folder = Path("/proc/self/fd")
    for name in os.listdir(folder) if folder.is_dir() else ():
        with contextlib.suppress(OSError):  # the listing's own descriptor is closed by now
            target = os.readlink(folder / name)
            if target.startswith("socket:"):
                found.add(target)
    return found


def new_threads(before: set[threading.Thread], deadline: float) -> list[threading.Thread]:
    """Return the threads that are not in ``before`` and still run at the deadline."""
    threads = [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.name != EXEMPT_THREAD
    ]
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def new_sockets(before: set[str], deadline: float) -> set[str]:
    """Return the sockets that are not in ``before`` and still open at the deadline."""
    while sockets := open_sockets() - before:
        gc.collect()  # slow, so only where it may help: a socket in a reference cycle is no leak
        if time.monotonic() >= deadline:
            break
        time.sleep(0.01)  # the kernel has no event for a closed descriptor
    return sockets


@pytest.fixture(autouse=True, scope="module")
def no_old_objects() -> None:
    """Freeze what the tests before have imported: the leak check collects garbage very often."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a thread or a socket behind.

    The baseline is taken after the setup of fixtures with a wider scope, and the check runs after
    the teardown of the test's own fixtures.
    """
    threads, sockets = set(threading.enumerate()), open_sockets()
    yield
    if request.node.stash.get(failed, False):
        return
    deadline = time.monotonic() + SETTLE_S
    leaked_threads = new_threads(threads, deadline)
    leaked_sockets = new_sockets(sockets, deadline)
    if leaked_threads or leaked_sockets:
        names = ", ".join(thread.name for thread in leaked_threads) or "none"
        pytest.fail(
            f"left behind: threads: {names}; sockets: {', '.join(leaked_sockets) or 'none'}",
            pytrace=False,
        )


def is_outside(family: int, address: Any) -> bool:
    """Return whether a connection to this address leaves this machine."""
    if family not in (socket.AF_INET, socket.AF_INET6):
        return False
    host = str(address[0]).partition("%")[0]
    if host in ("", "localhost"):
        return False
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:  # a name: connect() would send a DNS query
        return True
    return not (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


outside: list[str] = []
"""What the running test has tried to reach beyond this machine."""


def is_foreign_name(host: Any) -> bool:
    """Return whether looking this name up sends a query: not for an address or this machine."""
    name = host.decode("latin-1") if isinstance(host, bytes) else str(host or "localhost")
    if name.lower().rstrip(".") in ("localhost", socket.gethostname().lower()):
        return False
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return True
    return False


def refuse_address(family: int, address: Any) -> None:
    """Fail the test if the address is beyond loopback."""
    if address is not None and is_outside(family, address):
        outside.append(f"connected to {address}")
        pytest.fail(f"a test may only connect to loopback, not to {address}")


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse connections, datagrams and lookups beyond this machine, in every thread.

    An audit hook: it stays where a mock has replaced the functions of ``socket``, and does not see
    the names and addresses that a test has faked. Names under ``.invalid`` are unknown, unasked.
    """
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        sock, address = arguments
        refuse_address(sock.family, address)
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and is_foreign_name(arguments[0]):
        if str(arguments[0]).endswith(".invalid"):  # answered here: it never exists (RFC 6761)
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        outside.append(f"looked up {arguments[0]}")
        raise socket.gaierror(socket.EAI_FAIL, f"a test may not look up {arguments[0]}")


sys.addaudithook(refuse_network)


@pytest.fixture(autouse=True)
def no_outside_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that connects beyond loopback or looks a name up, from any thread."""
    outside.clear()

    def guard(real: Any) -> Any:  # connecting to a name looks it up before the audit hook is called
        def connect(self: socket.socket, address: Any) -> Any:
            refuse_address(self.family, address)
            return real(self, address)

        return connect

    monkeypatch.setattr(socket.socket, "connect", guard(socket.socket.connect))
    monkeypatch.setattr(socket.socket, "connect_ex", guard(socket.socket.connect_ex))
    yield
    if outside:  # the code under test may have swallowed the failure
        pytest.fail(f"beyond loopback: {', '.join(outside)}", pytrace=False)


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the CA file, the proxies and the ``.netrc`` of this machine."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC", "http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session that is closed afterwards."""
    with requests.Session() as session:
        yield session


@pytest.fixture(scope="session")
def authority() -> Any:
    """The certificate authority of the tests (a ``trustme.CA``)."""
    import trustme  # only TLS tests need it

    return trustme.CA()


@pytest.fixture(scope="session")
def ca(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a CA bundle that trusts ``authority``: for ``verify=``."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


@pytest.fixture(scope="session")
def tls(authority: Any) -> ssl.SSLContext:
    """A server context with a certificate for 127.0.0.1, ::1 and localhost."""
    context = server_context()
    authority.issue_cert("127.0.0.1", "::1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def tls_wrong_host(authority: Any) -> ssl.SSLContext:
    """A server context whose certificate is trusted but belongs to another host."""
    context = server_context()
    authority.issue_cert("elsewhere.example").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def tls_self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server context with a self-signed certificate."""
    import trustme

    own = trustme.CA()
    path = tmp_path_factory.mktemp("tls") / "self-signed.pem"
    path.write_bytes(own.private_key_pem.bytes() + own.cert_pem.bytes())
    context = server_context()
    context.load_cert_chain(path)
    return context


@pytest.fixture
def refused() -> Iterator[tuple[str, int]]:
    """A loopback address that refuses connections, reserved while the test runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


@pytest.fixture
def blackhole() -> Iterator[tuple[str, int]]:
    """A loopback address whose TCP connect hangs: a listener with a full backlog (Linux)."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # the first is queued; the SYNs of these and later ones are dropped
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


@pytest.fixture
def echo() -> Iterator[Any]:
    """A gateway with the echo engine."""
    from providers_sync.gateway import serve

    with serve() as gateway:
        yield gateway


@pytest.fixture
def scripted() -> Iterator[tuple[Any, Any]]:
    """A gateway whose engine sends what the test scripts, and the engine."""
    from gateway_kit import Scripted

    from providers_sync.gateway import serve

    engine = Scripted()
    with serve(engine) as gateway:
        yield gateway, engine


@pytest.fixture(scope="session")
def local() -> Iterator[tuple[Any, Any]]:
    """A gateway with the real model, and its engine; shared by all tests."""
    from gateway_kit import Recording, needs_model

    from providers_sync.gateway import serve

    needs_model()
    engine = Recording()
    with serve(engine) as gateway:
        yield gateway, engine
