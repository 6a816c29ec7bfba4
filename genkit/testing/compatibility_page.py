"""The compatibility of components as a page of Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from genkit.component import to_plain
from genkit.errors import Problem
from genkit.model import Capability
from genkit.recipe.check import requirements
from genkit.testing.compatibility import KINDS, Choice, Combination, Compatibility, Problems

YES, NO = "✓", "✗"


class Notes:
    """Reasons that are numbered in the order in which they are first given, each once."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, reasons: Iterable[str]) -> str:
        """The numbers of some reasons, raised."""
        numbers = sorted({self._numbers.setdefault(reason, len(self._numbers) + 1) for reason in reasons})
        return f" <sup>{', '.join(map(str, numbers))}</sup>" if numbers else ""

    def lines(self) -> list[str]:
        """The reasons as a numbered list."""
        return [f"{number}. {reason}" for reason, number in self._numbers.items()]


def markdown(table: Compatibility) -> str:
    """All that a table says, as sections of Markdown.

    Args:
        table: Which components fit together; the names of its grounds become headings.
    """
    return "\n\n".join("\n".join(block) for block in _Page(table).blocks() if block) + "\n"


class _Page:
    def __init__(self, table: Compatibility) -> None:
        self.table = table
        self.groups = table.groups

    def blocks(self) -> Iterator[list[str]]:
        yield from self.tried()
        yield from self.capabilities()
        for ground in self.table.grounds:
            yield from self.ground(ground)
        yield from self.samplers()

    # ---- what is tried ---------------------------------------------------------------------------------------------

    def tried(self) -> Iterator[list[str]]:
        yield ["## What is tried"]
        yield [
            "Each component with the options that it gives as examples. Examples that fit exactly the same share a "
            "line; where they do not, letters tell them apart."
        ]
        rows = [
            [f"**{group.label}**", kind, "<br>".join(f"`{options(choice)}`" for choice in group.choices)]
            for kind in KINDS
            for group in self.groups[kind]
        ]
        yield markdown_table(["in the tables", "kind", "options"], rows)

    # ---- what models can do, and who asks for it -------------------------------------------------------------------

    def capabilities(self) -> Iterator[list[str]]:
        notes, capabilities = Notes(), self.table.capabilities()
        yield ["## What models can do"]
        yield [
            f"{NO} without a number: the class of the model has it not. With one: an option of the model takes it away."
        ]
        rows = [
            [f"**{group.label}**", *(self.capability(group.first, each, notes) for each in capabilities)]
            for group in self.groups["model"]
        ]
        yield markdown_table(["model", *(f"`{each.__name__}`" for each in capabilities)], rows)
        yield notes.lines()
        yield ["What is asked of a model:"]
        asks: dict[str, list[str]] = {}
        for kind in KINDS[1:]:
            for group in self.groups[kind]:
                asked = ", ".join(f"`{each.__name__}`" for each in requirements(group.first.build)) or "nothing"
                asks.setdefault(asked, []).append(group.label)
        yield markdown_table(["capabilities", "by"], [[asked, ", ".join(by)] for asked, by in sorted(asks.items())])

    def capability(self, model: Choice, capability: type[Capability], notes: Notes) -> str:
        """Whether a model has a capability: on all grounds, on some, or on none."""
        if not issubclass(model.build.resolved, capability):
            return NO
        made = {ground: made for (ground, choice), made in self.table.models.items() if choice is model}
        reasons = {ground: m.withheld[capability] for ground, m in made.items() if capability in m.withheld}
        if not reasons:
            return YES
        if len(reasons) == len(made):
            return NO + notes.mark(reasons.values())
        return YES + notes.mark(
            f"Not on {', '.join(g for g in reasons if reasons[g] == reason)}: {reason}" for reason in reasons.values()
        )

    # ---- one kind of data ------------------------------------------------------------------------------------------

    def ground(self, ground: str) -> Iterator[list[str]]:
        notes, models = Notes(), self.groups["model"]
        yield [f"## On {ground}"]
        yield [f"`data: {one_line(self.table.grounds[ground])}`"]
        yield ["Which objective trains which model, and the samplers that draw from it then:"]
        header = ["model", *(f"**{group.label}**" for group in self.groups["objective"])]
        rows = [
            [f"**{m.label}**", *(self.training(ground, m.first, o.first, notes) for o in self.groups["objective"])]
            for m in models
        ]
        yield markdown_table(header, rows)
        yield notes.lines()
        yield from self.judging(ground)

    def training(self, ground: str, model: Choice, objective: Choice, notes: Notes) -> str:
        """Who draws from a model that an objective trained, or why it cannot be trained."""
        found = {
            group.label: self.table.trained[Combination(ground, model, objective, group.first)]
            for group in self.groups["sampler"]
        }
        able = [f"`{label}`" for label, problems in found.items() if not problems]
        if able:
            return ", ".join(able)
        before = [p for problems in found.values() for p in problems if not p.path.startswith("sampler")]
        return NO + notes.mark(map(reason, before or [p for problems in found.values() for p in problems]))

    def judging(self, ground: str) -> Iterator[list[str]]:
        notes, judged = Notes(), self.table.judged
        models = [m for m in self.groups["model"] if any(g == ground and c is m.first for g, c, _ in judged)]
        if not models:
            return
        yield ["Which evaluator judges it:"]
        rows = [
            [f"**{e.label}**", *(fits(judged[ground, m.first, e.first], notes) for m in models)]
            for e in self.groups["evaluator"]
        ]
        yield markdown_table(["evaluator", *(f"**{m.label}**" for m in models)], rows)
        yield notes.lines()

    # ---- samplers --------------------------------------------------------------------------------------------------

    def samplers(self) -> Iterator[list[str]]:
        notes = Notes()
        yield ["## Samplers"]
        yield [
            f"Whether a sampler draws from what an objective trained: from every model on all data ({YES}), from some "
            f"of them (in part), or from none ({NO})."
        ]
        rows = [
            [f"**{o.label}**", *(self.drawing(o.first, s.first, notes) for s in self.groups["sampler"])]
            for o in self.groups["objective"]
        ]
        yield markdown_table(["trained by", *(f"**{s.label}**" for s in self.groups["sampler"])], rows)
        yield notes.lines()

    def drawing(self, objective: Choice, sampler: Choice, notes: Notes) -> str:
        """Whether a sampler draws from what an objective trains."""
        pairs = {c[:2] for c in self.table.fitting() if c.objective is objective}
        found = [self.table.trained[Combination(g, m, objective, sampler)] for g, m in sorted(pairs, key=str)]
        marks = notes.mark(reason(problem) for problems in found for problem in problems)
        able = sum(not problems for problems in found)
        return (YES if able == len(found) and able else "in part" if able else NO) + marks


def fits(problems: Problems, notes: Notes) -> str:
    """A mark, with the numbers of the reasons against it."""
    return NO + notes.mark(map(reason, problems)) if problems else YES


def reason(problem: Problem) -> str:
    """A problem in words, with the key below the component where it stands, if it is not the component itself."""
    parts = problem.path.split(".")
    inner = ".".join(parts[2:] if parts[0] == "evaluate" else parts[1:])
    name, separator, rest = problem.message.partition(": ")
    message = rest if separator and rest.startswith(f"{name} ") else problem.message
    return f"`{inner}`: {message}" if inner else message


def options(choice: Choice) -> str:
    """The options of an example as a recipe says them."""
    return one_line({"use": choice.name, **choice.example})


def one_line(value: Mapping[str, Any]) -> str:
    """A mapping in one line of YAML."""
    return yaml.safe_dump(to_plain(value), default_flow_style=True, sort_keys=False, width=10_000).strip()


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table's lines."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
