"""Shows the keyword arguments of calls in the reference, as ``help()`` shows them.

``stream`` and the other calls of a provider take ``**call`` in the source, and get their signature
from a decorator (``providers_sync.providers.calls.with_keywords_of``), which only a running program
knows.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import operator
from typing import Any

import griffe

DECORATOR = "with_keywords_of"


class CallKeywords(griffe.Extension):
    """Gives functions with the decorator the parameters that they have in a program."""

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Replace the parameters, if it has the decorator."""
        if any(str(each.value).startswith(DECORATOR) for each in func.decorators):
            module = importlib.import_module(func.module.path)
            name = func.path.removeprefix(f"{func.module.path}.")
            shown = inspect.signature(operator.attrgetter(name)(module)).parameters.values()
            func.parameters = griffe.Parameters(*(_parameter(each, func) for each in shown))


def _parameter(shown: inspect.Parameter, func: griffe.Function) -> griffe.Parameter:
    kind = griffe.ParameterKind(shown.kind.description)
    annotation, default = None, None
    if shown.annotation is not shown.empty:
        node = ast.parse(shown.annotation, mode="eval").body
        annotation = griffe.safe_get_annotation(node, parent=func.parent)
    if shown.default is not shown.empty:
        default = repr(shown.default)
    return griffe.Parameter(shown.name, annotation=annotation, kind=kind, default=default)
