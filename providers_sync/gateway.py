"""The gateway: an HTTP server for the providers' protocols, whose answers come from an engine.

::

    with serve(engine="echo") as gateway:
        for chunk in Vitalentum(base_url=gateway.url("vitalentum")).stream("Hello"):
            print(chunk, end="")

The gateway forwards nothing to the providers' own services. It also serves official clients::

    openai.OpenAI(base_url=gateway.url("openai"), api_key="any")
    anthropic.Anthropic(base_url=gateway.url("anthropic"), api_key="any")
    genai.Client(api_key="any", http_options={"base_url": gateway.url() + "/gemini"})
    ollama.Client(host=gateway.url("ollama"))

``Gateway.app`` is a WSGI application; ``serve`` runs it on waitress, in background threads.
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

SERVED = tuple(dialect.name for dialect in DIALECTS)
"""The names of the providers that the gateway answers for."""
TOKEN_ENV = "PROVIDERS_SYNC_TOKEN"
TOKEN_CHARACTERS = 4096
"""Limit for the first line of a token file, in case it is the wrong file."""
LOOPBACK = "127.0.0.1"
LOCAL_NAMES = frozenset({"localhost", LOOPBACK, "[::1]"})
"""Allowed in a ``Host`` header; a malicious page whose domain resolves to this address sends its
own name (DNS rebinding)."""


class Gateway:
    """A running gateway, made by ``serve()``; the end of a ``with`` block stops it.

    Attributes:
        app: Its WSGI application.
        port: The port it listens on.
    """

    def __init__(self, listener: socket.socket, engine: Engine, token: str | None) -> None:
        host, self.port = listener.getsockname()[:2]
        self._host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
        hosts = LOCAL_NAMES if host == LOOPBACK else None
        # Closed in reverse order; all of them, even if one close fails.
        with contextlib.ExitStack() as resources:
            resources.callback(engine.close)
            resources.callback(listener.close)
            watcher = DisconnectWatcher()
            resources.callback(watcher.close)
            self.app = App(engine, token=token, hosts=hosts, watcher=watcher)
            self._server = WSGIServer(self.app, listener, max_body_bytes=MAX_BODY_BYTES)
            resources.callback(self._server.close)
            # Added again, to run first too: a cancelled answer ends sooner than a disconnected one.
            resources.callback(watcher.close)
            self._resources = resources.pop_all()

    def url(self, name: str = "") -> str:
        """Return the ``base_url`` for a provider or an official client.

        Args:
            name: The name of one of the three discontinued services, ``openai`` (or ``v1``),
                ``responses``, ``anthropic``, ``gemini`` and ``ollama``; without a name, the root.
                Google's own client adds the version to the path: it takes the root and ``/gemini``.

        Raises:
            InvalidRequestError: For any other name.
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
        """Disconnect every client, cancel every answer, stop the server and close the engine.

        The engine is closed even if another step fails.
        """
        self._resources.close()

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
    context_size: int | None = None,
) -> Gateway:
    """Start a gateway and return it, ready for requests.

    Args:
        engine: ``"echo"``, ``"local"`` or a custom ``Engine``; closing the gateway closes it.
        host: The address to listen on. Any other than 127.0.0.1 needs a ``token``.
        port: The port; 0 uses a free one.
        token: What every request must send, as a key.
        model: For the local engine, the path of its weights.
        context_size: For the local engine, the maximum number of tokens of a prompt and its answer
            together (default: 4096).

    Raises:
        InvalidRequestError: For invalid settings.
        ProviderError: The model or a thread cannot be started; then nothing stays open.
    """
    if host == "localhost":
        host = LOOPBACK
    if token is not None and (not isinstance(token, str) or not token.strip()):
        raise InvalidRequestError("token must be a non-empty string")
    if host != LOOPBACK and token is None:
        raise InvalidRequestError(
            f"{host} needs a token, as other machines may reach it: set one (--token-file), "
            f"or use {LOOPBACK}"
        )
    if not isinstance(port, int) or not 0 <= port <= 65535:
        raise InvalidRequestError(f"port must be a number from 0 to 65535, not {port!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise InvalidRequestError(
            f"cannot listen on {host} port {port} ({_reason(error)}); port 0 uses a free port"
        ) from error
    try:
        return Gateway(listener, _make_engine(engine, model, context_size), token)
    except BaseException:
        listener.close()
        raise


def _reason(error: OSError) -> str:
    """Return what the system says, without the address that ``create_server`` adds to it."""
    return (error.strerror or str(error)).partition(" (while attempting")[0]


def find_token(token: str | None = None, file: str | None = None) -> str | None:
    """Return ``token``, else the first line of ``file``, else ``PROVIDERS_SYNC_TOKEN``.

    ``ps`` shows a token from the command line to every user of the machine; the other two sources
    stay private. ``None`` if there is none of them.

    Args:
        token: The token itself.
        file: The path of a file that begins with it.

    Raises:
        InvalidRequestError: For a file that cannot be read, and for an empty token: it would leave
            the gateway open.
    """
    if token is not None:
        return token
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


def _make_engine(engine: str | Engine, model: str | None, context_size: int | None) -> Engine:
    if engine == "local":
        from .local import LocalEngine

        return LocalEngine(model, context_size=context_size)
    if context_size is not None:
        raise InvalidRequestError(
            "context_size (--context-size) is for the local engine; use engine='local' "
            "(--engine local)"
        )
    if model is not None:
        raise InvalidRequestError(
            "model is the path of the local engine's weights; use engine='local' (--engine local)"
        )
    if engine == "echo":
        return EchoEngine()
    if isinstance(engine, str):
        raise InvalidRequestError(f"there is no engine {engine!r}; choose echo or local")
    return engine
