"""``Tool``: a function that a model may call, with its name, description and JSON schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..stream import CancelToken


class InvalidArguments(ValueError):
    """The arguments of a call do not fit; the message tells the model how to mend them."""


class Tool:
    """A function that a model may call.

    - ``name``, ``description``: by default those of the function.
    - ``parameters``: the JSON schema of the arguments, an object's; by default made from the
      function's annotations and docstring.
    - ``needs_approval``: ``True``: it is called only after ``approve=`` has agreed, and without
      ``approve=`` the run pauses; ``False``: ``approve=`` is not asked; ``None``: it is asked if
      there is one. By default the function's own attribute ``needs_approval``.

    Raises ``InvalidRequestError`` for what cannot be a tool.
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
        self.function = function
        self.name = name or function.__name__
        self.description = description or function.__doc__ or ""
        self.parameters = dict(parameters or {"type": "object", "properties": {}})
        self.needs_approval = needs_approval

    @property
    def schema(self) -> dict[str, Any]:
        """The tool in OpenAI's form."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": self.parameters,
        }
        return {"type": "function", "function": function}

    def bind(self, arguments: Mapping[str, Any], cancel: CancelToken) -> Callable[[], str]:
        """Return a function without arguments that calls this one and returns its result as text.

        ``cancel`` goes to a parameter that is annotated as ``CancelToken``. Raises
        ``InvalidArguments``.
        """
        return lambda: str(self.function(**arguments))


def as_tools(tools: Any) -> list[Tool | Mapping[str, Any]]:
    """Temporary."""
    return [t if isinstance(t, (Tool, Mapping)) else Tool(t) for t in tools]
