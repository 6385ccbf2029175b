"""Bytes → events → deltas: pure, no I/O; one decoder a protocol."""

from __future__ import annotations

from .anthropic import anthropic
from .chat import chat, plain
from .pieces import whole

__all__ = ["anthropic", "chat", "plain", "whole"]
