"""Which components fit together: every model with every objective, sampler and evaluator, on some data.

Whether a combination fits is asked as ``genkit validate`` asks, and that it works is found by training it for two
steps. What takes part is what a registry has; a plugin's author sees how their component fits with all that is
installed:

Example:
    .. code-block:: python

        from genkit.testing.compatibility import Compatibility

        table = Compatibility({"bits": {"use": "mnist", "binarize": "threshold", "train": 64}})
        for combination, problems in table.trained.items():
            if combination.objective.name == "my_objective":
                print(combination, *problems or ["fits"], sep="; ")
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any, NamedTuple

import torch

from genkit.component import Factory, to_plain
from genkit.engine.assembly import assemble, dry_build
from genkit.engine.folder import RunFolder
from genkit.engine.loop import Trainer
from genkit.errors import GenkitError, Problem, RecipeError
from genkit.events import EvaluationEnd, Record, StepReport
from genkit.hookspecs import hookimpl
from genkit.model import Capability, GenerativeModel
from genkit.recipe import load_recipe
from genkit.recipe.check import requirements, resolve
from genkit.registry import Registry, installed, load_registry
from genkit.testing.common import CPU

KINDS = ("model", "objective", "sampler", "evaluator")
BATCH_SIZE = 16
Node = Mapping[str, Any]
Problems = tuple[Problem, ...]


@dataclass(frozen=True, eq=False)
class Choice:
    """A component with the options of one of its own examples.

    Attributes:
        name: The component's name.
        build: The component, resolved.
        example: The options of the example.
        node: What a recipe says.
    """

    name: str
    build: Factory[Any]
    example: Node
    node: Node

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value!r}' for key, value in self.example.items())})"


@dataclass(frozen=True, eq=False)
class Group:
    """The examples of one component that fit exactly the same; the tables show them as one.

    Attributes:
        label: What the tables call it: the component's name, with a letter where it has several groups.
        choices: The examples.
    """

    label: str
    choices: Sequence[Choice]

    @property
    def first(self) -> Choice:
        """The one that speaks for all."""
        return self.choices[0]


class Combination(NamedTuple):
    """What a recipe combines, but for the evaluators."""

    ground: str
    model: Choice
    objective: Choice
    sampler: Choice

    def __str__(self) -> str:
        return f"{self.model}, {self.objective} and {self.sampler} on {self.ground}"


class Compatibility:
    """How components fit together.

    A recipe fits if its model fits the data, its objective both, its sampler all three, and each of its evaluators
    the data and the model: so :meth:`verdict` reads the product of all off :attr:`trained` and :attr:`judged`.

    Args:
        grounds: The data to try, as a recipe says it, by names of your choice. Small, for what is trained on it.
        registry: Where the components are; what is installed, if not given.
        small: Options that make single components quick, by kind and name, wherever one stands.
        only: The components that take part, by kind; all, for a kind that is not named.
        train: More of a recipe's ``train``, such as another optimizer.

    Raises:
        UsageError: ``small`` or ``only`` names a component that is not there.
        RecipeError: An example has an option that is wrong.
    """

    def __init__(
        self,
        grounds: Mapping[str, Node],
        *,
        registry: Registry | None = None,
        small: Mapping[tuple[str, str], Node] | None = None,
        only: Mapping[str, Collection[str]] | None = None,
        train: Node | None = None,
    ) -> None:
        self.grounds = dict(grounds)
        self.registry = registry or installed()
        self._small = dict(small or {})
        self._train = {"batch_size": BATCH_SIZE, "log_every": 1, "best": "none", **(train or {})}
        named = [*self._small, *((kind, name) for kind, names in (only or {}).items() for name in names)]
        for kind, name in named:
            self.registry.get(kind, name)
        self.choices = {kind: list(self._choices(kind, (only or {}).get(kind))) for kind in KINDS}

    def _choices(self, kind: str, names: Collection[str] | None) -> Iterator[Choice]:
        for registration in self.registry.components(kind):
            name = self.registry.written(registration)
            if names is not None and name not in names:
                continue
            for example in registration.load().examples:
                build = resolve(kind, {"use": name, **example}, self.registry)
                node = self._shrunk(build)
                yield Choice(name, resolve(kind, node, self.registry), example, node)

    def _shrunk(self, value: Any) -> Any:
        """What a recipe says, every option spelled out, with those that make a component small wherever it stands."""
        if isinstance(value, Factory):
            options = {key: self._shrunk(option) for key, option in value.options.items()}
            return {"use": value.name, **options, **self._small.get((value.resolved.kind, value.name), {})}
        if isinstance(value, Mapping):
            return {key: self._shrunk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._shrunk(item) for item in value]
        return to_plain(value)

    # ---- what fits -------------------------------------------------------------------------------------------------

    def ask(self, combination: Combination, *evaluators: Choice) -> Problems:
        """What ``genkit validate`` says of a combination; nothing, if it fits.

        Any other exception than a refusal passes through: that is a fault of a component.
        """
        try:
            dry_build(load_recipe(self.recipe(combination, *evaluators), registry=self.registry))
        except RecipeError as error:
            return error.problems
        except GenkitError as error:
            return (Problem("", str(error)),)
        return ()

    def recipe(self, combination: Combination, *evaluators: Choice, epochs: int = 1) -> dict[str, Any]:
        """A combination as a recipe; its evaluators go by their numbers, since one may be there twice."""
        return {
            "data": self.grounds[combination.ground],
            "model": combination.model.node,
            "objective": combination.objective.node,
            "sampler": combination.sampler.node,
            "train": {**self._train, "epochs": epochs},
            "evaluate": {f"e{number}": evaluator.node for number, evaluator in enumerate(evaluators)},
        }

    @cached_property
    def trained(self) -> dict[Combination, Problems]:
        """What stands against each combination without evaluators; nothing, where it can be trained."""
        parts = (self.grounds, *(self.choices[kind] for kind in KINDS[:3]))
        return {combination: self.ask(combination) for combination in map(Combination._make, product(*parts))}

    @cached_property
    def judged(self) -> dict[tuple[str, Choice, Choice], Problems]:
        """What stands against each evaluator with each model on each ground, where something trains that model."""
        found: dict[tuple[str, Choice, Choice], Problems] = {}
        for combination in self.fitting():
            ground, model = combination.ground, combination.model
            for evaluator in self.choices["evaluator"]:
                if (ground, model, evaluator) not in found:
                    found[ground, model, evaluator] = self.ask(combination, evaluator)
        return found

    def fitting(self) -> list[Combination]:
        """The combinations that can be trained."""
        return [combination for combination, problems in self.trained.items() if not problems]

    def verdict(self, combination: Combination, evaluator: Choice) -> Problems:
        """What stands against a combination with an evaluator, told from the facts, without asking."""
        return self.trained[combination] or self.judged[combination.ground, combination.model, evaluator]

    def evaluators(self, combination: Combination) -> list[Choice]:
        """One of each evaluator that fits a combination: the first of its examples that does."""
        chosen: dict[str, Choice] = {}
        for evaluator in self.choices["evaluator"]:
            if not self.verdict(combination, evaluator):
                chosen.setdefault(evaluator.name, evaluator)
        return list(chosen.values())

    # ---- what fits the same ----------------------------------------------------------------------------------------

    @cached_property
    def groups(self) -> dict[str, list[Group]]:
        """The examples of each kind's components, those of one component together that fit exactly the same."""
        return {kind: list(self._grouped(kind)) for kind in KINDS}

    def _grouped(self, kind: str) -> Iterator[Group]:
        alike: dict[tuple[str, Any], list[Choice]] = {}
        for choice in self.choices[kind]:
            alike.setdefault((choice.name, self._behaviour(choice)), []).append(choice)
        names = [name for name, _ in alike]
        letters = {name: iter(ascii_lowercase) for name in names}
        for (name, _), choices in alike.items():
            yield Group(name if names.count(name) == 1 else f"{name} {next(letters[name])}", choices)

    def _behaviour(self, choice: Choice) -> frozenset[Any]:
        """All that an example fits, what it asks for, and what it withholds."""
        keys = [key for key, problems in {**self.trained, **self.judged}.items() if choice in key and not problems]
        fitting = {tuple(part for part in key if part is not choice) for key in keys}
        withheld = {(ground, *made.withheld) for (ground, model), made in self.models.items() if model is choice}
        return frozenset(fitting | withheld | {requirements(choice.build)})

    def representatives(self, combinations: Iterable[Combination]) -> list[Combination]:
        """Of combinations one for all that fit the same, each time with other examples."""
        labels = {choice: group.label for kind in KINDS for group in self.groups[kind] for choice in group.choices}
        alike: dict[tuple[str, ...], list[Combination]] = {}
        for combination in combinations:
            ground, *choices = combination
            alike.setdefault((ground, *(labels[choice] for choice in choices)), []).append(combination)
        return [same[number % len(same)] for number, same in enumerate(alike.values())]

    # ---- what models can do ----------------------------------------------------------------------------------------

    @cached_property
    def models(self) -> dict[tuple[str, Choice], GenerativeModel]:
        """The models without memory, on each ground that they do not refuse."""
        found: dict[tuple[str, Choice], GenerativeModel] = {}
        for ground, model in product(self.grounds, self.choices["model"]):
            spec = resolve("dataset", self.grounds[ground], self.registry)().spec
            try:
                with torch.device("meta"):
                    found[ground, model] = model.build(spec)
            except RecipeError:
                continue
        return found

    def capabilities(self) -> list[type[Capability]]:
        """All that a model has or that a component asks of one, by name."""
        askers = [choice.build for kind in KINDS[1:] for choice in self.choices[kind]]
        asked = {each for asker in askers for each in requirements(asker)}
        had = {base for choice in self.choices["model"] for base in choice.build.resolved.__mro__}
        every = {each for each in asked | had if issubclass(each, Capability) and not issubclass(each, GenerativeModel)}
        every.discard(Capability)
        return sorted(every, key=lambda each: each.__name__)

    # ---- what works ------------------------------------------------------------------------------------------------

    def try_out(self, combination: Combination, folder: Path, evaluators: Sequence[Choice] | None = None) -> int:
        """Trains a combination for two steps or more on the CPU, and has evaluators judge it.

        Args:
            combination: One that fits.
            folder: Where its files go.
            evaluators: Some that fit it; one of each, if not given.

        Returns:
            The figures that evaluators took, in all.

        Raises:
            AssertionError: It takes no two steps, an evaluator says nothing, or a figure is not finite.
            GenkitError: It cannot be trained after all.
        """
        judges = self.evaluators(combination) if evaluators is None else list(evaluators)
        epochs = 1
        while True:
            recipe = load_recipe(self.recipe(combination, *judges, epochs=epochs), registry=self.registry)
            assembly = assemble(recipe, CPU)
            if epochs * assembly.steps_per_epoch >= 2:
                break
            epochs = -(-2 // assembly.steps_per_epoch)
        listener, manager = _Listener(), load_registry([]).manager
        manager.register(listener)
        Trainer(assembly, RunFolder(folder), manager).run()
        return listener.check({f"e{number}": judge for number, judge in enumerate(judges)}, str(combination))


class _Listener:
    """Hears what a run says."""

    def __init__(self) -> None:
        self.steps: list[Record] = []
        self.step = 0
        self.verdicts: list[EvaluationEnd] = []

    @hookimpl
    def on_step(self, report: StepReport) -> None:
        """Keeps the figures of the losses."""
        self.step = report.step
        self.steps += report.records

    @hookimpl
    def on_evaluation(self, report: EvaluationEnd) -> None:
        """Keeps the verdict."""
        self.verdicts.append(report)

    def check(self, judges: Mapping[str, Choice], what: str) -> int:
        """Holds that all said something sound; counts the evaluators' figures."""
        assert self.step >= 2, f"{what}: {self.step} steps were taken"
        figures = [record for verdict in self.verdicts for record in verdict.records]
        for record in (*self.steps, *figures):
            assert math.isfinite(record.value), f"{what}: {record.name} is {record.value} on {record.split!r}"
        for entry, judge in judges.items():
            said = [v for v in self.verdicts if v.entry == entry and (v.records or v.pictures)]
            assert said, f"{what}: {judge} gives neither a figure nor a picture"
        return len(figures)
