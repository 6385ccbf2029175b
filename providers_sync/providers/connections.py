"""``Connections``: how a provider reaches its server, and its open connections in each process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union
from urllib.parse import urlencode

from .. import transport
from ..config import NotGiven
from ..errors import InvalidRequestError
from .validation import (
    validate_cert,
    validate_headers,
    validate_proxy,
    validate_query,
    validate_session,
    validate_verify,
)

_LOST_SESSION = (
    "the provider's session= stays in the process that made it and is not pickled: "
    "make the provider again here, with a session of this process"
)


Certificate = Union[str, "os.PathLike[str]", Sequence[Union[str, "os.PathLike[str]"]]]
"""A client certificate: a PEM file with certificate and key, or two files."""


class Connections:
    """The settings of a provider's connections, and the connections, made at first use.

    A copy has the same settings and connections of its own. Pickling and forking leave the caller's
    own session behind.
    """

    def __init__(
        self,
        *,
        query: Mapping[str, str] | None,
        proxy: str | Literal[False] | NotGiven | None,
        verify: bool | str | os.PathLike[str] | NotGiven,
        cert: Certificate | None,
        session: transport.Session | None,
    ) -> None:
        self._query = validate_query(query)
        self._proxy = validate_proxy(proxy)
        self._verify = validate_verify(verify)
        self._cert = validate_cert(cert)
        self._session = validate_session(session)
        self._session_process = None if session is None else os.getpid()
        self._transports: dict[int, transport.Transport] = {}

    def url(self, base_url: str, path: str) -> str:
        """Return the address of a request, with the query; masked if a value may be a secret."""
        url = base_url + path
        if self._query:
            url += ("&" if "?" in path else "?") + urlencode(self._query)
        return transport.Secret(url) if self._query else url

    def headers(self) -> dict[str, str | None]:
        """Return the headers that the caller has added to the session."""
        if self._session is None:
            return {}
        return validate_headers(transport.custom_headers(self._session))

    def transport(self) -> transport.Transport:
        """Return this process's connections: a forked child must not use its parent's.

        Raises ``InvalidRequestError`` if the session was left behind.
        """
        pid = os.getpid()
        if self._session_process not in (None, pid):
            raise InvalidRequestError(_LOST_SESSION)
        if pid not in self._transports:
            new = transport.Transport(
                self._session, proxy=self._proxy, verify=self._verify, cert=self._cert
            )
            self._transports.setdefault(pid, new)
        return self._transports[pid]

    def close(self) -> None:
        """Close this process's idle connections; the next call makes new ones."""
        connections = self._transports.pop(os.getpid(), None)
        if connections is not None:
            connections.close()

    def secrets(self, headers: Mapping[str, str]) -> list[str]:
        """Return the strings to hide in the error of a request with these headers."""
        proxies = transport.proxies_in_use(self._proxy)
        found = transport.collect_secrets(self._query)
        if self._session is not None:
            proxies += transport.session_credentials(self._session)
            found += transport.collect_secrets(transport.session_parameters(self._session))
        return found + transport.collect_secrets(headers, proxies)

    def __copy__(self) -> Connections:
        copy = object.__new__(type(self))
        vars(copy).update(vars(self), _transports={})
        return copy

    def __deepcopy__(self, memo: object) -> Connections:
        return self.__copy__()

    def __getstate__(self) -> dict[str, Any]:
        lost = None if self._session_process is None else 0  # no process has this number
        return {**self.__dict__, "_transports": {}, "_session": None, "_session_process": lost}
