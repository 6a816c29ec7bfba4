"""Reads recipe files: safe YAML with a line number for every key, ``extends`` and command-line overrides."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from genkit.errors import Problem, RecipeError

Key = str | int
KeyPath = tuple[Key, ...]

MAX_NODES = 20_000  # an alias can repeat itself exponentially; no recipe comes near this
MAX_DEPTH = 60
TOO_LARGE = 2**63
TOO_DEEP = "the recipe is too large or too deep, or an alias refers to itself"
COMMAND_LINE = "command line"
DOTTED = "published.protocol."  # what stands below it is a key with dots of its own


class _Loader(yaml.SafeLoader):
    """YAML whose plain scalars follow YAML 1.2: ``3e-4`` is a number, ``on`` and ``no`` are words."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012  (PyYAML's own protocol)


_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)

#: The only tags that are read, and what makes a value of each; no tag ever runs code.
_SCALARS: dict[str, Callable[[str], Any]] = {
    f"{_TAG}null": lambda text: None,
    f"{_TAG}bool": lambda text: {"true": True, "false": False}[text.lower()],
    f"{_TAG}int": lambda text: _machine_int(text),
    f"{_TAG}float": lambda text: float(re.sub(r"\.(?=inf|nan)", "", text.lower())),
    f"{_TAG}str": str,
}
_TAGS: dict[type[yaml.Node], Collection[str]] = {
    yaml.MappingNode: (f"{_TAG}map",),
    yaml.SequenceNode: (f"{_TAG}seq",),
    yaml.ScalarNode: _SCALARS,
}


class _Dumper(yaml.SafeDumper):
    """Writes what :class:`_Loader` reads: a string that it would take for a number is quoted."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def write(values: Mapping[str, Any]) -> str:
    """Plain values as YAML that :func:`read` reads back."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def _machine_int(text: str) -> int:
    value = int(text)
    if abs(value) >= TOO_LARGE:
        raise ValueError("too large")
    return value


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
        here = f"{COMMAND_LINE} {assignment}"
        name, equals, text = assignment.partition("=")
        *owners, last = _words(name.strip())
        if not equals or not all((*owners, last)):
            raise _problem("", "an override is written key.path=value", here)
        value = _parse(text, here, (), {})
        owner: Any = self.values
        path: KeyPath = ()
        for word in owners:
            path = (*path, _key(owner, word, path, here))
            owner = _descend(owner, path, here)
        path = (*path, _key(owner, last, path, here))
        self.places = {place: where for place, where in self.places.items() if place[: len(path)] != path}
        self.places[path] = here
        if value is None and isinstance(owner, dict):
            owner.pop(path[-1], None)
        else:
            owner[path[-1]] = value


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
    for path, value in walk(values):
        if isinstance(value, int) and abs(value) >= TOO_LARGE:
            raise _problem(dotted(path), f"{value} is too large a number to be used", name)
    source = Source(_copy(values), {(): name} if name else {})
    for assignment in overrides:
        source.override(assignment)
    return source


def _read_with_parents(path: Path, children: tuple[Path, ...], named_at: str = "") -> Source:
    """Reads a file and what it extends; ``named_at`` is where a child names it."""
    text = _text(path, named_at)
    if path.resolve() in children:
        raise _problem("extends", f"{path} extends itself", named_at)
    places: dict[KeyPath, str] = {}
    values = _parse(text, str(path), (), places)
    if values is None:
        raise _problem("", "the recipe is empty", str(path))
    if not isinstance(values, dict):
        raise _problem("", f"a recipe is a mapping of keys, {type(values).__name__} given", str(path))
    places[()] = str(path)
    child = Source(values, places)
    parent_name, here = values.pop("extends", None), child.place(("extends",))
    if parent_name is None:
        return child
    if not isinstance(parent_name, str):
        raise _problem("extends", f"the path of one recipe is wanted, {parent_name!r} given", here)
    return _merge(_read_with_parents(path.parent / parent_name, (*children, path.resolve()), here), child)


