"""Turns an annotation into a JSON schema, and plain JSON into the argument that it describes.

Simple types need nothing; every other one is pydantic's, which is imported for it only.
"""

from __future__ import annotations

import typing
from typing import Any

from ..errors import InvalidRequestError
from .simple_types import MAX_MISTAKES, ArgumentType, Mistakes, location, simple_type, text_of


def argument_type(annotation: Any, owner: str) -> ArgumentType:
    """Return what an annotation says.

    ``owner`` is what is annotated, for errors. Raises ``InvalidRequestError`` for a type that
    needs pydantic where that is not installed, and for one that no JSON schema describes.
    """
    return simple_type(annotation) or _by_pydantic(annotation, owner)


def description_in(annotation: Any) -> str:
    """Return the description in ``Annotated``: a text, a ``Doc`` (PEP 727) or pydantic's ``Field``.

    >>> description_in(typing.Annotated[str, "A city."])
    'A city.'
    """
    if typing.get_origin(annotation) is not typing.Annotated:
        return ""
    return "\n".join(filter(None, map(text_of, typing.get_args(annotation)[1:])))


def accepts_none(kind: ArgumentType) -> bool:
    """Return whether a value may be ``None``."""
    mistakes: Mistakes = []
    kind.read(None, "", mistakes)
    return not mistakes


def _by_pydantic(annotation: Any, owner: str) -> ArgumentType:
    from ..typed.targets import INSTALL, InvalidValue, MissingPydanticError, adapt_type

    named = f"{owner} is annotated as {_name(annotation)}"
    remedy = "or bind it with functools.partial, so that the model does not pass it"
    try:
        schema, validate = adapt_type(annotation)
    except MissingPydanticError as error:
        raise InvalidRequestError(f"{named}, which needs {error}: {INSTALL}; {remedy}") from error
    except TypeError as error:
        raise InvalidRequestError(
            f"{named}, for which pydantic has no JSON schema: annotate it with a type that JSON "
            f"can represent, {remedy} ({error!s:.300})"
        ) from error.__cause__

    def read(value: Any, name: str, mistakes: Mistakes) -> Any:
        try:
            return validate(value)
        except InvalidValue as error:
            for each in error.errors[: MAX_MISTAKES + 1]:
                mistakes.append(f"{name}{location(each['loc'], '.')}: {each['msg']}")

    return ArgumentType(schema, read)


def _name(annotation: Any) -> str:
    is_class = isinstance(annotation, type) and not typing.get_args(annotation)
    return annotation.__qualname__ if is_class else f"{annotation!r:.80}"
