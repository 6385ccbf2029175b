"""The way to the server: proxy, name, connection, and the certificate in plain words."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .. import transport
from ..providers import Provider
from .finding import Finding, note, ok, wrong

CONNECT_S = 10.0
"""For the name, and for all its addresses together."""
STRAIGHT_S = 3.0
"""For the look whether the server can be reached past a proxy."""
PORTS = {"http": 80, "https": 443}
SOCKS_PORT = 1080
CLOCK = "look at this machine's clock; if it is right, the server's owner must renew it"
BUNDLE = (
    "if a company's proxy or an antivirus inspects TLS, save its CA certificate and set "
    "REQUESTS_CA_BUNDLE to that file (in code: verify=); else do not trust this server"
)
OTHER_NAME = "use the name that the certificate is for in the address"
CERTIFICATES = {
    9: ("is not valid yet", CLOCK),
    10: ("has expired", CLOCK),
    18: ("is signed by nobody but itself", BUNDLE),
    19: ("is signed by an authority that this machine does not know", BUNDLE),
    20: ("is signed by an authority that this machine does not know", BUNDLE),
    21: ("is signed by an authority that this machine does not know", BUNDLE),
    62: ("belongs to another name", OTHER_NAME),
    64: ("belongs to another address", OTHER_NAME),
}
"""OpenSSL's codes (X509_V_ERR_…), in plain words and with what to do."""


@dataclass
class Examination:
    """A provider under examination, and what has been found out about it so far."""

    provider: Provider
    address_from: str
    """Where its address comes from."""
    model: str | None
    addresses: list[Any] = field(default_factory=list)
    """Those of the first hop: the proxy or the server."""

    @property
    def proxy(self) -> str | None:
        return transport.proxy_for(self.provider.base_url)

    @property
    def host(self) -> str:
        return urlsplit(self.provider.base_url).hostname or ""

    @property
    def is_tls(self) -> bool:
        return urlsplit(self.provider.base_url).scheme == "https"

    def hop(self) -> tuple[str, int]:
        """Return host and port of whom a request is sent to."""
        return _endpoint(self.proxy or self.provider.base_url)


def _endpoint(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or PORTS.get(parts.scheme, SOCKS_PORT)


def is_this_machine(host: str) -> bool:
    """Tell whether a host is this machine."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def check_proxy(patient: Examination) -> Iterator[Finding]:
    """Say which proxy is used, who set it, or what keeps it out."""
    scheme = urlsplit(patient.provider.base_url).scheme
    names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    variable = next((name for name in names if os.environ.get(name)), "the system's settings")
    if patient.proxy is None:
        left_out = f"; no_proxy keeps {patient.host} from that in {variable}"
        yield ok("proxy", "none" + (left_out if variable in names else ""))
        return
    try:
        host, port = _endpoint(patient.proxy)
    except ValueError:  # it may hold a password, so it is not shown
        host, port = "", 0
    if not host:
        yield wrong("proxy", f"its address makes no sense, from {variable}", "http://HOST:PORT")
        return
    through = f"through {host}:{port}, from {variable}"
    if is_this_machine(patient.host) and not is_this_machine(host):
        yield note("proxy", f"{through}, though the server is on this machine", _past(patient))
    else:
        yield ok("proxy", through)


def _past(patient: Examination) -> str:
    return f"to go past the proxy: set NO_PROXY={patient.host}"


def resolve_host(patient: Examination) -> Iterator[Finding]:
    """Resolve the name of the first hop."""
    host, port = patient.hop()
    began = time.monotonic()
    try:
        patient.addresses = transport.Call(connect_s=CONNECT_S).resolve(host, port)
    except TimeoutError:
        yield wrong(
            "DNS",
            f"no name server has answered within {CONNECT_S:g} s",
            "look at this machine's network and at its name server (/etc/resolv.conf)",
        )
    except (OSError, UnicodeError) as error:
        is_away = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        yield wrong(
            "DNS",
            f"the name server does not answer for {host}" if is_away else f"nobody knows {host}",
            "look whether this machine is online"
            if is_away
            else f"look for a slip in the address ({patient.address_from}), or for a missing VPN",
        )
    else:
        found = ", ".join(dict.fromkeys(str(each[4][0]) for each in patient.addresses))
        took = time.monotonic() - began
        yield ok("DNS", found if found == host else f"{host} is {found} ({took:.2f} s)")


def check_connection(patient: Examination) -> Iterator[Finding]:
    """Connect to the first hop, and let the connection go."""
    port = patient.hop()[1]
    failures = []
    for index, address in enumerate(patient.addresses):
        left = len(patient.addresses) - index
        began = time.monotonic()
        try:
            _try(address, CONNECT_S / left)
        except OSError as error:
            failures.append(f"{address[4][0]}: {_why(error)}")
        else:
            took = f"port {port} of {address[4][0]} answers after {time.monotonic() - began:.3f} s"
            if failures:
                yield note(
                    "TCP", f"{took}, but not {'; '.join(failures)}", "each call waits for it"
                )
            else:
                yield ok("TCP", took)
            return
    advice = "look whether the server runs, and for a slip in its port"
    whom = "the proxy" if patient.proxy else "the server"
    yield wrong("TCP", f"{whom}: {'; '.join(failures)}", bypass_advice(patient) or advice)


def _try(address: Any, seconds: float) -> None:
    family, kind, protocol, _, target = address
    with socket.socket(family, kind, protocol) as sock:
        sock.settimeout(seconds)
        sock.connect(target)


def _why(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, TimeoutError):
        return "no answer; a firewall may swallow the connection"
    return (error.strerror or type(error).__name__).lower()


def bypass_advice(patient: Examination) -> str:
    """Return the advice to go past the proxy, if the server can be reached so."""
    if patient.proxy is None:
        return ""
    host, port = _endpoint(patient.provider.base_url)
    try:
        found = transport.Call(connect_s=STRAIGHT_S).resolve(host, port)
        _try(found[0], STRAIGHT_S)
    except (OSError, UnicodeError, IndexError):
        return "look at the proxy's address and at its rules"
    return f"without the proxy this machine reaches {host}: set NO_PROXY={host}"


def explain_tls(error: ssl.SSLError, host: str) -> Finding:
    """Say in plain words why TLS has failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        plain = (f"cannot be trusted ({error.verify_message})", BUNDLE)
        problem, advice = CERTIFICATES.get(error.verify_code, plain)
        return wrong("TLS", f"the certificate of {host} {problem}", advice)
    reason = (error.reason or "").replace("_", " ").lower()
    if "wrong version" in reason or "record layer" in reason or "http request" in reason:
        return wrong(
            "TLS", f"{host} does not speak TLS on this port", "write http:// or the port of https"
        )
    return wrong("TLS", f"the handshake with {host} failed: {reason or 'the server hung up'}")
