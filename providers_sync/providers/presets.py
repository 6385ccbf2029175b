"""Presets: known servers of OpenAI's protocol, their addresses, and the keys that they need."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ..errors import InvalidRequestError
from .validation import mask_argument, validate_url

_AWS_REGION = r"[a-z]{2}(-[a-z]+)+-\d"
"""No other label: a bucket of anybody's may be called ``bedrock-runtime.s3.amazonaws.com``."""


class Preset(NamedTuple):
    """A known server that speaks OpenAI's protocol."""

    base_url: str
    """Its address. The parts in capital letters depend on the user's account."""
    api_key_variable: str | None
    note: str
    model: str = "MODEL"
    """A model of it, for the documentation."""
    other_key_variables: tuple[str, ...] = ()
    key_header: str | None = None
    """The header of the key; ``None`` for ``Authorization: Bearer``."""
    base_url_variable: str | None = None
    """The variable that names the address as a whole."""
    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """The parts of ``base_url`` in capital letters, each with the variables that may hold it."""
    hosts: str = ""
    """A pattern: further hosts of the vendor's own, which may receive the environment's key too."""
    is_selected_by_key: bool = True
    """False if the key is usually set for something else."""
    models_note: str = ""
    """What to know of the list of models, or where the names are if the server has no list."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The settings that the preset needs, unless the environment has them."""
        needed = {"base_url": bool(self.parts), "api_key": bool(self.api_key_variable)}
        return tuple(name for name, is_needed in needed.items() if is_needed)

    @property
    def address_variables(self) -> str:
        """The variables that name the address, in words; empty if none does."""
        filling = " and ".join(variables[0] for _, variables in self.parts if variables)
        return " or ".join(filter(None, [filling, self.base_url_variable]))

    def find_key(self, environ: Mapping[str, str] | None = None) -> tuple[str, str] | None:
        """Return the key in the environment, by default that of the process, and its variable."""
        for variable in filter(None, (self.api_key_variable, *self.other_key_variables)):
            if key := _read(variable, environ):
                return key, variable
        return None

    def find_address(self, environ: Mapping[str, str] | None = None) -> str | None:
        """Return the address of the vendor, or that which the environment names.

        Returns ``None`` if a part of it is unknown; raises ``InvalidRequestError`` for a variable
        that cannot be an address or a part of one.
        """
        variable = self.base_url_variable
        if variable and (named := mask_argument(_read(variable, environ).strip())):
            return self.with_path(validate_url(named, variable))
        address = self.base_url
        for part, variables in self.parts:
            found = next((each for each in variables if _read(each, environ)), None)
            if found is None:
                return None
            value = _read(found, environ).strip()
            if not re.fullmatch(r"[\w-]+", value, re.ASCII):
                raise InvalidRequestError(
                    f"{found} may contain only letters, digits and hyphens, not {value[:60]!r}"
                )
            address = address.replace(part, value)
        # The region that Google calls "global" has no part in the name of its host.
        return address.replace("https://global-", "https://")

    def with_path(self, url: str) -> str:
        """Return the address; if its path ends too early, as that which Azure shows, completed."""
        path, own = urlsplit(url).path.rstrip("/"), urlsplit(self.base_url).path
        is_short = self.base_url_variable and own.startswith(f"{path}/")
        return url.rstrip("/") + own[len(path) :] if is_short else url

    def owns(self, url: object) -> bool:
        """Return whether an address certainly is one of the vendor's own."""
        if not isinstance(url, str):
            return False
        if url.rstrip("/") == self.base_url:
            return True
        try:
            parts = urlsplit(url)
            is_safe = parts.scheme == "https" and parts.port in (None, 443)
        except ValueError:
            return False
        host = parts.hostname
        return bool(host and is_safe and re.fullmatch(self.hosts, host))

    def configured_by(self, environ: Mapping[str, str] | None = None) -> str | None:
        """Return the variable of the key if the environment alone selects the preset.

        An address that cannot be one selects it, too: the error names it when it is used.
        """
        found = self.find_key(environ) if self.is_selected_by_key else None
        if found is None:
            return None
        try:
            return found[1] if self.find_address(environ) else None
        except InvalidRequestError:
            return found[1]


def _read(variable: str, environ: Mapping[str, str] | None) -> str:
    """Return a variable's value; empty if it is not set.

    The environment of the process stays out of local variables, which error reports may show.
    """
    return (os.environ if environ is None else environ).get(variable, "")


