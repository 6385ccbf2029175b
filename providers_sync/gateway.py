"""The gateway: an HTTP server on this machine that speaks the providers' protocols.

::

    with serve(engine="echo") as gateway:
        for chunk in Vitalentum(base_url=gateway.url("vitalentum")).stream("Hello"):
            print(chunk, end="")

``/v1`` and ``/anthropic`` serve the official clients of OpenAI and Anthropic, too:
``openai.OpenAI(base_url=gateway.url("openai"), api_key="any")``.

``Gateway.app`` is a WSGI application; ``serve`` runs it on waitress, in threads of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from types import TracebackType

try:
    from .serving import WSGIServer
    from .wsgi import MAX_BODY_BYTES, App
except ImportError as missing:
    raise ImportError(
        "the gateway needs werkzeug and waitress: pip install 'providers-sync[gateway]'"
    ) from missing

from .dialects import DIALECTS
from .echo import EchoEngine
from .engines import DisconnectWatcher, Engine
from .errors import InvalidRequestError

TOKEN_ENV = "PROVIDERS_SYNC_TOKEN"
TOKEN_CHARACTERS = 4096
"""Of a token file's first line, in case the file is something else."""
LOOPBACK = "127.0.0.1"
LOCAL_NAMES = frozenset({"localhost", LOOPBACK, "[::1]"})
"""What a ``Host`` header may say: a hostile page that points its own name here says another."""


class Gateway:
    """A running gateway; a context manager that stops it.

    ``app`` is its WSGI application, ``port`` the one it listens on.
    """

    def __init__(self, listener: socket.socket, engine: Engine, token: str | None) -> None:
        host, self.port = listener.getsockname()[:2]
        self._host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
        hosts = LOCAL_NAMES if host == LOOPBACK else None
        # Undone from the last to the first, all of it, whatever fails on the way.
        with contextlib.ExitStack() as opened:
            opened.callback(engine.close)
            opened.callback(listener.close)
            watch = DisconnectWatcher()
            opened.callback(watch.close)
            self.app = App(engine, token=token, hosts=hosts, watch=watch)
            self._server = WSGIServer(self.app, listener, max_body_bytes=MAX_BODY_BYTES)
            opened.callback(self._server.close)
            # Once more, to come first: an answer ends sooner when it is told than when hung up on.
            opened.callback(watch.close)
            self._opened = opened.pop_all()

    def url(self, name: str = "") -> str:
        """Return the ``base_url`` for a provider or an official client; without a name, the root.

        Names: the three historical ones, ``openai`` (or ``v1``) and ``anthropic``.

        Raises ``InvalidRequestError`` for a name that is not served.
        """
        host = f"[{self._host}]" if ":" in self._host else self._host
        prefixes = {"": "", "v1": "/v1", **{d.name: d.base for d in DIALECTS}}
        if name not in prefixes:
            known = ", ".join(filter(None, prefixes))
            raise InvalidRequestError(f"the gateway does not serve {name!r}; it serves {known}")
        return f"http://{host}:{self.port}{prefixes[name]}"

    def wait(self) -> None:
        """Block until the gateway is closed."""
        self._server.wait()

    def close(self) -> None:
        """Hang up on every client, stop every answer, the server and the engine.

        The engine is closed even where something else fails.
        """
        self._opened.close()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Gateway {self.url()}>"


def serve(
    engine: str | Engine = "echo",
    *,
    host: str = LOOPBACK,
    port: int = 0,
    token: str | None = None,
    model: str | None = None,
) -> Gateway:
    """Start a gateway and return it, ready for requests.

    ``engine`` is ``"echo"``, ``"local"`` (``model``: path of its weights) or an object of your
    own, which the gateway closes at its end. ``port`` 0 takes a free one. An address other than
    127.0.0.1 needs a ``token``; where there is one, every request must carry it.

    Raises ``InvalidRequestError`` for settings that cannot work, and another ``ProviderError``
    where the model or a thread cannot be started; then nothing stays open.
    """
    if host == "localhost":
        host = LOOPBACK
    if token is not None and (not isinstance(token, str) or not token.strip()):
        raise InvalidRequestError("token must be text that is not empty")
    if host != LOOPBACK and token is None:
        raise InvalidRequestError(
            f"{host} can be reached by others: give a token (--token-file), or stay on {LOOPBACK}"
        )
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise InvalidRequestError(f"port must be a number from 0 to 65535, not {port!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise InvalidRequestError(
            f"cannot listen on {host} port {port} ({error}); port 0 takes a free one"
        ) from error
    try:
        return Gateway(listener, _engine(engine, model), token)
    except BaseException:
        listener.close()
        raise


def find_token(given: str | None = None, file: str | None = None) -> str | None:
    """Return the token that is given, else the first line of ``file``, else the environment's.

    The command line shows in ``ps``, to everybody on the machine; the other two do not. ``None``
    where there is none. Raises ``InvalidRequestError`` for a file that cannot be read, and for a
    token that is empty: it would leave the gateway open.
    """
    if given is not None:
        return given
    if file is not None:
        source = f"the token file {file}"
        try:
            with Path(file).open(encoding="utf-8") as lines:
                token = lines.readline(TOKEN_CHARACTERS)
        except (OSError, ValueError) as error:
            raise InvalidRequestError(f"{source} cannot be read: {error}") from error
    else:
        source = TOKEN_ENV
        if source not in os.environ:
            return None
        token = os.environ[source]
    if not token.strip():
        raise InvalidRequestError(f"{source} is empty; it must hold the token")
    return token.strip()


def _engine(engine: str | Engine, model: str | None) -> Engine:
    if engine == "local":
        from .local import LocalEngine

        return LocalEngine(model)
    if model is not None:
        raise InvalidRequestError(
            "model names the weights of the local engine; give engine='local'"
        )
    if engine == "echo":
        return EchoEngine()
    if isinstance(engine, str):
        raise InvalidRequestError(f"there is no engine {engine!r}; choose echo or local")
    return engine
