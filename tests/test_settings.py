"""Settings of a provider: ``cert=``, ``query=``, ``extra_body=``, and the words others use."""

from __future__ import annotations

import asyncio
import pickle
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers_sync import (
    AI365VIP,
    Anthropic,
    APIConnectionError,
    APIStatusError,
    Chat,
    CodeLinkAva,
    Failover,
    InvalidRequestError,
    OpenAICompatible,
    Provider,
    ProviderError,
    Vitalentum,
    batch,
)
from providers_sync.providers.validation import _REPLACEMENTS
from providers_sync.testing import ScriptedProvider, Server, html, json_body, serve, status

SECRET = "sk-very-secret-key-0123456789"


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as server:
        yield server


def openai(server: Server, **settings: Any) -> OpenAICompatible:
    return OpenAICompatible("m", base_url=server.url, **settings)


# --- cert=


@pytest.fixture(scope="module")
def files(authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with client certificates and keys, good and bad."""
    folder = tmp_path_factory.mktemp("client")
    for name in ("me", "other"):
        issued = authority.issue_cert(f"{name}@x.test")
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{name}.crt"))
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    (folder / "junk").write_text("junk")
    (folder / "empty").write_text("")
    encrypt = f"openssl pkey -in {folder}/me.key -aes256 -passout pass:x -out {folder}/locked.key"
    subprocess.run(encrypt.split(), check=True)
    return folder


@pytest.fixture
def mutual_tls(authority: Any, request: pytest.FixtureRequest) -> ssl.SSLContext:
    """A server context that requires a client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_client_certificate_in_every_form(mutual_tls: ssl.SSLContext, ca: str, files: Path) -> None:
    """One file or two, as strings or paths, in a tuple or a list; it is pickled, too."""
    forms: list[Any] = [
        str(files / "me.pem"),
        files / "me.pem",
        (files / "me.crt", str(files / "me.key")),
        [str(files / "me.crt"), files / "me.key"],
    ]
    with serve(tls=mutual_tls) as server:
        for form in forms:
            with openai(server, cert=form, verify=Path(ca)) as provider:
                assert provider.complete("Hi").text == "Hello!"
                assert pickle.loads(pickle.dumps(provider)).complete("Hi").text == "Hello!"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["missing"], "existing files; .*missing' is not one"),
        ([""], "existing files; .* is not one"),
        (["junk"], "PEM file with a certificate .*junk' cannot be loaded"),
        (["empty"], "PEM file with a certificate"),
        (["me.crt"], "PEM file with a certificate and its private key"),
        (["me.crt", "other.key"], "cannot be loaded: KEY_VALUES_MISMATCH"),
        (["me.crt", "locked.key"], "is encrypted.*openssl pkey"),
        (["me.crt", "me.key", "me.pem"], "a pair of paths"),
        ([], "a pair of paths"),
    ],
)
def test_useless_certificate_is_named_at_once(files: Path, names: list[str], text: str) -> None:
    """Nothing asks for a password on the terminal."""
    with pytest.raises(InvalidRequestError, match=text):
        OpenAICompatible("m", base_url="https://x.test", cert=[files / name for name in names])


def test_certificate_is_read_again_for_every_connection(
    mutual_tls: ssl.SSLContext, ca: str, files: Path, tmp_path: Path
) -> None:
    """It may have been renewed, or be gone."""
    path = tmp_path / "renewed.pem"
    path.write_bytes((files / "me.pem").read_bytes())
    with serve(tls=mutual_tls) as server:
        provider = openai(server, verify=ca, cert=path, retry=None)
        for text in ("other.pem", "me.pem"):
            provider.close()
            path.write_bytes((files / text).read_bytes())
            provider.complete("Hi")
        path.unlink()
        provider.close()
        with pytest.raises(APIConnectionError, match="check cert="):
            provider.complete("Hi")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_server_that_misses_a_certificate(
    mutual_tls: ssl.SSLContext, ca: str, version: ssl.TLSVersion
) -> None:
    """The error names ``cert=``, and is not retried."""
    mutual_tls.maximum_version = version
    with serve(tls=mutual_tls) as server:
        provider = openai(server, verify=ca)
        for number in range(20):  # the server may close before or after the request is sent
            with pytest.raises(APIConnectionError, match=r"client certificate.*cert=") as caught:
                provider.complete("Hi")
            assert not caught.value.retryable
            assert len(server.connections) == number + 1


