"""Presets: their page, what each one sends and where, and the command that lists models."""

from __future__ import annotations

import copy
import pickle
import re
import traceback
from typing import Any
from urllib.parse import urlsplit

import presets_page
import pytest

from providers_sync import (
    PROVIDERS,
    APIStatusError,
    AuthenticationError,
    InvalidRequestError,
    MalformedStream,
    OpenAICompatible,
    doctor,
    provider_selection,
)
from providers_sync.cli import main
from providers_sync.provider_selection import models_of, select_provider, set_only_model
from providers_sync.providers import PRESETS, get_provider
from providers_sync.testing import Request, json_body, serve, stall, status

PAGE = presets_page.PAGE.read_text(encoding="utf-8")
LINES = dict(re.findall(r'`(?=OpenAICompatible\.preset\("(\w+)")(.*?)` \|$', PAGE, re.M))
KEY = "key-of-the-tests"
AZURE = "https://name.openai.azure.com/openai/v1"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove every variable that configures a provider."""
    names = {"PROVIDERS_SYNC_PROVIDER", "PROVIDERS_SYNC_MODEL", "GITHUB_TOKEN"}
    for kind in PROVIDERS.values():
        names |= {kind.base_url_variable, kind.api_key_variable or ""}
    for preset in PRESETS.values():
        names |= {preset.api_key_variable or "", preset.base_url_variable or ""}
        names.update(preset.other_key_variables, *(variables for _, variables in preset.parts))
    for name in names:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at the first attempt to send anything."""
    monkeypatch.setattr("socket.getaddrinfo", None)


# --- the page


def test_page_is_up_to_date() -> None:
    """If it fails, run ``PYTHONPATH=tests:. python -m presets_page``."""
    assert presets_page.page() == PAGE
    assert set(LINES) == set(PRESETS)


