"""HTTPS through a proxy's tunnel, which is a connection in a connection."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from providers_sync import OpenAICompatible, Outcome, StreamCancelled
from providers_sync.testing import answer, serve, stall


class Tunnels:
    """A proxy that does CONNECT and nothing else, by itself behind TLS where it is given some."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.targets: list[str] = []
        self._tls = tls
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._run(self._accept)

    def _run(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener's end
            while True:
                self._run(self._tunnel, self._listener.accept()[0])

    def _tunnel(self, sock: socket.socket) -> None:
        client = self._tls.wrap_socket(sock, server_side=True) if self._tls else sock
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        target = head.split()[1].decode()
        self.targets.append(target)
        host, port = target.split(":")
        with client, socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with contextlib.suppress(OSError):  # either side has gone
                _carry(client, server)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


def _carry(client: socket.socket, server: socket.socket) -> None:
    """Carry bytes both ways in one thread, as two may not use one TLS connection."""
    while True:
        for sock in select.select([client, server], [], [])[0]:
            other = server if sock is client else client
            if not (data := sock.recv(65536)):
                return
            other.sendall(data)  # a TLS record is 16 KiB at most: recv leaves none behind


@pytest.fixture(params=["plain", "TLS"])
def tunnels(request: pytest.FixtureRequest, tls: ssl.SSLContext) -> Iterator[Tunnels]:
    """A proxy spoken to in the clear, and one spoken to over TLS."""
    proxy = Tunnels(tls if request.param == "TLS" else None)
    yield proxy
    proxy.close()


def test_tunnel_carries_answers_and_is_kept(tunnels: Tunnels, tls: ssl.SSLContext, ca: str) -> None:
    """One tunnel serves call after call, and a stream in it is stopped at once."""
    # By length: nobody waits long for a last chunk, and a busy machine may bring it late.
    whole = [answer(word, framing="length") for word in ("Hello", "again")]
    with serve([*whole, answer("Hel", stall())], tls=tls) as server:
        provider = OpenAICompatible("m", base_url=server.url, proxy=tunnels.url, verify=ca)
        assert provider.complete("Hi").text == "Hello"
        assert provider.complete("Hi").outcome is Outcome.COMPLETE
        assert tunnels.targets == [f"127.0.0.1:{server.port}"]
        stream = provider.stream("Hi")
        assert next(stream) == "Hel"
        threading.Timer(0.05, stream.cancel).start()
        with pytest.raises(StreamCancelled):
            next(stream)
        server.wait_closed(timeout=1)
