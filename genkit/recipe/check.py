"""Checks a recipe right through to its leaves and gathers everything that is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from genkit.component import Component, Factory, Section, to_plain
from genkit.errors import MissingPlugin, PluginError, Problem, RecipeError, UsageError, closest
from genkit.model import lacking
from genkit.plugin import same_distribution
from genkit.recipe import published
from genkit.recipe.recipe import Published, Recipe
from genkit.recipe.schema import Option, options_of, registered_options, written_default
from genkit.recipe.served import Server, recorded, served_by
from genkit.recipe.source import KeyPath, Source, dotted, from_values, read, walk
from genkit.registry import Registration, Registry, installed, load_registry

Found = tuple[KeyPath, str]
S = TypeVar("S", bound=Section)

_RECIPE_OPTIONS = options_of(Recipe)


def load_recipe(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), registry: Registry | None = None
) -> Recipe:
    """Reads and checks a recipe.

    Args:
        recipe: A file, or a mapping with the same keys.
        overrides: ``key.path=value`` assignments, applied in order.
        registry: Where names are looked up; what is installed, if not given.

    Raises:
        RecipeError: With everything that is wrong, each with its place.
    """
    source = from_values(recipe, overrides) if isinstance(recipe, Mapping) else read(recipe, overrides)
    return check(source, registry or installed())


def check(source: Source, registry: Registry) -> Recipe:
    """Turns a recipe's source into a :class:`Recipe`."""
    checker = _Checker(registry, recorded(source.values))
    values, found = checker.options(_RECIPE_OPTIONS, _without_removed_entries(source.values))
    if not found:
        recipe = Recipe(**values)
        object.__setattr__(recipe, "source", source)  # no key of its own, but where each key stands
        _locate(recipe, source)
        found = [*_capability_problems(recipe, registry), *_best_problems(recipe), *_published_problems(recipe)]
        if not found:
            object.__setattr__(recipe, "served_by", served_by(recipe, registry))  # by whom it is served now
            return recipe
    raise checker.error(Problem(dotted(path), message, source.place(path)) for path, message in found)


def resolve(kind: str, node: Any, registry: Registry) -> Factory[Any]:
    """Checks one component as a recipe would.

    Raises:
        RecipeError: The name or an option is wrong.
    """
    try:
        return _Checker(registry).resolve(kind, node)
    except PydanticCustomError as error:
        found: list[Found] = (error.context or {})["found"]
        raise RecipeError(Problem(dotted(path), message) for path, message in found) from error


def check_published(source: Source) -> Published | None:
    """Checks what a resolved recipe says of a published figure, and nothing else: its plugins may be gone.

    Raises:
        RecipeError: With everything that is wrong there.
    """
    raw = source.values.get("published")
    if raw is None:
        return None
    try:
        told = _Checker(load_registry([])).section(Published, raw)
        found = [*published.problems(told, source.values)]
    except PydanticCustomError as error:
        told, nested = None, (error.context or {})["found"]
        found = [(("published", *path), message) for path, message in nested]
    if found:
        raise RecipeError(Problem(dotted(path), message, source.place(path)) for path, message in found)
    return told


