"""``session=``: a request through the caller's own ``requests.Session``, with its settings."""

from __future__ import annotations

import copy
import pickle
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from providers_sync import (
    Anthropic,
    APIConnectionError,
    AuthenticationError,
    Failover,
    InvalidRequestError,
    OpenAICompatible,
)
from providers_sync.testing import (
    Server,
    answer,
    serve,
    status,
)

HELLO = answer("Hello", framing="length")
SECRET = "sk-very-secret-key-0123456789"


pytestmark = pytest.mark.usefixtures("clean_environment")


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that answers "Hello" on connections that stay open."""
    with serve(HELLO) as server:
        yield server


def openai(server: Server, session: requests.Session, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=server.url, session=session, **settings)


# --- the session's settings


def test_session_headers_are_sent_and_its_defaults_are_not(
    server: Server, session: requests.Session
) -> None:
    """What the caller has added is sent; what every session has does not replace ours."""
    session.headers.update({"X-Team": "red", "Authorization": "Bearer of-session"})
    openai(server, session).complete("Hi")
    headers = server.requests[0].headers
    assert headers["X-Team"] == "red"
    assert headers.all("Authorization") == ["Bearer of-session"]
    assert headers["User-Agent"].startswith("providers-sync/")
    assert headers.all("Accept") == ["text/event-stream"]
    assert headers["Accept-Encoding"] == "identity"


def test_provider_removes_a_header_of_the_session(
    server: Server, session: requests.Session
) -> None:
    """``None`` for a header removes it, whoever has added it and however it is spelled."""
    session.headers["X-Team"] = "red"
    openai(server, session, headers={"x-team": None, "accept-encoding": None}).complete("Hi")
    headers = server.requests[0].headers
    assert "X-Team" not in headers
    assert headers["Accept-Encoding"] == "identity"  # http.client's own


def test_session_headers_of_wrong_types_are_named(
    server: Server, session: requests.Session
) -> None:
    """Bytes are a header's value for requests; numbers are not."""
    session.headers.update({"X-Bytes": b"caf\xe9"})
    openai(server, session).complete("Hi")
    assert server.requests[0].headers["X-Bytes"] == "caf\xe9"
    session.headers.update({"X-Number": 1})  # type: ignore[dict-item]
    with pytest.raises(InvalidRequestError, match="'X-Number' must be a string, not int"):
        openai(server, session).complete("Hi")


def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
    assert isinstance(request.body, bytes)
    request.headers["Authorization"] = f"Signed {len(request.body)} {SECRET}"
    return request


@pytest.mark.parametrize("auth", [("me", "s3cret-word"), sign], ids=["tuple", "function"])
def test_key_takes_precedence_over_the_auth_of_a_session(
    server: Server, session: requests.Session, auth: Any
) -> None:
    """Without a key the session's ``auth`` applies, even over its own headers."""
    session.auth = auth
    session.headers["Authorization"] = "Bearer of-session"
    openai(server, session, api_key="sk-1").complete("Hi")
    openai(server, session).complete("Hi")
    kept, added = (each.headers.all("Authorization") for each in server.requests)
    assert kept == ["Bearer sk-1"]
    assert added[0].startswith(("Basic ", f"Signed {len(server.requests[1].body)} "))


def test_header_that_auth_has_added_is_hidden_in_errors(session: requests.Session) -> None:
    """A server that quotes a signature or a password in its error does not leak it."""
    session.auth = sign
    with serve(status(401, f"bad signature {SECRET}")) as server:
        with pytest.raises(AuthenticationError) as caught:
            openai(server, session).complete("Hi")
        assert SECRET not in repr(caught.value) + caught.value.body
        assert SECRET in server.requests[0].headers["Authorization"]


