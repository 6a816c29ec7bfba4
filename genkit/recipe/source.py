"""Reads recipe files: safe YAML with a line number for every key, ``extends`` and command-line overrides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from genkit.errors import Problem, RecipeError, closest

Key = str | int
KeyPath = tuple[Key, ...]

MAX_NODES = 20_000  # an alias can repeat itself exponentially; no recipe comes near this
MAX_DEPTH = 60
COMMAND_LINE = "command line"


class _Loader(yaml.SafeLoader):
    """Safe YAML whose plain scalars follow YAML 1.2: ``3e-4`` is a number, ``on`` and ``no`` are words."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (PyYAML's own protocol)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


@dataclass
class Source:
    """A recipe as it was written: plain values, and where each of them stands.

    Attributes:
        values: Mappings, sequences and scalars.
        places: File and line of each key, by its path.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)

    def place(self, path: KeyPath) -> str:
        """Where a key stands; for a key that is not written, where its nearest owner does."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return ""

    def override(self, assignment: str) -> None:
        """Applies ``key.path=value`` as given on the command line; ``null`` takes a key away.

        Raises:
            RecipeError: It is no assignment, or its path runs through something that has no keys.
        """
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise _problem(assignment, "an override is written key.path=value", COMMAND_LINE)
        value = _parse(text, COMMAND_LINE, (), {})
        *owners, last = keys = tuple(int(key) if key.isdigit() else key for key in name.strip().split("."))
        owner: Any = self.values
        for depth, key in enumerate(owners, start=1):
            owner = _descend(owner, key, keys[:depth])
        if value is None and owners and isinstance(owner, dict):
            owner.pop(str(last), None)
            return
        _put(owner, last, value, keys)
        self.places = {path: place for path, place in self.places.items() if path[: len(keys)] != keys}
        self.places[keys] = f"{COMMAND_LINE} {assignment}"


def read(path: str | Path, overrides: Sequence[str] = ()) -> Source:
    """Reads a recipe file with its parents, and applies overrides.

    Raises:
        RecipeError: The file is missing, is no YAML mapping, has duplicate keys, or extends itself.
    """
    source = _read_with_parents(Path(path), ())
    for assignment in overrides:
        source.override(assignment)
    return source


def from_values(values: Mapping[str, Any], overrides: Sequence[str] = (), name: str = "") -> Source:
    """Takes a recipe that is already a mapping."""
    source = Source(_copy(values), {(): name} if name else {})
    for assignment in overrides:
        source.override(assignment)
    return source


def _read_with_parents(path: Path, children: tuple[Path, ...]) -> Source:
    if path.resolve() in children:
        raise _problem("extends", "this recipe extends itself", str(children[-1]))
    places: dict[KeyPath, str] = {}
    values = _parse(_text(path), str(path), (), places)
    if values is None:
        raise _problem("", "the recipe is empty", str(path))
    if not isinstance(values, dict):
        raise _problem("", f"a recipe is a mapping of keys, {type(values).__name__} given", str(path))
    places[()] = str(path)
    child = Source(values, places)
    parent_name = values.pop("extends", None)
    if parent_name is None:
        return child
    if not isinstance(parent_name, str):
        raise _problem("extends", f"the path of one recipe is wanted, {parent_name!r} given", child.place(("extends",)))
    return _merge(_read_with_parents(path.parent / parent_name, (*children, path.resolve())), child)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = [entry.name for entry in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise _problem("", f"there is no such recipe{closest(path.name, beside)}", str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _problem("", f"the recipe cannot be read: {error}", str(path)) from error


def _parse(text: str, name: str, path: KeyPath, places: dict[KeyPath, str]) -> Any:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        reader = _Reader(loader, name, places)
        values = reader.read(node, path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark and name != COMMAND_LINE else name
        what = getattr(error, "problem", None) or str(error)
        raise _problem("", f"this is not YAML: {what}", where) from error
    finally:
        loader.dispose()
    if reader.problems:
        raise RecipeError(reader.problems)
    return values


class _Reader:
    """Turns YAML nodes into plain values, noting where each key stands and which are given twice."""

    def __init__(self, loader: _Loader, name: str, places: dict[KeyPath, str]) -> None:
        self.loader = loader
        self.name = name
        self.places = places
        self.problems: list[Problem] = []
        self.num_nodes = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise _problem("", "the recipe is too large or too deep, or an alias refers to itself", self.name)
        self.places.setdefault(path, self.place(node))
        if isinstance(node, yaml.MappingNode):
            return self.read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self.loader.construct_object(node)

    def read_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else repr(key_node.tag)
            here = (*path, key)
            if key in values:
                message = f"this key is given twice, first at {self.places[here]}"
                self.problems.append(Problem(dotted(here), message, self.place(key_node)))
                continue
            self.places[here] = self.place(key_node)
            values[key] = self.read(value_node, here)
        return values

    def place(self, node: yaml.Node) -> str:
        return self.name if self.name == COMMAND_LINE else f"{self.name}:{node.start_mark.line + 1}"


def _merge(parent: Source, child: Source) -> Source:
    """Lays a child's keys over its parent's; a component of another name replaces the parent's whole."""
    replaced: list[KeyPath] = []

    def lay(under: Any, over: Any, path: KeyPath) -> Any:
        if not (isinstance(under, dict) and isinstance(over, dict)) or _swaps(under, over):
            replaced.append(path)
            return over
        merged = dict(under)
        for key, value in over.items():
            merged[key] = lay(under[key], value, (*path, key)) if key in under else value
        return merged

    values = lay(parent.values, child.values, ())
    kept = {
        path: place
        for path, place in parent.places.items()
        if not any(path[: len(gone)] == gone and path != gone for gone in replaced)
    }
    return Source(values, {**kept, **child.places})


def _swaps(under: dict[str, Any], over: dict[str, Any]) -> bool:
    return "use" in over and over["use"] != under.get("use", over["use"])


def _descend(owner: Any, key: Key, path: KeyPath) -> Any:
    """Steps into ``owner[key]``, making a mapping where there is none; a bare name becomes ``{use: name}``."""
    value = owner.get(str(key)) if isinstance(owner, dict) else owner[_index(owner, key, path)]
    if value is None:
        value = {}
    elif isinstance(value, str):
        value = {"use": value}
    elif not isinstance(value, dict | list):
        raise _problem(dotted(path), f"has no keys below it: it is {value!r}", COMMAND_LINE)
    _put(owner, key, value, path)
    return value


def _put(owner: dict[Any, Any] | list[Any], key: Key, value: Any, path: KeyPath) -> None:
    if isinstance(owner, dict):
        owner[str(key)] = value
    else:
        owner[_index(owner, key, path)] = value


def _index(owner: list[Any], key: Key, path: KeyPath) -> int:
    if not isinstance(key, int) or key >= len(owner):
        raise _problem(dotted(path), f"an index from 0 to {len(owner) - 1} is wanted, {key!r} given", COMMAND_LINE)
    return key


def dotted(path: KeyPath) -> str:
    """A key's path as it is written on the command line.

    Example:
        >>> dotted(("model", "bijections", 0, "hidden_dims"))
        'model.bijections.0.hidden_dims'
    """
    return ".".join(str(key) for key in path)


def walk(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """All values below a value with their paths, itself first."""
    yield path, value
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from walk(item, (*path, index))


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(item) for item in value]
    return value


def _problem(path: str, message: str, location: str) -> RecipeError:
    return RecipeError([Problem(path, message, location)])
