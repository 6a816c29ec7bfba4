"""Writes the pages of the reference from the code: ``python docs/generate.py``.

Commands come from the command line's own objects, components from the registry, the Python names from what ``genkit``
and ``genkit.testing`` export. Components of other distributions than genkit's own are left out, so that the pages are
the same on every machine.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from markup import cell, prose, to_markdown
from typer.main import get_command

import genkit
import genkit.testing
from genkit.cli import app
from genkit.cli.describe import capabilities, requirements, snippet
from genkit.component import Component, kind_class, to_plain
from genkit.recipe.schema import Option, options_of, spelled_out
from genkit.registry import OWN_DISTRIBUTION, Registration, installed

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py: change the code it is made from, and run that again. -->\n"
FIRST_KINDS = ("dataset", "model", "backbone", "objective", "sampler", "evaluator", "optimizer", "schedule", "launcher")
NOUNS = {
    "Runs": ("run", "load", "build", "Run", "Recipe"),
    "Components": ("Component", "Factory", "Section", "use"),
    "Data": (
        *("Dataset", "DataSpec", "Split", "SplitName", "Views", "DataView", "Batch", "Shape", "HasModes", "HasEnergy"),
        *("StacksImages", "bytes_to_unit", "first_batch", "spread"),
    ),
    "Backbones": ("Backbone", "refuse_context"),
    "Models": (
        *("GenerativeModel", "Capability", "Encodes", "Decodes", "LatentVariable", "HasLevels"),
        *("HasLogProb", "LogProb", "SamplesDifferentiably", "SamplesWithLogProb", "KeepsWatch"),
    ),
    "Objectives": ("Objective", "Loss", "Turn", "Progress", "MODEL", "Scores", "critics_of"),
    "Samplers": ("Sampler", "Samples"),
    "Evaluators": ("Evaluator", "Subject", "Figure", "Picture", "Note", "image_grid", "rendered", "bits_per_dim"),
    "Optimizers and schedules": ("Optimizer", "Schedule"),
    "Launchers": ("Launcher", "Job"),
    "Hooks and what they are told": (
        *(
            "hookimpl",
            "PLUGIN_API",
            "RunStart",
            "StepReport",
            "EpochEnd",
            "EvaluationEnd",
            "CheckpointWritten",
            "RunEnd",
        ),
        *("Record", "read_records"),
    ),
    "Errors": (
        *("GenkitError", "UsageError", "RecipeError", "DataError", "PluginError", "MissingPlugin"),
        *("CheckpointError", "TrainingDiverged"),
    ),
}


def table(headers: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(headers), *([cell(text) for text in row] for row in rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def own_components() -> list[Registration]:
    """What genkit's own distribution registers, kinds of the core first."""
    own = [item for item in installed().components() if item.plugin.distribution == OWN_DISTRIBUTION]
    return sorted(own, key=lambda item: (_place(item.kind), item.name))


def _place(kind: str) -> tuple[int, str]:
    return (FIRST_KINDS.index(kind) if kind in FIRST_KINDS else len(FIRST_KINDS), kind)


def public_link(target: str) -> str | None:
    """The place of a public name in the reference of the Python names, seen from a page beside it."""
    name = target.rpartition(".")[2]
    return f"(api.md#genkit.{name})" if name in documented_names() else None


def commands() -> dict[str, Any]:
    """The commands by name, in the order of ``genkit --help``."""
    return dict(all_commands().commands)


def all_commands() -> Any:
    """The group of all commands, whose parameters are the options that all of them have."""
    return get_command(app)


