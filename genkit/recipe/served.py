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
        plugin: The plugin of it that the component is of.
    """

    distribution: str
    version: str
    plugin: str

    @property
    def label(self) -> str:
        """The distribution, its version and its plugin."""
        return f"{self.distribution} {self.version}".rstrip() + f" (plugin {self.plugin!r})"

    def absence(self, kind: str, name: str, registry: Registry) -> str:
        """Why a component that it served cannot be had, and what to do."""
        return f"this recipe's {kind} {name!r} came from {self.label}{self._cause(registry)}"

    def _cause(self, registry: Registry) -> str:
        every = [*registry.plugins, *registry.left_out]
        there = [plugin for plugin in every if same_distribution(plugin.distribution, self.distribution)]
        own = [plugin for plugin in there if plugin.name == self.plugin] or there
        for plugin in own:
            if plugin.error:
                return f"; {plugin.complaints()[0]}"
        for plugin in own:
            if plugin in registry.left_out:
                return f", which is not loaded: {registry.left_out[plugin]}"
        if there:
            installed = f"{there[0].distribution} {there[0].version}".rstrip()
            return f", and the {installed} that is installed does not offer it"
        version = f"=={self.version}" if self.version else ""
        again = f"pip install {self.distribution}{version}"
        return f", which is not installed; install it from where it came from, or: {again}"


def recorded(values: Mapping[str, Any]) -> dict[str, Server]:
    """Who served each component, by its kind and name, as a recipe's values say; what is malformed says nothing."""
    servers: dict[str, Server] = {}
    for distribution, own in _mapping(values.get("served_by")).items():
        if isinstance(own, Mapping):
            for plugin, components in _mapping(own.get("components")).items():
                server = Server(str(distribution), str(own.get("version", "")), str(plugin))
                servers |= dict.fromkeys(_words(components), server)
    return servers


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


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
    components: dict[str, list[str]] = {plugin: [] for plugin in sorted({item.plugin.name for item in own})}
    for registration in own:
        components[registration.plugin.name].append(f"{registration.kind} {registry.written(registration)}")
    return Served(version=own[0].plugin.version, components={name: sorted(each) for name, each in components.items()})


def _factories(value: Any) -> Iterator[Factory[Any]]:
    """All components of a recipe, those within others included."""
    for _, item in walk(value):
        if isinstance(item, Factory):
            yield item
            yield from _factories(item.options)
        elif isinstance(item, Section):
            yield from (part for option in fields(item) for part in _factories(getattr(item, option.name)))  # pyright: ignore[reportArgumentType]
