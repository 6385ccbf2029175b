"""``Tool``: a function that a model may call, with its name, description and JSON schema."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from ..encoding.options import function_of
from ..errors import InvalidRequestError
from ..printable import one_line
from ..stream import CancelToken
from .docstrings import split_docstring
from .parameters import FunctionParameters, SchemaParameters
from .results import result_text
from .signatures import Signature, approval, checked_function, checked_name, docstring
from .simple_types import MAX_MISTAKES, kind_of

STOPPED = "(The function was told to stop, so this may not be all.)"
"""Added to what a function returns whose ``CancelToken`` was cancelled."""
MESSAGE_PART = 300
"""Characters of a line that tells the model about one mistake."""


class InvalidArguments(ValueError):
    """The arguments of a call do not fit; the message tells the model how to fix them."""


class Tool:
    """A function that a model may call.

    A parameter annotated as ``CancelToken`` gets the call's token. Arguments that
    ``functools.partial`` has bound are not parameters: the model neither sees nor sets them. It
    does see default values.

    Args:
        function: The function, which must not be async.
        name: By default the name of the function.
        description: By default the description in the function's docstring.
        parameters: The JSON schema of the arguments, of type ``object``; by default made from the
            function's annotations and docstring. With your own schema the function is called with
            ``**arguments``, which jsonschema validates if it is installed.
        needs_approval: ``True``: it is called only after ``approve=`` agrees, and without
            ``approve=`` the run pauses; ``False``: ``approve=`` is not asked; ``None``: it is asked
            if there is one. By default the function's own attribute ``needs_approval``.

    Raises:
        InvalidRequestError: The function or another argument cannot be used for a tool.

    Examples:
        >>> def weather(city: str, days: int = 1) -> str:
        ...     '''Return the weather.
        ...
        ...     Args:
        ...         city: Where, such as "Paris".
        ...     '''
        >>> tool = Tool(weather)
        >>> tool.description, tool.parameters["properties"]["city"]
        ('Return the weather.', {'type': 'string', 'description': 'Where, such as "Paris".'})
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        needs_approval: bool | None = None,
    ) -> None:
        self._given: dict[str, Any] = {
            "name": name,
            "description": description,
            "parameters": deepcopy(parameters),
            "needs_approval": needs_approval,
        }
        self.function = checked_function(function)
        self.name = checked_name(name, function)
        approved = approval(function) if needs_approval is None else needs_approval
        if approved is not None and not isinstance(approved, bool):
            raise InvalidRequestError(
                f"needs_approval of the tool {self.name!r} must be True, False or None, not "
                f"{approved!r:.80}"
            )
        self.needs_approval: bool | None = approved
        signature = Signature(function, self.name)
        names = {*signature.all_names, *_property_names(parameters)}
        documented, texts = split_docstring(docstring(function), names)
        self.description = documented if description is None else description
        if not isinstance(self.description, str):
            raise InvalidRequestError(f"description of the tool {self.name!r} must be text")
        self._parameters: SchemaParameters | FunctionParameters
        if parameters is None:
            self._parameters = FunctionParameters(signature, texts)
        else:
            self._parameters = SchemaParameters(signature, self.name, parameters)
        self.parameters = self._parameters.schema
        self._signature = signature

    def __repr__(self) -> str:
        return f"<Tool {self.name}({', '.join(self.parameters['properties'])})>"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self._given), (self.function,)

    @property
    def schema(self) -> dict[str, Any]:
        """The tool in OpenAI's form."""
        description = {"description": self.description} if self.description else {}
        function = {"name": self.name, **description, "parameters": self.parameters}
        return {"type": "function", "function": function}

    def bind(self, arguments: Mapping[str, Any], cancel: CancelToken) -> Callable[[], str]:
        """Return a function without arguments that calls this one and returns its result as text.

        A string is returned as it is, anything else as JSON. Exceptions of the function are not
        caught; an async function raises ``TypeError``.

        Args:
            arguments: The arguments from the model.
            cancel: Passed to the parameter annotated as ``CancelToken``; the text says if it was
                cancelled.

        Raises:
            InvalidArguments: The arguments do not match the schema.
        """
        mistakes: list[str] = []
        if isinstance(arguments, Mapping):
            values = self._parameters.read(arguments, mistakes)
        else:
            mistakes.append(f"the arguments: must be an object, not {kind_of(arguments)}")
        if mistakes:
            raise InvalidArguments(_lines(mistakes))
        values |= dict.fromkeys(self._signature.cancel_names, cancel)
        by_position, by_name = self._signature.arranged(values)
        return partial(self._call, by_position, by_name, cancel)

    def _call(
        self, by_position: Sequence[Any], by_name: Mapping[str, Any], cancel: CancelToken
    ) -> str:
        text = result_text(self.function(*by_position, **by_name), self.name)
        was_told = bool(self._signature.cancel_names) and cancel.cancelled
        return "\n".join(filter(None, [text, STOPPED])) if was_told else text


def as_tools(tools: object) -> list[Tool | dict[str, Any]]:
    """Return the tools of a run: of each function a ``Tool``, of each dict a copy.

    A dict is a tool that the server runs, or one that the program handles itself.

    Raises ``InvalidRequestError`` for anything else, and for two tools with the same name.
    """
    if not isinstance(tools, (list, tuple)):
        raise InvalidRequestError(
            f"tools must be a list of functions, not {type(tools).__name__}: write tools=[…]"
        )
    made = [_as_tool(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
    places: dict[str, int] = {}
    for i, tool in enumerate(made):
        name = tool_name(tool)
        if name is not None and places.setdefault(name, i) != i:
            raise InvalidRequestError(
                f"tools[{places[name]}] and tools[{i}] have the same name, {name!r:.80}: rename "
                "one of them with Tool(function, name=…)"
            )
    return made


def _as_tool(tool: Any, place: str) -> Tool | dict[str, Any]:
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, Mapping):
        function_of(tool, place)  # checks the name
        return dict(tool)
    try:
        return Tool(tool)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{place}: {error}") from error.__cause__


def tool_name(tool: Tool | Mapping[str, Any]) -> str | None:
    """Return the name of a function, in OpenAI's form or in the flat one of other protocols."""
    if isinstance(tool, Tool):
        return tool.name
    detail = tool.get("function", tool)
    name = detail.get("name") if isinstance(detail, Mapping) else None
    return name if isinstance(name, str) else None


def _property_names(parameters: object) -> Collection[str]:
    properties = parameters.get("properties") if isinstance(parameters, Mapping) else None
    return properties if isinstance(properties, Mapping) else ()


def _lines(mistakes: Sequence[str]) -> str:
    """Return the mistakes in words, one line each, none of them long."""
    lines = [_short(mistake) for mistake in mistakes[:MAX_MISTAKES]]
    more = ["and more"] * (len(mistakes) > MAX_MISTAKES)
    return "\n".join([*lines, *more])


def _short(mistake: str) -> str:
    line = one_line(mistake[: 2 * MESSAGE_PART])
    return line if len(line) <= MESSAGE_PART else f"{line[:MESSAGE_PART]}…"
