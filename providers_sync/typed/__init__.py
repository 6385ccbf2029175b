"""Typed answers: ``provider.complete("A pancake recipe", into=Recipe).value`` is a ``Recipe``."""

from .prepare import checked_repairs, prepare_typed
from .reading import read_value
from .stream import TypedCompletion, TypedStream, item_steps, partial_steps, value_steps
from .targets import Target

__all__ = [
    "Target",
    "TypedCompletion",
    "TypedStream",
    "checked_repairs",
    "item_steps",
    "partial_steps",
    "prepare_typed",
    "read_value",
    "value_steps",
]
