"""``ProviderSettings``: what a provider is configured with, and how it sends one request."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .. import option_hints, transport
from .. import retry as _retry
from ..config import NOT_GIVEN, NotGiven, Timeouts, __version__
from ..errors import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    InvalidRequestError,
    ModelNotSupportedError,
)
from ..retry import Retry
from .connections import Certificate, Connections
from .headers import ask_for_key, merge_headers
from .http_request import HTTPRequest, encode_json
from .validation import (
    find_setting,
    mask_argument,
    validate_extra_body,
    validate_header_value,
    validate_headers,
    validate_key_function,
    validate_options,
    validate_rate_limit,
    validate_url,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from ..rate_limit import RateLimit

_DISCONTINUED = (
    "the public service behind {name} no longer exists, and nothing was sent: start a gateway with "
    "`providers-sync serve`, and set {variable} to the address it prints, or pass it as base_url="
)
_ONLY_PER_CALL = ("cancel", "into", "repairs", "skip_invalid")


class ProviderSettings:
    """The settings of a ``Provider``, its base class; see there."""

    # The interface of the published classes.
    url: ClassVar[str] = ""
    """The published address of the service."""
    working: ClassVar[bool] = True
    """Whether the public service exists."""
    supports_gpt_35_turbo: ClassVar[bool] = False
    """Part of the published interface."""
    default_model: ClassVar[str | None] = None
    """The model of a provider that is made without one."""
    models: ClassVar[list[str]] = []
    """The supported models; empty if any name is accepted."""
    model_aliases: ClassVar[dict[str, str]] = {}
    """Other names of the models, and what is sent for each."""
    api_endpoint: ClassVar[str] = ""
    """The protocol's path, appended to ``base_url``."""

    model: str | None = None
    """The model for calls without one."""
    base_url: str = ""
    """The address that ``api_endpoint`` is appended to."""

    # Set by each provider class.
    options_type: ClassVar[str] = ""
    """The ``TypedDict`` of ``options`` that has the options; empty: any name is taken as it is."""
    sends_model: ClassVar[bool] = True
    """False if the protocol has no field for the model's name."""
    default_base_url: ClassVar[str] = ""
    """The vendor's address, to which ``api_endpoint`` is added; empty if there is none."""
    base_url_variable: ClassVar[str] = ""
    """The environment variable that may hold another address; empty if there is none."""
    vendor_urls: ClassVar[tuple[str, ...]] = ()
    """Other addresses of the vendor, which may receive the environment's key too."""
    api_key_variable: str | None = None
    """The environment variable that holds the key, if there is one."""
    headers: ClassVar[Mapping[str, str]] = {}
    """Headers of every request, which those of the user replace."""

    _hint = ""  # also of a provider that an earlier version has pickled

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
        retry: Retry | NotGiven = NOT_GIVEN,
        verify: bool | str | os.PathLike[str] | NotGiven = NOT_GIVEN,
        cert: Certificate | None = None,
        session: transport.Session | None = None,
        rate_limit: RateLimit | None = None,
        **defaults: Any,
    ) -> None:
        # Mask secrets before anything can fail: error reports may show local variables.
        api_key = transport.Secret(api_key) if isinstance(api_key, str) else api_key
        base_url, proxy = mask_argument(base_url), mask_argument(proxy)
        headers, query = mask_argument(headers), mask_argument(query)
        defaults = transport.mask_secrets(defaults)
        for name in _ONLY_PER_CALL:
            if name in defaults:
                raise InvalidRequestError(f"{name}= belongs to one call, not to the provider")
        headers = validate_headers(headers)
        self._connections = Connections(
            query=query, proxy=proxy, verify=verify, cert=cert, session=session
        )
        self.model = model
        address = find_setting(base_url, "base_url", None) or self.environment_url()
        self.base_url = validate_url(*address) if address else self._default_url()
        self._uses_default_url = address is None
        self._api_key = self._find_api_key(api_key)
        self._extra_headers = headers
        self._timeouts = Timeouts() if timeouts is NOT_GIVEN else Timeouts.of(timeouts)
        self._retry = retry if retry is NOT_GIVEN else _retry.validate_policy(retry)
        self._rate_limit = rate_limit if rate_limit is None else validate_rate_limit(rate_limit)
        self._extra_body = validate_extra_body(defaults.pop("extra_body", None))
        self._defaults = validate_options(defaults)
        # Raises now, not in the first call, for a value unfit for JSON.
        encode_json({**self._defaults, **self._extra_body})
        self._hint = self._checked_names(self._defaults)
        if model is not None:
            self.get_model(model)

    def _checked_names(self, options: Mapping[str, Any]) -> str:
        """Warn of options that are probably misspelt; return the hint, empty if there are none."""
        hint = option_hints.hint(self.options_type, options)
        if hint:
            option_hints.warn_of(hint)
        return hint

    @classmethod
    def _default_url(cls) -> str:
        if not cls.default_base_url:
            raise InvalidRequestError(
                f"{cls.__name__} needs an address: pass base_url=, or give the class a "
                "default_base_url"
            )
        return cls.default_base_url

    @classmethod
    def environment_url(cls) -> tuple[str, str] | None:
        """Return the ``base_url`` that the environment names, and the variable; or ``None``."""
        return find_setting(None, "base_url", cls.base_url_variable)

    def authorization(self, api_key: str) -> dict[str, str]:
        """Return the headers that carry the key.

        Args:
            api_key: The key, which must not be shown or logged.
        """
        return {"Authorization": f"Bearer {api_key}"}

    @classmethod
    def get_model(cls, model: str | None = None) -> str:
        """Return the name to send, with aliases resolved.

        Args:
            model: A name or an alias; ``None`` for the default.

        Raises:
            ModelNotSupportedError: The provider does not support the model.
            InvalidRequestError: No name was given, and there is no default.
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

    def _find_api_key(
        self, argument: str | Callable[[], str] | None
    ) -> str | Callable[[], str] | None:
        """Return the argument, or else the environment's key if the address may receive it.

        Only the vendor's own address and the one that the environment names may.
        """
        if callable(argument):
            return validate_key_function(argument)
        trusted = {self.default_base_url, *self.vendor_urls}
        if found := self.environment_url():
            trusted.add(found[0].rstrip("/"))
        variable = self.api_key_variable if self.base_url in trusted else None
        given = find_setting(argument, "api_key", variable)
        if given is None:
            return None
        key, name = transport.Secret(given[0]), given[1]
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
            {"User-Agent": f"providers-sync/{__version__}", "Accept-Encoding": "identity"},
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
        """Add the remedy if it is known, and remove secrets from the error."""
        if isinstance(error, APIStatusError) and error.status_code in (400, 422) and request.hint:
            error.args = (f"{error}; {request.hint}",)
        if isinstance(error, AuthenticationError) and not self._api_key:
            error.args = (f"{error}; {self._key_advice()}",)
        transport.redact(self._secrets(request), error)

    def _secrets(self, request: HTTPRequest) -> list[str]:
        """Return what must not be shown of a request."""
        headers = request.sent_headers or merge_headers(self._extra_headers, request.headers)
        return self._connections.secrets(headers)

    def _key_advice(self) -> str:
        variable = self.api_key_variable
        if variable and os.environ.get(variable):
            return (
                f"no key was sent: the key in {variable} goes only to the vendor's own address; "
                "to send it to this one, pass it as api_key="
            )
        return "no key was set: use api_key=" + (f" or {variable}" if variable else "")

    def close(self) -> None:
        """Close the idle connections of this process; the next call makes new ones.

        Open streams continue, and close their connections when they end. A ``session=`` stays open.
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


# --- internal: for other modules of the package, not part of the public API of a Provider


def api_key_of(provider: ProviderSettings) -> str | None:
    """Return the key that a provider sends, unless it is a function. Never show it."""
    return None if callable(provider._api_key) else provider._api_key


def defaults_of(provider: ProviderSettings) -> Mapping[str, Any]:
    """Return the options of every call; none for a ``Failover``, whose providers have them."""
    return getattr(provider, "_defaults", {})


def uses_default_url(provider: ProviderSettings) -> bool:
    """Return whether neither the caller nor the environment set a ``base_url``."""
    return provider._uses_default_url


def retry_policy_of(provider: ProviderSettings) -> Any:
    """Return the provider's ``retry=``; ``None`` if it has none, like a ``Failover``."""
    return getattr(provider, "_retry", None)
