"""Which distributions serve a recipe: the record that resolved recipes carry, and what is held against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from genkit.component import Factory, Section
from genkit.plugin import same_distribution
from genkit.recipe.recipe import Recipe, Served
from genkit.recipe.source import walk
from genkit.registry import Registration, Registry


@dataclass(frozen=True)
class Server:
    """Who served a component when a recipe was resolved.

    Attributes:
        distribution: The distribution.
        version: Its version.
        plugins: Those of its plugins that served the recipe.
    """

    distribution: str
    version: str
    plugins: tuple[str, ...]

    @property
    def label(self) -> str:
        """The distribution, its version and its plugins."""
        plugins = " and ".join(repr(plugin) for plugin in self.plugins)
        return f"{self.distribution} {self.version}".rstrip() + (f" (plugin {plugins})" if plugins else "")

    def absence(self, kind: str, name: str, registry: Registry) -> str:
        """Why a component that it served cannot be had, and what to do."""
        there = [plugin for plugin in registry.plugins if same_distribution(plugin.distribution, self.distribution)]
        left_out = [p for p in registry.left_out if same_distribution(p.distribution, self.distribution)]
        if there:
            what = f"the {there[0].distribution} {there[0].version} that is installed does not offer it"
        elif left_out:
            what = f"which is not loaded: {registry.left_out[left_out[0]]}"
        else:
            version = f"=={self.version}" if self.version else ""
            what = f"which is not installed; install it with: pip install {self.distribution}{version}"
        return f"this recipe's {kind} {name!r} came from {self.label}, {what}"


def recorded(values: Mapping[str, Any]) -> dict[str, Server]:
    """Who served each component, by its kind and name, as a recipe's values say; what is malformed says nothing."""
    record = values.get("served_by")
    servers: dict[str, Server] = {}
    for distribution, own in record.items() if isinstance(record, Mapping) else ():
        if isinstance(own, Mapping):
            server = Server(str(distribution), str(own.get("version", "")), tuple(_words(own.get("plugins"))))
            servers |= dict.fromkeys(_words(own.get("components")), server)
    return servers


def _words(value: Any) -> list[str]:
    return [str(word) for word in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def served_by(recipe: Recipe, registry: Registry) -> dict[str, Served]:
    """The record of a recipe that has just been checked."""
    by_distribution: dict[str, list[Registration]] = {}
    for factory in _factories(recipe):
        registration = registry.get(factory.resolved.kind, factory.name)
        own = by_distribution.setdefault(registration.plugin.distribution, [])
        if registration not in own:
            own.append(registration)
    return {name: _served(by_distribution[name], registry) for name in sorted(by_distribution)}


def _served(own: Sequence[Registration], registry: Registry) -> Served:
    return Served(
        version=own[0].plugin.version,
        plugins=sorted({registration.plugin.name for registration in own}),
        components=sorted(f"{registration.kind} {registry.written(registration)}" for registration in own),
    )


def _factories(value: Any) -> Iterator[Factory[Any]]:
    """All components of a recipe, those within others included."""
    for _, item in walk(value):
        if isinstance(item, Factory):
            yield item
            yield from _factories(item.options)
        elif isinstance(item, Section):
            yield from (part for option in fields(item) for part in _factories(getattr(item, option.name)))  # pyright: ignore[reportArgumentType]
