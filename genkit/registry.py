"""Finds plugins through their entry points and keeps what they register.

Each plugin is loaded on its own: one that is broken, or behaves badly, is reported and the rest work. Nothing here
imports torch.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from typing import Any

import pluggy

from genkit import hookspecs
from genkit.component import Component
from genkit.conformance import conformance
from genkit.errors import PluginError, UsageError, closest, told
from genkit.isolation import watched
from genkit.plugin import API_CONSTANT, Plugin, Selection, api_problem, is_strict, same_distribution
from genkit.sources import location, stated, summaries

#: What is not a plugin's affair, among all that its code may raise.
PASSED_ON = (KeyboardInterrupt, GeneratorExit)

_MISCONDUCT: dict[str, list[str]] = {}
"""What modules of components did to others when they were imported, for those who ask after it later."""

GROUP = "genkit.plugins"
OWN_DISTRIBUTION = "genkit-torch"


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

    def load(self, *, strict: bool | None = None) -> type[Component]:
        """The class itself.

        What its module does to others while it is imported is put back, and said in a warning.

        Args:
            strict: Refuse it for that instead; as ``GENKIT_STRICT_PLUGINS`` says, if not given.

        Raises:
            PluginError: It cannot be imported, is not of its kind, or its constructor is no schema; where plugins are
                taken strictly, also that its import harms others.
        """
        module, _, attribute = self.target.partition(":")
        try:
            found: Any = self._import(module, is_strict() if strict is None else strict)
            cls: Any = functools.reduce(getattr, attribute.split("."), found)
        except (PluginError, *PASSED_ON):
            raise
        except BaseException as error:
            raise self.fault(f"cannot be imported: {told(error)}") from error
        problem = conformance(cls, self.kind)
        if problem:
            raise self.fault(f"cannot be used: {problem}")
        return cls

    def _import(self, module: str, strict: bool) -> Any:
        known = module in sys.modules
        if not known:
            with watched() as conduct:
                importlib.import_module(module)
            _MISCONDUCT[module] = conduct.complaints(slow=None)
        for complaint in _MISCONDUCT.get(module, ()):
            fault = self.fault(f"{complaint} when it was imported")
            if strict:
                raise fault
            if not known:
                warnings.warn(str(fault), stacklevel=3)
        return sys.modules[module]

    def fault(self, message: str) -> PluginError:
        """An error that is this component's."""
        return self.plugin.fault(f"has a {self.kind} {self.name!r} ({self.target}) that {message}")

    @property
    def qualified(self) -> str:
        """Its name with its distribution's, which tells it from others of that name."""
        return f"{self.plugin.distribution}/{self.name}"

    @cached_property
    def summary(self) -> str:
        """The first line of the class's docstring, searched in its source: importing or parsing it takes too long."""
        module, _, attribute = self.target.partition(":")
        return summaries(module).get(attribute.rpartition(".")[2], "")


