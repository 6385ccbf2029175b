"""Typed answers: ``provider.complete("A pancake recipe", into=Recipe).value`` is a ``Recipe``."""

from .prepare import prepare_typed
from .stream import TypedCompletion, TypedStream, item_steps, partial_steps, value_steps
from .targets import Target

__all__ = [
    "Target",
    "TypedCompletion",
    "TypedStream",
    "item_steps",
    "partial_steps",
    "prepare_typed",
    "value_steps",
]
