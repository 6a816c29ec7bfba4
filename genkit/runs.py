"""Runs from Python: start one, load one, use what it trained.

Example:
    .. code-block:: python

        import genkit

        result = genkit.run("recipes/vae_mlp.yaml", overrides=["train.epochs=1"], name="quick")
        run = genkit.load(result.folder)
        images = run.sample(64)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import closing, nullcontext, suppress
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from pluggy import PluginManager
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import DataSpec
from genkit.engine import assemble, choose_device
from genkit.engine.assembly import build_dataset, build_parts, read_feeds
from genkit.engine.checkpoint import Checkpoint, checkpoint_exists, load_weights, read_checkpoint, read_facts
from genkit.engine.device import matmul_precision
from genkit.engine.folder import RunFolder, describe_environment, recipe_text, replace_text
from genkit.engine.judge import Judge
from genkit.engine.loop import CHANGED, Trainer
from genkit.engine.seeds import derive_seed, isolated, preserved
from genkit.engine.stop import StopRequest
from genkit.engine.stopwatch import Stopwatch
from genkit.engine.world import World, joined
from genkit.errors import CheckpointError, GenkitError, Problem, RecipeError, UsageError, closest
from genkit.events import EvaluationEnd, Record, RunEnd, read_records
from genkit.model import GenerativeModel
from genkit.recipe import Recipe, load_recipe
from genkit.recipe.check import resolve
from genkit.recipe.published import APART
from genkit.recipe.source import read, write
from genkit.registry import installed

RUNS = Path("runs")


def run(
    recipe: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    runs: str | Path = RUNS,
    device: str = "auto",
    resume: bool = False,
    allow_changes: bool = False,
) -> RunEnd:
    """Trains a recipe.

    Args:
        recipe: A file, or a mapping with the same keys.
        overrides: ``key.path=value`` assignments.
        name: The run's name; the recipe file's, if not given.
        runs: The folder that runs go into.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        resume: Continue the run of that name, if there is one; one that is finished is not trained again.
        allow_changes: Continue it also where this recipe is not the one that it began with.

    Returns:
        How the run ended, with its folder and its final figures.

    Raises:
        UsageError: The request cannot be served: see :class:`genkit.RecipeError` for the recipe.
        GenkitError: The run failed.
    """
    folder = _folder(recipe, name, runs)
    checked = load_recipe(recipe, overrides)
    with joined(choose_device(device)) as world:
        if (resume or (world.restarted and folder.is_of_this_launch())) and folder.recipe.is_file():
            return _continue(folder, checked, world, allow_changes)
        folder.check_free()
        trainer = Trainer(assemble(checked, world.device, world.size), folder, installed().manager, world)
        world.told()  # everybody has seen that the name is free
        with StopRequest() as stop:
            if world.leader:
                folder.create(checked, describe_environment(checked, world.device, installed(), world.size))
            with folder.locked() if world.leader else nullcontext():
                return _train(trainer, stop)


def _folder(recipe: str | Path | Mapping[str, Any], name: str | None, runs: str | Path) -> RunFolder:
    return RunFolder(Path(runs) / checked_name(default_name(recipe) if name is None else name))


def check_recipe_and_name(
    recipe: str | Path | Mapping[str, Any], overrides: Sequence[str], name: str | None, runs: str | Path
) -> None:
    """Looks at what a run of several processes would stumble over in each of them; see :func:`run`.

    Raises:
        UsageError: The recipe is wrong, or the name is taken.
    """
    folder = _folder(recipe, name, runs)
    load_recipe(recipe, overrides)
    folder.check_free()


def resume(
    path: str | Path,
    *,
    overrides: Sequence[str] = (),
    device: str = "auto",
    allow_changes: bool = False,
    checkpoint: str | None = None,
) -> RunEnd:
    """Continues a run from its last checkpoint, or from the beginning if it was stopped before the first.

    Args:
        path: Its folder.
        overrides: Changes of its recipe, where they are allowed.
        device: Where it goes on.
        allow_changes: Go on with another recipe than it began with.
        checkpoint: Another of its checkpoints to go on from, ``best`` or ``epoch-0050``.

    Raises:
        UsageError: There is no such run, or it began with another recipe.
        CheckpointError: Its checkpoint is damaged, or does not fit the recipe.
    """
    folder = RunFolder(Path(path))
    folder.check_run()
    with joined(choose_device(device)) as world:
        if world.leader:
            _settle_recipe(folder)
        world.told()  # the recipe is what it is to be
        return _continue(folder, load_recipe(folder.recipe, overrides), world, allow_changes, checkpoint)


def _continue(folder: RunFolder, recipe: Recipe, world: World, allow_changes: bool, name: str | None = None) -> RunEnd:
    with folder.locked() if world.leader else nullcontext():
        checkpoint = _checkpoint_to_continue(folder, name)
        changes = _changes(folder, checkpoint, recipe)
        if changes and not allow_changes:
            listed = "".join(f"\n  {key}: {old}, now {new}" for key, (old, new) in changes.items())
            raise UsageError(
                f"{folder.path} was trained with another recipe:{listed}\n"
                "go on with this one with --allow-changes, or give a new run another --name"
            )
        end = folder.read_result()
        if end is not None and not changes and name is None:
            return end
        trainer = Trainer(assemble(recipe, world.device, world.size), folder, installed().manager, world)
        world.told()  # everybody has read what is there
        if checkpoint is not None:
            trainer.restore(checkpoint, anew=bool(changes) or name not in (None, folder.last.name))
        with StopRequest() as stop:
            if world.leader:
                _note_resumption(folder, trainer, {key: new for key, (_, new) in changes.items()})
            return _train(trainer, stop, resumed=True)


def _settle_recipe(folder: RunFolder) -> None:
    """Writes the recipe of a change that was allowed, if the run died between the checkpoint and the file."""
    with suppress(CheckpointError):
        facts = read_facts(folder.last)
        if facts["reason"] == CHANGED:
            replace_text(folder.recipe, write(facts["recipe"]))


def _note_resumption(folder: RunFolder, trainer: Trainer, changes: Mapping[str, Any]) -> None:
    """Writes down what the rest of the run depends on, and warns of what is not as it was."""
    recipe = trainer.assembly.recipe
    environment = describe_environment(recipe, trainer.assembly.device, installed(), trainer.world.size)
    different = folder.note_resumption(trainer.steps_taken, environment, changes)
    if different:
        warnings.warn(f"not as when {folder.path} began: {'; '.join(different)}", stacklevel=4)
    replace_text(folder.recipe, recipe_text(recipe))
    folder.result.unlink(missing_ok=True)


def _checkpoint_to_continue(folder: RunFolder, name: str | None) -> Checkpoint | None:
    """The checkpoint of that name; without one the last, if there is any yet."""
    kept = folder.kept()
    if name is None and not kept:
        return None
    if name is not None and name not in kept:
        raise UsageError(f"{folder.path} has no checkpoint {name!r}{closest(name, kept)}")
    chosen = name or folder.last.name
    try:
        return read_checkpoint(folder.checkpoints / chosen)
    except CheckpointError as error:
        others = [other for other in kept if other != chosen]
        ways = f"; go on from another with --checkpoint: {', '.join(others)}" if others else ""
        raise CheckpointError(f"{error}{ways}") from error


def _changes(folder: RunFolder, checkpoint: Checkpoint | None, recipe: Recipe) -> dict[str, tuple[Any, Any]]:
    """What a recipe says otherwise than the one that a run was trained with, by key."""
    before = folder.recipe if checkpoint is None else checkpoint.facts["recipe"]
    try:
        was = load_recipe(before).to_plain()
    except RecipeError:  # what served it is gone, and perhaps replaced by this recipe
        was = read(before).values if isinstance(before, Path) else before
    apart = dict.fromkeys(APART)  # versions may differ, and what a run is compared with
    old, new = (dict(_leaves({**one, **apart})) for one in (was, recipe.to_plain()))
    return {
        key: (old.get(key, "nothing"), new.get(key, "nothing"))
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    }


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a plain recipe by their dotted keys."""
    if isinstance(node, Mapping) and node:
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    else:
        yield path, node


