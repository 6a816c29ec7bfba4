"""The names of a new plugin, and who may have them already."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass

from genkit.errors import PluginError
from genkit.plugin import same_distribution
from genkit.registry import Registry

ANOTHER = "choose another name"
FOLDERS = frozenset({"recipes", "tests", "build", "dist", "runs"})  # that a distribution has beside its module
WORDS = frozenset({"null", "true", "false"})  # that YAML takes for something else than a name


@dataclass(frozen=True)
class Names:
    """What a new plugin goes by.

    Attributes:
        distribution: What pip installs, ``my-resnet``.
        module: What Python imports, ``my_resnet``; also the entry point's name, and the components' in recipes.
        cls: The class, ``MyResnet``.
    """

    distribution: str
    module: str
    cls: str


def names_of(distribution: str) -> Names:
    """Derives all names from the distribution's.

    Raises:
        PluginError: It is no name of a distribution, or Python could not import a module of its name.

    Example:
        >>> names_of("my-resnet")
        Names(distribution='my-resnet', module='my_resnet', cls='MyResnet')
    """
    if not re.fullmatch(r"[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9]", distribution):
        raise PluginError(
            f"name {distribution!r}: no distribution can be called so; letters, digits and single hyphens are wanted, "
            "such as my-resnet"
        )
    words = [word for word in re.split(r"[-_.]+", distribution) if word]
    names = Names(distribution, "_".join(words).lower(), "".join(word[0].upper() + word[1:] for word in words))
    problem = _module_problem(names)
    if problem:
        raise PluginError(f"name {distribution!r}: its module would be {names.module!r}, which {problem}")
    return names


def _module_problem(names: Names) -> str:
    if not names.module.isidentifier():
        return "is no identifier: begin with a letter"
    if keyword.iskeyword(names.module) or keyword.iskeyword(names.cls):
        return "is a word of Python's own"
    if names.module in WORDS:
        return "is a value in recipes, not a name"
    if names.module in sys.stdlib_module_names:
        return "is a module of Python's standard library"
    if names.module in FOLDERS:
        return "is the name of another folder of every plugin"
    return ""


def check_free(names: Names, kinds: list[str], registry: Registry) -> None:
    """Refuses names that somebody has.

    Args:
        names: The new plugin's names.
        kinds: The kinds of its components.
        registry: What is installed.

    Raises:
        PluginError: One is taken; the message names who has it.
    """
    for kind in kinds:
        for other in registry.components(kind):
            if other.name == names.module:
                raise other.plugin.fault(f"has a {kind} {other.name!r} ({other.target}) already", ANOTHER)
    for plugin in (*registry.plugins, *registry.left_out):
        if plugin.name == names.module:
            raise plugin.fault("is called so already", ANOTHER)
    _check_free_here(names)


def _check_free_here(names: Names) -> None:
    """Refuses the name of a distribution or a module that is installed, of genkit or not."""
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"] or "")
        if same_distribution(name, names.distribution):
            found = f"distribution {name} {distribution.version} is installed"
            raise PluginError(found, distribution=name, version=distribution.version, remedy=ANOTHER)
    spec = importlib.util.find_spec(names.module)
    if spec is not None:
        file = spec.origin or ", ".join(spec.submodule_search_locations or ())
        raise PluginError(f"module {names.module!r} can be imported already, from {file}", file=file, remedy=ANOTHER)
