"""``Provider``, the base class of all providers: requests, retries and streams."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .. import decoding, transport
from .. import retry as _retry
from ..config import ATTEMPTS, NOT_GIVEN, NotGiven, Timeouts
from ..errors import APIStatusError, InvalidRequestError
from ..messages import to_messages, with_system
from ..returned_messages import with_returned_fields
from ..stream import CancelToken, PreparedCall, Source
from ..types import AnyDecoder, Messages, Prompt
from .attempts import Amend, AttemptLoop
from .calls import NOT_PER_CALL
from .continuation_request import BrokenAnswer, ContinuationRequest, resuming
from .custom_decoders import checked
from .http_request import HTTPRequest
from .runs import Runs
from .settings import ProviderSettings
from .validation import mask_argument, validate_extra_body, validate_headers, validate_options

if TYPE_CHECKING:
    from ..aio import AsyncStream

_SETTINGS = ("headers", "timeouts", "retry", *NOT_PER_CALL)


class Provider(Runs, ProviderSettings):
    """A chat service; holds only configuration, so it can be pickled, copied, forked and shared.

    Threads may share a provider. Connections are made at first use, per process; ``close()`` and
    ``with`` close them.

    Args:
        model: The model for calls that do not name one.
        base_url: The address of the server up to the protocol's own path, such as
            ``http://127.0.0.1:8000/v1``. By default the value of the provider's ``…_BASE_URL``
            variable, or else the vendor's address.
        api_key: The key, or a function that returns it and is called before each attempt, for
            tokens that expire. By default the value of the provider's ``…_API_KEY`` variable, which
            is sent only to the vendor's own address and to the one in ``…_BASE_URL``.
        headers: Headers for every request; ``None`` as a value removes one that is sent by default.
        query: Parameters added to the address of every request.
        proxy: The address of a proxy; ``False`` for none; by default the one in the environment.
        timeouts: For calls that do not set their own: a ``Timeouts``; a number of seconds, which is
            ``total``; or ``None`` for no timeouts. By default 10 s to connect, 120 s to the first
            word, 60 s of silence, and 600 s in total.
        retry: How many times a request is attempted, 3 by default; ``None`` or 1 sends it once; or
            a ``tenacity.Retrying``, of which ``stop``, ``wait``, ``retry`` and ``before_sleep`` are
            used. For calls that do not set their own.
        verify: A file of CA certificates, or ``False`` to trust any server. By default the one
            in ``REQUESTS_CA_BUNDLE``, or else the one that requests uses.
        cert: A client certificate: one PEM file, or a pair (certificate, key).
        session: Your own ``requests.Session``, with its adapters, certificates, ``auth``, headers
            and hooks. Settings given here take precedence over it. ``close()`` leaves it open.
        rate_limit: A ``RateLimit``, which several providers may share; requests wait for it.
        **defaults: Options added to the body of every request, such as ``temperature``.
            ``extra_body``, a dict, is added to it unchanged, after the protocol has translated the
            options.

    Raises:
        InvalidRequestError: A setting is invalid.
    """

    protocol = ""
    """The protocol whose decoder the class uses. What it wants back goes back to the same only."""
    schema_mode: str | None = None
    """The rules in ``encoding.schemas`` for a ``response_format`` with a JSON schema, if ``body``
    takes one in OpenAI's form. ``None``: typed answers are asked for in words."""

    instance_example = ""
    """Of a class that needs other providers: how to make one, for an error."""
    takes_prefix = False
    """Whether the protocol takes a last turn of the assistant as the beginning of the answer."""

    # --- hooks that a provider class may override

    def endpoint(self, model: str) -> str:
        """Return the path that a request is sent to, after ``base_url``.

        Args:
            model: The name of the request's model.
        """
        return self.api_endpoint

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the JSON body of a request.

        Args:
            messages: The conversation in OpenAI's form; a system message is the first.
            model: The name of the model.
            options: Those of the provider and of the call; they take precedence over the protocol's
                own values.

        Raises:
            InvalidRequestError: For anything that the protocol does not support; it names the item
                and the remedy.
        """
        raise NotImplementedError(
            f"{type(self).__name__} needs a method body(messages, model, options) that "
            "returns the JSON body of a request, a dict"
        )

    def amended(self, body: dict[str, Any], error: APIStatusError) -> dict[str, Any] | None:
        """Return a body to try instead of the one that the server rejected, or ``None``.

        Args:
            body: The rejected body.
            error: The server's answer.
        """
        return None

    def decoder(self, content_type: str = "") -> AnyDecoder:
        """Return a new decoder of one response's body.

        Args:
            content_type: Its media type; empty if the server sent none.
        """
        return decoding.OpenAIDecoder(content_type)

    # --- calls

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
        schema: Mapping[str, Any] | None = None,
        broken: BrokenAnswer | None = None,
    ) -> tuple[Source, Timeouts, str]:
        """Validate everything; return the source to run, its timeouts and the model.

        ``attempts`` applies if neither the call nor the provider has ``retry=``. ``schema`` is the
        JSON schema of the answer, ``broken`` an answer whose rest is asked for.
        """
        model_name = self.get_model(model or self.model)
        merged = {**self._defaults, **validate_options(options)}
        extra = merged.pop("extra_body", None)
        extra = {**self._extra_body, **validate_extra_body(extra)}
        url = self._connections.url(self.base_url, self.endpoint(model_name))
        turns = with_returned_fields(
            with_system(to_messages(messages), merged.pop("system", None)),
            self.protocol,
            model_name,
            urlsplit(url).netloc,
        )

        def make_body(turns: Messages, options: dict[str, Any]) -> dict[str, Any]:
            body: Any = copy_context().run(self.body, turns, model_name, dict(options))
            if not isinstance(body, dict):
                raise InvalidRequestError(
                    f"{type(self).__name__}.body() must return a dict, not {type(body).__name__}"
                )
            return build_body(body, extra)

        amended: Amend = self.amended
        decoder = make_decoder = checked(self.decoder)
        if broken is not None:
            asked = ContinuationRequest(broken, turns, lambda turns: make_body(turns, merged))
            body, amended = asked.first_body(self.takes_prefix), asked.amended_after(self.amended)
            decoder = asked.decoder_of(make_decoder)
        elif schema is None:
            body = make_body(turns, merged)
        else:
            from .schema_modes import SchemaRequest  # late: few need it

            typed = SchemaRequest(schema, self.schema_mode, turns, merged, make_body)
            body, amended = typed.first_body(), typed.amended_after(self.amended)
            decoder = typed.decoder_of(make_decoder)
        hint = "; ".join(filter(None, [self._hint, self._checked_names(options)]))
        request = HTTPRequest("POST", url, validate_headers(headers), body, decoder, hint)
        source: Source = self._attempt_loop(request, retry, attempts, amended, model_name)
        if broken is not None and (resumed := self._resumed_request(broken, request)) is not None:
            source = resuming(
                self._attempt_loop(resumed, retry, attempts, None, model_name), source
            )
        return source, self._call_timeouts(timeouts), model_name

    def _has_tools(self, options: Mapping[str, Any]) -> bool:
        return bool(options.get("tools", self._defaults.get("tools")))

    def _resumed_request(self, broken: BrokenAnswer, request: HTTPRequest) -> HTTPRequest | None:
        """Return the request for the rest of an answer, if its server keeps it; else ``None``.

        ``request`` is the one that would ask the model again.
        """
        return None

    def _attempt_loop(
        self,
        request: HTTPRequest,
        retry: Any,
        attempts: int = ATTEMPTS,
        amended: Amend | None = None,
        model: str = "",
    ) -> AttemptLoop:
        policy = self._retry if retry is NOT_GIVEN else _retry.validate_policy(retry)
        policy = attempts if policy is NOT_GIVEN else policy
        send = functools.partial(self._send, self._transport())
        return AttemptLoop(
            request,
            policy,
            self._attempt_headers,
            send,
            amended or self.amended,
            self._explain,
            self._secrets,
            self._rate_limit if request.method == "POST" else None,
            f"{type(self).__name__} {model}".rstrip(),
        )

    def _call_timeouts(self, timeouts: Timeouts | float | NotGiven | None) -> Timeouts:
        return self._timeouts if timeouts is NOT_GIVEN else Timeouts.of(timeouts)

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

        Every error is raised at the first ``await``; the result works in ``async for x in g`` and
        in ``async for x in await g``.

        Args:
            model: The name of the model.
            messages: A string, a message or a list of messages.
            proxy: The address of a proxy; ``None``: the environment's.
            **kwargs: Settings of the provider (``base_url``, ``api_key``, ``headers``,
                ``timeouts``, …); all others are added to the body.

        Raises:
            InvalidRequestError: The class needs other providers, like ``Failover``.
            ProviderError: What ``stream`` raises.
        """
        from ..aio import AsyncStream  # late: it loads asyncio

        proxy, kwargs = mask_argument(proxy), transport.mask_secrets(kwargs)

        def prepare() -> PreparedCall:
            if cls.instance_example:
                raise InvalidRequestError(
                    f"the {cls.__name__} class has no provider to call; create an instance of it: "
                    f"aio.stream({cls.instance_example}, messages)"
                )
            settings = {name: kwargs.pop(name) for name in _SETTINGS if name in kwargs}
            provider = cls(proxy=proxy, **settings)
            return provider.prepare(messages, model if cls.sends_model else None, **kwargs)

        return AsyncStream(prepare)


def build_body(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merged layers, later ones taking precedence; ``None`` removes a key."""
    body: dict[str, Any] = {}
    for layer in layers:
        body.update(layer)
    return {name: value for name, value in body.items() if value is not None}


# --- internal: for other modules of the package, not part of the public API of a Provider


def describe(provider: Provider) -> str:
    """Return a provider's class, model and host, for a log: nothing that may contain a key."""
    model = f" {provider.model}" if provider.model else ""
    host = str(provider.base_url).partition("://")[2].partition("/")[0].rpartition("@")[2]
    return f"{type(provider).__name__}{model}" + (f" at {host}" if host else "")


def get_text(provider: Provider, path: str, timeouts: Timeouts) -> str:
    """Send one GET to ``{base_url}{path}`` and return the body; raise like ``stream``."""
    return provider._get(path, timeouts, 1, None)