def commands_page() -> str:
    """The command reference."""
    intro = "# Commands\n\nWhat `genkit --help` and `genkit COMMAND --help` say. "
    ends = (
        "Exit codes: 0 done, 1 a run that failed, 2 a request that cannot be served as it was made, 130 interrupted. "
        "A mistake is told in a message; `--traceback` shows where in the code it was found.\n"
    )
    group = all_commands()
    own = "## genkit\n\n```text\ngenkit [OPTIONS] COMMAND ...\n```\n\n" + _options(group.params, group.callback)
    return "\n".join([NOTE, intro + ends, own, *(_command(name, item) for name, item in commands().items())])


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join(["genkit", name, *(["[OPTIONS]"] if options else []), *(_argument(p) for p in arguments)])
    parts = [f"## genkit {name}\n", f"{prose(inspect.cleandoc(command.help or ''))}\n", f"```text\n{usage}\n```\n"]
    if arguments:
        words = [(f"`{_argument(p)}`", to_markdown(p.help or "")) for p in arguments]
        parts.append(table(("argument", "what it is"), words))
    if options:
        parts.append(_options(options, command.callback))
    return "\n".join(parts)


def _options(options: Iterable[Any], callback: Callable[..., Any]) -> str:
    types = get_type_hints(callback, include_extras=True)
    rows = [(_flags(o), _value_type(o, types), _default(o), to_markdown(o.help or "")) for o in options]
    return table(("option", "value", "default", "what it does"), rows)


def _argument(parameter: Any) -> str:
    """An argument as it stands in the usage: in brackets where it may be left out."""
    word = parameter.metavar or parameter.name.upper()
    if word.startswith("["):  # it says so itself
        return word
    word = f"{word.removesuffix('...')}..." if parameter.nargs == -1 else word
    return word if parameter.required else f"[{word}]"


def _flags(option: Any) -> str:
    return ", ".join(f"`{flag}`" for flag in sorted([*option.opts, *option.secondary_opts], key=len))


def _value_type(option: Any, types: dict[str, Any]) -> str:
    """The kind of value that an option takes, from the signature of its command."""
    if option.is_flag:
        return ""
    if option.metavar:
        return f"`{option.metavar}`"
    plain = _bare(types[option.name])
    return {"str": "text", "Path": "path", "int": "whole number", "float": "number"}.get(plain, plain)


def _bare(annotation: Any) -> str:
    """A type's name, without ``None`` and what ``Annotated`` adds."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    inner = [argument for argument in get_args(annotation) if argument is not type(None)]
    if inner and get_origin(annotation) is list:
        return f"{_bare(inner[0])}, more than once"
    return _bare(inner[0]) if inner else annotation.__name__


def _default(option: Any) -> str:
    return "" if option.is_flag or option.default in (None, [], ()) else f"`{option.default}`"


def components_page() -> str:
    """Every component of genkit's own distribution, by kind."""
    own = own_components()
    kinds = list(dict.fromkeys(item.kind for item in own))
    intro = (
        "# Components\n\nEverything that a recipe can name, as `genkit describe KIND NAME` shows it, with genkit's own "
        "plugins; `genkit list-plugins` shows what others on your machine add. `required` stands where a key has no "
        "default.\n"
    )
    overview = table(
        ("kind", "components"),
        [(f"[{k}](#{k})", ", ".join(f"[{c.name}](#{k}-{c.name})" for c in own if c.kind == k)) for k in kinds],
    )
    sections = (_kind(kind, [item for item in own if item.kind == kind], kinds) for kind in kinds)
    return "\n".join([NOTE, intro, overview, *sections])


def _kind(kind: str, members: list[Registration], kinds: list[str]) -> str:
    contract = kind_class(members[0].load())
    summary = prose(inspect.getdoc(contract) or "", public_link).partition("\n\n")[0]
    where = public_link(contract.__name__)
    place = f"[`genkit.{contract.__name__}`]{where}" if where else f"`{contract.__module__}.{contract.__name__}`"
    head = f"## {kind}\n\n{summary} The contract: {place}.\n"
    return "\n".join([head, *(_component(item, kinds) for item in members)])


def _component(item: Registration, kinds: list[str]) -> str:
    cls = item.load()
    options = options_of(cls)
    parts = [f"### {item.kind} {item.name}\n", f"{prose(inspect.getdoc(cls) or '', public_link)}\n"]
    if options:
        parts.append(table(("key", "type and range", "default", "what it is"), _option_rows(options.values(), kinds)))
    for label, found in (("Can", capabilities(cls)), ("Needs a model that", requirements(cls))):
        if found:
            parts.append(f"{label}: {', '.join(_linked(text) for text in found)}.\n")
    parts.append(f"```yaml\n{snippet(item.kind, item.name, cls)}```\n")
    parts.append(f"`{item.target}`, plugin `{item.plugin.name}`\n")
    return "\n".join(parts)