def _text(path: Path, named_at: str) -> str:
    where, what = (named_at, f"recipe {path}") if named_at else (str(path), "recipe")
    key = "extends" if named_at else ""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        beside = {entry.stem: entry.name for entry in path.parent.glob("*.y*ml")} if path.parent.is_dir() else {}
        match = difflib.get_close_matches(path.stem, beside, n=1)
        hint = f"; did you mean {beside[match[0]]!r}?" if match else ""
        allowed = f" (there are: {', '.join(sorted(beside.values()))})" if beside else ""
        raise _problem(key, f"there is no such {what}{hint}{allowed}", where) from None
    except (OSError, ValueError) as error:
        raise _problem(key, f"the {what} cannot be read: {error}", where) from error


def _parse(text: str, name: str, path: KeyPath, places: dict[KeyPath, str]) -> Any:
    try:
        node = yaml.compose(text, _Loader)
        if node is None:
            return None
        reader = _Reader(name, places)
        values = reader.read(node, path)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}" if mark and not name.startswith(COMMAND_LINE) else name
        what = getattr(error, "problem", None) or str(error)
        raise _problem("", f"this is not YAML: {' '.join(what.split())}", where) from error
    except RecursionError as error:
        raise _problem("", TOO_DEEP, name) from error
    if reader.problems:
        raise RecipeError(reader.problems)
    return values


class _Reader:
    """Turns YAML nodes into plain values, noting where each key stands and which are given twice."""

    def __init__(self, name: str, places: dict[KeyPath, str]) -> None:
        self.name = name
        self.places = places
        self.problems: list[Problem] = []
        self.num_nodes = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise _problem("", TOO_DEEP, self.name)
        self.places.setdefault(path, self.place(node))
        if node.tag not in _TAGS[type(node)]:
            return self.refuse(node, path, f"the tag {node.tag!r} is not read; only plain values are")
        if isinstance(node, yaml.MappingNode):
            return self.read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            return _SCALARS[node.tag](node.value)
        except (ValueError, KeyError):
            return self.refuse(node, path, f"{node.value[:40]!r} is no {node.tag.removeprefix(_TAG)} that can be used")

    def refuse(self, node: yaml.Node, path: KeyPath, message: str) -> None:
        self.problems.append(Problem(dotted(path), message, self.place(node)))

    def read_mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else repr(key_node.tag)
            here = (*path, key)
            if key in values:
                self.refuse(key_node, here, f"this key is given twice, first at {self.places[here]}")
                continue
            self.places[here] = self.place(key_node)
            values[key] = self.read(value_node, here)
        return values

    def place(self, node: yaml.Node) -> str:
        return self.name if self.name.startswith(COMMAND_LINE) else f"{self.name}:{node.start_mark.line + 1}"


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


def _words(name: str) -> list[str]:
    """The keys that an override's path runs through."""
    if name.startswith(DOTTED):
        return [*DOTTED.split(".")[:-1], name.removeprefix(DOTTED)]
    return name.split(".")


def _key(owner: Any, word: str, path: KeyPath, here: str) -> Key:
    """The key that a word of an override stands for in its owner: an index in a list, itself in a mapping."""
    if isinstance(owner, dict):
        return word
    if not re.fullmatch("[0-9]+", word) or int(word) >= len(owner):
        wanted = f"an index from 0 to {len(owner) - 1} is wanted, {word!r} given" if owner else "the list is empty"
        raise _problem(dotted((*path, word)), wanted, here)
    return int(word)


def _descend(owner: Any, path: KeyPath, here: str) -> Any:
    """Steps into an owner, making a mapping where there is none; a bare name becomes ``{use: name}``."""
    value = owner.get(path[-1]) if isinstance(owner, dict) else owner[path[-1]]
    if value is None:
        value = {}
    elif isinstance(value, str):
        value = {"use": value}
    elif not isinstance(value, dict | list):
        raise _problem(dotted(path), f"has no keys below it: it is {value!r}", here)
    owner[path[-1]] = value
    return value


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
