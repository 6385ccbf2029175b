"""Typed answers: ``provider.complete("A pancake recipe", into=Recipe).value`` is a ``Recipe``."""

from .prepare import prepare_typed
from .stream import TypedCompletion, TypedStream
from .targets import Target

__all__ = ["Target", "TypedCompletion", "TypedStream", "prepare_typed"]
