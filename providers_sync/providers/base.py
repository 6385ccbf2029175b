"""The joint: a provider is mostly data, and this class puts the plumbing behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

from .. import decoding, transport
from .. import retry as _retry
from ..config import ATTEMPTS, ERROR_BODY_S, NOT_GIVEN, NotGiven, Timeouts, __version__
from ..errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    InvalidRequestError,
    MalformedStream,
    ModelNotSupportedError,
    ProviderError,
    StreamCut,
    StreamTruncated,
)
from ..messages import conversation
from ..stream import CancelToken, Opening, Pipe, Source, Stream
from ..types import Completion, Delta, Finish, Messages, Prompt

if TYPE_CHECKING:
    from ..aio import AsyncStream

_RIGHT_WORDS = {
    "timeout": "timeouts=",
    "max_retries": "retry=",
    "proxies": "proxy= (of the provider)",
}
_GONE = (
    "; the public service behind {name} is gone: start a gateway with `providers-sync serve` "
    "and set {variable} to the address it prints"
)
_SETTINGS = ("base_url", "api_key", "headers", "timeouts", "retry", "verify")
_NOT_PER_CALL = ("base_url", "api_key", "proxy", "verify")
_TEXT_TYPES = ("", "application/octet-stream", "application/x-ndjson")


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
        self.model = model
        given = _setting(base_url, "base_url", self.base_url_variable)
        self.base_url = _checked_url(*given) if given else self.default_base_url
        self._at_home = given is None
        self._api_key = self._key(api_key, own_address=base_url is not None)
        self._extra_headers = _checked_headers(headers)
        self._proxy = _checked_proxy(proxy)
        self._timeouts = Timeouts() if timeouts is NOT_GIVEN else Timeouts.of(timeouts)
        self._retry = retry if retry is NOT_GIVEN else _retry.checked(retry)
        self._verify = _checked_verify(verify)
        self._defaults = _checked_options(defaults)
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
        return decoding.chat(chunks, content_type)

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
        return self.opening(
            messages,
            model,
            timeouts=timeouts,
            retry=retry,
            headers=headers,
            cancel=cancel,
            **options,
        ).open()

    def opening(
        self,
        messages: Prompt,
        model: str | None = None,
        *,
        timeouts: Timeouts | float | NotGiven | None = NOT_GIVEN,
        retry: Any = NOT_GIVEN,
        headers: Mapping[str, str | None] | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Opening:
        """Check what ``stream`` is given and make the call ready, for adapters; nothing is sent."""
        for name in _NOT_PER_CALL:
            if name in options:
                raise InvalidRequestError(f"{name}= belongs to the provider, not to one call")
        if cancel is not None and not isinstance(cancel, CancelToken):
            raise InvalidRequestError("cancel must be a CancelToken")
        source, clocks, wanted = self._prepare(
            messages, model, options, timeouts=timeouts, retry=retry, headers=headers
        )
        return Opening(source, clocks, cancel, wanted)

    def _prepare(
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
        merged = {**self._defaults, **_checked_options(options)}
        request = _Request(
            "POST",
            self.api_endpoint,
            self._request_headers(_checked_headers(headers)),
            self.body(conversation(messages), wanted, merged),
            self.decode,
        )
        source = _Source(self, request, self._policy(retry, attempts))
        return source, self._timeouts if timeouts is NOT_GIVEN else Timeouts.of(timeouts), wanted

    def _policy(self, retry: Any, attempts: int = ATTEMPTS) -> Any:
        given = self._retry if retry is NOT_GIVEN else _retry.checked(retry)
        return attempts if given is NOT_GIVEN else given

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

    def _get(self, path: str, timeouts: Any, retry: Any, cancel: CancelToken | None) -> str:
        """Return the body of a GET, under the same clocks, retries and stop button."""
        request = _Request("GET", path, self._request_headers({}), None, _as_text)
        clocks = self._timeouts if timeouts is NOT_GIVEN else Timeouts.of(timeouts)
        with Opening(_Source(self, request, self._policy(retry)), clocks, cancel).open() as stream:
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

        def opening() -> Opening:
            settings = {name: kwargs.pop(name) for name in _SETTINGS if name in kwargs}
            provider = cls(proxy=proxy, **settings)
            return provider.opening(messages, model if cls.sends_model else None, **kwargs)

        return AsyncStream(opening)

    @classmethod
    def get_model(cls, model: str | None = None) -> str:
        """Return the name to send: the one given or the default, past its alias.

        Raises ``ModelNotSupportedError`` for a name the provider does not know.
        """
        name = model or cls.default_model
        if not isinstance(name, str):
            raise InvalidRequestError(
                f"{cls.__name__} needs a model: give its name as the first argument"
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

    def _key(self, given: str | None, own_address: bool) -> str | None:
        """A key from the environment goes to the vendor's own address or to ``*_BASE_URL`` only."""
        variable = None if own_address else self.api_key_variable
        setting = _setting(given, "api_key", variable)
        if setting is None:
            return None
        key, name = setting
        _check_header(name, key)
        return key

    def _request_headers(self, extra: dict[str, str | None]) -> dict[str, str]:
        merged: dict[str, tuple[str, str | None]] = {}
        key = self.authorization(self._api_key) if self._api_key else {}
        own = {
            "Content-Type": "application/json",
            "User-Agent": f"providers-sync/{__version__}",
            "Accept-Encoding": "gzip, deflate",
        }
        for layer in (own, self.headers, key, self._extra_headers, extra):
            for name, value in layer.items():
                merged[name.lower()] = (name, value)
        return {name: value for name, value in merged.values() if value is not None}

    def _transport(self) -> transport.Transport:
        """Return this process's connections: those of a parent process are not ours to use."""
        pid = os.getpid()
        if pid not in self._transports:
            self._transports.setdefault(pid, transport.Transport())
        return self._transports[pid]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_transports": {}}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r}, base_url={self.base_url!r})"


