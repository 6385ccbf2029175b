"""Anthropic: the Messages protocol, and OpenAI's options translated to it."""

from __future__ import annotations

from typing import Any

from .. import decoding
from ..config import ANTHROPIC_MAX_TOKENS
from ..messages import lift_system, to_anthropic_blocks
from ..types import Decoder, Messages
from .base import Provider, build_body


class Anthropic(Provider):
    """``Anthropic("claude-sonnet-4-5", api_key=…).stream("Hello")``.

    Messages, ``tools``, ``tool_choice``, ``stop`` and a JSON schema in ``response_format`` may be
    in OpenAI's form or in Anthropic's own; images are passed as for ``OpenAICompatible``.
    ``max_tokens``, which the protocol requires, defaults to 4096. Source of the protocol:
    Anthropic API reference, "Messages" and "Streaming Messages", version 2023-06-01.
    """

    url = "https://api.anthropic.com"
    protocol = decoding.AnthropicDecoder.protocol
    api_endpoint = "/v1/messages"
    default_base_url = url
    base_url_variable = "ANTHROPIC_BASE_URL"
    api_key_variable = "ANTHROPIC_API_KEY"
    headers = {"Accept": "text/event-stream", "anthropic-version": "2023-06-01"}

    def authorization(self, api_key: str) -> dict[str, str]:
        """Return the protocol's own header for the key."""
        return {"x-api-key": api_key}

    def body(self, messages: Messages, model: str, options: dict[str, Any]) -> dict[str, Any]:
        """Return the body: system messages in ``system``, tool results as user turns."""
        system, turns = lift_system(messages)
        base = {
            "model": model,
            "max_tokens": ANTHROPIC_MAX_TOKENS,
            "system": system or None,
            "messages": to_anthropic_blocks(turns),
            "stream": True,
        }
        return build_body(base, _translate_options(options))

    def decoder(self, content_type: str = "") -> Decoder:
        """Return a decoder of the protocol's events; ``message_stop`` is the end marker."""
        return decoding.AnthropicDecoder(content_type)


def _translate_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options with OpenAI's names and forms translated; others unchanged."""
    options = dict(options)
    if isinstance(stop := options.pop("stop", None), (str, list, tuple)):
        options["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if "max_completion_tokens" in options:
        options.setdefault("max_tokens", options.pop("max_completion_tokens"))
    if isinstance(tools := options.get("tools"), (list, tuple)):
        options["tools"] = [_tool(tool) for tool in tools]
    if (choice := options.get("tool_choice")) is not None:
        options["tool_choice"] = _tool_choice(choice)
    response_format = options.get("response_format")
    if isinstance(response_format, dict) and response_format.get("type") == "json_schema":
        del options["response_format"]
        schema = {"type": "json_schema", "schema": response_format["json_schema"]["schema"]}
        options["output_config"] = {**options.get("output_config", {}), "format": schema}
    return options


def _tool(tool: Any) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict):
        return tool
    base = {"name": function.get("name"), "description": function.get("description")}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return build_body(base, {"input_schema": schema})


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return {"type": "any" if choice == "required" else choice}
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        return {"type": "tool", "name": choice["function"].get("name")}
    return choice
