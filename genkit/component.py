"""What all pluggable things have in common: a kind, a constructor that is its schema, a factory.

This module imports no torch, so that plugins can be listed in an instant.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Generic, TypeVar, get_args

from genkit.errors import Problem, RecipeError

K = TypeVar("K")

#: What a constructor raises for options that it cannot serve; torch says so of sizes that no memory holds.
REFUSALS = (ValueError, MemoryError, OverflowError, RuntimeError)


class Component(ABC):
    """Abstract base of everything that a recipe can name.

    A **kind** is an abstract class made with ``class Likelihood(Component, kind="likelihood")``; its
    docstring is the contract, and ``check="package.module:function"`` beside ``kind`` names the function that checks
    it. A **component** is a final class of some kind.

    **The constructor is the schema.** What the framework supplies comes positional-only; what a recipe may
    say comes keyword-only, annotated, with its default. No ``*args``, no ``**kwargs``. A constructor
    refuses options that do not fit what it was given with :class:`ValueError`, saying what would fit; the
    recipe's reader then sees the message with the key, the file and the line.

    Attributes:
        kind: The name of the kind, set by the abstract class.
        check: Where the check of the kind's contract is, ``module:function``, imported when it is first used; empty
            if the kind has none. The function takes a :class:`Factory` and raises :class:`AssertionError`.
        requires: Capabilities that the model it works on must have; the recipe checker asks for them wherever
            the component stands.
        examples: Options of instances worth testing. What has no default must be in each: the contract tests
            build them all, and ``genkit describe`` shows the first as a recipe.
    """

    kind: ClassVar[str] = ""
    check: ClassVar[str] = ""
    requires: ClassVar[tuple[type, ...]] = ()
    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({},)

    def __init_subclass__(cls, *, kind: str | None = None, check: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if kind is not None:
            cls.kind, cls.check = kind, check or ""
        elif check is not None:
            raise TypeError(f"{cls.__qualname__}: a check belongs to a kind; write it beside kind=...")


def kind_class(cls: type[Component]) -> type[Component]:
    """The abstract class that a component's kind comes from.

    Raises:
        TypeError: ``cls`` belongs to no kind.
    """
    for base in reversed(cls.__mro__):
        if issubclass(base, Component) and base.kind and "kind" in vars(base) and base.kind == cls.kind:
            return base
    raise TypeError(f"{cls.__qualname__} is of no kind: inherit GenerativeModel, Objective, Backbone, ...")


class Factory(Generic[K]):
    """A component that is chosen but not yet built: called with what only its owner knows, it builds it.

    As an annotation, ``encoder: Factory[Backbone]`` tells the recipe checker that a recipe names a backbone
    there, and the checker goes right through to its leaves before anything is built.

    Args:
        name: The component's registry name.
        options: The recipe's keyword arguments.
        component: The class; ``None`` until a registry has resolved the name.
        path: The key in the recipe, for error messages.
        location: File and line in the recipe, for error messages.

    Example:
        >>> Factory("fraction", {"denominator": 2}, __import__("fractions").Fraction)(1)
        Fraction(1, 2)
    """

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any] | None = None,
        component: type[K] | None = None,
        path: str = "",
        location: str = "",
    ) -> None:
        self.name = name
        self.options = dict(options or {})
        self.component = component
        self.path = path
        self.location = location

    def __call__(self, *supplied: Any) -> K:
        """Builds the component from what its owner supplies.

        Raises:
            RecipeError: The component refused its options.
        """
        try:
            return self.resolved(*supplied, **self.options)
        except REFUSALS as error:
            raise RecipeError([Problem(self.path, f"{self.name}: {_first_line(error)}", self.location)]) from error

    @property
    def resolved(self) -> type[K]:
        """The class behind the name."""
        if self.component is None:
            raise TypeError(
                f"{self.name!r} is only a name until a registry resolves it: build the owner with genkit.build(...)"
            )
        return self.component

    def to_plain(self) -> dict[str, Any]:
        """The component as a recipe writes it, every option spelled out."""
        return {"use": self.name, **{key: to_plain(value) for key, value in self.options.items()}}

    def __repr__(self) -> str:
        options = "".join(f", {key}={value!r}" for key, value in self.options.items())
        return f"{type(self).__name__}({self.name!r}{options})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Hands a nested component to the checker that pydantic carries as its context."""
        from pydantic_core import core_schema  # noqa: PLC0415  (listing plugins needs no pydantic)

        wanted = _wanted(source)
        return core_schema.with_info_plain_validator_function(
            lambda raw, info: info.context.resolve(wanted.kind, raw, wanted),
            metadata={"kind": wanted.kind},
        )


def _wanted(annotation: Any) -> type[Component]:
    """The class that a ``Factory[...]`` is to build."""
    (wanted,) = get_args(annotation) or (None,)
    if not (isinstance(wanted, type) and issubclass(wanted, Component) and wanted.kind):
        what = getattr(wanted, "__name__", "nothing")
        raise TypeError(f"Factory[...] takes the class of a kind, such as Factory[Backbone]; {what} is none")
    return wanted


class Section:
    """Abstract part of a recipe with keys of its own: a frozen, keyword-only dataclass.

    Attributes:
        inline: The option whose own keys are written beside the section's, if there is one.
    """

    inline: ClassVar[str] = ""

    def to_plain(self) -> dict[str, Any]:
        """The section as a recipe writes it, every option spelled out."""
        plain = {item.name: to_plain(getattr(self, item.name)) for item in fields(self) if item.init}  # pyright: ignore[reportArgumentType]
        return {**plain.pop(self.inline, {}), **plain}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Hands the section to the checker that pydantic carries as its context."""
        from pydantic_core import core_schema  # noqa: PLC0415  (listing plugins needs no pydantic)

        return core_schema.with_info_plain_validator_function(lambda raw, info: info.context.section(cls, raw))


def use(name: str, /, **options: Any) -> Any:
    """Names the default of a parameter that takes a factory.

    Example:
        >>> use("mlp", hidden_dims=[8]).to_plain()
        {'use': 'mlp', 'hidden_dims': [8]}
    """
    return Factory(name, options)


def _first_line(error: BaseException) -> str:
    """An error's message without the stack that torch's carry below it."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def to_plain(value: Any) -> Any:
    """Turns options into what YAML and JSON can hold: factories, mappings, sequences and scalars."""
    if isinstance(value, Factory | Section):
        return value.to_plain()
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value
