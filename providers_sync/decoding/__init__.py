"""Bytes → events → deltas: pure, no I/O; one decoder a protocol."""

from __future__ import annotations

from .anthropic import anthropic
from .chat import chat, plain
from .pieces import WRONG_SHAPE, parse, printable, whole

__all__ = ["WRONG_SHAPE", "anthropic", "chat", "parse", "plain", "printable", "whole"]