@dataclass
class Registry:
    """All plugins and components that are installed.

    Attributes:
        manager: The pluggy manager that calls the hooks.
        plugins: Every plugin that was to be loaded, broken ones included.
        left_out: The plugins that are not wanted, each with the reason.
    """

    manager: pluggy.PluginManager
    plugins: list[Plugin] = field(default_factory=list)
    left_out: dict[Plugin, str] = field(default_factory=dict)
    _components: dict[tuple[str, str], list[Registration]] = field(default_factory=dict)

    def kinds(self) -> list[str]:
        """The names of all kinds that have a component."""
        return sorted({kind for kind, _ in self._components})

    def components(self, kind: str | None = None) -> list[Registration]:
        """The registered components, of one kind or of all, by name."""
        every = (item for own in self._components.values() for item in own if kind in (None, item.kind))
        return sorted(every, key=lambda item: (item.kind, item.name))

    def names(self, kind: str) -> list[str]:
        """The names of a kind's components, as a recipe writes them."""
        return [self.written(item) for item in self.components(kind)]

    def written(self, registration: Registration) -> str:
        """A component's name as a recipe must write it: with its distribution, where the name alone means another."""
        rivals = self._components[registration.kind, registration.name]
        return registration.name if _meant(rivals) is registration else registration.qualified

    def get(self, kind: str, name: str, beside: str = "") -> Registration:
        """Looks up one component.

        Args:
            kind: Its kind.
            name: Its name, alone or as ``distribution/name``.
            beside: The distribution whose own component is meant where several have that name.

        Raises:
            PluginError: Several distributions have that name, and none is named.
            UsageError: No plugin registered it; the message has the closest match and the broken plugins.
        """
        distribution, slash, plain = name.rpartition("/")
        rivals = self._components.get((kind, plain), [])
        own = [item for item in rivals if same_distribution(item.plugin.distribution, distribution or beside)]
        chosen = own[0] if own else None if slash else _meant(rivals)
        if chosen is not None:
            return chosen
        if rivals and not slash:
            raise _ambiguous(rivals)
        self.check_kind(kind)
        raise UsageError(f"no {kind} is called {name!r}{closest(name, self.names(kind))}{self._absent()}")

    def check_kind(self, kind: str) -> None:
        """Raises ``UsageError``, with the closest match and the broken plugins, if nothing of a kind is there."""
        if kind not in self.kinds():
            raise UsageError(f"no kind {kind!r}{closest(kind, self.kinds())}{self._absent()}")

    def broken(self) -> list[Plugin]:
        """The plugins that do not work."""
        return [plugin for plugin in self.plugins if plugin.error]

    def complaints(self) -> list[PluginError]:
        """All that is wrong with plugins: those that do not work, and those that do what a plugin should not."""
        return [complaint for plugin in self.plugins for complaint in plugin.complaints()]

    def called(self, name: str) -> list[Plugin]:
        """The plugin of that name, or all of the distribution of that name.

        Raises:
            PluginError: There is none.
        """
        found = [plugin for plugin in self.plugins if plugin.goes_by(name)]
        if not found:
            names = {word for plugin in self.plugins for word in (plugin.name, plugin.distribution)}
            raise PluginError(f"no plugin or distribution is called {name!r}{closest(name, names)}{self._absent()}")
        return found

    def ask(self, plugin: Plugin, hook: str, **arguments: Any) -> None:
        """Calls a hook of one plugin and of no other; of one that does not work, none."""
        asked = self.manager.get_plugin(_key(plugin))
        others = [other for other in self.manager.get_plugins() if other is not asked]
        self.manager.subset_hook_caller(hook, others)(**arguments)

    def add(self, registration: Registration) -> None:
        """Keeps one component.

        Raises:
            PluginError: The same distribution has registered that name before.
        """
        rivals = self._components.setdefault((registration.kind, registration.name), [])
        for other in rivals:
            if same_distribution(other.plugin.distribution, registration.plugin.distribution):
                before = "" if other.plugin == registration.plugin else f", before by {other.plugin.label}"
                raise PluginError(f"{registration.kind} {registration.name!r} is registered twice{before}")
        rivals.append(registration)

    def discard(self, plugin: Plugin) -> None:
        """Forgets what a plugin registered before it broke."""
        kept = {key: [item for item in own if item.plugin != plugin] for key, own in self._components.items()}
        self._components = {key: own for key, own in kept.items() if own}

    def shared(self) -> Iterator[str]:
        """The names that several distributions have, in words: no fault, but worth knowing."""
        for (kind, name), rivals in sorted(self._components.items()):
            if len(rivals) > 1:
                whose = " and ".join(item.plugin.label for item in rivals)
                yield f"{kind} {name!r} is of {whose}; recipes write {' or '.join(map(self.written, rivals))}"

    def _absent(self) -> str:
        """What might have served a name that nobody has."""
        broken = [str(plugin.complaints()[0]) for plugin in self.broken()]
        reasons: dict[str, list[str]] = {}
        for plugin, reason in self.left_out.items():
            reasons.setdefault(reason, []).append(f"{plugin.distribution}:{plugin.name}")
        left_out = [f"not loaded ({reason}): {', '.join(names)}" for reason, names in reasons.items()]
        return "".join(f"\n  {line}" for line in (*broken, *left_out))


def _meant(rivals: list[Registration]) -> Registration | None:
    """Whom a name alone means: the only one, or genkit's own; nobody, where others' are of the same standing."""
    own = [item for item in rivals if item.plugin.distribution == OWN_DISTRIBUTION]
    return (own or rivals)[0] if own or len(rivals) == 1 else None


def _ambiguous(rivals: list[Registration]) -> PluginError:
    whose = " and ".join(item.plugin.label for item in rivals)
    names = " or ".join(item.qualified for item in rivals)
    return PluginError(f"{rivals[0].kind} {rivals[0].name!r} is registered by {whose}; write {names}")


@cache
def installed() -> Registry:
    """The registry of what is installed in this environment and wanted, read once.

    Raises:
        PluginError: A plugin is wanted that is not there; where plugins are taken strictly, also that something is
            wrong with one.
    """
    registry = load_registry(importlib.metadata.entry_points(group=GROUP), Selection.of_environment())
    complaints = registry.complaints() if is_strict() else []
    if complaints:
        raise PluginError("\n  ".join(["plugins are taken strictly:", *map(str, complaints)]))
    return registry


