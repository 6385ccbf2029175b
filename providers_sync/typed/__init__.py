"""Typed answers: ``provider.complete("A pancake recipe", into=Recipe).value`` is a ``Recipe``."""

from .prepare import prepare_typed, typed_arguments
from .reading import read_value
from .rounds import TypedCompletion
from .stream import TypedStream, item_steps, partial_steps, plain_value, value_steps
from .targets import Target

__all__ = [
    "Target",
    "TypedCompletion",
    "TypedStream",
    "item_steps",
    "partial_steps",
    "plain_value",
    "prepare_typed",
    "read_value",
    "typed_arguments",
    "value_steps",
]