class _Request:
    """What is asked: encoded when it is made, so that bad input is refused in time."""

    def __init__(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: dict[str, Any] | None,
        decode: Callable[[Iterable[bytes], str], Iterator[Delta]],
    ) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.data = None if body is None else _encoded(body)
        self.decode = decode


class _Source:
    """One call in its thread: the attempts, and within each the request and its answer."""

    def __init__(self, provider: Provider, request: _Request, policy: Any) -> None:
        self.provider = provider
        self.request = request
        self.policy = policy
        self.transport = provider._transport()

    def __call__(self, pipe: Pipe) -> Iterator[Delta]:
        try:
            yield from self._attempts(pipe)
        except ProviderError as error:
            self._explain(error)
            raise

    def _attempts(self, pipe: Pipe) -> Iterator[Delta]:
        failure: ProviderError | None = None
        try:
            yield from self._attempt(pipe)
            return
        except ProviderError as error:
            if pipe.has_begun() or self.policy in (None, 1) or not _retry.worthwhile(error):
                raise
            failure = error
        # The first attempt has failed: tenacity hears of it as its own first, and takes over.
        for trial in _retry.trials(self.policy, pipe.sleep, pipe.clocks.total_left, pipe.has_begun):
            trial.retry_state.start_time = pipe.clocks.began  # for stop_after_delay and its like
            with trial:
                if failure is not None:
                    first, failure = failure, None
                    raise first
                yield from self._attempt(pipe)

    def _attempt(self, pipe: Pipe) -> Iterator[Delta]:
        total = pipe.clocks.total_left()
        call = transport.Call(
            connect_s=pipe.timeouts.connect,
            read_s=None if pipe.timeouts.total is None else max(total, 0.001),
            on_connected=pipe.connected,
            on_sent=pipe.sent,
        )
        pipe.attempt(call.stop)
        try:
            yield from self._answer(pipe, call)
            return
        except transport.Stopped:
            raise pipe.interrupted() from None
        except APIStatusError as error:
            body = self.request.body and self.provider.amended(self.request.body, error)
            if not body:
                raise
            old = self.request
            self.request = _Request(old.method, old.path, old.headers, body, old.decode)
        finally:
            call.release()
        yield from self._attempt(pipe)

    def _answer(self, pipe: Pipe, call: transport.Call) -> Iterator[Delta]:
        provider, request = self.provider, self.request
        answer = self.transport.send(
            request.method,
            provider.base_url + request.path,
            request.headers,
            request.data,
            call,
            proxy=provider._proxy,
            verify=provider._verify,
        )
        try:
            if not 200 <= answer.status < 300:
                raise transport.status_error(answer, min(ERROR_BODY_S, pipe.clocks.left() / 2))
            _check_content_type(answer)
            pipe.opened(answer.headers, answer.request_id)
            try:
                yield from request.decode(_body(answer, pipe), answer.content_type)
            except (StreamCut, StreamTruncated):
                if not pipe.marked:
                    raise
            if not answer.has_ended:  # what we have is not held back by what may follow
                pipe.flush()
            answer.finish()
        finally:
            answer.close()

    def _explain(self, error: ProviderError) -> None:
        """Add what to do at the provider's own address, and keep secrets out of the text."""
        text = str(error)
        unreachable = isinstance(error, (APIConnectionError, APITimeoutError))
        if unreachable and self.provider._at_home and not self.provider.working:
            text += _GONE.format(
                name=type(self.provider).__name__, variable=self.provider.base_url_variable
            )
        if isinstance(error, AuthenticationError) and not self.provider._api_key:
            variable = self.provider.api_key_variable
            text += "; no key was given: api_key=" + (f" or {variable}" if variable else "")
        error.args = (text,)
        proxy = self.provider._proxy
        password = urlsplit(proxy).password if proxy else None
        transport.hide(transport.secrets(self.request.headers, password), error)


