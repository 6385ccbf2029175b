"""Docstrings of the public API: they name each argument, what is returned, and what is raised."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

import pytest

import providers_sync

MODULES = [
    *("aio", "batch", "gateway", "local", "notebook", "otel", "prices", "recording", "testing"),
    "web",
]
MADE_BY_CALLS = {
    *("AsyncStream", "Gateway", "PreparedCall", "Run", "Server", "Stream", "TypedStream"),
    "WSGIBody",
}
"""Classes whose objects a call returns: nobody else uses their constructors."""
INHERITED = {"TypedCompletion"}
"""Data classes whose other fields their base class documents."""
SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Examples):$", re.M)
REFERENCE = re.compile(r"arguments (?:are those )?(?:as|of) ``(\w+)``")
ENTRY = re.compile(r"^    \*{0,2}(\w+): \S", re.M)


def public_objects() -> Iterator[tuple[str, Any]]:
    """Yield the public functions and classes by name, once each."""
    seen = set()
    for module in [providers_sync, *(_import(name) for name in MODULES)]:
        prefix = module.__name__.removeprefix("providers_sync").lstrip(".")
        for name in public_names(module):
            value = getattr(module, name)
            is_ours = getattr(value, "__module__", "").startswith("providers_sync")
            if (inspect.isclass(value) or inspect.isfunction(value)) and is_ours:
                if value not in seen:
                    yield ".".join(filter(None, [prefix, name])), value
                seen.add(value)


def _import(name: str) -> ModuleType:
    return importlib.import_module(f"providers_sync.{name}")


def public_names(module: ModuleType) -> list[str]:
    """Return ``__all__``, or without it the public names that the module defines."""
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return list(getattr(module, "__all__", own))


def public_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class, those of our base classes included."""
    for name in dir(kind):
        owner = next((each for each in kind.__mro__ if name in vars(each)), None)
        if name.startswith("_") or owner is None or not owner.__module__.startswith("providers_"):
            continue
        member = vars(owner)[name]
        member = getattr(member, "__func__", member)
        if isinstance(member, property) or inspect.isfunction(member):
            yield name, member


def public_methods() -> Iterator[tuple[str, tuple[type, str, Any]]]:
    """Yield the methods and properties of the public classes, inherited ones once."""
    seen = set()
    for prefix, kind in OBJECTS.items():
        for name, member in public_members(kind) if inspect.isclass(kind) else ():
            if member not in seen:
                yield f"{prefix}.{name}", (kind, name, member)
            seen.add(member)


def is_protocol(kind: type) -> bool:
    """Whether a class only describes others, and is never made."""
    return bool(getattr(kind, "_is_protocol", False))


OBJECTS = dict(public_objects())
METHODS = dict(public_methods())
CALLABLES = {
    **{name: value for name, value in OBJECTS.items() if inspect.isfunction(value)},
    **{name: each for name, (_, _, each) in METHODS.items() if inspect.isfunction(each)},
}
CONSTRUCTORS = [
    name
    for name, kind in OBJECTS.items()
    if inspect.isclass(kind) and "__init__" in vars(kind)
    if kind.__name__ not in {*MADE_BY_CALLS, *INHERITED} and not is_protocol(kind)
]


def section(docstring: str, *titles: str) -> str:
    """Return the text of the sections with these titles.

    >>> section("Do it.\\n\\nArgs:\\n    a: Text.\\n\\nRaises:\\n    E: Why.", "Args")
    '    a: Text.'
    """
    _, *parts = SECTION.split(docstring)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return "\n".join(text.strip("\n") for title, text in pairs if title in titles)


def parameters(function: Callable[..., Any]) -> list[str]:
    """Return the names of a function's parameters, as a caller sees them."""
    names = list(inspect.signature(function).parameters)
    return [name for name in names if name not in ("self", "cls")]


def docstrings_of(name: str) -> list[str]:
    """Return the docstrings of a function, of those that it overrides, and that it refers to."""
    kind, own_name, _ = METHODS.get(name, (object, "", None))
    bases = [vars(each).get(own_name) for each in kind.__mro__]
    found = [CALLABLES[name], *(getattr(each, "__func__", each) for each in bases if each)]
    for each in found:  # which grows
        for other in REFERENCE.findall(each.__doc__ or ""):
            referred = OBJECTS.get(other, getattr(kind, other, None))
            if referred is not None and referred not in found:
                found.append(referred)
    return [inspect.cleandoc(each.__doc__ or "") for each in found]


@pytest.mark.parametrize("name", [*OBJECTS, *METHODS])
def test_public_name_has_a_docstring(name):
    """``help()`` and the reference have something to show."""
    value = OBJECTS[name] if name in OBJECTS else METHODS[name][2]
    own = vars(value)["__doc__"] if inspect.isclass(value) else value.__doc__
    assert own
    assert not own.startswith(f"{name.rpartition('.')[2]}(")  # a data class without one gets that


@pytest.mark.parametrize("name", list(CALLABLES))
def test_docstring_names_each_argument(name):
    """Each has a line under ``Args:``, and no line is about an argument that does not exist."""
    own, *others = [set(ENTRY.findall(section(each, "Args"))) for each in docstrings_of(name)]
    arguments = set(parameters(CALLABLES[name]))
    assert own <= arguments <= own.union(*others)


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_docstring_of_a_class_names_each_argument(name):
    """Those of the constructor, and the fields of a data class, have a line each."""
    docstring = inspect.cleandoc(OBJECTS[name].__doc__)
    described = ENTRY.findall(section(docstring, "Args", "Attributes"))
    assert set(parameters(OBJECTS[name].__init__)) <= set(described)


@pytest.mark.parametrize("name", list(CALLABLES))
def test_docstring_says_what_is_returned(name):
    """The first sentence says it, or a section does; steps of a script say what they send."""
    returned = inspect.signature(CALLABLES[name]).return_annotation
    says = [
        bool(re.search(r"\b(return|yield)\b", each.partition("\n\n")[0], re.I))
        or bool(section(each, "Returns", "Yields"))
        for each in docstrings_of(name)
    ]
    assert returned in ("None", "Step") or any(says)


def raised(function: Callable[..., Any]) -> set[str]:
    """Return the names of our errors that a function raises itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and node.exc]
    names = {
        each.func.id
        for each in calls
        if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)
    }
    return {name for name in names if name[:1].isupper()}


@pytest.mark.parametrize("name", list(CALLABLES))
def test_docstring_says_what_is_raised(name):
    """Each error that the function raises itself has a line under ``Raises:``."""
    described = [section(each, "Raises") for each in docstrings_of(name)]
    named = set(ENTRY.findall("\n".join(described)))
    assert not raised(CALLABLES[name]) - named - {"NotImplementedError"}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_docstring_of_a_class_says_what_its_constructor_raises(name):
    """The reader need not call it to find out."""
    kind = OBJECTS[name]
    constructor = vars(kind).get("__post_init__", kind.__init__)
    is_generated = is_dataclass(kind) and constructor is kind.__init__
    errors = set() if is_generated else raised(constructor)
    assert not errors - set(ENTRY.findall(section(inspect.cleandoc(kind.__doc__), "Raises")))