def _train(trainer: Trainer, stop: StopRequest, *, resumed: bool = False) -> RunEnd:
    if not trainer.world.leader:
        return trainer.run(stop)
    with closing(Stopwatch(trainer.folder.time, resumed=resumed)) as stopwatch:
        manager = installed().manager
        observers = [stopwatch, *observers_of(manager, trainer)]
        manager.register(stopwatch)
        try:
            end = trainer.run(stop)
        finally:
            for observer in observers:
                manager.unregister(observer)
    if end.status == "finished":
        trainer.folder.write_result(end, stopwatch.state())
    return end


def observers_of(manager: PluginManager, trainer: Trainer) -> list[object]:
    """The observers of this run, registered for its duration."""
    observers: list[object] = []
    try:
        with preserved(trainer.assembly.device):
            made = manager.hook.make_observers(start=trainer.describe())
        for observer in (one for some in made for one in some):
            manager.register(observer)
            observers.append(observer)
        manager.check_pending()
    except Exception as error:
        for observer in observers:
            manager.unregister(observer)
        if isinstance(error, GenkitError):
            raise
        raise GenkitError(f"an observer cannot be made: {type(error).__name__}: {error}") from error
    return observers


def checked_name(name: str) -> str:
    """A run's name, if it can be a folder's.

    Raises:
        UsageError: It cannot.
    """
    if not re.fullmatch(r"[\w][\w .+=-]*", name):
        raise UsageError(f"run name {name!r}: one folder's name is wanted, of letters, digits and any of '_ .+=-'")
    return name


