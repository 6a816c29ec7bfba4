"""Finds plugins through their entry points and keeps what they register.

Each plugin is loaded on its own: one that is broken is reported and the rest work. Nothing here imports torch.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pluggy

from genkit import hookspecs
from genkit.component import Component, kind_class
from genkit.errors import PluginError, UsageError, closest

GROUP = "genkit.plugins"
OWN_DISTRIBUTION = "genkit-torch"
_CLASS = re.compile(  # one expression for all classes: compiling one for each takes half of a listing's time
    r"""\n[ \t]*class\ (\w+)\b[^:]*:(?:[ \t]*\#.*)?\s+   # the header, perhaps with a comment; ^ for \n is slow
        [rR]?(\"\"\"|'''|\"|')\s*(.*?)\s*(?:\2|$)      # the first line of its docstring""",
    re.MULTILINE | re.VERBOSE,
)
RESERVED_OPTIONS = frozenset({"use", "every", "at"})


@dataclass(frozen=True)
class Plugin:
    """One entry point of the group ``genkit.plugins``.

    Attributes:
        name: The entry point's name.
        module: The module that it names.
        distribution: The installed package it came with.
        version: That package's version.
        location: The module's file; empty if it could not be found.
        error: Why it does not work; empty if it does.
    """

    name: str
    module: str
    distribution: str
    version: str
    location: str = ""
    error: str = ""


@dataclass(frozen=True)
class Registration:
    """One registered component, loaded when it is first asked for.

    Attributes:
        kind: The kind's name.
        name: The name that a recipe uses.
        target: Where the class is: ``module:Class``.
        plugin: Who registered it.
    """

    kind: str
    name: str
    target: str
    plugin: Plugin

    def load(self) -> type[Component]:
        """The class itself.

        Raises:
            PluginError: It cannot be imported, is not of its kind, or its constructor is no schema.
        """
        module, _, attribute = self.target.partition(":")
        try:
            found: Any = importlib.import_module(module)
            cls: Any = functools.reduce(getattr, attribute.split("."), found)
        except (Exception, SystemExit) as error:
            raise PluginError(f"{self.label} cannot be imported: {_reason(error)}") from error
        problem = conformance(cls, self.kind)
        if problem:
            raise PluginError(f"{self.label}: {problem}")
        return cls

    @property
    def label(self) -> str:
        """How messages name this component."""
        return f"{self.kind} {self.name!r} ({self.target}, plugin {self.plugin.name!r} of {self.plugin.distribution})"

    @cached_property
    def summary(self) -> str:
        """The first line of the class's docstring, searched in its source: importing or parsing it takes too long."""
        module, _, attribute = self.target.partition(":")
        return _summaries(module).get(attribute.rpartition(".")[2], "")


@dataclass
class Registry:
    """All plugins and components that are installed.

    Attributes:
        manager: The pluggy manager that calls the hooks.
        plugins: Every plugin found, broken ones included.
    """

    manager: pluggy.PluginManager
    plugins: list[Plugin] = field(default_factory=list)
    _components: dict[tuple[str, str], Registration] = field(default_factory=dict)

    def kinds(self) -> list[str]:
        """The names of all kinds that have a component."""
        return sorted({kind for kind, _ in self._components})

    def components(self, kind: str | None = None) -> list[Registration]:
        """The registered components, of one kind or of all, by name."""
        chosen = (item for item in self._components.values() if kind in (None, item.kind))
        return sorted(chosen, key=lambda item: (item.kind, item.name))

    def names(self, kind: str) -> list[str]:
        """The names of a kind's components."""
        return [item.name for item in self.components(kind)]

    def get(self, kind: str, name: str) -> Registration:
        """Looks up one component.

        Raises:
            UsageError: No plugin registered it; the message has the closest match and the broken plugins.
        """
        if (kind, name) in self._components:
            return self._components[kind, name]
        if not self.names(kind):
            raise UsageError(f"no kind {kind!r}{closest(kind, self.kinds())}{self._broken_note()}")
        raise UsageError(f"no {kind} is called {name!r}{closest(name, self.names(kind))}{self._broken_note()}")

    def broken(self) -> list[Plugin]:
        """The plugins that do not work."""
        return [plugin for plugin in self.plugins if plugin.error]

    def add(self, registration: Registration) -> None:
        """Keeps one component.

        Raises:
            PluginError: The name is taken; the message names both distributions.
        """
        key = (registration.kind, registration.name)
        other = self._components.get(key)
        if other is not None:
            raise PluginError(
                f"{registration.kind} {registration.name!r} is registered twice: by plugin {other.plugin.name!r} of "
                f"{other.plugin.distribution} and by plugin {registration.plugin.name!r} of "
                f"{registration.plugin.distribution}"
            )
        self._components[key] = registration

    def discard(self, plugin: Plugin) -> None:
        """Forgets what a plugin registered before it broke."""
        self._components = {k: r for k, r in self._components.items() if r.plugin != plugin}

    def _broken_note(self) -> str:
        return "".join(f"\n  plugin {p.name!r} of {p.distribution} does not work: {p.error}" for p in self.broken())


@cache
def installed() -> Registry:
    """The registry of what is installed in this environment, read once."""
    return load_registry(importlib.metadata.entry_points(group=GROUP))


def load_registry(entry_points: Iterable[importlib.metadata.EntryPoint]) -> Registry:
    """Loads each entry point apart and collects its components. Genkit's own come first."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    registry = Registry(manager)
    # the same distribution can be found twice, installed and beside its source
    found = {Plugin(entry.name, entry.module, *_distribution(entry.dist)): entry for entry in entry_points}
    for plugin, entry in sorted(found.items(), key=lambda f: (f[0].distribution != OWN_DISTRIBUTION, f[0].name)):
        registry.plugins.append(_load(registry, plugin, entry))
    return registry


def _load(registry: Registry, plugin: Plugin, entry_point: importlib.metadata.EntryPoint) -> Plugin:
    manager = registry.manager
    try:
        module = entry_point.load()
        plugin = replace(plugin, location=str(getattr(module, "__file__", None) or ""))
        manager.register(module, name=f"{plugin.distribution}:{plugin.name}")
        manager.check_pending()
        others = [other for other in manager.get_plugins() if other is not module]
        manager.subset_hook_caller("register_components", others)(register=Registrar(registry, plugin))
    except (Exception, SystemExit) as error:
        registry.discard(plugin)
        manager.unregister(name=f"{plugin.distribution}:{plugin.name}")
        return replace(plugin, error=_reason(error))
    return plugin


@dataclass(frozen=True)
class Registrar:
    """The registry's side of ``register_components``."""

    registry: Registry
    plugin: Plugin

    def __call__(self, name: str, target: type[Component] | str, *, kind: str | None = None) -> None:
        """Registers a component, as :class:`genkit.hookspecs.Register` says."""
        if not (name.isidentifier() and name == name.lower()):
            raise PluginError(f"component name {name!r}: a snake_case identifier is wanted")
        if isinstance(target, str):
            if kind is None or not target.partition(":")[2]:
                raise PluginError(f"component {name!r}: give register a class, or 'module:Class' with its kind=...")
        else:
            problem = conformance(target, kind)
            if problem:
                raise PluginError(f"component {name!r}: {problem}")
            kind, target = target.kind, f"{target.__module__}:{target.__qualname__}"
        self.registry.add(Registration(kind, name, target, self.plugin))


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
    return _schema_problem(cls)


def constructor_parameters(cls: type) -> list[inspect.Parameter]:
    """The parameters of a class's constructor; none where it has no constructor of its own."""
    if cls.__init__ is object.__init__:
        return []
    return list(inspect.signature(cls.__init__).parameters.values())[1:]


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


@cache
def _distribution(distribution: importlib.metadata.Distribution | None) -> tuple[str, str]:
    """Name and version; read once, since each reading parses the whole metadata."""
    if distribution is None:
        return "unknown distribution", ""
    return distribution.name, distribution.version


def _reason(error: BaseException) -> str:
    """One line for an exception: its type, its message and the last line of code it passed."""
    if isinstance(error, PluginError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    message = str(error)
    if isinstance(error, SyntaxError):
        message, place = error.msg, f" ({error.filename}:{error.lineno})"
    return " ".join(f"{type(error).__name__}: {message}{place}".split())


@cache
def _summaries(module: str) -> dict[str, str]:
    """The first lines of all classes' docstrings in a module, by the classes' names."""
    found: dict[str, str] = {}
    for name, _, summary in _CLASS.findall("\n" + _source(module)):
        found.setdefault(name, summary)
    return found


def _source(module: str) -> str:
    """A module's source; nothing if it has none that can be read, whatever its package does when it is imported."""
    try:
        return _source_beside_package(module) or _found_source(module)
    except (Exception, SystemExit):
        return ""


def _source_beside_package(module: str) -> str:
    """The source of a module in an imported package's folder; nothing if it is not there.

    Python's own search takes longer than the reading: it imports the packages in between and asks every finder.
    """
    package, _, inner = module.partition(".")
    for folder in getattr(sys.modules.get(package), "__path__", ()) if inner else ():
        stem = os.path.join(folder, *inner.split("."))
        for path in (os.path.join(stem, "__init__.py"), f"{stem}.py"):  # in the order of Python's search
            with suppress(OSError), open(path, encoding="utf-8") as file:
                return file.read()
    return ""


def _found_source(module: str) -> str:
    """The source of a module that Python's own search finds."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
