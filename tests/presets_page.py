"""Generates docs/presets.md from the presets.

PYTHONPATH=tests:. python -m presets_page
"""

from __future__ import annotations

from pathlib import Path

from providers_sync.providers.presets import PRESETS, Preset

PAGE = Path(__file__).parents[1] / "docs" / "presets.md"

HEAD = """# Presets: Azure, Bedrock, Vertex AI and other servers

A preset is the name of a known server that speaks OpenAI's chat completions. It sets the address
and takes the key from the environment:

```python
from providers_sync import OpenAICompatible

provider = OpenAICompatible.preset("openrouter", "openai/gpt-oss-120b")
```

Everything else is the same as for `OpenAICompatible`, and `--provider NAME` on the command line
takes the same names. Pass what a preset needs as the setting, or put it into the variable; without
an address, `InvalidRequestError` is raised and nothing is sent. The model names are examples;
`providers-sync models --provider NAME` prints those of the server.

| preset | server | address | needs | line |
|---|---|---|---|---|
"""

HOSTS = {
    "azure": [
        "*.openai.azure.com",
        "*.cognitiveservices.azure.com",
        "*.services.ai.azure.com",
        "*.openai.azure.us",
    ],
    "bedrock": [
        "bedrock-runtime.REGION.amazonaws.com",
        "bedrock-runtime-fips.REGION.amazonaws.com",
        "bedrock-mantle.REGION.api.aws",
    ],
    "dashscope": [
        "dashscope.aliyuncs.com",
        "dashscope-intl.aliyuncs.com",
        "dashscope-us.aliyuncs.com",
        "*.REGION.maas.aliyuncs.com",
    ],
    "moonshot": ["api.moonshot.ai", "api.moonshot.cn"],
    "vertex": [
        "aiplatform.googleapis.com",
        "LOCATION-aiplatform.googleapis.com",
        "aiplatform.LOCATION.rep.googleapis.com",
    ],
    "zai": ["api.z.ai"],
}
"""The patterns of the presets, in words."""

TAIL = """
`PYTHONPATH=tests:. python -m presets_page` generates this page from the presets. The tests compare
the two, and run every line.

## Azure

The address is that of your resource, with or without `/openai/v1`. The model name is the name of
your deployment. The key is sent in the header `api-key`. Version 1 of the API needs no
`api-version`; if a preview feature requires one, pass `query={"api-version": "preview"}`.

For Microsoft Entra ID tokens, which expire, do not use the preset: `OpenAICompatible` with the
address as `base_url=` and a function as `api_key=` sends them as a bearer token
([keys that expire](connections.md#keys-that-expire)).

## Bedrock

The key is an Amazon Bedrock API key; requests are not signed with other AWS credentials. The
variable `AWS_DEFAULT_REGION` is also read. Some models answer only at
`https://bedrock-mantle.REGION.api.aws/v1`, which also has a list of models: pass it as `base_url=`
or in `AWS_BEDROCK_BASE_URL`.

## Vertex AI

The key is an access token, which expires within an hour. In a program, pass a function that renews
it ([keys that expire](connections.md#keys-that-expire)); on the command line, this is enough:

```console
$ export GOOGLE_CLOUD_PROJECT=my-project GOOGLE_CLOUD_LOCATION=global
$ export GOOGLE_OAUTH_ACCESS_TOKEN=$(gcloud auth print-access-token)
$ providers-sync ask --provider vertex --model google/gemini-3.5-flash "Why do cats purr?"
```

The location `global` has the address
`https://aiplatform.googleapis.com/v1/projects/PROJECT/locations/global/endpoints/openapi`.
`Gemini` speaks Google's own protocol to Vertex AI.

## Where a key from the environment goes

It goes to the address in the table, to the address set in the environment, and to a `base_url=`
with `https:` and one of the vendor's own hosts:

| preset | hosts |
|---|---|
{hosts}

Any other `base_url=` gets only the key that you pass as `api_key=`.

Commands without `--provider` choose a preset if its key is set and its address is known
([in this order](terminal.md#provider-choice)). `HF_TOKEN`, `GITHUB_TOKEN` and
`GOOGLE_OAUTH_ACCESS_TOKEN` do not choose a preset, because they are usually set for other purposes.
"""


def page() -> str:
    """Return the text of docs/presets.md."""
    rows = "\n".join(_row(name, preset) for name, preset in PRESETS.items())
    hosts = "\n".join(
        f"| `{name}` | {', '.join(f'`{host}`' for host in each)} |" for name, each in HOSTS.items()
    )
    return f"{HEAD}{rows}\n{TAIL.replace('{hosts}', hosts)}"


def line(name: str, preset: Preset) -> str:
    """Return the line of Python that makes the provider."""
    address = f', base_url="{preset.base_url}"' if "base_url" in preset.needs else ""
    return f'OpenAICompatible.preset("{name}", "{preset.model}"{address})'


def _row(name: str, preset: Preset) -> str:
    code = f"`{line(name, preset)}`"
    cells = [f"`{name}`", preset.note, f"`{preset.base_url}`", _needs(preset), code]
    return "| " + " | ".join(cells) + " |"


def _needs(preset: Preset) -> str:
    keys = filter(None, (preset.api_key_variable, *preset.other_key_variables))
    variables = {
        "base_url": preset.address_variables.split(" or "),
        "api_key": list(keys),
    }
    return "; ".join(
        " or ".join([f"`{setting}=`", *map(_code, variables[setting])]) for setting in preset.needs
    )


def _code(words: str) -> str:
    return " and ".join(f"`{name}`" for name in words.split(" and "))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
