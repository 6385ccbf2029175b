"""The official clients for the tests, and the data of their requests.

Those of OpenAI and Anthropic are set to validate every object they receive, which they do not by
default; Google's and Ollama's always do.
"""

from __future__ import annotations

from typing import Any

import anthropic
import ollama
import openai
from google import genai
from pydantic import BaseModel

from providers_sync.gateway import Gateway

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
BLOCK_TOOL = {"name": "weather", "description": "Of a city", "input_schema": SCHEMA}
CALLS = 'call weather {"city": "Rome, Italy"}\ncall weather {"city": "Łódź 😀"}'
CITIES = [{"city": "Rome, Italy"}, {"city": "Łódź 😀"}]
PIXEL = "iVBORw0KGgo="
NO_TLS: Any = {"verify": False}
"""For addresses without TLS: to load the certificates takes longer than a test."""


class Person(BaseModel):
    """The form of a structured answer."""

    name: str
    age: int
    tags: list[str]


def openai_client(gateway: Gateway, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=gateway.url("openai"), api_key=key, max_retries=0, _strict_response_validation=True
    )


def anthropic_client(gateway: Gateway, key: str = "any") -> anthropic.Anthropic:
    return anthropic.Anthropic(
        base_url=gateway.url("anthropic"),
        api_key=key,
        max_retries=0,
        _strict_response_validation=True,
    )


def gemini_client(gateway: Gateway, key: str = "any") -> genai.Client:
    options = genai.types.HttpOptions(base_url=gateway.url() + "/gemini", client_args=NO_TLS)
    return genai.Client(api_key=key, http_options=options)


def ollama_client(gateway: Gateway, key: str = "any") -> ollama.Client:
    headers = {"Authorization": f"Bearer {key}"}
    return ollama.Client(gateway.url("ollama"), headers=headers, **NO_TLS)
