"""The fault server: it listens on loopback, plays a script, and stops without a trace."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType

from . import player
from .answers import AnswerQueue, Script
from .connection import ClientConnection, ClientGone, ServerStopped, StopFlag
from .protocols import encoder_for, guess_protocol
from .records import Connection, Headers, Log, Request

HOST = "127.0.0.1"
BACKLOG = 4096
"""Room for thousands of streams that connect at once; the system may allow less."""
CROWD = 64
STOP_S = 5.0
"""A thread that takes longer to stop is inside a function of the script."""


class Server:
    """A running fault server; made by ``serve()``. Every member may be used from any thread."""

    def __init__(
        self,
        script: Script,
        *,
        protocol: str | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = HOST,
        port: int = 0,
        keep: int | None = None,
    ) -> None:
        if protocol is not None:
            encoder_for(protocol)  # says at once what is wrong with the name
        self.port = port
        """The port it listens on, once entered."""
        self.host = host
        self.errors: list[BaseException] = []
        """What went wrong in the script itself; the end of the ``with`` raises the first."""
        self._protocol = protocol
        self._tls = tls
        self._cues = AnswerQueue(script)
        self._log = Log(keep)
        self._threads: list[threading.Thread] = []
        self._crowd = CROWD

    def play(self, script: Script) -> None:
        """Play another script from the next request on."""
        self._cues = AnswerQueue(script)

    @property
    def url(self) -> str:
        """The base URL, scheme included and without a path: ``http://127.0.0.1:43210``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self._tls else ''}://{host}:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """Every request that was received whole, in order."""
        return self._log.requests()

    @property
    def connections(self) -> list[Connection]:
        """Every connection that was accepted, in order."""
        return self._log.connections()

    @property
    def open_connections(self) -> list[Connection]:
        """The connections that neither side has closed for good."""
        return [each for each in self.connections if each.closed_at is None]

    def wait_request(self, n: int = 1, timeout: float = 5.0) -> Request:
        """Wait until ``n`` requests have come whole, and return the ``n``-th (from 1).

        Raises ``TimeoutError`` after so many seconds.
        """
        return self._log.wait_request(n, timeout)

    def wait_connection(self, n: int = 1, timeout: float = 5.0) -> Connection:
        """Wait until ``n`` connections have been accepted, and return the ``n``-th (from 1)."""
        return self._log.wait_connection(n, timeout)

    def wait_closed(self, n: int = 1, timeout: float = 5.0) -> float:
        """Wait until connection ``n`` (from 1) is over; return the seconds this call waited.

        Over means that the client has closed it, or that the server has reset it. After a
        ``cut()`` or any other end by the server it still waits for the client's side. The
        connection of a request is ``request.connection``. Raises ``TimeoutError``.
        """
        return self._log.wait_closed(n, timeout)

    def __enter__(self) -> Server:
        self._stop = StopFlag()
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            self._listener = socket.create_server(
                (self.host, self.port), family=family, backlog=BACKLOG
            )
        except OSError:
            self._stop.close()
            raise
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, "accept")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._threads[0].join(STOP_S)  # it accepts: once it has ended there are no new ones
        for thread in self._threads:
            thread.join(STOP_S)
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        self._stop.close()
        if stuck:
            raise RuntimeError(f"the script's own function does not return in {', '.join(stuck)}")
        if self.errors and (kind is None or issubclass(kind, Exception)):
            raise self.errors[0]

    def _start(self, target: Callable[..., None], name: str, *args: object) -> None:
        thread = threading.Thread(
            target=target, name=f"fault-server-{name}", args=args, daemon=True
        )
        if len(self._threads) >= self._crowd:  # a server that runs for days forgets the dead
            self._threads = [each for each in self._threads if each.is_alive()]
            self._crowd = 2 * len(self._threads) + CROWD
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        line = ClientConnection(self._listener, self._stop)
        try:
            while True:
                for sock in line.accept():
                    connection = self._log.opened()
                    self._start(self._serve, str(connection.number), sock, connection)
        except ServerStopped:
            pass
        finally:
            line.close()

    def _serve(self, sock: socket.socket, connection: Connection) -> None:
        line = ClientConnection(sock, self._stop)
        try:
            self._talk(line, connection)
        except ServerStopped:
            connection.closed_by = connection.closed_by or "server"
        except Exception as error:  # noqa: BLE001 - raised again at the end of the with
            self.errors.append(error)
        finally:
            line.close()
            self._log.closed(connection)

    def _talk(self, line: ClientConnection, connection: Connection) -> None:
        """Serve requests until one side ends it."""
        try:
            self._exchange(line, connection)
            line.say_goodbye()
        except ClientGone as error:
            connection.closed_by = "client"
            connection.error = str(error)
            return
        except player.EndConnection as hang_up:
            if hang_up.reset:
                connection.closed_by = "server"
                line.reset()
                return
        connection.closed_by = "server"
        line.half_close()

    def _exchange(self, line: ClientConnection, connection: Connection) -> None:
        taken = self._cues.at_connect()
        if taken:
            player.play_connect(
                taken, line, encoder_for(taken.protocol or self._protocol or "plain")
            )
        if self._tls:
            line.start_tls(self._tls)
        while True:
            request = self._receive(line, connection)
            answer = taken or self._cues.for_request(request)
            taken = None
            name = answer.protocol or self._protocol or guess_protocol(request.path, request.body)
            again = player.play_answer(answer, line, encoder_for(name))
            if not again or request.headers.get("connection", "").lower() == "close":
                return

    def _receive(self, line: ClientConnection, connection: Connection) -> Request:
        first, *rest = line.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = [(name, value.strip()) for name, _, value in (each.partition(":") for each in rest)]
        headers = Headers(pairs)
        method, _, target = first.partition(" ")
        path = target.rpartition(" ")[0]
        body = _body(line, headers)
        return self._log.received(connection, method, path, headers, body)


def _body(line: ClientConnection, headers: Headers) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return line.read_exactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int(line.read_until(b"\r\n").partition(b";")[0], 16):
        body += line.read_exactly(size)
        line.read_exactly(2)
    while line.read_until(b"\r\n"):  # trailers, then an empty line
        pass
    return body


def serve(
    script: Script = "Hello!",
    *,
    protocol: str | None = None,
    tls: ssl.SSLContext | None = None,
    host: str = HOST,
    port: int = 0,
    keep: int | None = None,
) -> Server:
    """Serve a script on loopback for as long as the ``with`` lasts.

    >>> from providers_sync.testing import cut, serve, text
    >>> with serve([text("Hel"), cut()]) as server:
    ...     server.url.startswith("http://127.0.0.1:")
    True

    - ``script``: see ``Script``.
    - ``protocol``: ``openai``, ``anthropic``, ``vitalentum``, ``codelinkava``, ``ai365vip`` or
      ``plain``; by default it follows from the path of each request.
    - ``tls``: a server-side context with a certificate loaded.
    - ``port``: 0 takes a free one.
    - ``keep``: how many of the last requests and connections are remembered; by default all.

    The end of the ``with`` stops every thread and closes every socket, whatever they are waiting
    for, and raises what went wrong in the script itself.
    """
    return Server(script, protocol=protocol, tls=tls, host=host, port=port, keep=keep)
