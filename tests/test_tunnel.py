"""Tests for HTTPS through a proxy's CONNECT tunnel, with TLS to the proxy and without."""

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


class TunnelProxy:
    """A proxy that supports only CONNECT; with ``tls``, clients connect to it over TLS."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.targets: list[str] = []
        self._tls = tls
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._run(self._accept)

    def _run(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was closed
            while True:
                self._run(self._tunnel, self._listener.accept()[0])

    def _tunnel(self, sock: socket.socket) -> None:
        client = self._tls.wrap_socket(sock, server_side=True) if self._tls else sock
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += client.recv(1)
        target = request.split()[1].decode()
        self.targets.append(target)
        host, port = target.split(":")
        with client, socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with contextlib.suppress(OSError):  # either side closed its connection
                _relay(client, server)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)


def _relay(client: socket.socket, server: socket.socket) -> None:
    """Relay bytes in both directions in one thread: two must not share a TLS connection."""
    while True:
        for sock in select.select([client, server], [], [])[0]:
            other = server if sock is client else client
            if not (data := sock.recv(65536)):
                return
            other.sendall(data)  # a TLS record is at most 16 KiB: recv leaves nothing


@pytest.fixture(params=["plain", "TLS"])
def tunnel_proxy(request: pytest.FixtureRequest, tls: ssl.SSLContext) -> Iterator[TunnelProxy]:
    """A proxy that clients reach without TLS, and one that they reach over TLS."""
    proxy = TunnelProxy(tls if request.param == "TLS" else None)
    yield proxy
    proxy.close()


def test_tunnel_carries_answers_and_is_reused(
    tunnel_proxy: TunnelProxy, tls: ssl.SSLContext, ca: str
) -> None:
    """Several calls use one tunnel, and a stream through it can be cancelled at once."""
    # With a length: the wait for a last chunk is short, and a busy machine may deliver it late.
    complete = [answer(word, framing="length") for word in ("Hello", "again")]
    with serve([*complete, answer("Hel", stall())], tls=tls) as server:
        provider = OpenAICompatible("m", base_url=server.url, proxy=tunnel_proxy.url, verify=ca)
        assert provider.complete("Hi").text == "Hello"
        assert provider.complete("Hi").outcome is Outcome.COMPLETE
        assert tunnel_proxy.targets == [f"127.0.0.1:{server.port}"]
        stream = provider.stream("Hi")
        assert next(stream) == "Hel"
        threading.Timer(0.05, stream.cancel).start()
        with pytest.raises(StreamCancelled):
            next(stream)
        server.wait_closed(timeout=1)