def load_registry(
    entry_points: Iterable[importlib.metadata.EntryPoint], selection: Selection | None = None
) -> Registry:
    """Loads each entry point that is wanted apart and collects its components. Genkit's own come first."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    registry = Registry(manager)
    # the same distribution can be found twice, installed and beside its source
    found = {_described(entry): entry for entry in entry_points}
    wanted = selection or Selection()
    wanted.check(found)
    for plugin, entry in sorted(found.items(), key=lambda f: (f[0].distribution != OWN_DISTRIBUTION, f[0].name)):
        reason = wanted.reason_against(plugin)
        if reason:
            registry.left_out[plugin] = reason
        else:
            registry.plugins.append(plugin if plugin.error else _load(registry, plugin, entry))
    return registry


def _described(entry_point: importlib.metadata.EntryPoint) -> Plugin:
    """The plugin of an entry point, with an error if that names no module."""
    distribution = _distribution(entry_point.dist)
    try:
        return Plugin(entry_point.name, entry_point.module, *distribution)
    except AttributeError:
        error = f"its entry point says {entry_point.value!r}, which is no module's name"
        return Plugin(entry_point.name, entry_point.value, *distribution, error=error)


def _load(registry: Registry, plugin: Plugin, entry_point: importlib.metadata.EntryPoint) -> Plugin:
    """Loads a plugin and lets it register; returns it with all that is wrong with it."""
    with watched() as conduct:
        plugin = _taken_in(registry, plugin, entry_point)
    return replace(plugin, notes=tuple(conduct.complaints()))


def _taken_in(registry: Registry, plugin: Plugin, entry_point: importlib.metadata.EntryPoint) -> Plugin:
    manager = registry.manager
    try:
        module = entry_point.load()
        plugin = replace(plugin, location=str(getattr(module, "__file__", None) or ""))
        problem = _api_problem(plugin, getattr(module, API_CONSTANT, None))
        if problem.error:
            return problem
        _check_hooks(registry, module)
        manager.register(module, name=_key(plugin))
        manager.check_pending()
        registry.ask(plugin, "register_components", register=Registrar(registry, plugin))
    except PASSED_ON:
        raise
    except BaseException as error:
        registry.discard(plugin)
        manager.unregister(name=_key(plugin))
        plugin = replace(plugin, location=plugin.location or location(plugin.module))
        # a plugin for another API may fail before it can say so
        problem = _api_problem(plugin, stated(plugin.module, API_CONSTANT) or None)
        return problem if problem.error else replace(plugin, error=_reason(error))
    return plugin


def _check_hooks(registry: Registry, module: Any) -> None:
    """Refuses a module that is a plugin already, or whose hooks are not marked and would never be called."""
    manager = registry.manager
    taken = manager.get_name(module)
    if taken is not None:
        raise PluginError(f"its module is plugin {taken.rpartition(':')[2]!r} of {taken.rpartition(':')[0]} already")
    hooks = list(filter(partial(manager.parse_hookspec_opts, hookspecs), vars(hookspecs)))
    for name in dir(module):
        if name not in hooks and manager.parse_hookimpl_opts(module, name) is not None:
            raise PluginError(f"there is no hook {name!r}{closest(name, hooks)}")
    for name in hooks:
        if inspect.isfunction(getattr(module, name, None)) and manager.parse_hookimpl_opts(module, name) is None:
            raise PluginError(f"its function {name} is not marked, so it is never called; write @hookimpl above it")


def _key(plugin: Plugin) -> str:
    """What pluggy calls a plugin."""
    return f"{plugin.distribution}:{plugin.name}"


def _api_problem(plugin: Plugin, stated_range: object) -> Plugin:
    """The plugin, with an error if it was written for another plugin API."""
    problem = "" if stated_range is None else api_problem(stated_range)
    if not problem:
        return plugin
    no_range = problem.startswith(API_CONSTANT)
    remedy = "" if no_range else f"install a version of {plugin.distribution} for this genkit, or a genkit for it"
    return replace(plugin, error=problem, remedy=remedy)


@dataclass(frozen=True)
class Registrar:
    """The registry's side of ``register_components``."""

    registry: Registry
    plugin: Plugin

    def __call__(self, name: str, target: type[Component] | str, *, kind: str | None = None) -> None:
        """Registers a component, as :class:`genkit.hookspecs.Register` says."""
        if not (isinstance(name, str) and name.isidentifier() and name == name.lower()):
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


@cache
def _distribution(distribution: importlib.metadata.Distribution | None) -> tuple[str, str]:
    """Name and version; read once, since each reading parses the whole metadata."""
    if distribution is None:
        return "unknown distribution", ""
    return distribution.name, distribution.version


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, PluginError) else told(error)
