"""The fixtures of conftest.py: leak checks, no outside network, addresses that fail."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def test_refused_address_refuses(refused: tuple[str, int]) -> None:
    """A connect fails with ``ConnectionRefusedError``."""
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(refused)


def test_blackhole_never_answers(blackhole: tuple[str, int]) -> None:
    """A connect hangs until its own timeout expires."""
    with pytest.raises(TimeoutError):
        socket.create_connection(blackhole, timeout=0.2)


LEAKS = """
import socket, threading, pytest
kept = []
def test_thread():
    threading.Thread(target=threading.Event().wait, name="left-thread", daemon=True).start()
def test_socket():
    kept.append(socket.socket())
def test_exempt():
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.name = "providers-sync-resolver"
    thread.start()
def test_ending():
    threading.Timer(0.1, lambda: None).start()
def test_outside():
    with socket.socket() as sock:
        sock.connect(("192.0.2.1", 80))
def test_outside_in_a_thread():
    def connect():
        with socket.socket(socket.AF_INET6) as sock:
            try:
                sock.connect_ex(("2001:db8::1", 80, 0, 0))
            except BaseException:
                pass
    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
def test_name():
    with socket.socket() as sock:
        sock.connect(("elsewhere.example", 80))
def test_lookup():
    try:
        socket.getaddrinfo("elsewhere.example", 80)
    except OSError:
        pass
def test_lookup_of_an_unknown_name():
    with pytest.raises(socket.gaierror, match="not known"):
        socket.getaddrinfo("elsewhere.invalid", 80)
def test_lookup_of_a_faked_name(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
    assert socket.getaddrinfo("elsewhere.example", 80) == []
def test_lookup_of_this_machine():
    for name in ("localhost", "127.0.0.1", "::1", None):
        assert socket.getaddrinfo(name, 80)
def test_datagram():
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"", ("192.0.2.53", 53))
def test_unix():
    a, b = socket.socketpair()
    a.close(); b.close()
"""


def test_leaks_and_outside_connections_fail_a_test(pytester: pytest.Pytester) -> None:
    """Run leaking tests in a separate pytest session."""
    source = Path(__file__).with_name("conftest.py").read_text("utf-8")
    pytester.makeconftest(source.replace("SETTLE_S = 2.0", "SETTLE_S = 0.5"))
    pytester.makepyfile(LEAKS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=30)
    result.assert_outcomes(passed=10, failed=3, errors=7)
    result.stdout.fnmatch_lines_random(
        [
            "*left behind: threads: left-thread; sockets: none*",
            "*left behind: threads: none; sockets: socket:*",
            "*may only connect to loopback, not to*192.0.2.1*",
            "*beyond loopback: connected to *2001:db8::1*",
            "*beyond loopback: looked up elsewhere.example",
            "*may only connect to loopback, not to*192.0.2.53*",
            "*not to*elsewhere.example*",
        ]
    )


def test_repeat_runs_all_tests_round_after_round(pytester: pytest.Pytester) -> None:
    """Module state survives from one round to the next; a fixture is created anew each time."""
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text("utf-8"))
    pytester.makepyfile(
        """
        import pytest
        seen = []
        @pytest.fixture
        def fresh(): return []
        @pytest.mark.parametrize("name", "ab")
        def test_it(name, fresh):
            seen.append(name)
            fresh.append(name)
            assert fresh == [name]
            assert seen == list("ababab")[:len(seen)]
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--repeat", "3", timeout=30)
    result.assert_outcomes(passed=6)


def test_repeat_of_one_test_makes_its_fixtures_anew(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text("utf-8"))
    pytester.makepyfile(
        """
        import pytest
        @pytest.fixture
        def fresh(): return []
        @pytest.mark.parametrize("name", "a")
        def test_it(name, fresh):
            fresh.append(name)
            assert fresh == ["a"]
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--repeat", "3", timeout=30)
    result.assert_outcomes(passed=3)
