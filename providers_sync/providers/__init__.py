"""The table of providers: name → class, as the command line and the gateway know them."""

from __future__ import annotations

from .ai365vip import AI365VIP
from .base import Provider
from .codelinkava import CodeLinkAva
from .openai import OpenAICompatible
from .vitalentum import Vitalentum

PROVIDERS: dict[str, type[Provider]] = {
    "vitalentum": Vitalentum,
    "codelinkava": CodeLinkAva,
    "ai365vip": AI365VIP,
    "openai": OpenAICompatible,
}

__all__ = ["AI365VIP", "PROVIDERS", "CodeLinkAva", "OpenAICompatible", "Provider", "Vitalentum"]
