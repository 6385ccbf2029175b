"""``Provider``, the base class of all providers: settings, requests, retries and streams."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .. import decoding, transport
from .. import retry as _retry
from ..config import ATTEMPTS, NOT_GIVEN, NotGiven, Timeouts, __version__
from ..errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    InvalidRequestError,
    ModelNotSupportedError,
)
from ..messages import to_messages
from ..stream import CancelToken, PreparedCall, Source, Stream
from ..types import Completion, Decoder, Messages, Prompt
from .attempts import AttemptLoop, HTTPRequest, encode_json
from .connections import Certificate, Connections
from .headers import ask_for_key, merge_headers
from .validation import (
    find_setting,
    mask_argument,
    validate_extra_body,
    validate_header_value,
    validate_headers,
    validate_key_function,
    validate_options,
    validate_url,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..aio import AsyncStream

_DISCONTINUED = (
    "the public service behind {name} no longer exists, and nothing was sent: start a gateway with "
    "`providers-sync serve`, and set {variable} as it prints, or pass that address as base_url="
)
_NOT_PER_CALL = ("base_url", "api_key", "query", "proxy", "verify", "cert", "session")
_SETTINGS = ("headers", "timeouts", "retry", *_NOT_PER_CALL)


class Provider:
    """A chat service; holds only configuration, so it can be pickled, copied, forked and shared.

    - ``api_key``: the key, or a function that returns it and is called before each attempt, for
      tokens that expire.
    - ``headers`` are added to every request, ``query`` to its address. ``None`` as a header's value
      removes one that is sent by default.
    - ``proxy``: an address; ``False`` for none; by default the environment's. ``verify``: a file of
      CA certificates, or ``False`` to trust any server. ``cert``: a client certificate, as one PEM
      file or as a pair (certificate, key).
    - ``session``: a ``requests.Session`` of yours, with its adapters, certificates, ``auth``,
      headers and hooks. Settings given here win over it. ``close()`` leaves it open.
    - ``timeouts`` and ``retry`` are those of calls without their own.
    - ``defaults`` are options added to the body of every request; ``extra_body``, a dict, is added
      to it as it is, after the protocol has translated the options.

    Threads may share a provider. Connections are made at first use, per process; ``close()`` and
    ``with`` close them. Raises ``InvalidRequestError`` immediately for values that cannot work.
    """

    # The interface of the published classes.
    url: ClassVar[str]
    """The published address of the service."""
    working: ClassVar[bool] = True
    supports_gpt_35_turbo: ClassVar[bool] = False
    default_model: ClassVar[str | None] = None
    models: ClassVar[list[str]] = []
    """The supported models; empty if any name is accepted."""
    model_aliases: ClassVar[dict[str, str]] = {}
    api_endpoint: ClassVar[str]
    """The protocol's path, appended to ``base_url``."""

    model: str | None = None
    """The model for calls without one."""
    base_url: str = ""
    """The address that ``api_endpoint`` is appended to."""

    # Set by each provider class.
    sends_model: ClassVar[bool] = True
    """False if the protocol has no field for the model's name."""
    default_base_url: ClassVar[str]
    base_url_variable: ClassVar[str]
    api_key_variable: str | None = None
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | Callable[[], str] | None = None,
        headers: Mapping[str, str | None] | None = None,
        query: Mapping[str, str] | None = None,
        proxy: str | Literal[False] | NotGiven | None = NOT_GIVEN,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        verify: bool | str | os.PathLike[str] | NotGiven = NOT_GIVEN,
        cert: Certificate | None = None,
        session: transport.Session | None = None,
        **defaults: Any,
    ) -> None:
        # Mask secrets before anything can fail: error reports may show local variables.
        api_key = transport.Secret(api_key) if isinstance(api_key, str) else api_key
        base_url, proxy = mask_argument(base_url), mask_argument(proxy)
        headers, query = mask_argument(headers), mask_argument(query)
        defaults = transport.mask_secrets(defaults)
        headers = validate_headers(headers)
        self._connections = Connections(
            query=query, proxy=proxy, verify=verify, cert=cert, session=session
        )
        self.model = model
        address = find_setting(base_url, "base_url", self.base_url_variable)
        self.base_url = validate_url(*address) if address else self.default_base_url
        self._uses_default_url = address is None
        self._api_key = self._find_api_key(api_key)
        self._extra_headers = headers
        self._timeouts = Timeouts() if timeouts is NOT_GIVEN else Timeouts.of(timeouts)
        self._retry = retry if retry is NOT_GIVEN else _retry.validate_policy(retry)
        self._extra_body = validate_extra_body(defaults.pop("extra_body", None))
        self._defaults = validate_options(defaults)
        # Raises now, not in the first call, for a value unfit for JSON.
        encode_json({**self._defaults, **self._extra_body})
        if model is not None:
            self.get_model(model)

    # --- hooks that a provider class may override

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON body of a request; ``options`` override the protocol's own values."""
        raise NotImplementedError

    def amended(self, body: dict[str, Any], error: APIStatusError) -> dict[str, Any] | None:
        """Return a body to try instead of one that the server has rejected, or ``None``."""
        return None

    def authorization(self, api_key: str) -> dict[str, str]:
        """Return the headers that carry the key."""
        return {"Authorization": f"Bearer {api_key}"}

    def decoder(self, content_type: str = "") -> Decoder:
        """Return a new decoder of one body, of this media type (empty if the server sent none)."""
        return decoding.OpenAIDecoder(content_type)

    # --- calls

    def stream(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Stream:
        """Send the request and return the answer, an iterator of text, once the server responds.

        ``messages`` is a string, a message or a list of messages; ``options`` are added to the body
        (``None`` removes a key). Raises ``InvalidRequestError`` before anything is sent, and other
        ``ProviderError`` classes if the server cannot be reached or rejects the request.
        """
        # Mask secrets: error reports may show local variables.
        headers, options = mask_argument(headers), transport.mask_secrets(options)
        return self.prepare(
            messages,
            model,
            timeouts=timeouts,
            retry=retry,
            headers=headers,
            cancel=cancel,
            **options,
        ).open()

    def prepare(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> PreparedCall:
        """Validate the arguments of ``stream`` and return the call, for adapters; send nothing."""
        headers, options = mask_argument(headers), transport.mask_secrets(options)
        for name in _NOT_PER_CALL:
            if name in options:
                raise InvalidRequestError(f"{name}= belongs to the provider, not to one call")
        if cancel is not None and not isinstance(cancel, CancelToken):
            raise InvalidRequestError("cancel must be a CancelToken")
        source, call_timeouts, model_name = self._plan_call(
            messages, model, options, timeouts=timeouts, retry=retry, headers=headers
        )
        return PreparedCall(source, call_timeouts, cancel, model_name)

    def _plan_call(
        self,
        messages: Prompt,
        model: str | None,
        options: dict[str, Any],
        *,
        timeouts: Timeouts | float | NotGiven | None,
        retry: Any,
        headers: Mapping[str, str | None] | None,
        attempts: int = ATTEMPTS,
    ) -> tuple[Source, Timeouts, str]:
        """Validate everything; return the source to run, its timeouts and the model.

        ``attempts`` applies if neither the call nor the provider has ``retry=``.
        """
        model_name = self.get_model(model or self.model)
        merged = {**self._defaults, **validate_options(options)}
        extra = merged.pop("extra_body", None)
        extra = {**self._extra_body, **validate_extra_body(extra)}
        body = copy_context().run(self.body, to_messages(messages), model_name, merged)
        if extra:
            body = build_body(body, extra)
        request = HTTPRequest(
            "POST",
            self._connections.url(self.base_url, self.api_endpoint),
            validate_headers(headers),
            body,
            self.decoder,
        )
        source = self._attempt_loop(request, retry, attempts)
        return source, self._call_timeouts(timeouts), model_name

    def _attempt_loop(
        self, request: HTTPRequest, retry: Any, attempts: int = ATTEMPTS
    ) -> AttemptLoop:
        policy = self._retry if retry is NOT_GIVEN else _retry.validate_policy(retry)
        policy = attempts if policy is NOT_GIVEN else policy
        send = functools.partial(self._send, self._transport())
        return AttemptLoop(
            request, policy, self._attempt_headers, send, self.amended, self._explain
        )

    def _call_timeouts(self, timeouts: Timeouts | float | NotGiven | None) -> Timeouts:
        return self._timeouts if timeouts is NOT_GIVEN else Timeouts.of(timeouts)

    def complete(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Completion:
        """Return the complete answer; take the same arguments as ``stream`` and raise the same."""
        headers, options = mask_argument(headers), transport.mask_secrets(options)
        with self.stream(
            messages,
            model,
            timeouts=timeouts,
            retry=retry,
            headers=headers,
            cancel=cancel,
            **options,
        ) as stream:
            return stream.completion()

    def _get(
        self,
        path: str,
        timeouts: Any,
        retry: Any,
        cancel: CancelToken | None,
        read: Callable[[bytes], str] = lambda body: body.decode("utf-8", "replace"),
    ) -> str:
        """Return the body of a GET, read by ``read``, with the timeouts and retries of a call."""
        url = self._connections.url(self.base_url, path)
        request = HTTPRequest("GET", url, {}, None, lambda _: decoding.WholeBody(read))
        source, call_timeouts = self._attempt_loop(request, retry), self._call_timeouts(timeouts)
        with PreparedCall(source, call_timeouts, cancel).open() as stream:
            return stream.read()

    @classmethod
    def create_async_generator(
        cls, model: str, messages: Prompt, proxy: str | None = None, **kwargs: Any
    ) -> AsyncStream:
        """Return the answer as an async iterator of text: the published interface.

        The settings of the provider (``base_url``, ``api_key``, ``headers``, ``timeouts``, …)
        configure it; all others are added to the body. Every error is raised at the first
        ``await``; the result works in ``async for x in g`` and in ``async for x in await g``.
        """
        from ..aio import AsyncStream  # late: it loads asyncio

        proxy, kwargs = mask_argument(proxy), transport.mask_secrets(kwargs)

        def prepare() -> PreparedCall:
            settings = {name: kwargs.pop(name) for name in _SETTINGS if name in kwargs}
            provider = cls(proxy=proxy, **settings)
            return provider.prepare(messages, model if cls.sends_model else None, **kwargs)

        return AsyncStream(prepare)

    @classmethod
    def get_model(cls, model: str | None = None) -> str:
        """Return the name to send: ``model`` or the default, with aliases resolved.

        Raises ``ModelNotSupportedError`` for a model that the provider does not support.
        """
        name = model or cls.default_model
        if not isinstance(name, str):
            raise InvalidRequestError(
                f"{cls.__name__} needs a model: pass its name (on the command line: --model)"
                if name is None
                else f"model must be a string, not {type(name).__name__}"
            )
        name = cls.model_aliases.get(name, name)
        if cls.models and name not in cls.models:
            raise ModelNotSupportedError(
                f"{cls.__name__} does not support the model {name!r}; "
                f"choose one of {', '.join(cls.models)}"
            )
        return name

    @classmethod
    def get_models(cls) -> list[str]:
        """Return the supported models; empty if any name is accepted."""
        return list(cls.models)

    # --- configuration

    def _find_api_key(
        self, argument: str | Callable[[], str] | None
    ) -> str | Callable[[], str] | None:
        """Return the argument, or else the environment's key if the address may receive it.

        Only the vendor's own address and the one in ``*_BASE_URL`` may.
        """
        if callable(argument):
            return validate_key_function(argument)
        trusted = {getattr(self, "default_base_url", None)}  # a custom provider may have none
        trusted.add(os.environ.get(self.base_url_variable, "").rstrip("/"))
        variable = self.api_key_variable if self.base_url in trusted else None
        found = find_setting(argument, "api_key", variable)
        if found is None:
            return None
        key, name = transport.Secret(found[0]), found[1]
        validate_header_value(name, key)
        return key

    def _attempt_headers(self, request: HTTPRequest) -> dict[str, str]:
        """Return all headers of the next attempt, later ones taking precedence."""
        if self._uses_default_url and not self.working:  # the domain may have a new owner
            text = _DISCONTINUED.format(name=type(self).__name__, variable=self.base_url_variable)
            error = APIConnectionError(text)
            error.retryable = False
            raise error
        key = ask_for_key(self._api_key) if callable(self._api_key) else self._api_key
        return merge_headers(
            {"User-Agent": f"providers-sync/{__version__}", "Accept-Encoding": "gzip, deflate"},
            self._connections.headers(),
            {"Content-Type": "application/json"},
            self.headers,
            self._authorization(key) if key else {},
            self._extra_headers,
            request.headers,
        )

    def _authorization(self, key: str) -> dict[str, str | None]:
        """Return the headers that carry the key, masked whatever their names are."""
        carried = validate_headers(self.authorization(key))
        return {name: value and transport.Secret(value) for name, value in carried.items()}

    def _transport(self) -> transport.Transport:
        return self._connections.transport()

    def _send(
        self,
        connections: transport.Transport,
        request: HTTPRequest,
        attempt: transport.RequestAttempt,
    ) -> transport.Response:
        try:
            return connections.send(
                request.method, request.url, request.sent_headers, request.data, attempt
            )
        finally:
            request.sent_headers = {**request.sent_headers, **attempt.sent_headers}

    def _explain(self, error: Exception, request: HTTPRequest) -> None:
        """Add the remedy if no key was set, and remove secrets from the error."""
        if isinstance(error, AuthenticationError) and not self._api_key:
            variable = self.api_key_variable
            text = "; no key was set: use api_key=" + (f" or {variable}" if variable else "")
            error.args = (str(error) + text,)
        headers = request.sent_headers or merge_headers(self._extra_headers, request.headers)
        transport.redact(self._connections.secrets(headers), error)

    def close(self) -> None:
        """Close the idle connections of this process; the next call makes new ones.

        Streams that are open go on, and close theirs at their end. A ``session=`` stays open.
        """
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if "_connections" in state:  # a copy gets its own
            state["_connections"] = copy.copy(self._connections)
        return state

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r}, base_url={self.base_url!r})"


def build_body(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merged layers, later ones taking precedence; ``None`` removes a key."""
    body: dict[str, Any] = {}
    for layer in layers:
        body.update(layer)
    return {name: value for name, value in body.items() if value is not None}


# --- internal: for other modules of the package, not part of the public API of a Provider


def api_key_of(provider: Provider) -> str | None:
    """Return the key that a provider sends, if it is no function. Never show it."""
    return None if callable(provider._api_key) else provider._api_key


def uses_default_url(provider: Provider) -> bool:
    """Return whether neither the caller nor the environment set a ``base_url``."""
    return provider._uses_default_url


def retry_policy_of(provider: Provider) -> Any:
    """Return the provider's ``retry=``; ``None`` if it has none, like a ``Failover``."""
    return getattr(provider, "_retry", None)


def describe(provider: Provider) -> str:
    """Return a provider's class, model and host, for a log: nothing that may contain a key."""
    model = f" {provider.model}" if provider.model else ""
    host = str(provider.base_url).partition("://")[2].partition("/")[0].rpartition("@")[2]
    return f"{type(provider).__name__}{model}" + (f" at {host}" if host else "")


def get_text(provider: Provider, path: str, timeouts: Timeouts) -> str:
    """Send one GET to ``{base_url}{path}`` and return the body; raise like ``stream``."""
    return provider._get(path, timeouts, 1, None)
