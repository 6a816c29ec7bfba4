"""Runs the checks on all components of an installed plugin."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from genkit.component import Component, Factory, kind_class
from genkit.engine.seeds import preserved
from genkit.errors import PluginError, UsageError, closest
from genkit.recipe.check import resolve
from genkit.registry import Plugin, Registration, Registry, installed
from genkit.testing.common import NotChecked
from genkit.testing.component import Check
from genkit.testing.keeping import CPU, untouched

Outcome = Literal["passed", "failed", "not checked"]


@dataclass(frozen=True)
class Finding:
    """What one check said of one example of a component.

    Attributes:
        kind: The component's kind; ``plugin`` for how the plugin itself was loaded.
        component: Its name.
        options: The options of the example.
        check: Where the check is, ``module:function``; empty if its kind has none.
        outcome: Whether it passed, failed, or could not be checked, which is no pass.
        message: Why it did not pass.
    """

    kind: str
    component: str
    options: Mapping[str, Any] = field(default_factory=dict)
    check: str = ""
    outcome: Outcome = "passed"
    message: str = ""


def inspect_plugin(name: str, component: str | None = None, registry: Registry | None = None) -> list[Finding]:
    """Checks every component of an installed plugin, with the options of each of its ``examples``.

    Args:
        name: The plugin's name, or that of its distribution, which may have several plugins.
        component: Only this one, as ``kind/name``.
        registry: Where to look; what is installed, if not given.

    Raises:
        PluginError: No such plugin is installed; the message has the closest match.
        UsageError: It has no such component; the same.
    """
    registry = registry or installed()
    plugins = registry.called(name)
    mine = [r for r in registry.components() if _of(r, plugins)]
    if component is not None:
        mine = _chosen(mine, component, name)
    # all of them before any check, which imports what is installed without asking who harms whom
    loaded = [(registration, _loaded(registration)) for registration in mine]
    loading = [_loading(plugin) for plugin in plugins if component is None]
    return loading + [finding for registration, found in loaded for finding in _inspect(registration, found, registry)]


def _loading(plugin: Plugin) -> Finding:
    """How the plugin itself was loaded: apart from others, without harm to them."""
    complaints = plugin.complaints()
    outcome: Outcome = "failed" if complaints else "passed"
    return Finding("plugin", plugin.name, {}, "loading", outcome, "\n  ".join(map(str, complaints)))


def _of(registration: Registration, plugins: list[Plugin]) -> bool:
    """Whether one of the plugins registered it; where its file is became known only when the plugin was loaded."""
    own = registration.plugin
    return any((own.name, own.distribution) == (plugin.name, plugin.distribution) for plugin in plugins)


def _chosen(mine: list[Registration], component: str, plugin: str) -> list[Registration]:
    chosen = [registration for registration in mine if f"{registration.kind}/{registration.name}" == component]
    if not chosen:
        known = [f"{registration.kind}/{registration.name}" for registration in mine]
        raise UsageError(f"plugin {plugin!r} has no component {component!r}{closest(component, known)}")
    return chosen


def check_of(cls: type[Component]) -> Check | None:
    """The check of a component's kind; ``None`` if the kind has none.

    Raises:
        PluginError: The kind names a check that cannot be imported.
    """
    target = kind_class(cls).check
    if not target:
        return None
    module, _, function = target.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except Exception as error:
        raise PluginError(f"the check of kind {cls.kind!r}, {target}, cannot be imported: {error}") from error


def _loaded(registration: Registration) -> type[Component] | Exception:
    """A component's class, or why it cannot be loaded, or what its import does to others."""
    try:
        with preserved(CPU), untouched(f"importing {registration.target}"):
            return registration.load(strict=True)
    except (PluginError, AssertionError) as error:
        return error


def _inspect(registration: Registration, cls: type[Component] | Exception, registry: Registry) -> Iterator[Finding]:
    """One finding for each example, or one for why there is none."""
    kind, name = registration.kind, registry.written(registration)
    try:
        if isinstance(cls, Exception):
            raise cls
        check = check_of(cls)
    except (PluginError, AssertionError) as error:
        yield Finding(kind, name, outcome="failed", message=str(error))
        return
    target = kind_class(cls).check
    if check is None:
        yield Finding(kind, name, outcome="not checked", message=f"kind {kind!r} names no check")
        return
    for options in cls.examples or ({},):
        outcome, message = _outcome(
            check, partial(resolve, kind, {"use": name, **options}, registry), registration.plugin
        )
        yield Finding(kind, name, options, target, outcome, message)


def _outcome(check: Check, build: Callable[[], Factory[Any]], plugin: Plugin) -> tuple[Outcome, str]:
    """Carries out one check; whatever a component raises is its failure, and harms nobody else."""
    try:
        with preserved(CPU), untouched("the check"):
            check(build())
    except NotChecked as reason:
        return "not checked", str(reason)
    except AssertionError as error:
        return "failed", str(error) or f"an assertion without a message{_place(error, plugin)}"
    except (Exception, SystemExit) as error:
        return "failed", f"{type(error).__name__}: {str(error).strip() or 'no message'}{_place(error, plugin)}"
    return "passed", ""


def _place(error: BaseException, plugin: Plugin) -> str:
    """The last line of the plugin's own code that an error passed; the last of anybody's, if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if plugin.location and plugin.holds(frame.filename)] or frames
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