@pytest.mark.parametrize("provider_class", [OpenAICompatible, Anthropic])
def test_netrc_never_joins_a_key(
    session: requests.Session,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    provider_class: type[OpenAICompatible],
) -> None:
    """Neither an ``Authorization`` header nor a vendor's own; without a key it applies."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password word\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with serve(HELLO) as server:
        for key in ("sk-12345", None):
            provider_class("m", base_url=server.url, session=session, api_key=key).complete("Hi")
        with_key, without = (each.headers for each in server.requests)
    assert not with_key.get("Authorization", "").startswith("Basic")
    assert without["Authorization"].startswith("Basic")


def test_parameters_and_cookies_of_the_session_are_sent(
    server: Server, session: requests.Session
) -> None:
    """``query=`` takes precedence over ``session.params``, name by name."""
    session.params = {"api-version": "old", "team": "red"}
    session.cookies["flavour"] = "oat"
    openai(server, session, query={"api-version": "new"}).complete("Hi")
    request = server.requests[0]
    assert request.path == "/chat/completions?api-version=new&team=red"
    assert request.headers["Cookie"] == "flavour=oat"


def test_secret_parameter_of_the_session_is_hidden(
    refused: tuple[str, int], session: requests.Session
) -> None:
    """The causes of an error contain the address with its query."""
    session.params = {"key": SECRET}
    provider = OpenAICompatible(
        "m", base_url=f"http://127.0.0.1:{refused[1]}/v1", session=session, retry=None
    )
    with pytest.raises(APIConnectionError) as caught:
        provider.complete("Hi")
    assert SECRET not in repr(caught.value) + repr(caught.value.__cause__)


# --- TLS


def test_verify_of_the_session_applies_unless_the_provider_has_its_own(
    session: requests.Session, tls: ssl.SSLContext, ca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider's, else the session's, else the environment's."""
    with serve(HELLO, tls=tls) as server:
        with pytest.raises(APIConnectionError, match="verify="):
            openai(server, session).complete("Hi")
        session.verify = ca
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
        openai(server, session).complete("Hi")
        session.verify = True
        openai(server, session, verify=ca).complete("Hi")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca)
        openai(server, session).complete("Hi")
        session.verify = False
        openai(server, session, verify=True).complete("Hi")
        OpenAICompatible("m", base_url=server.url, verify=True).complete("Hi")


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_session_that_verifies_nothing_stays_so(
    session: requests.Session, tls: ssl.SSLContext, ca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the environment names a CA file; requests itself would take that."""
    session.verify = False
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent")
    with serve(HELLO, tls=tls) as server:
        openai(server, session).complete("Hi")


def test_warm_session_makes_one_handshake(
    session: requests.Session, authority: Any, ca: str, tmp_path: Path
) -> None:
    """Client certificate, CA and connection are the session's; a call before it is shared, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    session.cert, session.verify = str(tmp_path / "me.pem"), ca
    authority.issue_cert("me@x.test").private_key_and_cert_chain_pem.write_to_path(session.cert)
    with serve(HELLO, tls=context) as server:
        session.post(f"{server.url}/chat/completions", json={"messages": []}).content  # noqa: B018
        provider = openai(server, session)
        assert [provider.complete("Hi").text for _ in range(3)] == ["Hello"] * 3
        assert session.post(f"{server.url}/chat/completions", json={"messages": []}).ok
        assert len(server.connections) == 1


# --- proxies


def test_proxy_of_the_provider_the_session_the_environment_in_this_order(
    session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain server notes the absolute addresses that a proxy gets."""
    with serve(HELLO) as one, serve(HELLO) as two, serve(HELLO) as three:
        addresses = [f"http://127.0.0.1:{each.port}" for each in (one, two, three)]
        monkeypatch.setenv("http_proxy", addresses[2])

        def ask(**settings: Any) -> list[int]:
            provider = OpenAICompatible(
                "m", base_url="http://server.invalid/v1", session=session, retry=None, **settings
            )
            provider.complete("Hi")
            return [len(each.requests) for each in (one, two, three)]

        assert ask() == [0, 0, 1]
        session.proxies = {"all": addresses[1]}
        assert ask() == [0, 1, 1]
        assert ask(proxy=addresses[0]) == [1, 1, 1]
        assert one.requests[0].path == "http://server.invalid/v1/chat/completions"


def test_no_proxy_is_used_where_provider_or_session_refuse_it(
    server: Server,
    session: requests.Session,
    refused: tuple[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``proxy=False``, an empty entry in ``session.proxies``, ``trust_env = False``."""
    closed = f"http://127.0.0.1:{refused[1]}"
    monkeypatch.setenv("http_proxy", closed)
    session.proxies = {"http": closed}
    openai(server, session, proxy=False).complete("Hi")
    session.proxies = {"http": ""}
    openai(server, session).complete("Hi")
    session.proxies, session.trust_env = {}, False
    openai(server, session).complete("Hi")
    assert len(server.requests) == 3


# --- copies


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copy_keeps_the_session(
    server: Server, session: requests.Session, duplicate: Callable[[Any], Any]
) -> None:
    """It is the same session, with the same connections."""
    provider = openai(server, session)
    provider.complete("Hi")
    duplicate(provider).complete("Hi")
    assert len(server.connections) == 1


def test_pickled_provider_has_lost_its_session(server: Server, session: requests.Session) -> None:
    """The next call says so, and nothing is sent; also inside a ``Failover``."""
    provider = openai(server, session)
    lost = pickle.loads(pickle.dumps(provider))
    for each in (lost, Failover([lost]), pickle.loads(pickle.dumps(Failover([provider])))):
        with pytest.raises(InvalidRequestError, match="session= stays in the process"):
            each.stream("Hi")
    with pytest.raises(InvalidRequestError, match="session= stays in the process"):
        lost.list_models()
    assert not server.requests
    assert provider.complete("Hi").text == "Hello"


def test_untouched_by_a_call(server: Server, session: requests.Session) -> None:
    """Headers, hooks, authentication, adapters and parameters are as before."""
    session.headers["X-Team"] = "red"
    before = copy.deepcopy([session.headers, session.hooks, session.params, session.proxies])
    adapters = dict(session.adapters)
    openai(server, session, api_key="sk-1", query={"a": "b"}).complete("Hi")
    assert [session.headers, session.hooks, session.params, session.proxies] == before
    assert dict(session.adapters) == adapters
    assert [session.auth, session.verify, session.cert, len(session.cookies)] == [
        None,
        True,
        None,
        0,
    ]
