"""The joint: a provider is mostly data, and this class puts the plumbing behind it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from ..messages import conversation
from ..stream import CancelToken, PreparedCall, Source, Stream
from ..types import Completion, Delta, Finish, Messages, Prompt
from .attempts import AttemptLoop, HTTPRequest, encode_json
from .validation import (
    find_setting,
    mask_argument,
    validate_header_value,
    validate_headers,
    validate_options,
    validate_proxy,
    validate_url,
    validate_verify,
)

if TYPE_CHECKING:
    from ..aio import AsyncStream

_GONE = (
    "the public service behind {name} is gone, and nothing was sent: start a gateway with "
    "`providers-sync serve`, and give the address it prints as base_url= or in {variable}"
)
_SETTINGS = ("base_url", "api_key", "headers", "timeouts", "retry", "verify")
_NOT_PER_CALL = ("base_url", "api_key", "proxy", "verify")


class Provider:
    """A chat service: configuration only, so it pickles, copies, forks and is shared by threads.

    ``Provider(model=None, *, base_url=None, api_key=None, headers=None, proxy=…, timeouts=…,
    retry=…, verify=True, **defaults)``: ``defaults`` are options that enter every request's body.
    Connections are made at first use, per process. Raises ``InvalidRequestError`` at once for
    values that cannot work.
    """

    # What the published classes promise.
    url: ClassVar[str]
    """The published address."""
    working: ClassVar[bool] = True
    supports_gpt_35_turbo: ClassVar[bool] = False
    default_model: ClassVar[str | None] = None
    models: ClassVar[list[str]] = []
    """The models it knows; empty where any name may be given."""
    model_aliases: ClassVar[dict[str, str]] = {}
    api_endpoint: ClassVar[str]
    """The protocol's own path, behind ``base_url``."""

    model: str | None = None
    """The model of calls that name none."""
    base_url: str = ""
    """Where ``api_endpoint`` is."""

    # What a provider's file states.
    sends_model: ClassVar[bool] = True
    """False where the protocol has no place for the model's name."""
    default_base_url: ClassVar[str]
    base_url_variable: ClassVar[str]
    api_key_variable: str | None = None
    headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str | None] | None = None,
        proxy: str | Literal[False] | NotGiven | None = NOT_GIVEN,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        verify: bool | str = True,
        **defaults: Any,
    ) -> None:
        # Before anything can fail: tools that report errors show local variables.
        api_key = transport.Secret(api_key) if isinstance(api_key, str) else api_key
        base_url, proxy, headers = (
            mask_argument(base_url),
            mask_argument(proxy),
            mask_argument(headers),
        )
        defaults = transport.mask_secrets(defaults)
        headers, proxy = validate_headers(headers), validate_proxy(proxy)
        self.model = model
        given = find_setting(base_url, "base_url", self.base_url_variable)
        self.base_url = validate_url(*given) if given else self.default_base_url
        self._uses_default_url = given is None
        self._api_key = self._find_api_key(api_key)
        self._extra_headers = headers
        self._proxy = proxy
        self._timeouts = Timeouts() if timeouts is NOT_GIVEN else Timeouts.of(timeouts)
        self._retry = retry if retry is NOT_GIVEN else _retry.validate_policy(retry)
        self._verify = validate_verify(verify)
        self._defaults = validate_options(defaults)
        encode_json(self._defaults)  # what JSON cannot hold is refused here already
        self._transports: dict[int, transport.Transport] = {}
        if model is not None:
            self.get_model(model)

    # --- what a provider's file may override

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON body of a request; ``options`` win over the protocol's own values."""
        raise NotImplementedError

    def amended(self, body: dict[str, Any], error: APIStatusError) -> dict[str, Any] | None:
        """Return a body to try instead of one the server has refused, or ``None``."""
        return None

    def authorization(self, api_key: str) -> dict[str, str]:
        """Return the headers that carry the key."""
        return {"Authorization": f"Bearer {api_key}"}

    def decode(self, chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
        """Turn body bytes into deltas; ``StreamTruncated`` where the end marker is missing."""
        return decoding.decode_openai(chunks, content_type)

    # --- the calls

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
        """Ask, and return the answer as an iterator of text once the server has begun it.

        ``messages`` is a string, a message or a list of messages; ``options`` enter the body
        (``None`` drops a key). Raises ``InvalidRequestError`` before anything is sent, and the
        other ``ProviderError`` classes where the server cannot be reached or refuses.
        """
        # Masked, where an error shows local variables.
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
        """Check what ``stream`` is given and make the call ready, for adapters; nothing is sent."""
        headers, options = mask_argument(headers), transport.mask_secrets(options)
        for name in _NOT_PER_CALL:
            if name in options:
                raise InvalidRequestError(f"{name}= belongs to the provider, not to one call")
        if cancel is not None and not isinstance(cancel, CancelToken):
            raise InvalidRequestError("cancel must be a CancelToken")
        source, clocks, wanted = self._plan_call(
            messages, model, options, timeouts=timeouts, retry=retry, headers=headers
        )
        return PreparedCall(source, clocks, cancel, wanted)

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
        """Check everything; return what to run, its clocks and the model.

        ``attempts`` is used where neither the call nor the provider says ``retry=``.
        """
        wanted = self.get_model(model or self.model)
        merged = {**self._defaults, **validate_options(options)}
        request = HTTPRequest(
            "POST",
            self.base_url + self.api_endpoint,
            self._request_headers(validate_headers(headers)),
            self.body(conversation(messages), wanted, merged),
            self.decode,
        )
        return self._attempt_loop(request, retry, attempts), self._call_timeouts(timeouts), wanted

    def _attempt_loop(
        self, request: HTTPRequest, retry: Any, attempts: int = ATTEMPTS
    ) -> AttemptLoop:
        given = self._retry if retry is NOT_GIVEN else _retry.validate_policy(retry)
        policy = attempts if given is NOT_GIVEN else given
        send = functools.partial(self._send, self._transport())
        return AttemptLoop(request, policy, send, self.amended, self._explain)

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
        """Ask, wait for the whole answer and return it; takes and raises what ``stream`` does."""
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
        decode: Callable[[Iterable[bytes], str], Iterator[Delta]] | None = None,
    ) -> str:
        """Return the body of a GET, under the same clocks, retries and stop button."""
        headers = self._request_headers({})
        request = HTTPRequest("GET", self.base_url + path, headers, None, decode or _as_text)
        source, clocks = self._attempt_loop(request, retry), self._call_timeouts(timeouts)
        with PreparedCall(source, clocks, cancel).open() as stream:
            return stream.read()

    @classmethod
    def create_async_generator(
        cls, model: str, messages: Prompt, proxy: str | None = None, **kwargs: Any
    ) -> AsyncStream:
        """Return the answer as an async iterator of text: the published spelling.

        ``base_url``, ``api_key``, ``headers``, ``timeouts``, ``retry`` and ``verify`` configure
        the provider; the rest enters the body. Everything raises at the first ``await``; the
        result works in ``async for x in g`` and in ``async for x in await g``.
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
        """Return the name to send: the one given or the default, past its alias.

        Raises ``ModelNotSupportedError`` for a name the provider does not know.
        """
        name = model or cls.default_model
        if not isinstance(name, str):
            raise InvalidRequestError(
                f"{cls.__name__} needs a model: give its name (on the command line: --model)"
                if name is None
                else f"model must be a string, not {type(name).__name__}"
            )
        name = cls.model_aliases.get(name, name)
        if cls.models and name not in cls.models:
            raise ModelNotSupportedError(
                f"{cls.__name__} does not know the model {name!r}; it knows {', '.join(cls.models)}"
            )
        return name

    @classmethod
    def get_models(cls) -> list[str]:
        """Return the models it knows; empty where any name may be given."""
        return list(cls.models)

    # --- configuration

    def _find_api_key(self, given: str | None) -> str | None:
        """A key from the environment goes to the vendor's own address or to ``*_BASE_URL`` only."""
        homes = {getattr(self, "default_base_url", None)}  # a provider of one's own may have none
        homes.add(os.environ.get(self.base_url_variable, "").rstrip("/"))
        variable = self.api_key_variable if self.base_url in homes else None
        found = find_setting(given, "api_key", variable)
        if found is None:
            return None
        key, name = transport.Secret(found[0]), found[1]
        validate_header_value(name, key)
        return key

    def _request_headers(self, extra: dict[str, str | None]) -> dict[str, str]:
        merged: dict[str, tuple[str, str | None]] = {}
        key = validate_headers(self.authorization(self._api_key)) if self._api_key else {}
        own = {
            "Content-Type": "application/json",
            "User-Agent": f"providers-sync/{__version__}",
            "Accept-Encoding": "gzip, deflate",
        }
        for layer in (own, self.headers, key, self._extra_headers, extra):
            for name, value in layer.items():
                merged[name.lower()] = (name, value)
        return transport.mask_secrets(
            {name: value for name, value in merged.values() if value is not None}
        )

    def _transport(self) -> transport.Transport:
        """Return this process's connections: those of a parent process are not ours to use."""
        pid = os.getpid()
        if pid not in self._transports:
            self._transports.setdefault(pid, transport.Transport())
        return self._transports[pid]

    def _send(
        self, connections: transport.Transport, request: HTTPRequest, call: transport.Call
    ) -> transport.Response:
        if (
            self._uses_default_url and not self.working
        ):  # the domain may belong to somebody else by now
            text = _GONE.format(name=type(self).__name__, variable=self.base_url_variable)
            error = APIConnectionError(text)
            error.retryable = False
            raise error
        return connections.send(
            request.method,
            request.url,
            request.headers,
            request.data,
            call,
            proxy=self._proxy,
            verify=self._verify,
        )

    def _explain(self, error: Exception, request: HTTPRequest) -> None:
        """Add what to do where no key was given, and keep secrets out of the text."""
        if isinstance(error, AuthenticationError) and not self._api_key:
            variable = self.api_key_variable
            text = "; no key was given: api_key=" + (f" or {variable}" if variable else "")
            error.args = (str(error) + text,)
        proxies = transport.proxies_in_use(self._proxy)
        transport.redact(transport.collect_secrets(request.headers, proxies), error)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_transports": {}}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r}, base_url={self.base_url!r})"


def _as_text(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    yield decoding.read_whole(iter(chunks)).decode("utf-8", "replace")
    yield Finish()


def build_body(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body from layers, the later ones winning; a value of ``None`` drops its key."""
    body: dict[str, Any] = {}
    for layer in layers:
        body.update(layer)
    return {name: value for name, value in body.items() if value is not None}


# --- for this package's own tools: not part of the public API of a Provider


def api_key_of(provider: Provider) -> str | None:
    """Return the key that a provider sends. It must never be shown."""
    return provider._api_key


def uses_default_url(provider: Provider) -> bool:
    """Tell whether a provider was given no ``base_url``, not even by the environment."""
    return provider._uses_default_url


def get_text(provider: Provider, path: str, timeouts: Timeouts) -> str:
    """Send one GET to ``{base_url}{path}`` and return the body; raises like ``stream``."""
    return provider._get(path, timeouts, 1, None)