def _linked(capability: str) -> str:
    """A capability that leads to its place among the Python names, with its summary as its docstring writes it."""
    name = capability.partition(" ")[0]
    if name not in documented_names():
        return capability
    summary = (inspect.getdoc(getattr(genkit, name)) or "").partition("\n")[0].rstrip(".")
    return f"[{name}]{public_link(name)} ({to_markdown(summary, public_link)})"


def _option_rows(options: Iterable[Option], kinds: list[str]) -> Iterator[tuple[str, ...]]:
    for option in spelled_out(options):
        default = "required" if option.required else f"`{json.dumps(to_plain(option.default))}`"
        yield f"`{option.name}`", _type(option, kinds), default, to_markdown(option.description, public_link)


def _type(option: Option, kinds: list[str]) -> str:
    """A type in words; one that is a kind, or a list of it, leads to it."""
    text = option.type_text()
    named = re.fullmatch(r"((?:list of |mapping of \w+ to )?)(\w+)((?: or null)?)", text)
    if named and named[2] in kinds:
        return f"{named[1]}[{named[2]}](#{named[2]}){named[3]}"
    return text


def documented_names() -> set[str]:
    """The public names that the page of Python names shows."""
    return {name for names in NOUNS.values() for name in names}


def api_page() -> str:
    """The public Python names, by noun; mkdocstrings fills in what their docstrings say."""
    intro = (
        "# Python\n\nThe public names, by noun, each with its docstring on the site that `make docs` builds. "
        "Everything here is imported from `genkit` or from `genkit.testing`; what is not on this page is not for "
        "plugins and may change.\n"
    )
    further = {"Further names": names} if (names := _further_names()) else {}
    groups = [_names(noun, "genkit", names) for noun, names in {**NOUNS, **further}.items()]
    return "\n".join(
        [NOTE, intro, *groups, _names("Checks of the contracts", "genkit.testing", genkit.testing.__all__)]
    )


def _names(heading: str, module: str, names: Iterable[str]) -> str:
    return f"## {heading}\n\n" + "\n".join(f"::: {module}.{name}" for name in names) + "\n"


def _further_names() -> list[str]:
    return sorted(set(genkit.__all__) - documented_names())


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "components.md": components_page,
    "api.md": api_page,
}


def undocumented() -> list[str]:
    """Every command, argument, option, component, key and public name that says nothing of itself."""
    found = command_gaps("genkit", all_commands())
    for name, command in commands().items():
        found += command_gaps(f"genkit {name}", command)
    for item in own_components():
        found += component_gaps(item.kind, item.name, item.load())
    return [*found, *(f"genkit.{name}" for name in genkit.__all__ if not _says_something(getattr(genkit, name)))]


def command_gaps(name: str, command: Any) -> list[str]:
    """What a command's docstring and its parameters' help leave out."""
    gaps = [] if command.help else [f"{name} has no docstring"]
    return gaps + [f"{name}: {p.param_type_name} {p.name!r}" for p in command.params if not p.help]


def component_gaps(kind: str, name: str, cls: type[Component]) -> list[str]:
    """What a component's docstring leaves out."""
    own = vars(cls).get("__doc__") or ""
    gaps = [] if own.strip() else [f"{kind} {name!r} has no docstring"]
    return gaps + [f"{kind} {name!r}: key {key!r}" for key, o in options_of(cls).items() if not o.description]


def _says_something(value: Any) -> bool:
    is_alias = get_origin(value) is not None or not (inspect.isclass(value) or callable(value))
    return is_alias or bool(inspect.getdoc(value))


def main() -> None:
    """Writes the pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
        print(f"docs/reference/{name}")


if __name__ == "__main__":
    main()