def default_name(recipe: str | Path | Mapping[str, Any]) -> str:
    """A run's name where none is given: its recipe file's."""
    return "run" if isinstance(recipe, Mapping) else Path(recipe).stem


def build(kind: str, node: str | Mapping[str, Any], *supplied: Any) -> Any:
    """Builds one component as a recipe would.

    Args:
        kind: Its kind, ``model``.
        node: Its name, or a mapping with ``use`` and its options.
        supplied: What the framework supplies to that kind: a model takes the data's :class:`genkit.DataSpec`.

    Raises:
        RecipeError: The name or an option is wrong.
    """
    return resolve(kind, node, installed())(*supplied)


def load(path: str | Path, *, checkpoint: str | None = None, device: str = "auto") -> Run:
    """Loads a run.

    Args:
        path: Its folder.
        checkpoint: ``best``, ``last`` or ``epoch-0050``; the best, if there is one, where nothing is said.
        device: Where the model goes.

    Raises:
        UsageError: There is no such run.
    """
    folder = RunFolder(Path(path))
    folder.check_run()
    return Run(folder, _usable(folder), checkpoint, choose_device(device))


def _usable(folder: RunFolder) -> Recipe:
    """A run's recipe, without the evaluators that are no longer installed: its model does not need them."""
    try:
        return load_recipe(folder.recipe)
    except RecipeError as error:
        if not all(problem.path.startswith("evaluate.") for problem in error.problems):
            raise
        broken = {problem.path.split(".")[1] for problem in error.problems}
        warnings.warn(f"{folder.path}: left out of the recipe: {error}", stacklevel=3)
        dropped = [*(f"evaluate.{name}=null" for name in sorted(broken)), "train.best=auto", "published=null"]
        return load_recipe(folder.recipe, dropped)