@pytest.mark.parametrize("name", LINES)
def test_line_of_the_page_sends_what_the_server_expects(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path, the model and the key in its header; only the host is replaced by one here."""
    preset, line = PRESETS[name], LINES[name]
    address = urlsplit(preset.base_url)
    with serve("Hello!", protocol="openai") as server:
        if "base_url" in preset.needs:
            line = line.replace(f"https://{address.netloc}", server.url)
            line = line.removesuffix(")") + f", api_key={KEY!r})"
        elif preset.api_key_variable:
            monkeypatch.setenv(preset.api_key_variable, KEY)
        monkeypatch.setitem(PRESETS, name, preset._replace(base_url=server.url + address.path))
        provider = eval(line, {"OpenAICompatible": OpenAICompatible})
        assert provider.complete("Hi").text == "Hello!"
        [request] = server.requests
    assert request.path == f"{address.path}/chat/completions"
    assert request.json()["model"] == preset.model
    key = KEY if preset.api_key_variable else None
    if name == "azure":
        assert (request.headers["api-key"], request.headers.get("Authorization")) == (key, None)
    else:
        assert request.headers.get("Authorization") == (key and f"Bearer {key}")


def test_page_lists_the_hosts_that_get_the_key() -> None:
    """Each of them is one of the preset's, and every preset with hosts is in the table."""
    assert set(presets_page.HOSTS) == {name for name, preset in PRESETS.items() if preset.hosts}
    for name, hosts in presets_page.HOSTS.items():
        for host in hosts:
            host = host.replace("*", "name").replace("REGION", "us-east-1")
            assert PRESETS[name].owns(f"https://{host.replace('LOCATION', 'eu')}/v1"), host


# --- the address


@pytest.mark.parametrize(
    ("name", "environ", "address"),
    [
        ("azure", {"AZURE_OPENAI_ENDPOINT": "https://name.openai.azure.com/"}, AZURE),
        ("azure", {"AZURE_OPENAI_ENDPOINT": "https://name.openai.azure.com/openai"}, AZURE),
        ("azure", {"AZURE_OPENAI_ENDPOINT": f" {AZURE}/"}, AZURE),
        ("azure", {"AZURE_OPENAI_ENDPOINT": "http://127.0.0.1:9/x"}, "http://127.0.0.1:9/x"),
        (
            "bedrock",
            {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"},
            "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1",
        ),
        (
            "bedrock",
            {"AWS_DEFAULT_REGION": "us-gov-west-1"},
            "https://bedrock-runtime.us-gov-west-1.amazonaws.com/openai/v1",
        ),
        (
            "bedrock",
            {"AWS_BEDROCK_BASE_URL": "https://bedrock-mantle.us-east-1.api.aws/v1"},
            "https://bedrock-mantle.us-east-1.api.aws/v1",
        ),
        (
            "vertex",
            {"GOOGLE_CLOUD_PROJECT": "my-project", "GOOGLE_CLOUD_LOCATION": "europe-west4"},
            "https://europe-west4-aiplatform.googleapis.com/v1/projects/my-project"
            "/locations/europe-west4/endpoints/openapi",
        ),
        (
            "vertex",
            {"GOOGLE_CLOUD_PROJECT": "my-project", "GOOGLE_CLOUD_LOCATION": "global"},
            "https://aiplatform.googleapis.com/v1/projects/my-project/locations/global"
            "/endpoints/openapi",
        ),
    ],
)
def test_address_and_key_come_from_the_environment(
    name: str, environ: dict[str, str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the variables that the vendors' own clients read; ``base_url=None`` changes nothing."""
    for variable, value in {**environ, PRESETS[name].api_key_variable or "": KEY}.items():
        monkeypatch.setenv(variable, value)
    for provider in (get_provider(name, "m"), OpenAICompatible.preset(name, "m", base_url=None)):
        assert (provider.base_url, provider._api_key) == (address, KEY)


@pytest.mark.parametrize(
    ("name", "form", "variables"),
    [
        ("azure", "https://RESOURCE.openai.azure.com/openai/v1", "AZURE_OPENAI_ENDPOINT"),
        ("bedrock", "https://bedrock-runtime.REGION.", "AWS_REGION or AWS_BEDROCK_BASE_URL"),
        ("vertex", "https://LOCATION-aiplatform.", "GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCA"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_missing_address_is_named_with_its_form_and_variable(
    name: str, form: str, variables: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is sent, and on the command line too."""
    with pytest.raises(InvalidRequestError, match=f"preset '{name}' needs base_url=") as caught:
        OpenAICompatible.preset(name, "m", api_key=KEY)
    assert form in str(caught.value)
    assert variables in str(caught.value)
    assert main(["ask", "Hi", "--provider", name]) == 1
    assert "--base-url) in the form https://" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("bedrock", "AWS_REGION", "x.evil.example/#"),
        ("bedrock", "AWS_REGION", "eu-west-1\n"),
        ("bedrock", "AWS_BEDROCK_BASE_URL", "eu-west-1"),
        ("azure", "AZURE_OPENAI_ENDPOINT", "name"),
        ("azure", "AZURE_OPENAI_ENDPOINT", f"{AZURE}?api-version=1"),
        ("vertex", "GOOGLE_CLOUD_PROJECT", "../x"),
    ],
)
def test_unusable_variable_is_named(
    name: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can lead the key to no other host; white space around it does no harm."""
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "global")
    monkeypatch.setenv(variable, value)
    if value == "eu-west-1\n":
        assert "/bedrock-runtime.eu-west-1." in OpenAICompatible.preset(name).base_url
        return
    with pytest.raises(InvalidRequestError, match=f"^{variable} (must|may contain only) "):
        OpenAICompatible.preset(name)


def test_azures_address_is_completed_and_takes_a_query() -> None:
    """The portal shows the address without a path; that of a gateway stays as it is."""
    azure = OpenAICompatible.preset("azure", "m", base_url="https://name.openai.azure.com/")
    assert azure.base_url == AZURE
    gateway = OpenAICompatible.preset("azure", "m", base_url="https://gateway.example")
    assert gateway.base_url == "https://gateway.example"
    with serve("Hi", protocol="openai") as server:
        query = {"api-version": "preview"}
        OpenAICompatible.preset("azure", "m", base_url=server.url, query=query).complete("Hi")
    assert server.requests[0].path == "/chat/completions?api-version=preview"


# --- the key


@pytest.mark.parametrize(
    ("name", "address", "is_sent"),
    [
        ("azure", AZURE, True),
        ("azure", "https://NAME.openai.azure.com:443/openai/v1", True),
        ("azure", "https://name.openai.azure.us/openai/v1", True),
        ("azure", "https://name.cognitiveservices.azure.com/openai/v1", True),
        ("azure", "https://name.services.ai.azure.com/openai/v1", True),
        ("azure", "http://name.openai.azure.com/openai/v1", False),
        ("azure", "https://name.openai.azure.com:8443/openai/v1", False),
        ("azure", "https://evil-openai.azure.com/openai/v1", False),
        ("azure", "https://name.openai.azure.com.evil.example/openai/v1", False),
        ("azure", "https://evil.example/name.openai.azure.com", False),
        ("azure", "https://name。openai.azure.com/openai/v1", False),
        ("azure", "https://evil.example\\.openai.azure.com/openai/v1", False),
        ("azure", "https://name.azure-api.net/openai/v1", False),
        ("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com/openai/v1", True),
        ("bedrock", "https://bedrock-mantle.ap-southeast-2.api.aws/v1", True),
        ("bedrock", "https://bedrock-runtime.s3.amazonaws.com/openai/v1", False),
        ("bedrock", "https://bedrock-runtime.s3-us-west-2.amazonaws.com/openai/v1", False),
        ("bedrock", "https://bedrock-runtime.us-east-1.evil.amazonaws.com/openai/v1", False),
        ("vertex", "https://us-central1-aiplatform.googleapis.com/v1/x", True),
        ("vertex", "https://evilaiplatform.googleapis.com/v1/x", False),
        ("vertex", "https://storage.googleapis.com/aiplatform", False),
        ("dashscope", "https://ws-1.eu-central-1.maas.aliyuncs.com/compatible-mode/v1", True),
        ("dashscope", "https://dashscope.oss-cn-beijing.aliyuncs.com/v1", False),
        ("zai", "https://api.z.ai/api/coding/paas/v4", True),
        ("groq", "https://api.groq.com/openai/v1/", True),
        ("groq", "https://api.groq.com/other", False),
        ("groq", "https:///openai/v1", False),
        ("groq", "https://[::1", False),
    ],
)
def test_key_of_the_environment_goes_to_the_vendor_only(
    name: str, address: str, is_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host is compared label by label."""
    monkeypatch.setenv(PRESETS[name].api_key_variable or "", KEY)
    try:
        provider = OpenAICompatible.preset(name, "m", base_url=address)
    except InvalidRequestError:
        assert not is_sent
        assert not PRESETS[name].owns(address)
    else:
        assert provider._api_key == (KEY if is_sent else None)
    if is_sent:
        given = OpenAICompatible.preset(name, base_url=address, api_key="mine")
        assert given._api_key == "mine"
    assert not PRESETS[name].owns(5)


def test_key_that_is_not_sent_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is set, but the address is not the vendor's."""
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    with serve(status(401, "Who?"), protocol="openai") as server:
        provider = OpenAICompatible.preset("azure", "m", base_url=server.url)
        with pytest.raises(AuthenticationError) as caught:
            provider.complete("Hi")
    assert "api-key" not in server.requests[0].headers
    assert "the key in AZURE_OPENAI_API_KEY goes only to the vendor's own" in str(caught.value)
    monkeypatch.delenv("AZURE_OPENAI_API_KEY")
    with serve(status(401, "Who?")) as server, pytest.raises(AuthenticationError) as caught:
        OpenAICompatible.preset("azure", "m", base_url=server.url).complete("Hi")
    assert "no key was set: use api_key= or AZURE_OPENAI_API_KEY" in str(caught.value)


def test_copies_keep_the_header_of_the_key_and_hide_it() -> None:
    """Pickled, copied; a server that quotes the key cannot show it in the error."""
    with serve(status(400, f"bad {KEY}"), protocol="openai") as server:
        provider = OpenAICompatible.preset("azure", "m", base_url=server.url, api_key=KEY)
        for each in (pickle.loads(pickle.dumps(provider)), copy.copy(provider), provider):
            with pytest.raises(APIStatusError) as caught:
                each.complete("Hi")
            assert server.requests[-1].headers["api-key"] == KEY
            assert KEY not in str(caught.value) + caught.value.body
            assert each.models_note == PRESETS["azure"].models_note


@pytest.mark.parametrize(
    ("name", "settings", "environ"),
    [
        ("groq", {"retry": 0}, {}),
        ("azure", {}, {}),
        ("bedrock", {}, {"AWS_REGION": "a/b"}),
        ("azure", {}, {"AZURE_OPENAI_ENDPOINT": f"https://me:{KEY}@x"}),
    ],
)
def test_key_of_the_environment_is_in_no_local_variable(
    name: str,
    settings: dict[str, Any],
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Error reports may show those of our functions."""
    for variable, value in {PRESETS[name].api_key_variable or "": KEY, **environ}.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidRequestError) as caught:
        OpenAICompatible.preset(name, "m", **settings)
    shown = [
        repr(frame.f_locals)
        for frame, _ in traceback.walk_tb(caught.value.__traceback__)
        if frame.f_globals["__name__"].startswith("providers_sync.")
    ]
    assert shown
    assert KEY not in "".join([*shown, str(caught.value)])


def test_function_gives_the_token() -> None:
    """As Vertex AI's tokens need it: asked for each request."""
    tokens = iter(["first", "second"])
    with serve("Hi", protocol="openai") as server:
        address = f"{server.url}/v1/projects/p/locations/global/endpoints/openapi"
        provider = OpenAICompatible.preset(
            "vertex", "google/gemini-3.5-flash", base_url=address, api_key=lambda: next(tokens)
        )
        for _ in range(2):
            provider.complete("Hi")
    sent = [request.headers["Authorization"] for request in server.requests]
    assert sent == ["Bearer first", "Bearer second"]


# --- the selection by the environment


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"GITHUB_TOKEN": KEY}, None),
        ({"HF_TOKEN": KEY}, None),
        ({"AWS_REGION": "us-east-1"}, None),
        ({"AWS_BEARER_TOKEN_BEDROCK": KEY}, None),
        ({"AZURE_OPENAI_API_KEY": KEY}, None),
        ({"AZURE_OPENAI_ENDPOINT": AZURE}, None),
        (
            {
                "GOOGLE_CLOUD_PROJECT": "p",
                "GOOGLE_CLOUD_LOCATION": "global",
                "GOOGLE_OAUTH_ACCESS_TOKEN": KEY,
            },
            None,
        ),
        ({"AWS_REGION": "us-east-1", "AWS_BEARER_TOKEN_BEDROCK": KEY}, "bedrock"),
        ({"AZURE_OPENAI_ENDPOINT": AZURE, "AZURE_OPENAI_API_KEY": KEY}, "azure"),
        ({"AZURE_OPENAI_API_KEY": KEY, "HF_TOKEN": KEY, "XAI_API_KEY": KEY}, "xai"),
        ({"CO_API_KEY": KEY}, "cohere"),
        ({"DEEPINFRA_TOKEN": KEY}, "deepinfra"),
        ({"GEMINI_API_KEY": KEY}, "gemini"),
    ],
)
def test_only_a_complete_configuration_selects_a_preset(
    environ: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that many machines have for other purposes select nothing; for the doctor too."""
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    assert doctor.configured_providers() == ([name] if name else list(PROVIDERS))
    if name:
        assert select_provider(environ).provider == name
        assert get_provider(name)._api_key == KEY
        assert get_provider(name).api_key_variable in environ
    else:
        with pytest.raises(InvalidRequestError, match="no provider is selected or configured"):
            select_provider(environ)


@pytest.mark.usefixtures("no_network")
def test_unusable_address_is_reported_by_the_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no reason to use another provider; the doctor has a finding."""
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "name")
    monkeypatch.setenv("XAI_API_KEY", KEY)
    assert main(["ask", "Hi"]) == 1
    assert "AZURE_OPENAI_ENDPOINT must be an http" in capsys.readouterr().err
    assert doctor.configured_providers() == ["azure", "xai"]
    [finding] = doctor.examine("azure")
    assert "AZURE_OPENAI_ENDPOINT must be an http" in str(finding)


# --- lists of models


@pytest.mark.parametrize(
    ("listed", "names"),
    [
        ({"data": [{"id": "a"}, {"id": "b", "name": "B"}]}, ["a", "b"]),
        ([{"id": "a"}, {"id": "b"}], ["a", "b"]),
        ({"models": [{"name": "a"}, {"id": None, "name": "b"}]}, ["a", "b"]),
        ({"models": [{"name": "x"}], "data": [{"id": "a"}]}, ["a"]),
        ({"models": []}, []),
        ({"models": None}, None),
        ({"data": {"id": "a"}}, None),
        ({"models": [{}]}, None),
        (["a"], None),
        ("a", None),
        (5, None),
    ],
)
def test_lists_in_other_shapes_are_read(listed: Any, names: list[str] | None) -> None:
    """Together sends an array, Cohere ``models`` with names; what is neither is an error."""
    with serve(json_body(listed)) as server:
        provider = OpenAICompatible(base_url=server.url)
        if names is not None:
            assert provider.list_models() == names
        else:
            with pytest.raises(MalformedStream, match="list of models does not follow"):
                provider.list_models()


def test_list_of_several_pages_is_read() -> None:
    """Cohere's has a token for the next one."""

    def pages(request: Request) -> Any:
        if "page_token=a%26b" in request.path:
            return json_body({"models": [{"name": "two"}]})
        return json_body({"models": [{"name": "one"}], "next_page_token": "a&b"})

    with serve(pages) as server:
        assert OpenAICompatible(base_url=f"{server.url}/v1").list_models() == ["one", "two"]
    assert [request.path for request in server.requests] == [
        "/v1/models",
        "/v1/models?page_token=a%26b",
    ]


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.models_note])
def test_server_without_a_list_is_explained(name: str) -> None:
    """The error of the server, and where the names are."""
    with serve(status(404, "Nothing here")) as server:
        provider = OpenAICompatible.preset(name, base_url=server.url)
        with pytest.raises(APIStatusError) as caught:
            provider.list_models()
    assert re.search(r"404.*Nothing here.*; ", str(caught.value))
    assert str(caught.value).endswith(PRESETS[name].models_note)


def test_question_without_a_model_is_told_about_deployments() -> None:
    """Azure lists many models, but a request needs something else."""
    with serve(json_body({"data": [{"id": "a"}, {"id": "b"}]})) as server:
        provider = OpenAICompatible.preset("azure", base_url=server.url)
        with pytest.raises(InvalidRequestError, match=r"lists 2: a, b; .* name of a deployment"):
            set_only_model(provider)


def test_models_prints_one_name_per_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the provider that ``ask`` selects; unprintable characters are made visible."""
    listed = {"data": [{"id": "b"}, {"id": "a\x1b[2J\nx"}, {"id": "b"}, {"id": ""}]}
    with serve(json_body(listed)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("PROVIDERS_SYNC_MODEL", "ignored")
        assert main(["models"]) == 0
        assert capsys.readouterr() == ("b\na␛[2J x\n", "")
        assert main(["models", "--provider", "groq", "--base-url", server.url, "--debug"]) == 0
        assert capsys.readouterr().err == "providers-sync: using groq, because of --provider\n"
        assert main(["models", "--provider", "azure", "--base-url", server.url]) == 0
        assert "name of a deployment" in capsys.readouterr().err
    with serve(json_body({"models": []})) as server:
        assert main(["models", "--base-url", server.url]) == 0
        assert capsys.readouterr() == ("", f"providers-sync: {server.url} lists no models\n")


@pytest.mark.usefixtures("no_network")
def test_models_without_a_list_on_the_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the class for the three historical protocols, which have no list."""
    assert main(["models", "--provider", "ai365vip"]) == 0
    assert capsys.readouterr().out.split() == PROVIDERS["ai365vip"].models
    monkeypatch.setenv("PROVIDERS_SYNC_PROVIDER", "vitalentum")
    monkeypatch.setenv("PROVIDERS_SYNC_MODEL", "unknown")
    assert main(["models"]) == 0
    assert capsys.readouterr().out == "gpt-3.5-turbo\n"
    monkeypatch.setattr(PROVIDERS["ai365vip"], "models", [])
    with pytest.raises(InvalidRequestError, match="AI365VIP has no list of models"):
        models_of(get_provider("ai365vip"))


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (status(401, "Who?"), "no key was set: use api_key= or OPENAI_API_KEY"),
        (stall(), "longer than 0.3 s in total"),
        (json_body({"oops": 1}), "does not follow the protocol"),
    ],
)
def test_models_reports_a_failure_in_one_line(
    script: Any,
    expected: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Soon, and with code 1, as every command."""
    monkeypatch.setattr(provider_selection, "MODEL_LIST_S", 0.3)
    with serve(script) as server:
        assert main(["models", "--base-url", server.url]) == 1
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    assert (out, expected in line) == ("", True), line
