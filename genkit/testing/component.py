"""What is asked of components of every kind: a schema, a docstring, a constructor that keeps to itself."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from genkit.component import Component, Factory
from genkit.conformance import conformance
from genkit.engine.seeds import preserved, random_states
from genkit.errors import PluginError, RecipeError
from genkit.recipe.check import resolve
from genkit.recipe.schema import Option, options_of
from genkit.registry import installed
from genkit.testing.keeping import CPU, equal, seed, unchanged, unseeded, untouched

T = TypeVar("T")
Check = Callable[[Factory[Any]], None]


def contract(check: Check) -> Check:
    """Makes a function the check of a kind.

    First comes what all kinds have in common, :func:`check_component`; gradients are recorded; and afterwards the
    caller's random states and torch's settings are as they were.
    """

    @functools.wraps(check)
    def checked(build: Factory[Any]) -> None:
        device = torch.device("cuda") if torch.cuda.is_available() else CPU
        with preserved(device), torch.enable_grad(), untouched(build.name):
            check_component(build)
            check(build)

    return checked


def check_component(build: Factory[Any]) -> None:
    """Checks what components of every kind have in common; the check of each kind calls it first.

    The class is a final class of its kind; its constructor is a schema that recipes can be checked by; its docstring
    has what ``genkit describe`` shows, a first line and a word on every option; its ``examples`` name every option
    without a default and none that is not there; and what a recipe would say of it is a recipe again.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
    """
    cls, what = build.resolved, build.name
    problem = conformance(cls)
    assert not problem, f"{what}: {problem}"
    try:
        options = options_of(cls)
    except PluginError as error:
        raise AssertionError(f"{what}: {error}") from error
    _check_docstring(cls, options, what)
    _check_examples(cls, options, what)
    _check_recipe(build)


def _check_docstring(cls: type[Component], options: Mapping[str, Option], what: str) -> None:
    text = inspect.cleandoc(vars(cls).get("__doc__") or "")
    summary = text.partition("\n")[0].strip()
    assert summary, f"{what}: {cls.__qualname__} has no docstring; its first line is what listings show"
    for name, option in options.items():
        assert option.description, (
            f"{what}: option {name!r} is not described; `genkit describe` shows what the class's docstring says of it "
            f"under 'Args:', as '    {name}: What it is.'"
        )


def _check_examples(cls: type[Component], options: Mapping[str, Option], what: str) -> None:
    required = [name for name, option in options.items() if option.required]
    for example in cls.examples:
        missing = [name for name in required if name not in example]
        assert not missing, f"{what}: example {dict(example)} lacks {', '.join(missing)}, which has no default"
        unknown = [name for name in example if name not in options]
        assert not unknown, f"{what}: example {dict(example)} has {', '.join(unknown)}, which the constructor has not"


def _check_recipe(build: Factory[Any]) -> None:
    """The component as a recipe spells it out resolves to the same; only a registered one can be named in a recipe."""
    kind, plain = build.resolved.kind, build.to_plain()
    if build.name not in installed().names(kind) or installed().get(kind, build.name).load() is not build.resolved:
        return
    try:
        again = resolve(kind, plain, installed()).to_plain()
    except RecipeError as error:
        raise AssertionError(f"{build.name}: its own options are refused when a recipe spells them out: {error}") from (
            error
        )
    assert again == plain, f"{build.name}: spelled out in a recipe, {plain} becomes {again}"


# ---- construction ------------------------------------------------------------------------------------------------


def refused(build: Callable[[], Any]) -> bool:
    """Whether a constructor refuses what it is given, as the contract says: with ``ValueError`` and a reason."""
    return refusal(build) is not None


def refusal(build: Callable[[], Any]) -> str | None:
    """The reason for which a constructor refuses what it is given; ``None`` if it does not."""
    try:
        with untouched("the constructor"):
            build()
    except (RecipeError, ValueError) as error:
        reason = str(error)
    else:
        return None
    assert reason, "a constructor that refuses must say what it serves"
    return reason


def constructed(build: Factory[T], *supplied: Any, what: str) -> T:
    """An instance, once it is known that building one keeps to itself and follows the seed.

    Two builds under one seed are equal, nobody seeds a global generator or changes torch's settings, the framework's
    own tensors stay as they are, and on torch's meta device, where ``genkit validate`` builds, it can be built too.

    Args:
        build: The component.
        supplied: What the framework supplies.
        what: How messages name it.

    Raises:
        AssertionError: It breaks the contract.
    """
    what = f"{what}: the constructor"
    given = {f"{type(s).__name__}.{k}": v for s in supplied if isinstance(s, nn.Module) for k, v in states(s)}
    with untouched(what), unchanged(given, what), unseeded(what):
        made = build(*supplied)
    after = random_states(CPU)
    seed()
    again = build(*supplied)
    if isinstance(made, nn.Module) and isinstance(again, nn.Module):
        _check_same(made, again, what)
        _check_dry(build, supplied, what)
    seed(1)
    build(*supplied)
    _check_not_reseeded(after, what)
    seed()
    return made


def _check_same(made: nn.Module, again: nn.Module, what: str) -> None:
    others = dict(states(again))
    for name, value in states(made):
        same = name in others and equal(value, others[name])
        assert same, f"{what} does not follow the global seed: two builds under one seed differ in {name}"


def _check_not_reseeded(after: Mapping[str, Tensor], what: str) -> None:
    """Under another seed the generators end elsewhere, unless somebody seeded them; torch's is looked at already."""
    for name, state in random_states(CPU).items():
        alike = torch.equal(state.nan_to_num(), after[name].nan_to_num())
        assert not alike, f"{what} seeds {name}'s global generator; leave seeding to the caller"


def _check_dry(build: Factory[Any], supplied: tuple[Any, ...], what: str) -> None:
    """As ``genkit validate`` builds it: without memory."""
    modules = [given for given in supplied if isinstance(given, nn.Module)]
    if modules:
        return  # what it is built around would have to lie there too
    try:
        with torch.device("meta"):
            dry = build(*supplied)
    except (RecipeError, RuntimeError, NotImplementedError) as error:
        raise AssertionError(f"{what} fails on torch's meta device, where `genkit validate` builds: {error}") from error
    for name, value in dry.named_parameters():
        assert value.is_meta, f"{what} takes memory on torch's meta device: parameter {name} lies on {value.device}"


def states(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All parameters and buffers of a module by name, those that no state dict holds included."""
    yield from module.named_parameters()
    yield from module.named_buffers()