def test_server_that_rejects_the_certificate(
    mutual_tls: ssl.SSLContext, ca: str, tmp_path: Path
) -> None:
    """It comes from an authority that the server does not know."""
    import trustme

    path = tmp_path / "foreign.pem"
    trustme.CA().issue_cert("me@x.test").private_key_and_cert_chain_pem.write_to_path(str(path))
    text = r"rejected the client certificate.*cert="
    with serve(tls=mutual_tls) as server, pytest.raises(APIConnectionError, match=text):
        openai(server, verify=ca, cert=path).complete("Hi")


# --- query=


def test_query_is_added_to_every_address(server: Server) -> None:
    """As Azure wants its ``api-version``; special characters are encoded; calls repeat."""
    query = {"api-version": "2024-10-21", "team": "a b&c=ü/+"}
    encoded = "api-version=2024-10-21&team=a+b%26c%3D%C3%BC%2F%2B"
    provider = openai(server, query=query)
    for _ in range(2):
        provider.complete("Hi")
    server.play(json_body({"data": []}))
    provider.list_models()
    assert [request.path for request in server.requests] == [
        *[f"/chat/completions?{encoded}"] * 2,
        f"/models?{encoded}",
    ]
    assert pickle.loads(pickle.dumps(provider))._connections.url("", "/x") == f"/x?{encoded}"


def test_query_joins_that_of_the_protocol(server: Server) -> None:
    """A provider of one's own may have a query in its path."""

    class Streaming(OpenAICompatible):
        api_endpoint = "/chat/completions?alt=sse"

    Streaming("m", base_url=server.url, query={"v": "1"}).complete("Hi")
    assert server.requests[0].path == "/chat/completions?alt=sse&v=1"


@pytest.mark.parametrize("name", ["key", "subscription-key", "sig", "code"])
def test_secret_in_the_query_is_shown_nowhere(server: Server, name: str) -> None:
    """Not in the error, its causes or its local variables, even if the server quotes it."""
    for script in (status(400, f"bad {SECRET}"), html()):
        server.play(script)
        provider = openai(server, query={name: SECRET}, retry=None)
        assert SECRET not in repr(provider)
        with pytest.raises(ProviderError) as caught:
            provider.complete("Hi")
        _assert_hidden(caught.value)
        with pytest.raises(InvalidRequestError) as wrong:
            provider.list_models(timeouts=-1)
        _assert_hidden(wrong.value)
    closed = OpenAICompatible("m", base_url="http://127.0.0.1:1", query={name: SECRET}, retry=None)
    with pytest.raises(APIConnectionError) as refused:
        closed.complete("Hi")
    _assert_hidden(refused.value)


def _assert_hidden(error: BaseException | None) -> None:
    while error is not None:
        assert SECRET not in f"{error!r} {vars(error)}"
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_globals["__name__"].startswith("providers_sync"):
                assert SECRET not in repr(trace.tb_frame.f_locals)
            trace = trace.tb_next
        error = error.__cause__


def test_query_is_not_part_of_an_error_text(server: Server) -> None:
    """It may be long, and nobody can be sure that it is not secret."""
    server.play(status(404))
    with pytest.raises(APIStatusError) as caught:
        openai(server, query={"api-version": "2024-10-21"}).complete("Hi")
    assert "2024" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong", ["api-version=1", ["a"], {"a": 1}, {"a": None}, {1: "a"}, {"": "a"}]
)
def test_wrong_query_is_refused(wrong: Any) -> None:
    """The error names the item."""
    with pytest.raises(InvalidRequestError, match="query"):
        OpenAICompatible("m", base_url="http://127.0.0.1:1", query=wrong)


def test_address_with_a_query_is_refused_with_the_remedy() -> None:
    """``query=`` is the place for it."""
    with pytest.raises(InvalidRequestError, match="query="):
        OpenAICompatible("m", base_url="http://127.0.0.1:1/v1?api-version=1")


# --- extra_body=


@pytest.mark.parametrize(
    "provider_class", [OpenAICompatible, Anthropic, Vitalentum, CodeLinkAva, AI365VIP]
)
def test_extra_body_is_added_as_it_is(server: Server, provider_class: type[Provider]) -> None:
    """Over the options and what the protocol makes of them; a call's over the provider's."""
    provider = provider_class(
        base_url=server.url,
        temperature=0.5,
        stop="a",
        extra_body={"temperature": 0.1, "thinking": {"a": None}, "kept": 1, "dropped": 1},
        **({} if provider_class.default_model else {"model": "m"}),
    )
    provider.complete("Hi", extra_body={"stop": ["b"], "dropped": None, "thinking": [None]})
    body = server.requests[0].json()
    assert "extra_body" not in body
    assert (body["temperature"], body["kept"], body["thinking"]) == (0.1, 1, [None])
    assert body["stop"] == ["b"]
    assert "dropped" not in body
    provider.complete("Hi", extra_body=None)
    assert server.requests[1].json()["thinking"] == {"a": None}


