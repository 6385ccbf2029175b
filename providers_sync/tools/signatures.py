"""Reads how a function is called: its name, docstring and parameters, and which of them are bound.

``inspect`` follows decorators that use ``functools.wraps``; annotations that are texts are resolved
one at a time, so that only those of the parameters need to be known.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import InvalidRequestError
from ..stream import CancelToken

EMPTY = inspect.Parameter.empty
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ASYNC = "is async: give a function that returns the value, for example with asyncio.run()"


def innermost(function: Any) -> Any:
    """Return the function in a ``functools.partial``."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def checked_function(function: Any) -> Any:
    """Return a function that can be a tool.

    Raises ``InvalidRequestError`` for a class, for what cannot be called, and for async functions.
    """
    inner = innermost(function)
    named = getattr(inner, "__name__", None) or type(inner).__name__
    if isinstance(inner, type):
        raise InvalidRequestError(
            f"{named} is a class: pass a function that creates an object, or an object's method"
        )
    if not callable(inner):
        raise InvalidRequestError(f"a tool must be a function, not {type(inner).__name__}")
    # ``type(inner)``: of a callable object its ``__call__`` may be async
    for each in (inner, type(inner).__call__):
        if inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each):
            raise InvalidRequestError(f"{named} {_ASYNC}")
        if inspect.isgeneratorfunction(each):
            raise InvalidRequestError(f"{named} is a generator: make it return a list")
    return function


def checked_name(name: object, function: Any) -> str:
    """Return the name given, or that of the function; raise ``InvalidRequestError``."""
    inner = innermost(function)
    given = name
    if name is None:
        name = getattr(inner, "__name__", None) or type(inner).__name__
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    remedy = "use" if given is not None else "use Tool(function, name=…) with"
    raise InvalidRequestError(
        f"{name!r:.80} is not a valid tool name: {remedy} 1 to 64 characters from "
        "a-z, A-Z, 0-9, _ and -"
    )


def docstring(function: Any) -> str:
    """Return the docstring; that of a callable object's class, if its ``__call__`` has none."""
    inner = innermost(function)
    if inspect.isroutine(inner):
        return inspect.getdoc(inner) or ""
    kind = type(inner)
    text = kind.__call__.__doc__ or kind.__doc__ or ""
    made = dataclasses.is_dataclass(kind) and text.startswith(f"{kind.__name__}(")
    return "" if made else text


def approval(function: Any) -> object:
    """Return the attribute ``needs_approval`` of a function, or of the one in a partial."""
    while True:
        value = getattr(function, "needs_approval", None)
        if value is not None or not isinstance(function, functools.partial):
            return value
        function = function.func


