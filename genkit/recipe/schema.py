"""Reads constructors as schemas: the options of a class, their types, defaults and descriptions."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from pydantic import ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter

from genkit.component import Factory, Section, to_plain
from genkit.conformance import constructor_parameters
from genkit.errors import PluginError, UsageError
from genkit.registry import Registration, Registry

_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_REQUIRED = inspect.Parameter.empty
_WRITABLE = "finite numbers, strings, Literal, sequences, mappings"
_HELD = (bool, int, float, str, NoneType, list, tuple, dict, Sequence, Mapping, object, Any, Union, UnionType)


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter of a constructor: one key of a recipe.

    Attributes:
        name: The key.
        annotation: Its type.
        default: Its default; :attr:`required` tells whether there is one.
        description: What the class's docstring says of it.
        adapter: Checks values.
    """

    name: str
    annotation: Any
    default: Any
    description: str
    adapter: TypeAdapter

    @property
    def required(self) -> bool:
        """Whether a recipe must give it."""
        return self.default is _REQUIRED

    def type_text(self) -> str:
        """The type and its range in words, ``int > 0``."""
        return type_text(self.annotation)


Default = Callable[[Option], Any]  # writes an option's default


@cache
def options_of(owner: type) -> dict[str, Option]:
    """The options that a class's constructor takes from a recipe.

    Raises:
        PluginError: An annotation cannot be resolved or checked, or a default is nothing that a recipe can hold.
    """
    parameters = [p for p in constructor_parameters(owner) if p.kind is p.KEYWORD_ONLY]
    if not parameters:
        return {}
    described = describe_arguments(inspect.getdoc(owner) or "")
    made = {f.name: f.default_factory() for f in _fields(owner) if f.default_factory is not MISSING}
    options = {}
    for p in parameters:
        annotation, default = _hint(owner, p), made.get(p.name, p.default)
        adapter = _adapter(owner, p.name, annotation)
        _check_default(owner, p.name, default)
        options[p.name] = Option(p.name, annotation, default, described.get(p.name, ""), adapter)
    return options


def spelled_out(options: Iterable[Option]) -> Iterator[Option]:
    """Options, each followed by the keys of the section that its value is, or that its items are: ``levels.N.size``."""
    for option in options:
        yield option
        for inner, section in _sections_in(option.annotation):
            own = spelled_out(options_of(section).values())
            yield from (replace(key, name=f"{option.name}{inner}.{key.name}") for key in own)


def _sections_in(annotation: Any, inner: str = "") -> Iterator[tuple[str, type[Section]]]:
    """The sections in a type, each with how a path leads to one: by a number in a list, by a name in a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield inner, annotation
    origin, args = get_origin(annotation), get_args(annotation)
    if origin not in (Literal, Factory):
        step = ".NAME" if origin in (dict, Mapping) else ".N" if origin in (list, tuple, Sequence) else ""
        for argument in args[:1] if origin is Annotated else args:
            yield from _sections_in(argument, inner + step)


def registered_options(registration: Registration) -> dict[str, Option]:
    """The options of a registered component.

    Raises:
        PluginError: It cannot be loaded, or its constructor is no schema; whose it is stands in the message.
    """
    component = registration.load()
    try:
        return options_of(component)
    except PluginError as error:
        raise registration.fault(f"cannot be used: {error}") from error


def written_default(option: Option, registry: Registry, distribution: str = "") -> Any:
    """A default as a recipe would have to write it to mean the same.

    Args:
        option: The option, which has a default.
        registry: Where names are looked up.
        distribution: Whose option it is: its own components are meant where several have a name.
    """

    def write(value: Any, kinds: Sequence[str]) -> Any:
        if isinstance(value, Factory):
            return named(value, kinds)
        if isinstance(value, Mapping):
            return {key: write(item, kinds) for key, item in value.items()}
        return [write(item, kinds) for item in value] if isinstance(value, list | tuple) else to_plain(value)

    def named(factory: Factory[Any], kinds: Sequence[str]) -> dict[str, Any]:
        for kind in kinds:
            with suppress(UsageError, PluginError):  # whoever resolves the name says what is wrong with it
                registration = registry.get(kind, factory.name, distribution)
                known = registered_options(registration)
                options = {key: write(value, _kinds(known[key])) for key, value in factory.options.items()}
                return {"use": registry.written(registration), **options}
        return factory.to_plain()

    return write(option.default, _kinds(option))


def _kinds(option: Option) -> list[str]:
    """The kinds of the components that an option's values may hold."""
    return list(_factory_kinds(option.annotation))