class Run:
    """A run on disk, with its model in evaluation mode.

    Attributes:
        folder: Its files.
        recipe: Its resolved recipe.
        device: Where the model is.
        checkpoint_name: Which checkpoint the model comes from.
    """

    def __init__(self, folder: RunFolder, recipe: Recipe, checkpoint: str | None, device: torch.device) -> None:
        self.folder = folder
        self.recipe = recipe
        self.device = device
        self.checkpoint_name = checkpoint or ("best" if checkpoint_exists(folder.best) else "last")
        there = folder.kept()
        if self.checkpoint_name not in there:
            raise UsageError(
                f"{folder.path} has no checkpoint {self.checkpoint_name!r}{closest(self.checkpoint_name, there)}"
            )

    def __repr__(self) -> str:
        return f"<Run {self.folder.path}: {self.recipe.model.name}, checkpoint {self.checkpoint_name}, {self.device}>"

    @cached_property
    def _loaded(self) -> Any:
        checkpoint = read_checkpoint(self.folder.checkpoints / self.checkpoint_name)
        parts = build_parts(self.recipe, build_dataset(self.recipe), self.device)
        load_weights(parts.model, checkpoint.weights, "the recipe's model")
        objective = {k.removeprefix("objective."): v for k, v in checkpoint.state.items() if k.startswith("objective.")}
        load_weights(parts.objective, objective, "the recipe's objective")
        parts.model.eval()
        parts.objective.eval()
        return parts, checkpoint

    @property
    def model(self) -> GenerativeModel:
        """The trained model."""
        return self._loaded[0].model

    @property
    def spec(self) -> DataSpec:
        """What its data looks like."""
        return self._loaded[0].spec

    @cached_property
    def metrics(self) -> list[Record]:
        """Every figure of the run, in the order in which they were measured."""
        return read_records(self.folder.metrics)

    def sample(
        self, num_samples: int, *, seed: int | None = None, sampler: str | Mapping[str, Any] | None = None
    ) -> Tensor:
        """Draws samples with shape :math:`(N, *S)`, on the run's device.

        Args:
            num_samples: How many.
            seed: Makes the draw repeatable; without one, torch's global generator goes on from where it is.
            sampler: A sampler in the place of the recipe's.

        Raises:
            RecipeError: The sampler does not fit the model.
        """
        factory = self.recipe.sampler if sampler is None else _sampler(sampler, self.recipe)
        drawn = factory(self.model, self._loaded[0].objective)
        with torch.no_grad(), matmul_precision("fp32"):
            if drawn.fitted:
                with isolated(derive_seed(self.recipe.seed, "fit"), self.device):
                    drawn.fit(read_feeds(self.recipe, build_dataset(self.recipe), self.device))
            if seed is None:
                return drawn.sample(num_samples).x
            with isolated(seed, self.device):
                return drawn.sample(num_samples).x

    def evaluate(
        self, names: Sequence[str] = (), overrides: Sequence[str] = (), split: str = "test"
    ) -> list[EvaluationEnd]:
        """Calls evaluators on the trained model; pictures go into the run's folder ``evaluations``.

        Args:
            names: Keys of the recipe's ``evaluate``, or names of other evaluators; all of the recipe's, if empty.
            overrides: ``key=value`` assignments to options of the evaluators that have such an option.
            split: The split to use, for those that need data.

        Raises:
            RecipeError: A name or an option is wrong.
        """
        recipe = _with_evaluators(self.recipe, names, overrides)
        assembly = assemble(recipe, self.device)
        assembly.parts.model.load_state_dict(self.model.state_dict())
        assembly.parts.objective.load_state_dict(self._loaded[0].objective.state_dict())
        if split not in assembly.feeds:
            raise UsageError(f"the run has no split {split!r}{closest(split, assembly.feeds)}")
        judge = Judge(assembly, assembly.parts.model, self.folder.evaluations)
        judge.remember([Record(**record) for record in self._loaded[1].facts.get("history", [])])
        position = self._loaded[1].facts["position"]
        step = position["epoch"] * assembly.steps_per_epoch + position["step_in_epoch"]
        return [
            judge.judge(
                entry,
                evaluator,
                split if evaluator.splits else None,
                position["epoch"],
                step,
                self.checkpoint_name,
            )  # pyright: ignore[reportArgumentType]
            for entry, evaluator in assembly.parts.evaluators.items()
        ]


def _sampler(node: str | Mapping[str, Any], recipe: Recipe) -> Factory[Any]:
    return load_recipe({**recipe.to_plain(), "sampler": node, "published": None}).sampler


def _entries(own: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Entries for these evaluators: a recipe's own, or others by their names, which may have a distribution's."""
    entries: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        if name in own:
            entries[name] = own[name]
        else:
            _check_evaluator(name, own)
            entries[_entry_name(name, {*own, *names, *entries} - {name})] = {"use": name}
    return entries


def _check_evaluator(name: str, own: Mapping[str, Any]) -> None:
    try:
        installed().get("evaluator", name)
    except UsageError as error:
        hint = closest(name, [*own, *installed().names("evaluator")])
        raise UsageError(f"the recipe has no evaluator {name!r}, and none is installed{hint}") from error


def _entry_name(name: str, taken: Set[str]) -> str:
    """What an evaluator's figures and pictures go under, which must be a folder's name.

    Example:
        >>> _entry_name("their-dist/fid", {"fid"})
        'their-dist-fid'
    """
    distribution, _, plain = name.rpartition("/")
    numbered = (f"{distribution}-{plain}-{number}" for number in count(2))
    return next(key for key in chain((plain, f"{distribution}-{plain}"), numbered) if key not in taken)


def _with_evaluators(recipe: Recipe, names: Sequence[str], overrides: Sequence[str]) -> Recipe:
    """The recipe with just these evaluators, each with the overrides that it has a key for."""
    plain = {**recipe.to_plain(), "published": None}
    entries = _entries(plain["evaluate"], names) if names else plain["evaluate"]
    draft = load_recipe({**plain, "evaluate": entries, "train": {**plain["train"], "best": "none"}})
    assignments = []
    for override in overrides:
        key = override.partition("=")[0].partition(".")[0]
        takers = [name for name, entry in draft.evaluate.items() if key in entry.evaluator.options]
        if not takers:
            options = {option for entry in draft.evaluate.values() for option in entry.evaluator.options}
            raise RecipeError([Problem(key, f"no evaluator here has this key{closest(key, options)}", "command line")])
        assignments += [f"evaluate.{name}.{override}" for name in takers]
    return load_recipe(draft.to_plain(), assignments)
