"""The doctor finds each kind of problem, explains it, and never shows a key."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from providers_sync import PROVIDERS, doctor
from providers_sync.cli import main
from providers_sync.doctor import base_urls, buffering, examination, model_list, network
from providers_sync.doctor.answer import check_answer
from providers_sync.doctor.examination import Examination
from providers_sync.gateway import serve as gateway
from providers_sync.providers import PRESETS
from providers_sync.testing import (
    Request,
    answer,
    cut,
    finish,
    html,
    json_body,
    pause,
    redirect,
    serve,
    stall,
    status,
    text,
    wire,
)

KEY = "sk-doctor-0123456789-tail"
CHUNKS = [text(f"{number} ") for number in range(1, 41)]
PACED = [step for chunk in CHUNKS[:12] for step in (chunk, pause(0.01))]

Doctor = Callable[..., tuple[int, str]]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the configuration of every provider and proxy."""
    monkeypatch.delenv("PROVIDERS_SYNC_PROVIDER", raising=False)
    monkeypatch.delenv("PROVIDERS_SYNC_MODEL", raising=False)
    for kind in PROVIDERS.values():
        monkeypatch.delenv(kind.base_url_variable, raising=False)
    for variable in [kind.api_key_variable for kind in PROVIDERS.values()] + [
        preset.api_key_variable for preset in PRESETS.values()
    ]:
        monkeypatch.delenv(variable or "", raising=False)
    for variable in list(os.environ):
        if variable.lower().endswith("_proxy") or variable.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(variable)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Run the command; return its exit code and its output, with single spaces."""

    def command(*arguments: str) -> tuple[int, str]:
        code = main(["doctor", *arguments])
        shown = " ".join(capsys.readouterr().out.split())
        assert KEY not in shown
        assert KEY[:8] not in shown
        return code, shown

    return command


def api(reply: Any = PACED, models: Any = ("m", "n")) -> Callable[[Request], Any]:
    """Return the script of an API: ``models`` for the list, ``reply`` for every answer."""
    if isinstance(models, tuple):
        models = json_body({"data": [{"id": name} for name in models]})

    def script(request: Request) -> Any:
        return models if request.method == "GET" else reply

    return script


def openai(url: str) -> list[str]:
    return ["--provider", "openai", "--base-url", url, "--model", "m"]


# --- no problem


def test_a_healthy_server_has_no_problem(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every check is fine; it requests only the list of models and one short answer."""
    with serve(api()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        code, shown = run("--model", "m")
    assert (code, [request.path for request in server.requests]) == (
        0,
        ["/models", "/chat/completions"],
    )
    for expected in (
        "from OPENAI_BASE_URL",
        "ok key from OPENAI_API_KEY",
        "ok proxy none",
        "ok DNS 127.0.0.1",
        "ok TCP port",
        "ok TLS none: http://",
        "ok model the server lists m",
        "ok answer complete",
        "12 chunks",
    ):
        assert expected in shown
    assert "BAD" not in shown


@pytest.mark.parametrize("name", ["vitalentum", "codelinkava", "ai365vip", "openai"])
def test_the_gateway_has_no_problem(name: str, run: Doctor) -> None:
    """Each provider on the local gateway, without a key."""
    with gateway() as server:
        code, shown = run(
            "--provider", name, "--base-url", server.url(name), "--model", MODELS[name]
        )
    assert code == 0, shown


MODELS = {
    **dict.fromkeys(["vitalentum", "codelinkava", "ai365vip"], "gpt-3.5-turbo"),
    "openai": "echo",
}


def test_anthropic_has_no_problem(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its list of models has its own address and key header."""
    with serve(api(["1 ", "2"])) as server:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        code, shown = run("--model", "m")
    assert (code, [request.path for request in server.requests]) == (
        0,
        ["/v1/models?limit=1000", "/v1/messages"],
    )
    assert all(request.headers["x-api-key"] == KEY for request in server.requests)
    assert "too fast to tell" in shown


def test_tls_with_a_trusted_authority_has_no_problem(
    run: Doctor, tls: Any, ca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle of ``REQUESTS_CA_BUNDLE`` applies, as for any call."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca)
    with serve(api(), tls=tls) as server:
        code, shown = run(*openai(server.url))
    assert "ok TLS the certificate of 127.0.0.1 is valid" in shown
    assert code == 0


# --- which providers are examined


def test_without_names_it_examines_those_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those with an address or a key; all if there are none."""
    assert doctor.configured_providers() == list(PROVIDERS)
    monkeypatch.setenv("AI365VIP_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    assert doctor.configured_providers() == ["ai365vip", "groq"]


def test_nothing_configured_gives_advice_without_network(run: Doctor) -> None:
    """The three services no longer exist, the two vendors require a key; nothing is sent."""
    code, shown = run()
    assert code == 1
    for variable in ("VITALENTUM_BASE_URL", "CODELINKAVA_BASE_URL", "AI365VIP_BASE_URL"):
        assert f"run `providers-sync serve` and set {variable} to the address it prints" in shown
    assert "BAD key none is set → set OPENAI_API_KEY" in shown
    assert "BAD key none is set → set ANTHROPIC_API_KEY" in shown


def test_discontinued_service_is_neither_resolved_nor_called(
    run: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its domain may have a new owner; a proxy is not checked either."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    monkeypatch.setattr(socket.socket, "connect", None)
    for name in ("vitalentum", "codelinkava", "ai365vip"):
        code, shown = run("--provider", name)
        assert (code, shown.count(" BAD "), " ok " in shown) == (1, 1, False)
        assert "no longer exists" in shown


def test_provider_and_model_of_the_environment_are_examined(
    run: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider that ``ask`` would use is examined first; an unknown name is reported."""
    monkeypatch.setenv("PROVIDERS_SYNC_PROVIDER", "openai")
    monkeypatch.setenv("PROVIDERS_SYNC_MODEL", "n")
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    assert doctor.configured_providers() == ["openai", "groq"]
    monkeypatch.delenv("GROQ_API_KEY")
    with serve(api()) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        code, shown = run()
        assert (code, "the server lists n" in shown) == (0, True)
    monkeypatch.setenv("PROVIDERS_SYNC_PROVIDER", "openia")
    assert doctor.configured_providers() == ["openia", "openai"]
    assert "unknown provider 'openia'" in run()[1]


def test_names_may_be_repeated_or_listed(run: Doctor) -> None:
    """Both forms of the option."""
    _, shown = run("--provider", "vitalentum", "codelinkava", "--provider", "ai365vip")
    assert shown.count("no longer exists") == 3


def test_an_invalid_setting_is_reported(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown name, an invalid address, and an address for several providers."""
    assert "unknown provider 'openia'" in run("--provider", "openia")[1]
    monkeypatch.setenv("VITALENTUM_BASE_URL", "nonsense")
    code, shown = run("--provider", "vitalentum")
    assert (code, "BAD settings VITALENTUM_BASE_URL must be" in shown) == (1, True)
    monkeypatch.delenv("VITALENTUM_BASE_URL")
    assert main(["doctor", "--base-url", "http://127.0.0.1:9"]) == 1
    assert "--base-url requires exactly one --provider" in capsys.readouterr().err


def test_finding_is_shown_without_control_characters() -> None:
    """One line for the finding, and one for the advice."""
    shown = str(doctor.Finding("DNS", "a\x1b[2J\nb", "c\x9b\nd", "wrong"))
    assert shown.splitlines() == ["  BAD  DNS      a␛[2J b", f"{'':16}→ c<U+009B> d"]


# --- the network


def test_an_unknown_host_name_is_reported(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not exist, and a name server that does not answer."""
    real = socket.getaddrinfo

    def look_up(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "127.0.0.1":
            return real(host, *arguments, **options)
        raise socket.gaierror(
            socket.EAI_NONAME if host.startswith("no") else socket.EAI_AGAIN, "resolver"
        )

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    _, shown = run(*openai("http://nowhere.invalid/v1"))
    assert "BAD DNS the host name nowhere.invalid does not exist → check the address" in shown
    _, shown = run(*openai("http://away.invalid/v1"))
    assert "BAD DNS the name server does not answer" in shown
    assert "online" in shown


def test_a_silent_name_server_is_reported(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the timeout and no later."""
    over = threading.Event()

    def look_up(host: str, *arguments: Any, **options: Any) -> Any:
        if not options.get("flags"):  # not the test for a numeric address
            over.wait(5)
        raise socket.gaierror(socket.EAI_NONAME, "resolver")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(network, "RESOLVE_S", 0.1)
    _, shown = run(*openai("http://slow.invalid/v1"))
    over.set()
    assert "BAD DNS no name server answered within 0.1 s" in shown


def test_a_thread_that_cannot_start_is_not_reported_as_an_unknown_name(
    run: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name was not looked up at all."""
    original = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "providers-sync-resolver":
            raise RuntimeError("can't start new thread")
        original(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    _, shown = run(*openai("http://some.invalid/v1"))
    assert "BAD DNS no thread can be started (can't start new thread)" in shown
    assert "does not exist" not in shown


def test_a_refused_connection_is_reported(run: Doctor, refused: tuple[str, int]) -> None:
    """The port is closed."""
    code, shown = run(*openai("http://{}:{}/v1".format(*refused)))
    start = f"BAD TCP port {refused[1]} of the server: 127.0.0.1: connection refused"
    assert f"{start} (nothing listens there) → " in shown
    assert code == 1


def test_a_dropped_connection_is_reported(
    run: Doctor, blackhole: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connect hangs."""
    monkeypatch.setattr(network, "CONNECT_S", 0.2)
    _, shown = run(*openai("http://{}:{}/v1".format(*blackhole)))
    start = f"BAD TCP port {blackhole[1]} of the server: 127.0.0.1: no answer"
    assert f"{start} (a firewall may drop" in shown


def test_an_address_that_does_not_answer_is_noted(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, int]
) -> None:
    """One of two addresses is dead: calls work, but each one tries it first."""
    with serve(api()) as server:
        real = socket.getaddrinfo
        both = real(*refused, 0, socket.SOCK_STREAM) + real(
            "127.0.0.1", server.port, 0, socket.SOCK_STREAM
        )

        def look_up(host: str, *arguments: Any, **options: Any) -> Any:
            if host != "two.invalid":
                return real(host, *arguments, **options)
            if options.get("flags"):
                raise socket.gaierror(socket.EAI_NONAME, "not numeric")
            return both

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        code, shown = run(*openai(f"http://two.invalid:{server.port}"))
    assert "note TCP" in shown
    assert "other addresses failed: 127.0.0.1: connection refused" in shown
    assert code == 0


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        ("tls", "is signed by an authority that this machine does not trust"),
        ("tls_self_signed", "is self-signed"),
    ],
)
def test_a_certificate_problem_is_explained(
    context: str, problem: str, run: Doctor, request: pytest.FixtureRequest
) -> None:
    """With the variable that helps."""
    with serve(api(), tls=request.getfixturevalue(context)) as server:
        code, shown = run(*openai(server.url))
    assert f"BAD TLS the certificate of 127.0.0.1 {problem} → " in shown
    assert "REQUESTS_CA_BUNDLE" in shown
    assert code == 1


def test_a_certificate_of_another_name_is_explained(
    run: Doctor, tls_wrong_host: Any, ca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trusted, but issued for another host."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca)
    with serve(api(), tls=tls_wrong_host) as server:
        _, shown = run(*openai(server.url))
        _, named = run(*openai(f"https://localhost:{server.port}"))
    assert "BAD TLS the certificate of 127.0.0.1 was issued for another address" in shown
    assert "BAD TLS the certificate of localhost was issued for another name" in named


def test_https_to_a_plain_port_is_explained(run: Doctor) -> None:
    """The scheme is wrong, not the certificate."""
    plain = answer(connect=[wire(b"HTTP/1.1 400 Bad Request\r\n\r\n"), cut()])
    with serve(plain) as server:
        _, shown = run(*openai(server.url.replace("http:", "https:")))
    assert "BAD TLS 127.0.0.1 does not speak TLS on this port → use http://" in shown


# --- the proxy


def test_a_dead_proxy_is_distinguished_from_a_dead_server(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, int]
) -> None:
    """The report names its variable, hides its password, and says that bypassing it works."""
    monkeypatch.setenv("http_proxy", "http://me:secret@{}:{}".format(*refused))
    with serve(api()) as server:
        code, shown = run(*openai(server.url))
    assert f"proxy through 127.0.0.1:{refused[1]}, from http_proxy" in shown
    assert f"BAD TCP port {refused[1]} of the proxy: 127.0.0.1: connection refused" in shown
    assert "this machine reaches 127.0.0.1 without the proxy: set NO_PROXY=127.0.0.1" in shown
    assert (code, "secret" in shown) == (1, False)


@pytest.mark.parametrize(
    "address", ["http://me:secret@[::1", "http://me:secret@proxy:port", "http://me:secret@"]
)
def test_an_invalid_proxy_address_is_reported(
    run: Doctor, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """In one line, without its password."""
    monkeypatch.setenv("http_proxy", address)
    code, shown = run(*openai("http://example.invalid/v1"))
    assert "BAD proxy its address, from http_proxy, is invalid" in shown
    assert (code, "secret" in shown) == (1, False)


def test_a_proxy_excluded_by_no_proxy_is_reported(
    run: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``no_proxy`` is respected, and named."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(api()) as server:
        code, shown = run(*openai(server.url))
    assert "ok proxy none; no_proxy excludes 127.0.0.1 from the proxy of HTTP_PROXY" in shown
    assert code == 0


def test_a_proxy_before_a_server_on_this_machine_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most common problem with local models behind a company proxy."""
    monkeypatch.setenv("http_proxy", "proxy.invalid:3128")
    examination = Examination(PROVIDERS["openai"]("m", base_url="http://127.0.0.1:9"), "here", "m")
    [finding] = network.check_proxy(examination)
    assert (finding.level, "NO_PROXY=127.0.0.1" in finding.advice) == ("note", True)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (status(407), "BAD proxy it requires a name and a password"),
        (status(502, "no way"), "BAD server 502"),
    ],
    ids=["407", "502"],
)
def test_a_rejecting_proxy_is_reported(
    reply: Any, expected: str, run: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that requires a password, and one that cannot connect."""
    with serve(api()) as server, serve(reply, protocol="openai") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        code, shown = run(*openai(server.url))
    assert expected in shown
    assert code == 1


# --- key and model


def test_a_rejected_key_is_reported_but_not_shown(
    run: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers often quote it; the doctor does not."""
    rejection = status(401, f"Incorrect API key provided: {KEY[:8]}****{KEY[-4:]}. You can find it")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serve(rejection, protocol="openai") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        code, shown = run("--model", "m")
    assert "BAD key the server rejects the key: 401 Unauthorized" in shown
    assert "→ check that the key is complete" in shown
    assert code == 1
    with serve(api(reply=rejection)) as server:  # a server that lists its models without a key
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        code, shown = run("--model", "m")
    assert "BAD key the server rejects the key: 401 Unauthorized" in shown
    assert "provided: *** You can find it" in shown


def test_a_missing_key_is_reported(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key from the environment is not sent to an address from the command line."""
    with serve(status(401, "Who are you?"), protocol="openai") as server:
        _, shown = run(*openai(server.url))
        assert "BAD key the server requires a key: 401 Unauthorized" in shown
        assert "→ set OPENAI_API_KEY" in shown
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        _, shown = run(*openai(server.url))
    assert "note key none is sent: OPENAI_API_KEY is set, but is sent only to" in shown
    assert "set OPENAI_BASE_URL instead of --base-url" in shown
    assert not any("Authorization" in request.headers for request in server.requests)


def test_a_local_server_needs_no_key() -> None:
    """Ollama's default address is this machine; that of its cloud wants the key."""
    examined = Examination(PROVIDERS["ollama"]("m"), doctor.DEFAULT, "m")
    [finding] = doctor._check_key(examined)
    assert (finding.level, "OLLAMA_API_KEY is not set" in finding.text) == ("ok", True)


def test_a_key_over_plain_http_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be read in transit."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://api.example/v1")
    findings = list(
        doctor._check_key(Examination(PROVIDERS["openai"]("m"), "OPENAI_BASE_URL", "m"))
    )
    assert [finding.level for finding in findings] == ["ok", "note"]


def test_a_model_that_is_not_listed_is_noted(run: Doctor) -> None:
    """Some servers accept any name: the answer decides."""
    with serve(api(models=("a", "b"))) as server:
        code, shown = run(*openai(server.url))
        assert "note model the server does not list m; it lists a, b" in shown
        assert code == 0
    with serve(api(status(404, "The model does not exist"), models=("a", "b"))) as server:
        code, shown = run(*openai(server.url))
    assert "BAD model 404 Not Found" in shown
    assert "→ use --model with one of: a, b" in shown
    assert code == 1


def test_without_a_model_the_first_listed_is_used(run: Doctor) -> None:
    """Without a list, a name is required."""
    command = openai("")[:2]
    with serve(api()) as server:
        code, shown = run(*command, "--base-url", server.url)
    assert "ok model none given, so m is used; the server lists m, n" in shown
    assert (code, server.requests[1].json()["model"]) == (0, "m")
    with serve(api(models=status(404))) as server:
        code, shown = run(*command, "--base-url", server.url)
    assert "BAD model none given, and the server lists none → use --model NAME" in shown
    assert (code, {request.method for request in server.requests}) == (1, {"GET"})


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (html(), "BAD address"),
        (redirect("https://api.example/v1"), "BAD address 307 Temporary Redirect"),
        (status(503), "BAD server 503"),
        ([cut()], "BAD answer"),
    ],
    ids=["html", "redirect", "503", "cut"],
)
def test_a_wrong_server_is_reported(reply: Any, expected: str, run: Doctor) -> None:
    """The answer decides; without a model nothing but GETs is sent."""
    with serve(reply, protocol="openai") as server:
        code, shown = run(*openai(server.url))
        assert (code, expected in shown) == (1, True)
        sent = len(server.requests)
        code, shown = run(*openai(server.url)[:4])
    assert (code, expected in shown or "BAD server" in shown) == (1, True)
    assert {request.method for request in server.requests[sent:]} == {"GET"}


@pytest.mark.parametrize(
    ("name", "base_url", "found"),
    [
        ("openai", "https://openrouter.ai/v1", "https://openrouter.ai/api/v1"),
        ("openai", "https://api.groq.com", "https://api.groq.com/openai/v1"),
        ("openai", "http://box:8000", "http://box:8000/v1"),
        ("anthropic", "http://box:8765", "http://box:8765/anthropic"),
        ("ai365vip", "http://box:8765/api/chat", "http://box:8765/ai365vip"),
    ],
)
def test_other_addresses_are_on_the_same_server(name: str, base_url: str, found: str) -> None:
    """The key goes to no other scheme, host or port."""
    others = list(base_urls.candidates(name, PROVIDERS[name]("gpt-3.5-turbo", base_url=base_url)))
    assert found in others
    origin = base_url.split("/")[:3]
    assert all(other.split("/")[:3] == origin for other in others)


def test_the_corrected_address_is_sent_the_query_and_the_key() -> None:
    """The GETs are those of the configured provider."""

    def script(request: Request) -> Any:
        is_list = request.path == "/v1/models?version=2"
        return json_body({"data": [{"id": "m"}]}) if is_list else status(404)

    with (
        serve(script) as server,
        PROVIDERS["openai"](
            "m", base_url=server.url, api_key=KEY, query={"version": "2"}
        ) as provider,
    ):
        examined = Examination(provider, "here", "m")
        findings = [*model_list.check_models(examined), *check_answer(examined)]
    assert findings[-1].advice == f"use {server.url}/v1"
    assert {request.headers["Authorization"] for request in server.requests} == {f"Bearer {KEY}"}


# --- the stream


def test_a_buffering_proxy_is_found(run: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the complete answer back and sends it at the end."""
    monkeypatch.setattr(buffering, "SUDDEN_S", 0.01)  # a busy machine reads the chunks more slowly
    held = answer(pause(0.6), *CHUNKS, headers={"Via": "1.1 nosy", "Server": "nginx"})
    with serve(api(held)) as server:
        code, shown = run(*openai(server.url))
    assert "BAD stream something buffers the answer (it came through 1.1 nosy, nginx)" in shown
    assert "proxy_buffering off" in shown
    assert code == 1


def test_an_answer_in_one_chunk_is_found(run: Doctor) -> None:
    """Plain text that a proxy has buffered arrives in one read."""
    everything = answer(pause(0.6), "".join(f"{n} " for n in range(1, 101)))
    with serve(api(everything), protocol="ai365vip") as server:
        code, shown = run("--provider", "ai365vip", "--base-url", server.url)
    assert "BAD stream the complete answer arrived as one chunk after 0.6" in shown
    assert code == 1


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (status(429, "No quota left"), "wait, or check the account's limits"),
        ([*CHUNKS[:12], cut()], "after 12 chunks: the connection broke"),
        ([stall()], "note answer the server is running, but has not answered within"),
        ([finish()], "note stream the answer is empty"),
    ],
    ids=["429", "cut", "stall", "empty"],
)
def test_a_failing_answer_is_reported(
    script: Any, expected: str, run: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the error of the call, and advice."""
    monkeypatch.setattr(examination, "LIMIT_S", 1.0)
    with serve(api(script)) as server:
        code, shown = run(*openai(server.url))
    assert expected in shown
    assert code == ("note" not in expected)


def every(seconds: float, chunks: int, at_once: int = 1, first: float = 1.0) -> list[float]:
    """Return arrival times: ``at_once`` chunks every so many seconds."""
    return [first + seconds * (chunk // at_once) for chunk in range(chunks)]


ARRIVALS: dict[str, tuple[list[float], str]] = {
    "steady": (every(0.02, 200), "ok"),
    "slow": (every(1.0, 30), "ok"),
    "very fast": (every(0.001, 200), "ok"),
    "several tokens per chunk": (every(0.1, 20), "ok"),
    "a hiccup": ([*every(0.02, 100), *every(0.02, 100, first=4.0)], "ok"),
    "at once": (every(0.0001, 100), "wrong"),
    "at once after long reasoning": (every(0.0004, 100, first=30.0), "wrong"),
    "bursts": (every(0.8, 100, at_once=20), "wrong"),
    "one short chunk": ([2.0], "note"),
    "one chunk at once": ([0.1], "ok"),
    "fast after a cold start": (every(0.002, 20, first=3.0), "ok"),
    "20 tokens at once": (every(0.0001, 20, first=0.6), "wrong"),
    "few chunks at once": (every(0.0001, 7), "note"),
    "two bursts": (every(0.8, 20, at_once=10), "note"),
    "three bursts": (every(0.8, 21, at_once=7), "wrong"),
    "small bursts": (every(0.8, 20, at_once=4), "note"),
    "pairs": (every(0.3, 20, at_once=2), "ok"),
    "one hiccup of a fast model": ([*every(0.002, 10), *every(0.002, 3, first=2.0)], "note"),
    "quick": (every(0.0001, 100, first=0.05), "ok"),
    "nothing": ([], "note"),
}


def test_a_distant_server_is_not_taken_for_a_buffer() -> None:
    """Most of the wait was the network's."""
    times = every(0.0001, 20, first=1.0)
    assert buffering.detect_buffering(0.0, times, {}, 60, 0.8).level == "ok"
    assert buffering.detect_buffering(0.0, times, {}, 60, 0.2).level == "wrong"


@pytest.mark.parametrize("name", ARRIVALS)
def test_arrival_times_show_whether_something_buffers(name: str) -> None:
    """Held back, in bursts, or as expected."""
    times, level = ARRIVALS[name]
    finding = buffering.detect_buffering(0.0, times, {}, 3 * len(times))
    assert finding.level == level, finding