class Signature:
    """The parameters of a function that are not yet bound.

    Raises ``InvalidRequestError`` for a method without its object.
    """

    def __init__(self, function: Any, name: str) -> None:
        self._owner = f"tool {name!r}"
        self._globals = _globals(function)
        self._unknown: Exception | None = None
        self.all_names: set[str] = set()
        """Those of the bound parameters too."""
        self.parameters: list[inspect.Parameter] = []
        bound: set[str] = set()
        inner = function
        while isinstance(inner, functools.partial):
            bound |= inner.keywords.keys()
            inner = inner.func
        try:
            self.all_names |= _signature(inner).parameters.keys()
            parameters = _signature(function).parameters
            self.parameters = [each for each in parameters.values() if each.name not in bound]
        except (ValueError, TypeError) as error:  # of a function in C
            self._unknown = error
        self._check_object(inner)
        self.cancel_names = {each.name for each in self.parameters if self._takes_token(each)}

    def _check_object(self, function: Any) -> None:
        first = next(iter(self.parameters), None)
        path = getattr(function, "__qualname__", "").split(".")
        is_method = len(path) > 1 and path[-2] != "<locals>" and inspect.isfunction(function)
        if is_method and first is not None and first.name in ("self", "cls"):
            raise InvalidRequestError(
                f"{self._owner}: {'.'.join(path)} has no object to work on: pass the method of an "
                f"object, {path[-2]}(…).{path[-1]}"
            )

    def owner_of(self, parameter: inspect.Parameter) -> str:
        return f"{self._owner}: the parameter {parameter.name!r}"

    def check_describable(self) -> None:
        """Raise ``InvalidRequestError`` for parameters that have no names."""
        if self._unknown is not None:
            raise InvalidRequestError(
                f"{self._owner}: Python cannot inspect the parameters of the function: pass "
                "their JSON schema to Tool(function, parameters=…)"
            ) from self._unknown
        for each in self.parameters:
            if each.kind in _VARIABLE:
                stars = "*" if each.kind is inspect.Parameter.VAR_POSITIONAL else "**"
                instead = "a list" if stars == "*" else "a dict"
                raise InvalidRequestError(
                    f"{self._owner}: {stars}{each.name} does not tell the model what to pass: use "
                    f"{instead}, or give Tool(function, parameters=…) a JSON schema (a decorator "
                    "should use functools.wraps)"
                )

    def annotation_of(self, parameter: inspect.Parameter) -> Any:
        """Return the annotation; ``EMPTY`` if there is none.

        Raises ``InvalidRequestError`` if it is a text, or contains one, that cannot be resolved.
        """
        annotation = parameter.annotation
        if annotation is EMPTY:
            return EMPTY

        try:
            return _with_references(self._resolved(annotation), self._resolved)
        except (NameError, AttributeError, SyntaxError, TypeError, ValueError) as error:
            text = getattr(annotation, "__forward_arg__", annotation)
            raise InvalidRequestError(
                f"{self.owner_of(parameter)} is annotated as {text!r:.80}, which cannot be resolved"
                f" ({error!s:.200}): import or define it where the function's module is loaded, "
                "not inside a function or for type checkers only"
            ) from error

    def _resolved(self, annotation: Any) -> Any:
        def holder() -> None: ...

        holder.__annotations__ = {"it": annotation}
        return typing.get_type_hints(holder, self._globals, include_extras=True)["it"]

    def _takes_token(self, parameter: inspect.Parameter) -> bool:
        try:
            return parameter.kind not in _VARIABLE and _is_token(self.annotation_of(parameter))
        except InvalidRequestError:  # raised again where the annotation matters
            return False

    def check_call(self, values: Mapping[str, Any]) -> None:
        """Raise ``TypeError`` if the function cannot be called with these values."""
        if self._unknown is None:
            by_position, by_name = self.arranged(values)
            inspect.Signature(self.parameters).bind(*by_position, **by_name)

    def arranged(self, values: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments by position and by name."""
        by_name = dict(values)
        by_position = []
        for each in self.parameters:
            if each.kind is inspect.Parameter.POSITIONAL_ONLY:
                if each.name not in by_name and each.default is EMPTY:
                    break
                by_position.append(by_name.pop(each.name, each.default))
        return by_position, by_name


def _is_token(annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Annotated:
        return _is_token(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        kinds = [each for each in typing.get_args(annotation) if each is not type(None)]
        return kinds == [CancelToken]
    return annotation is CancelToken


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # annotations are evaluated only now: not all can be
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)


def _globals(function: Any) -> dict[str, Any]:
    """Return the names that a function's annotations may use."""
    inner = innermost(function)
    if not inspect.isroutine(inner):
        inner = type(inner).__call__
    inner = inspect.unwrap(getattr(inner, "__func__", inner))
    return getattr(inner, "__globals__", {})


def _with_references(annotation: Any, resolved: Callable[[str], Any]) -> Any:
    """Return a type without texts in ``list['Color']``, which Python 3.10 leaves there."""
    if not isinstance(annotation, types.GenericAlias):
        return annotation
    origin: Any = annotation.__origin__
    return origin[
        tuple(
            resolved(each) if isinstance(each, str) else _with_references(each, resolved)
            for each in typing.get_args(annotation)
        )
    ]