def complete_settings(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a provider, with the preset's address and the environment's key.

    The key is added only for an address of the vendor's, and for that which the environment names.
    Raises ``InvalidRequestError`` if the address is unknown.
    """
    preset = PRESETS[name]
    address = settings.get("base_url")
    is_trusted = address is None or preset.owns(address)
    if address is None:
        address = preset.find_address()
    elif is_trusted:
        address = preset.with_path(address)
    if address is None:
        raise InvalidRequestError(
            f"the preset {name!r} needs base_url= (on the command line: --base-url) in the form "
            f"{preset.base_url}, or the environment variable {preset.address_variables}"
        )
    settings = {**settings, "base_url": address}
    if is_trusted and (found := preset.find_key()):
        settings.setdefault("api_key", found[0])
    return settings


PRESETS = {
    "azure": Preset(
        "https://RESOURCE.openai.azure.com/openai/v1",
        "AZURE_OPENAI_API_KEY",
        "Azure OpenAI and Microsoft Foundry, API v1",
        "DEPLOYMENT",
        key_header="api-key",
        base_url_variable="AZURE_OPENAI_ENDPOINT",
        parts=(("RESOURCE", ()),),
        hosts=r"[a-z0-9-]+\.(openai|cognitiveservices|services\.ai)\.azure\.(com|us)",
        models_note="Azure lists its base models, but a request needs the name of a deployment, "
        "which the portal and `az cognitiveservices account deployment list` show",
    ),
    "bedrock": Preset(
        "https://bedrock-runtime.REGION.amazonaws.com/openai/v1",
        "AWS_BEARER_TOKEN_BEDROCK",
        "Amazon Bedrock",
        "openai.gpt-oss-120b-1:0",
        base_url_variable="AWS_BEDROCK_BASE_URL",
        parts=(("REGION", ("AWS_REGION", "AWS_DEFAULT_REGION")),),
        hosts=rf"bedrock-runtime(-fips)?\.{_AWS_REGION}\.amazonaws\.com"
        rf"|bedrock-mantle\.{_AWS_REGION}\.api\.aws",
        models_note="of Bedrock's addresses, only bedrock-mantle has a list of models; "
        "`aws bedrock list-foundation-models` shows them",
    ),
    "cerebras": Preset(
        "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY", "Cerebras", "gpt-oss-120b"
    ),
    "cohere": Preset(
        "https://api.cohere.ai/compatibility/v1",
        "COHERE_API_KEY",
        "Cohere",
        "command-a-03-2025",
        other_key_variables=("CO_API_KEY",),
    ),
    "dashscope": Preset(
        "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        "Alibaba Cloud Model Studio (Qwen), Singapore",
        "qwen-plus",
        hosts=r"dashscope(-intl|-us)?\.aliyuncs\.com|[a-z0-9-]+\.[a-z0-9-]+\.maas\.aliyuncs\.com",
    ),
    "deepinfra": Preset(
        "https://api.deepinfra.com/v1/openai",
        "DEEPINFRA_API_KEY",
        "DeepInfra",
        "openai/gpt-oss-120b",
        other_key_variables=("DEEPINFRA_TOKEN",),
    ),
    "deepseek": Preset(
        "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "DeepSeek", "deepseek-v4-flash"
    ),
    "fireworks": Preset(
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "Fireworks AI",
        "accounts/fireworks/models/gpt-oss-120b",
    ),
    "gemini": Preset(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        "Google Gemini",
        "gemini-3.5-flash",
    ),
    "github": Preset(
        "https://models.github.ai/inference",
        "GITHUB_TOKEN",
        "GitHub Models (retired on 30 July 2026, GitHub says)",
        "openai/gpt-4.1",
        is_selected_by_key=False,  # set in every job of GitHub Actions
        models_note="GitHub lists its models at https://models.github.ai/catalog/models",
    ),
    "groq": Preset("https://api.groq.com/openai/v1", "GROQ_API_KEY", "Groq", "openai/gpt-oss-120b"),
    "huggingface": Preset(
        "https://router.huggingface.co/v1",
        "HF_TOKEN",
        "Hugging Face Inference Providers",
        "openai/gpt-oss-120b",
        is_selected_by_key=False,  # set to download models
    ),
    "llamacpp": Preset("http://127.0.0.1:8080/v1", None, "llama-server on this machine", "qwen3"),
    "lmstudio": Preset("http://127.0.0.1:1234/v1", None, "LM Studio on this machine", "qwen3"),
    "mistral": Preset(
        "https://api.mistral.ai/v1", "MISTRAL_API_KEY", "Mistral AI", "mistral-small-latest"
    ),
    "moonshot": Preset(
        "https://api.moonshot.ai/v1",
        "MOONSHOT_API_KEY",
        "Moonshot AI (Kimi)",
        "kimi-k3",
        hosts=r"api\.moonshot\.(ai|cn)",
    ),
    "nvidia": Preset(
        "https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", "NVIDIA", "openai/gpt-oss-120b"
    ),
    "ollama": Preset("http://127.0.0.1:11434/v1", None, "Ollama on this machine", "qwen3"),
    "openrouter": Preset(
        "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY", "OpenRouter", "openai/gpt-oss-120b"
    ),
    "perplexity": Preset(
        "https://api.perplexity.ai",
        "PERPLEXITY_API_KEY",
        "Perplexity",
        "sonar",
        models_note="Perplexity has no list of its chat completions models: they are sonar, "
        "sonar-pro and the others at https://docs.perplexity.ai",
    ),
    "sambanova": Preset(
        "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY", "SambaNova", "gpt-oss-120b"
    ),
    "together": Preset(
        "https://api.together.xyz/v1", "TOGETHER_API_KEY", "Together AI", "openai/gpt-oss-120b"
    ),
    "vertex": Preset(
        "https://LOCATION-aiplatform.googleapis.com/v1/projects/PROJECT/locations/LOCATION"
        "/endpoints/openapi",
        "GOOGLE_OAUTH_ACCESS_TOKEN",
        "Google Vertex AI",
        "google/gemini-3.5-flash",
        parts=(
            ("PROJECT", ("GOOGLE_CLOUD_PROJECT",)),
            ("LOCATION", ("GOOGLE_CLOUD_LOCATION",)),
        ),
        hosts=r"([a-z0-9-]+-)?aiplatform\.googleapis\.com|aiplatform\.[a-z]+\.rep\.googleapis\.com",
        is_selected_by_key=False,  # set for Terraform
        models_note="Vertex AI has no list of models at this address; each name begins with the "
        "publisher's, as in google/gemini-3.5-flash",
    ),
    "vllm": Preset("http://127.0.0.1:8000/v1", None, "vLLM on this machine", "qwen3"),
    "xai": Preset("https://api.x.ai/v1", "XAI_API_KEY", "xAI", "grok-4.3"),
    "zai": Preset(
        "https://api.z.ai/api/paas/v4",
        "ZAI_API_KEY",
        "Z.ai",
        "glm-5",
        hosts=r"api\.z\.ai",
    ),
}