class _Checker:
    """Walks recipe values along constructor signatures; pydantic calls it back for nested components.

    Args:
        registry: Where names are looked up.
        servers: Who served the recipe's components when it was resolved, by kind and name.
    """

    def __init__(self, registry: Registry, servers: Mapping[str, Server] | None = None) -> None:
        self.registry = registry
        self.servers = servers or {}
        self.beside: Iterable[str] = ()
        self.owner = ""  # the distribution that wrote the names at hand; the recipe's author is none
        self.missing: list[Server] = []

    def error(self, problems: Iterable[Problem]) -> RecipeError:
        """What is wrong as one error; if a distribution is missing that served the recipe, one that says which."""
        if not self.missing:
            return RecipeError(problems)
        server = self.missing[0]
        return MissingPlugin(problems, server.plugin, server.distribution, server.version)

    def section(self, owner: type[S], raw: Any) -> S:
        """Checks a part of the recipe with keys of its own. Pydantic calls this, as :meth:`resolve`."""
        known = options_of(owner)
        if owner.inline:
            raw = _outlined(owner.inline, known, raw)
            self.beside = [name for name in known if name != owner.inline]
        if not isinstance(raw, Mapping):
            raise _nested([((), f"a mapping of keys is wanted, {raw!r} given")])
        values, found = self.options(known, raw)
        if found:
            raise _nested([(path[1:] if path[:1] == (owner.inline,) else path, message) for path, message in found])
        return owner(**values)

    def options(
        self, known: Mapping[str, Option], raw: Mapping[str, Any], beside: Iterable[str] = (), owner: str = ""
    ) -> tuple[dict[str, Any], list[Found]]:
        """Checks every option of one owner, defaults included.

        Args:
            known: Its options.
            raw: What is given.
            beside: Keys that its section takes.
            owner: Its distribution, whose own components its defaults mean.
        """
        writer = self.owner  # whose words the given values are
        found: list[Found] = [
            ((key,), f"there is no such key{closest(str(key), [*known, *beside])}") for key in raw if key not in known
        ]
        values: dict[str, Any] = {}
        for name, option in known.items():
            if name not in raw and option.required:
                found.append(((name,), f"this key is missing: {option.type_text()}. {option.description}".rstrip()))
                continue
            given = self._completed(option, raw[name], owner) if name in raw else option.default
            self.owner = writer if name in raw else owner
            try:
                values[name] = option.adapter.validate_json(json.dumps(to_plain(given)), strict=True, context=self)
            except TypeError:
                found.append(((name,), f"{given!r} is nothing that a recipe can hold"))
            except ValidationError as error:
                found += [((name, *path), message) for path, message in _explain(error, to_plain(given))]
        self.owner = writer  # the next in a list may be named by somebody else
        return values, found

    def _completed(self, option: Option, given: Any, owner: str) -> Any:
        """Options without a name change those of the default component: ``optimizer: {lr: 3e-4}``."""
        if isinstance(option.default, Factory) and isinstance(given, Mapping) and "use" not in given:
            return {**written_default(option, self.registry, owner), **given}
        return given

    def resolve(self, kind: str, raw: Any, wanted: type[Component] = Component) -> Factory[Any]:
        """Checks one nested component. Pydantic calls this; its error carries ours to the top.

        Args:
            kind: Its kind's name.
            raw: What is given.
            wanted: The class that it must inherit; another's kind may have the same name.
        """
        node = {"use": raw} if isinstance(raw, str) else raw
        if not isinstance(node, Mapping) or not isinstance(node.get("use"), str):
            raise _nested(
                [((), f"the name of a component of kind {kind} is wanted, or {{use: name, ...}}; {raw!r} given")]
            )
        beside, self.beside = self.beside, ()
        registration = self.lookup(kind, node["use"])
        try:
            component = registration.load()
            if not issubclass(component, wanted):
                raise registration.fault(f"does not inherit {wanted.__module__}.{wanted.__qualname__}, as it must here")
            known = registered_options(registration)
        except PluginError as error:
            raise _nested([(("use",), str(error))]) from error
        given = {key: value for key, value in node.items() if key != "use"}
        values, found = self.options(known, given, beside, registration.plugin.distribution)
        if found:
            raise _nested(found)
        return Factory(self.registry.written(registration), values, component)

    def lookup(self, kind: str, name: str) -> Registration:
        """Finds a component; where the recipe says who served it, that distribution's and no other's."""
        server = None if self.owner else self.servers.get(f"{kind} {name}")  # a default is none of the recipe's words
        message = ""
        try:
            found = self.registry.get(kind, name, server.distribution if server else self.owner)
            if server is None or same_distribution(found.plugin.distribution, server.distribution):
                return found
            message = f"; {found.plugin.label} has one too: write {found.qualified} to take that"
        except (UsageError, PluginError) as error:
            if server is None:
                raise _nested([(("use",), str(error))]) from error
        self.missing.append(server)
        raise _nested([(("use",), server.absence(kind, name, self.registry) + message)])


def _outlined(inline: str, known: Mapping[str, Option], raw: Any) -> Any:
    """Parts a section's own keys from those of the component that is written among them."""
    if not isinstance(raw, Mapping):
        return {inline: raw}
    own = {key: raw[key] for key in known if key in raw and key != inline}
    return {inline: {key: value for key, value in raw.items() if key not in own}, **own}