def test_extra_body_passes_through_everything(server: Server) -> None:
    """A chat, a batch, a ``Failover``, a scripted provider, the published interface."""
    provider = openai(server)
    extra = {"top_k": 5}

    async def published() -> None:
        answer = OpenAICompatible.create_async_generator(
            "m", "Hi", base_url=server.url, extra_body=extra, query={"a": "b"}, verify=True
        )
        assert [chunk async for chunk in answer] == ["Hello!"]

    Chat(provider, extra_body=extra).send("Hi").read()
    Chat(provider).send("Hi", extra_body=extra).read()
    list(batch.map(openai(server, extra_body=extra), ["Hi"]))
    Failover([provider]).complete("Hi", extra_body=extra)
    asyncio.run(published())
    assert [request.json()["top_k"] for request in server.requests] == [5] * 5
    assert server.requests[4].path.endswith("?a=b")
    scripted = ScriptedProvider(extra_body=extra)
    scripted.complete("Hi")
    assert scripted.requests[0].json()["top_k"] == 5


@pytest.mark.parametrize("wrong", ["{}", [("a", 1)], {1: 2}])
def test_wrong_extra_body_is_refused(server: Server, wrong: Any) -> None:
    """By the constructor and by a call."""
    with pytest.raises(InvalidRequestError, match="extra_body must be a dict"):
        openai(server, extra_body=wrong)
    with pytest.raises(InvalidRequestError, match="extra_body must be a dict"):
        openai(server).stream("Hi", extra_body=wrong)


def test_extra_body_that_is_no_json_is_named(server: Server) -> None:
    """The key, not only ``extra_body``."""
    for value in (object(), float("nan"), {1, 2}):
        with pytest.raises(InvalidRequestError, match="shape cannot be sent as JSON"):
            openai(server, extra_body={"shape": value})
        with pytest.raises(InvalidRequestError, match="shape cannot be sent as JSON"):
            openai(server).stream("Hi", extra_body={"shape": value})


def test_secret_in_extra_body_is_masked_in_local_variables(server: Server) -> None:
    """As those in options are."""
    with pytest.raises(InvalidRequestError) as caught:
        openai(server).stream("Hi", extra_body={"api_token": SECRET, "shape": object()})
    _assert_hidden(caught.value)
    server.play(status(400))
    with pytest.raises(APIStatusError) as rejected:
        openai(server, extra_body={"api_token": SECRET}).stream("Hi")
    _assert_hidden(rejected.value)
    assert server.requests[0].json()["api_token"] == SECRET


# --- the words others use


@pytest.mark.parametrize(("name", "right"), _REPLACEMENTS.items())
def test_wrong_word_says_the_right_one(server: Server, name: str, right: str) -> None:
    """In the constructor and in a call."""
    for call in (openai, lambda server, **options: openai(server).stream("Hi", **options)):
        with pytest.raises(InvalidRequestError, match=f"{name}= is not supported") as caught:
            call(server, **{name: "x"})
        assert right in str(caught.value)
        assert any(f"{word}=" in right for word in Provider.__init__.__kwdefaults__)


@pytest.mark.parametrize(
    "name", ["base_url", "api_key", "query", "proxy", "verify", "cert", "session"]
)
def test_setting_of_the_provider_is_refused_in_a_call(server: Server, name: str) -> None:
    """A call shares the provider's connections."""
    for provider in (openai(server), Failover([openai(server)]), ScriptedProvider()):
        with pytest.raises(InvalidRequestError, match=f"{name}= belongs to the provider"):
            provider.stream("Hi", **{name: None})


def test_subclass_with_arguments_of_its_own(server: Server) -> None:
    """One that knows only the settings of the first version."""

    class Mine(OpenAICompatible):
        def __init__(self, model: str, url: str) -> None:
            super().__init__(model, base_url=url, api_key=None, headers=None, verify=True)

    with Mine("m", server.url) as provider:
        assert provider.complete("Hi").text == "Hello!"