def _factory_kinds(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Factory:
        yield get_args(annotation)[0].kind
    else:
        yield from (kind for argument in get_args(annotation) for kind in _factory_kinds(argument))


def _hint(owner: type, parameter: inspect.Parameter) -> Any:
    """The type that a parameter's annotation means; it may be written as a string."""
    written = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    names = getattr(inspect.unwrap(owner.__init__), "__globals__", {})
    try:
        return get_type_hints(written, names, include_extras=True)[parameter.name]
    except NameError as error:
        raise _fault(
            owner,
            f"{error}; a constructor's annotations are read when the program runs, so import what they name outside "
            "TYPE_CHECKING",
        ) from error
    except Exception as error:  # an annotation is any expression
        what = f"the type of option {parameter.name!r}, {parameter.annotation!r}, cannot be read"
        raise _fault(owner, f"{what}: {type(error).__name__}: {error}") from error


def _fault(owner: type, message: str) -> PluginError:
    return PluginError(f"{owner.__module__}.{owner.__qualname__}: {message}")


def _fields(owner: type) -> tuple[Any, ...]:
    return fields(owner) if is_dataclass(owner) else ()


def _adapter(owner: type, name: str, annotation: Any) -> TypeAdapter:
    odd = f"option {name!r} has type {annotation!r}, which no recipe can write; use {_WRITABLE} or Factory[...]"
    try:
        adapter = _made_adapter(annotation)
    except PydanticSchemaGenerationError as error:
        raise _fault(owner, odd) from error
    except Exception as error:  # a type may bring code of its own
        what = f"the type of option {name!r}, {annotation!r}, is none"
        raise _fault(owner, f"{what}: {type(error).__name__}: {error}") from error
    if not _is_writable(annotation):
        raise _fault(owner, odd)
    return adapter


def _made_adapter(annotation: Any) -> TypeAdapter:
    try:
        return TypeAdapter(annotation, config=_STRICT)
    except PydanticSchemaGenerationError:
        raise
    except PydanticUserError:
        return TypeAdapter(annotation)  # a dataclass brings its own configuration


def _is_writable(annotation: Any) -> bool:
    """Whether a type's values are such that a resolved recipe can hold them: no path, no set, no enumeration."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Literal, Factory):
        return True
    if origin is Annotated:
        return _is_writable(args[0])
    own = origin or annotation
    if isinstance(own, type) and not (own in _HELD or is_typeddict(own) or issubclass(own, Section)):
        return False
    return all(_is_writable(argument) for argument in args)


def _check_default(owner: type, name: str, default: Any) -> None:
    if default is _REQUIRED:
        return
    try:
        json.dumps(to_plain(default), allow_nan=False)
    except Exception as error:
        what = f"option {name!r} has the default {default!r}, which no recipe can hold"
        raise _fault(owner, f"{what}; use {_WRITABLE} or use(...)") from error


def describe_arguments(docstring: str) -> dict[str, str]:
    r"""The entries of a Google docstring's ``Args:`` (or ``Attributes:``) section.

    Example:
        >>> describe_arguments("Something.\n\nArgs:\n    size: How large,\n        in pixels.\n    seed: A seed.")
        {'size': 'How large, in pixels.', 'seed': 'A seed.'}
    """
    found: dict[str, str] = {}
    for section in re.findall(r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)+)", docstring + "\n", re.MULTILINE):
        entry = ""
        for line in section.splitlines():
            match = re.match(r"^ {4}(\w+): ?(.*)$", line)
            if match:
                entry = match[1]
                found.setdefault(entry, match[2].strip())
            elif entry and line.strip():
                found[entry] = f"{found[entry]} {line.strip()}"
    return found


def type_text(annotation: Any) -> str:
    """A type in words.

    Example:
        >>> from pydantic import PositiveInt
        >>> from collections.abc import Sequence
        >>> type_text(PositiveInt), type_text(Sequence[int] | None)
        ('int > 0', 'list of int or null')
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation in (None, type(None)):
        return "null"
    if origin is Factory:
        return args[0].kind
    if origin is Literal:
        return " | ".join(str(arg) for arg in args)
    if origin is Annotated:
        bounds = [_bound_text(meta) for meta in args[1:]]
        return " ".join([type_text(args[0]), *(", ".join(b for b in bounds if b),)]).strip()
    if origin in (Union, UnionType):
        return " or ".join(type_text(arg) for arg in args)
    if origin in (dict, Mapping):
        return f"mapping of {type_text(args[0])} to {type_text(args[1])}"
    if args:
        return f"list of {type_text(args[0])}"
    return getattr(annotation, "__name__", str(annotation))


def _bound_text(meta: Any) -> str:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    nested = getattr(meta, "metadata", None) or [meta]
    texts = [
        f"{sign} {getattr(item, name)}"
        for item in nested
        for name, sign in signs.items()
        if getattr(item, name, None) is not None
    ]
    return ", ".join(texts)


def json_schema(registry: Registry, recipe: type[Section], inlined: Sequence[type[Section]] = ()) -> dict[str, Any]:
    """The JSON Schema of all recipes that the registry's components allow, for editors.

    No key is required anywhere: a recipe may take it from the one that it extends. A component that cannot be loaded
    is left out, with a warning.

    Args:
        registry: Its components become the alternatives of each kind.
        recipe: The recipe.
        inlined: Sections whose keys are written beside those of a component.
    """

    def own(option: Option) -> Any:
        return written_default(option, registry)

    beside = {_inline_kind(section): _own_properties(section, own) for section in inlined}
    definitions: dict[str, Any] = {}
    for registration in registry.components():
        alternatives = definitions.setdefault(registration.kind, {"anyOf": [{"enum": []}]})["anyOf"]
        name = registry.written(registration)
        try:
            definition = _component_schema(registration, registry, beside.get(registration.kind, {}))
        except PluginError as error:
            warnings.warn(f"the schema does not know {registration.kind} {name!r}: {error}", stacklevel=2)
            continue
        key = f"{registration.kind}.{name.replace('/', '.')}"
        definitions[key] = definition
        alternatives[0]["enum"].append(name)
        alternatives.append({"$ref": f"#/$defs/{key}"})
    schema = _object_schema(options_of(recipe), own)
    schema["properties"]["extends"] = {"type": "string", "description": "Path of the recipe that this one changes."}
    meta = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": meta, "title": "genkit recipe", **schema, "$defs": definitions}


def _inline_kind(section: type[Section]) -> str:
    (component,) = get_args(options_of(section)[section.inline].annotation)
    return component.kind


def _own_properties(section: type[Section], default: Default) -> dict[str, Any]:
    options = options_of(section)
    return {name: _option_schema(option, default) for name, option in options.items() if name != section.inline}


def _component_schema(registration: Registration, registry: Registry, beside: Mapping[str, Any]) -> dict[str, Any]:
    def default(option: Option) -> Any:
        return written_default(option, registry, registration.plugin.distribution)

    schema = _object_schema(registered_options(registration), default)
    schema["properties"] = {"use": {"const": registry.written(registration)}, **schema["properties"], **beside}
    return {**schema, "description": registration.summary}


def _object_schema(options: Mapping[str, Option], default: Default) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {name: _option_schema(option, default) for name, option in options.items()},
        "additionalProperties": False,
    }