def _as_text(chunks: Iterable[bytes], content_type: str) -> Iterator[Delta]:
    yield decoding.whole(iter(chunks)).decode("utf-8", "replace")
    yield Finish()


def _body(answer: transport.Answer, pipe: Pipe) -> Iterator[bytes]:
    """Yield the body as it arrives; what was decoded so far is handed over before each wait."""
    while True:
        pipe.flush()
        data = answer.read()
        if not data:
            return
        pipe.received(len(data))
        yield data


def _check_content_type(answer: transport.Answer) -> None:
    kind = answer.content_type
    if kind == "text/html":
        raise MalformedStream(f"{answer.url} sent a web page instead of an answer; check base_url")
    if not (kind.startswith("text/") or kind.endswith("json") or kind in _TEXT_TYPES):
        raise MalformedStream(f"{answer.url} sent {kind} instead of an answer; check base_url")


# --- checks of what the caller gives; each names the item and the remedy


def _setting(given: str | None, name: str, variable: str | None) -> tuple[str, str] | None:
    """Return a value with the name to complain under: given, or else from the environment."""
    if given is not None:
        if not isinstance(given, str) or not given:
            raise InvalidRequestError(f"{name} must be a string that is not empty, or None")
        return given, name
    value = os.environ.get(variable) if variable else None
    return (value, str(variable)) if value else None


def _checked_url(value: str, name: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname
        _ = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError:
        usable = None
    if not usable or any(character.isspace() for character in value):
        raise InvalidRequestError(
            f"{name} must be an http:// or https:// address such as http://127.0.0.1:8000/v1"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InvalidRequestError(
            f"{name} must not hold a user, a query or a fragment; give keys as api_key= or headers="
        )
    return value.rstrip("/")


def _checked_headers(headers: Mapping[str, str | None] | None) -> dict[str, str | None]:
    if headers is None:
        return {}
    if not isinstance(headers, Mapping):
        raise InvalidRequestError("headers must be a dict of strings")
    for name, value in headers.items():
        if not isinstance(name, str) or not name.isascii() or not _is_token(name):
            raise InvalidRequestError(f"{name!r} is not a header name")
        if value is not None:
            _check_header(f"header {name!r}", value)
    return dict(headers)


def _is_token(name: str) -> bool:
    return bool(name) and all(c.isalnum() or c in "!#$%&'*+-.^_`|~" for c in name)


def _check_header(name: str, value: object) -> None:
    """Refuse what cannot be a header's value, without showing it: it may be a secret."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} must be a string, not {type(value).__name__}")
    if any(c in value for c in "\r\n\0"):
        raise InvalidRequestError(f"{name} holds a line break; strip() it")
    if value != value.strip():
        raise InvalidRequestError(f"{name} begins or ends with a space; strip() it")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise InvalidRequestError(f"{name} holds characters that no header can carry") from None


def _checked_proxy(proxy: object) -> str | Literal[False] | None:
    if proxy is NOT_GIVEN or proxy is None:
        return None
    if proxy is False:
        return False
    if not isinstance(proxy, str) or not urlsplit(proxy).hostname or "://" not in proxy:
        raise InvalidRequestError(
            "proxy must be an address such as http://127.0.0.1:3128, False for none, "
            "or None for the environment's"
        )
    return proxy


def _checked_verify(verify: object) -> bool | str:
    if isinstance(verify, bool):
        return verify
    if isinstance(verify, (str, os.PathLike)):
        path = os.fspath(verify)
        if isinstance(path, str) and os.path.exists(path):
            return path
        raise InvalidRequestError(f"verify names no file of CA certificates: {path!r}")
    raise InvalidRequestError("verify must be True, False or the path of a CA file")


def _checked_options(options: dict[str, Any]) -> dict[str, Any]:
    for name, right in _RIGHT_WORDS.items():
        if name in options:
            raise InvalidRequestError(f"{name}= is not known here; the word is {right}")
    return options


def _encoded(body: dict[str, Any]) -> bytes:
    """Return the body as JSON, naming the item that JSON cannot hold."""
    try:
        return json.dumps(body, allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        for name, value in body.items():
            try:
                json.dumps(value, allow_nan=False)
            except (TypeError, ValueError, RecursionError):
                raise InvalidRequestError(f"{name} cannot be sent as JSON: {error}") from error
        raise InvalidRequestError(f"the request cannot be sent as JSON: {error}") from error


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body from layers, the later ones winning; a value of ``None`` drops its key."""
    body: dict[str, Any] = {}
    for layer in layers:
        body.update(layer)
    return {name: value for name, value in body.items() if value is not None}
