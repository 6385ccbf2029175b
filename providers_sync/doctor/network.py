"""Checks of the network between this machine and the server: proxy, DNS, TCP and TLS."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from .. import transport
from ..clock import monotonic
from ..errors import ProviderError
from .examination import Examination, host_and_port
from .finding import Finding, note, ok, wrong

RESOLVE_S = 5.5
"""For the name: a resolver asks a second name server after 5 s without an answer of the first."""
CONNECT_S = 3.0
"""For connecting to all addresses of the first hop together."""
DIRECT_S = 0.4
"""For testing a port in another way, when the cause is known: without the proxy, or with TLS."""
CLOCK_ADVICE = (
    "check this machine's clock; if it is right, the server's owner must renew the certificate"
)
CA_ADVICE = (
    "if a company proxy or antivirus software inspects TLS, save its CA certificate and set "
    "REQUESTS_CA_BUNDLE to that file (in code: verify=); otherwise do not trust this server"
)
NAME_ADVICE = "in the address, use the host name that the certificate was issued for"
CERTIFICATES = {
    9: ("is not valid yet", CLOCK_ADVICE),
    10: ("has expired", CLOCK_ADVICE),
    18: ("is self-signed", CA_ADVICE),
    19: ("is signed by an authority that this machine does not trust", CA_ADVICE),
    20: ("is signed by an authority that this machine does not trust", CA_ADVICE),
    21: ("is signed by an authority that this machine does not trust", CA_ADVICE),
    62: ("was issued for another name", NAME_ADVICE),
    64: ("was issued for another address", NAME_ADVICE),
}
"""OpenSSL's error codes (X509_V_ERR_…), each with an explanation and advice."""


def is_this_machine(host: str) -> bool:
    """Return whether a host is this machine."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def check_proxy(examination: Examination) -> Iterator[Finding]:
    """Report which proxy is used and what set it, or why none is used."""
    scheme = urlsplit(examination.provider.base_url).scheme
    names = [f"{scheme}_proxy", f"{scheme.upper()}_PROXY", "all_proxy", "ALL_PROXY"]
    variable = next((name for name in names if os.environ.get(name)), "the system's settings")
    if examination.proxy is None:
        excluded = f"; no_proxy excludes {examination.host} from the proxy of {variable}"
        yield ok("proxy", "none" + (excluded if variable in names else ""))
        return
    try:
        host, port = host_and_port(examination.proxy)
    except ValueError:  # not shown, as it may contain a password
        host, port = "", 0
    if not host:
        yield wrong("proxy", f"its address, from {variable}, is invalid", "use http://HOST:PORT")
        return
    through = f"through {host}:{port}, from {variable}"
    if is_this_machine(examination.host) and not is_this_machine(host):
        yield note(
            "proxy",
            f"{through}, although the server is on this machine",
            _no_proxy_advice(examination),
        )
    else:
        yield ok("proxy", through)


def _no_proxy_advice(examination: Examination) -> str:
    return f"to bypass the proxy, set NO_PROXY={examination.host}"


def resolve_host(examination: Examination) -> Iterator[Finding]:
    """Resolve the name of the first hop."""
    host, port = examination.hop()
    started, limit = monotonic(), examination.time_left(RESOLVE_S)
    try:
        examination.addresses = transport.RequestAttempt(connect_s=limit).resolve(host, port)
    except TimeoutError:
        yield wrong(
            "DNS",
            f"no name server answered within {limit:.2g} s",
            "check this machine's network and its name server (/etc/resolv.conf)",
        )
    except (socket.gaierror, UnicodeError) as error:
        no_answer = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        yield wrong(
            "DNS",
            f"the name server does not answer for {host}"
            if no_answer
            else f"the host name {host} does not exist",
            "check whether this machine is online"
            if no_answer
            else f"check the address ({examination.address_from}), and whether it needs a VPN",
        )
    except ProviderError as error:  # no thread could be started
        yield wrong("DNS", str(error))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        yield wrong("DNS", f"{host}: {reason}", "the problem is this machine, not the network")
    else:
        found = ", ".join(dict.fromkeys(str(address[4][0]) for address in examination.addresses))
        took = monotonic() - started
        yield ok("DNS", found if found == host else f"{host} is {found} ({took:.2f} s)")


def check_connection(examination: Examination) -> Iterator[Finding]:
    """Connect to the first hop, and close the connection."""
    port = examination.hop()[1]
    end = monotonic() + examination.time_left(CONNECT_S)
    failures = []
    for index, address in enumerate(examination.addresses):
        remaining = len(examination.addresses) - index
        started = monotonic()
        try:
            _connect(address, max(end - started, 0.05) / remaining)
        except OSError as error:
            failures.append(f"{address[4][0]}: {_reason(error)}")
        else:
            seconds = examination.connect_s = monotonic() - started
            text = f"port {port} of {address[4][0]} accepted a connection after {seconds:.3f} s"
            if failures:
                yield note(
                    "TCP",
                    f"{text}; other addresses failed: {'; '.join(failures)}",
                    "every call tries the failing addresses first",
                )
            else:
                yield ok("TCP", text)
            return
    advice = "check that the server is running and that the port is right"
    target = "the proxy" if examination.proxy else "the server"
    yield wrong(
        "TCP",
        f"port {port} of {target}: {'; '.join(failures)}",
        bypass_advice(examination) or advice,
    )


def _connect(address: Any, seconds: float) -> None:
    family, kind, protocol, _, target = address
    with socket.socket(family, kind, protocol) as sock:
        sock.settimeout(seconds)
        sock.connect(target)


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused (nothing listens there)"
    if isinstance(error, TimeoutError):
        return "no answer (a firewall may drop the connection)"
    return (error.strerror or type(error).__name__).lower()


def bypass_advice(examination: Examination) -> str:
    """Return advice on the proxy, or ``""`` without one: bypass it if that works."""
    if examination.proxy is None:
        return ""
    host, port = host_and_port(examination.provider.base_url)
    try:
        found = transport.RequestAttempt(connect_s=DIRECT_S).resolve(host, port)
        _connect(found[0], DIRECT_S)
    except (ProviderError, OSError, UnicodeError, IndexError):
        return "check the proxy's address and its rules"
    return f"this machine reaches {host} without the proxy: set NO_PROXY={host}"


def speaks_tls(examination: Examination) -> bool:
    """Return whether the port of an ``http:`` address speaks TLS; nothing is sent over it."""
    if examination.is_tls or examination.proxy or not examination.addresses:
        return False
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    family, kind, protocol, _, target = examination.addresses[0]
    try:
        with socket.socket(family, kind, protocol) as sock:
            sock.settimeout(DIRECT_S)
            sock.connect(target)
            with context.wrap_socket(sock, server_hostname=examination.host):
                return True
    except (OSError, ValueError):  # ValueError: the host is not a name that TLS can send
        return False


def explain_tls(error: ssl.SSLError, host: str) -> Finding:
    """Explain why TLS has failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        other = (f"cannot be verified ({error.verify_message})", CA_ADVICE)
        problem, advice = CERTIFICATES.get(error.verify_code, other)
        return wrong("TLS", f"the certificate of {host} {problem}", advice)
    reason = (error.reason or "").replace("_", " ").lower()
    if "wrong version" in reason or "record layer" in reason or "http request" in reason:
        return wrong(
            "TLS", f"{host} does not speak TLS on this port", "use http://, or the port for https"
        )
    return wrong(
        "TLS", f"the handshake with {host} failed: {reason or 'the server closed the connection'}"
    )