def _option_schema(option: Option, default: Default) -> dict[str, Any]:
    schema = _type_schema(option.annotation, default)
    if option.description:
        schema["description"] = option.description
    if not option.required:
        schema["default"] = default(option)
    return schema


def _type_schema(annotation: Any, default: Default) -> dict[str, Any]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Factory:
        return {"$ref": f"#/$defs/{args[0].kind}"}
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return _section_schema(annotation, default)
    if not _names_parts(annotation):
        return TypeAdapter(annotation).json_schema()
    if origin is Annotated:
        return {**_bounds(args), **_type_schema(args[0], default)}
    if origin in (Union, UnionType):
        return {"anyOf": [_type_schema(arg, default) for arg in args]}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": _type_schema(args[1], default)}
    return {"type": "array", "items": _type_schema(args[0], default)}


def _bounds(annotated: tuple[Any, ...]) -> dict[str, Any]:
    """How many components a list or a mapping may have, as pydantic says it of one of anything."""
    inner, *metadata = annotated
    origin = get_origin(inner)
    if origin not in (list, Sequence, dict, Mapping):
        return {}
    like = list[Any] if origin in (list, Sequence) else dict[str, Any]
    return TypeAdapter(Annotated[like, *metadata]).json_schema()  # pyright: ignore[reportInvalidTypeForm, reportArgumentType]


def _names_parts(annotation: Any) -> bool:
    """Whether components or sections occur anywhere in a type."""
    if get_origin(annotation) is Factory or (isinstance(annotation, type) and issubclass(annotation, Section)):
        return True
    return any(_names_parts(argument) for argument in get_args(annotation))


def _section_schema(section: type[Section], default: Default) -> dict[str, Any]:
    if not section.inline:
        return _object_schema(options_of(section), default)
    return {"anyOf": [{"$ref": f"#/$defs/{_inline_kind(section)}"}, {"type": "null"}]}
