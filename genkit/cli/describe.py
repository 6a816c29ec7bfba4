"""What ``genkit describe`` prints."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from genkit.cli.tables import print_table
from genkit.component import Component, to_plain
from genkit.model import Capability
from genkit.recipe.schema import Default, Option, registered_options, spelled_out, written_default
from genkit.registry import Registration, Registry

RECIPE_PLACES = {"model": "model", "objective": "objective", "sampler": "sampler", "dataset": "data"}


def describe_component(registration: Registration, registry: Registry) -> None:
    """Prints everything that a recipe's author must know of a component, with all names as recipes must write them."""
    cls, name = registration.load(), registry.written(registration)
    options = registered_options(registration)
    console = Console()
    console.print(f"[bold]{registration.kind} {name}[/]  ", end="")
    console.print(f"{registration.target}, from {registration.plugin.distribution} {registration.plugin.version}\n")
    own = inspect.cleandoc(vars(cls).get("__doc__") or "")  # the kind's says how to write one, not what this one is
    console.print(Text(prose(own) or "(not described)"))
    console.print()
    _print_options(console, options, lambda option: written_default(option, registry, registration.plugin.distribution))
    for label, names in (("can", capabilities(cls)), ("needs a model that", requirements(cls))):
        if names:
            console.print(f"[bold]{label}[/]  {', '.join(names)}")
    console.print("\n[bold]in a recipe[/]\n")
    console.print(Text(snippet(registration.kind, name, cls)))


def prose(docstring: str) -> str:
    r"""A docstring without its ``Args`` section, which the table of keys repeats, and without its example.

    Example:
        >>> prose("A thing.\n\nArgs:\n    size: How large.\n\nReferences:\n    A paper.")
        'A thing.\n\nReferences:\n    A paper.'
    """
    kept = re.sub(r"^(Args|Example):\n(?:[ \t]+.*(?:\n|$)|\n)+", "", docstring, flags=re.MULTILINE)
    kept = re.sub(r"^\.\. math:: ?", "    ", plain(kept), flags=re.MULTILINE)
    return "\n\n".join(_flowing(paragraph) for paragraph in re.split(r"\n\s*\n", kept.strip()))


def _flowing(paragraph: str) -> str:
    """Joins the lines of running text, for the terminal to break anew; what is indented keeps its lines."""
    return paragraph if re.search(r"^\s", paragraph, re.MULTILINE) else " ".join(paragraph.split())


def plain(text: str) -> str:
    """Text without the marks of reStructuredText.

    Example:
        >>> plain("The latent :math:`z` of ``x``.")
        'The latent z of x.'
    """
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "")


def _print_options(console: Console, options: dict[str, Option], default: Default) -> None:
    if not options:
        console.print("[dim]no recipe keys[/]")
        return
    rows = [
        (
            option.name,
            option.type_text(),
            Text("required", "red") if option.required else json.dumps(default(option)),
            plain(option.description),
        )
        for option in spelled_out(options.values())
    ]
    print_table(("key", "type and range", "default", "what it is"), rows, console)
    console.print()


def capabilities(cls: type[Component]) -> list[str]:
    """What a model declares that it can do, each with the first line of its description."""
    return [_with_summary(base) for base in cls.__mro__ if _is_capability(base)]


def requirements(cls: type[Component]) -> list[str]:
    """What an objective, a sampler or an evaluator needs of a model."""
    return [_with_summary(capability) for capability in getattr(cls, "requires", ())]


def _is_capability(base: type) -> bool:
    return issubclass(base, Capability) and base is not Capability and not issubclass(base, Component)


def _with_summary(capability: type[Any]) -> str:
    summary = (inspect.getdoc(capability) or "").partition("\n")[0].rstrip(".")
    return f"{capability.__name__} ({plain(summary)})"


def snippet(kind: str, name: str, cls: type[Component]) -> str:
    """The component as a recipe names it."""
    node = {"use": name, **to_plain(cls.examples[0])}
    if kind == "evaluator":
        return yaml.safe_dump({"evaluate": {name.rpartition("/")[2]: {**node, "every": 1}}}, sort_keys=False)
    if kind in ("optimizer", "schedule"):
        return yaml.safe_dump({"train": {kind: node}}, sort_keys=False)
    place = RECIPE_PLACES.get(kind)
    if place is None:
        return f"# wherever a {kind} is wanted\n{yaml.safe_dump(node, sort_keys=False)}"
    return yaml.safe_dump({place: node}, sort_keys=False)
