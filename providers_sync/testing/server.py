"""``serve()`` and ``Server``: an HTTP server that plays a script."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from types import TracebackType

from . import player
from .answers import AnswerQueue, Script
from .encoders import encoder_for, guess_protocol
from .records import Connection, Headers, Log, Request
from .stoppable_socket import ClientGone, ServerStopped, StopFlag, StoppableSocket

HOST = "127.0.0.1"
BACKLOG = 4096
"""Enough for thousands of streams that connect at once; the system may allow fewer."""
CLEANUP_THREADS = 64
"""Finished threads are removed when the list reaches this length; from then on, when it reaches
twice the number of running threads plus this."""
STOP_S = 5.0
"""A thread that takes longer to stop is stuck in a function of the script."""


class Server:
    """A fault server, created by ``serve()``. All members may be used from any thread.

    Attributes:
        host: The address it listens on.
    """

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
            encoder_for(protocol)  # raises for an unknown name
        self.port = port
        """The port it listens on, once the ``with`` block is entered."""
        self.host = host
        self.errors: list[BaseException] = []
        """Mistakes in the script itself; leaving the ``with`` block raises the first."""
        self._protocol = protocol
        self._tls = tls
        self._answers = AnswerQueue(script)
        self._log = Log(keep)
        self._threads: list[threading.Thread] = []
        self._cleanup_at = CLEANUP_THREADS

    def play(self, script: Script) -> None:
        """Play another script from the next request on.

        Args:
            script: As for ``serve``.
        """
        self._answers = AnswerQueue(script)

    @property
    def url(self) -> str:
        """The base URL, scheme included and without a path: ``http://127.0.0.1:43210``."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self._tls else ''}://{host}:{self.port}"

    @property
    def requests(self) -> list[Request]:
        """Every completely received request, in order."""
        return self._log.requests()

    @property
    def connections(self) -> list[Connection]:
        """Every accepted connection, in order."""
        return self._log.connections()

    @property
    def open_connections(self) -> list[Connection]:
        """The connections that are not closed on both sides yet."""
        return [each for each in self.connections if each.closed_at is None]

    def wait_request(self, n: int = 1, timeout: float = 5.0) -> Request:
        """Wait until ``n`` requests were completely received, and return the ``n``-th.

        Args:
            n: The number of the request, from 1.
            timeout: Seconds.

        Raises:
            TimeoutError: It took longer than ``timeout``.
            LookupError: The request is no longer kept.
        """
        return self._log.wait_request(n, timeout)

    def wait_connection(self, n: int = 1, timeout: float = 5.0) -> Connection:
        """Wait until ``n`` connections were accepted, and return the ``n``-th.

        Args:
            n: The number of the connection, from 1.
            timeout: Seconds.

        Raises:
            TimeoutError: It took longer than ``timeout``.
            LookupError: The connection is no longer kept.
        """
        return self._log.wait_connection(n, timeout)

    def wait_closed(self, n: int = 1, timeout: float = 5.0) -> float:
        """Wait until a connection is closed; return the seconds this call waited.

        Closed means that the client has closed it, or that the server has reset it. After a
        ``cut()`` or any other close by the server it still waits for the client to close.

        Args:
            n: The number of the connection, from 1; that of a request is ``request.connection``.
            timeout: Seconds.

        Raises:
            TimeoutError: It took longer than ``timeout``.
            LookupError: The connection is no longer kept.
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
        self._threads[0].join(STOP_S)  # the accept loop: no new threads start after it
        for thread in self._threads:
            thread.join(STOP_S)
        stuck = [thread.name for thread in self._threads if thread.is_alive()]
        self._stop.close()
        if stuck:
            raise RuntimeError(f"a function of the script has not returned in {', '.join(stuck)}")
        if self.errors and (kind is None or issubclass(kind, Exception)):
            raise self.errors[0]

    def _start(self, target: Callable[..., None], name: str, *args: object) -> None:
        thread = threading.Thread(
            target=target, name=f"fault-server-{name}", args=args, daemon=True
        )
        if len(self._threads) >= self._cleanup_at:  # for a server that runs for days
            self._threads = [each for each in self._threads if each.is_alive()]
            self._cleanup_at = 2 * len(self._threads) + CLEANUP_THREADS
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        listener = StoppableSocket(self._listener, self._stop)
        try:
            while True:
                for sock in listener.accept():
                    record = self._log.opened()
                    self._start(self._serve, str(record.number), sock, record)
        except ServerStopped:
            pass
        finally:
            listener.close()

    def _serve(self, sock: socket.socket, record: Connection) -> None:
        connection = StoppableSocket(sock, self._stop)
        try:
            self._serve_until_closed(connection, record)
        except ServerStopped:
            record.closed_by = record.closed_by or "server"
        except Exception as error:  # noqa: BLE001 - raised again at the end of the with
            self.errors.append(error)
        finally:
            connection.close()
            self._log.closed(record)

    def _serve_until_closed(self, connection: StoppableSocket, record: Connection) -> None:
        """Answer requests until one side ends the connection, and close it accordingly."""
        try:
            self._serve_requests(connection, record)
            connection.send_close_notify()
        except ClientGone as error:
            record.closed_by = "client"
            record.error = str(error)
            return
        except player.EndConnection as end:
            if end.reset:
                record.closed_by = "server"
                connection.reset()
                return
        record.closed_by = "server"
        connection.half_close()

    def _serve_requests(self, connection: StoppableSocket, record: Connection) -> None:
        connect_answer = self._answers.at_connect()
        if connect_answer:
            name = connect_answer.protocol or self._protocol or "plain"
            player.play_connect(connect_answer, connection, encoder_for(name))
        if self._tls:
            connection.start_tls(self._tls)
        while True:
            request = self._receive(connection, record)
            answer = connect_answer or self._answers.for_request(request)
            connect_answer = None
            name = answer.protocol or self._protocol or guess_protocol(request.path, request.body)
            can_reuse = player.play_answer(answer, connection, encoder_for(name))
            if not can_reuse or request.headers.get("connection", "").lower() == "close":
                return

    def _receive(self, connection: StoppableSocket, record: Connection) -> Request:
        first, *rest = connection.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        pairs = [(name, value.strip()) for name, _, value in (each.partition(":") for each in rest)]
        headers = Headers(pairs)
        method, _, target = first.partition(" ")
        path = target.rpartition(" ")[0]
        body = _body(connection, headers)
        return self._log.received(record, method, path, headers, body)


def _body(connection: StoppableSocket, headers: Headers) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return connection.read_exactly(int(headers.get("content-length", "0")))
    body = b""
    while size := int(connection.read_until(b"\r\n").partition(b";")[0], 16):
        body += connection.read_exactly(size)
        connection.read_exactly(2)
    while connection.read_until(b"\r\n"):  # trailers, then an empty line
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
    """Serve a script on loopback until the ``with`` block ends; return the ``Server``.

    Leaving the ``with`` block stops every thread and closes every socket, whatever they wait for,
    and raises the first mistake in the script itself, if any.

    Args:
        script: See ``Script``.
        protocol: ``openai``, ``responses``, ``anthropic``, ``gemini``, ``ollama``, ``vitalentum``,
            ``codelinkava``, ``ai365vip`` or ``plain``; by default it follows from the path and body
            of each request.
        tls: A server-side context with a certificate loaded.
        host: The address to listen on; 127.0.0.1 by default.
        port: The port; 0 takes a free one.
        keep: How many of the last requests and connections are kept; by default all.

    Raises:
        ScriptError: The protocol is unknown, or the script cannot be sent.

    Examples:
        >>> from providers_sync.testing import cut, serve, text
        >>> with serve([text("Hel"), cut()]) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """
    return Server(script, protocol=protocol, tls=tls, host=host, port=port, keep=keep)
