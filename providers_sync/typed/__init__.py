"""Typed answers: ``provider.complete("A pancake recipe", into=Recipe).value`` is a ``Recipe``."""

from .json_form import to_json
from .prepare import prepare_typed, typed_arguments
from .reading import read_value
from .rounds import TypedCompletion, rejected_texts, shown_value
from .stream import TypedStream, item_steps, partial_steps, plain_so_far, value_steps
from .targets import Target

__all__ = [
    "Target",
    "TypedCompletion",
    "TypedStream",
    "item_steps",
    "partial_steps",
    "plain_so_far",
    "prepare_typed",
    "read_value",
    "rejected_texts",
    "shown_value",
    "to_json",
    "typed_arguments",
    "value_steps",
]
