"""What a class must be to be a component: of some kind, not abstract, with a constructor that is a schema."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from genkit.component import Component, kind_class

RESERVED_OPTIONS = frozenset({"use", "every", "at"})


def conformance(cls: Any, kind: str | None = None) -> str:
    """Why a class cannot be a component (of this kind); empty if it can."""
    if not (isinstance(cls, type) and issubclass(cls, Component)):
        return f"{cls!r} is of no kind: inherit GenerativeModel, Objective, Backbone, ... from genkit"
    try:
        base = kind_class(cls)
    except TypeError as error:
        return str(error)
    if cls is base:
        return f"{cls.__qualname__} is the kind itself: register a class that inherits it"
    if kind not in (None, cls.kind):
        return f"{cls.__qualname__} is a {cls.kind} ({base.__qualname__}), but was registered as {kind!r}"
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        return f"{cls.__qualname__} is abstract: implement {', '.join(missing)}"
    return _attribute_problem(cls) or _schema_problem(cls)


def constructor_parameters(cls: type) -> list[inspect.Parameter]:
    """The parameters of a class's constructor; none where it has no constructor of its own."""
    if cls.__init__ is object.__init__:
        return []
    return list(inspect.signature(cls.__init__).parameters.values())[1:]


def _attribute_problem(cls: type[Component]) -> str:
    """What is wrong with what a class says of itself, whose types nobody has checked."""
    requires: Any = cls.requires
    if isinstance(requires, type):
        return f"{cls.__qualname__}.requires is a class: write a tuple, ({requires.__name__},) with its comma"
    if not (isinstance(requires, tuple) and all(isinstance(each, type) for each in requires)):
        return f"{cls.__qualname__}.requires is {requires!r}: write a tuple of classes, (HasLogProb,)"
    examples: Any = cls.examples
    is_list = isinstance(examples, Sequence) and not isinstance(examples, str)
    if not (is_list and examples and all(isinstance(each, Mapping) for each in examples)):
        return f"{cls.__qualname__}.examples is {examples!r}: write a tuple of mappings of options, ({{'width': 1}},)"
    return ""


def _schema_problem(cls: type[Component]) -> str:
    for parameter in constructor_parameters(cls):
        where = f"{cls.__qualname__}.__init__ parameter {parameter.name!r}"
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and not _is_own_constructor(cls):
            return f"{cls.__qualname__} has no constructor: write __init__, even if it only calls super().__init__()"
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            return f"{where}: *args and **kwargs hide what a recipe may say; name each option, keyword-only"
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            return f"{where}: put it before '/' if the framework supplies it, after '*' if a recipe does"
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.annotation is parameter.empty:
            return f"{where}: annotate it, so that recipes can be checked"
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name in RESERVED_OPTIONS:
            return f"{where}: recipes use this key themselves; choose another name"
    return ""


def _is_own_constructor(cls: type) -> bool:
    """Whether a constructor comes from a component's class, not from a library that it builds on."""
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    return issubclass(owner, Component)