def _without_removed_entries(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A child recipe takes an evaluator away by setting it to null."""
    entries = values.get("evaluate")
    if not isinstance(entries, Mapping):
        return {key: value for key, value in values.items() if key != "evaluate" or value is not None}
    return {**values, "evaluate": {name: node for name, node in entries.items() if node is not None}}


def _nested(found: list[Found]) -> PydanticCustomError:
    return PydanticCustomError("component", "in a component", {"found": found})


def _explain(error: ValidationError, given: Any) -> Iterator[Found]:
    """Flattens a pydantic error: nested components' problems come up under their own paths."""
    messages: dict[KeyPath, list[str]] = {}
    for item in error.errors(include_url=False):
        path = _written_path(item["loc"], given)
        if item["type"] == "component":
            for inner, message in item.get("ctx", {})["found"]:
                messages.setdefault((*path, *inner), []).append(message)
        else:
            messages.setdefault(path, []).append(_sentence(item))
    for path, texts in messages.items():
        # a union complains of each of its members: what is wrong deeper down says more
        if not any(len(other) > len(path) and other[: len(path)] == path for other in messages):
            yield path, " or ".join(dict.fromkeys(texts))


def _written_path(location: tuple[Any, ...], given: Any) -> KeyPath:
    """The part of a pydantic location that is in the recipe; pydantic puts a union's member names between."""
    path: list[Any] = []
    for key in location:
        if (isinstance(given, Mapping) and key in given) or (
            isinstance(given, list) and isinstance(key, int) and key < len(given)
        ):
            path.append(key)
            given = given[key]
    return tuple(path)


def _sentence(item: Any) -> str:
    message = item["msg"].replace("Input should be", "should be").replace("a valid array", "a list")
    allowed = re.findall(r"'([^']*)'", str(item.get("ctx", {}).get("expected", "")))
    hint = closest(item["input"], allowed) if allowed and isinstance(item["input"], str) else ""
    return f"{message}, {item['input']!r} given{hint.partition(' (allowed')[0]}"


def _locate(value: Any, source: Source, path: KeyPath = ()) -> None:
    """Tells every factory where it stands, for errors that only show when it is built."""
    for below, item in walk(value, path):
        if isinstance(item, Factory):
            item.path, item.location = dotted(below), source.place(below)
            _locate(item.options, source, below)
        elif isinstance(item, Section):
            for option in fields(item):  # pyright: ignore[reportArgumentType]
                inlined = option.name == item.inline
                _locate(getattr(item, option.name), source, below if inlined else (*below, option.name))


def _capability_problems(recipe: Recipe, registry: Registry) -> Iterator[Found]:
    """Pairs that cannot work: something asks of the model what it does not declare."""
    model = recipe.model
    for path, asker in askers(recipe):
        missing = lacking(model.resolved, asker.resolved.requires)
        if missing:
            able = [registry.written(r) for r in registry.components("model") if not _lacks(r, asker.resolved.requires)]
            serves = f"models that would do: {', '.join(able)}" if able else "no installed model would do"
            yield path, f"{asker.name} needs a model with {', '.join(missing)}, which {model.name} has not; {serves}"


def askers(recipe: Recipe) -> Iterator[tuple[KeyPath, Factory[Any]]]:
    """All components that may ask something of the model, with their places."""
    owners: dict[KeyPath, Factory[Any]] = {("objective",): recipe.objective, ("sampler",): recipe.sampler}
    owners |= {("evaluate", name): entry.evaluator for name, entry in recipe.evaluate.items()}
    for start, owner in owners.items():
        yield from _askers(owner, start)


def _askers(owner: Factory[Any], path: KeyPath) -> Iterator[tuple[KeyPath, Factory[Any]]]:
    """The objective, sampler or evaluator, and all that it is made of."""
    yield path, owner
    for below, item in walk(owner.options, path):
        if isinstance(item, Factory):
            yield from _askers(item, below)


def requirements(owner: Factory[Any]) -> tuple[Any, ...]:
    """The capabilities that a component and all that it is made of ask of a model."""
    return tuple(dict.fromkeys(each for _, asker in _askers(owner, ()) for each in asker.resolved.requires))


def _lacks(registration: Any, requires: Any) -> bool:
    try:
        return bool(lacking(registration.load(), requires))
    except PluginError:
        return True


def _best_problems(recipe: Recipe) -> Iterator[Found]:
    best = recipe.train.best
    if best not in ("auto", "none") and best not in recipe.evaluate:
        yield (
            ("train", "best"),
            f"no evaluator goes by {best!r}{closest(best, ['auto', 'none', *recipe.evaluate])}",
        )


def _published_problems(recipe: Recipe) -> Iterable[Found]:
    return published.problems(recipe.published, recipe.to_plain()) if recipe.published else ()
