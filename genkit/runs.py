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
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pluggy import PluginManager
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import DataSpec
from genkit.engine import assemble, choose_device
from genkit.engine.assembly import Assembly, build_dataset, build_parts, read_feeds
from genkit.engine.checkpoint import Checkpoint, checkpoint_exists, load_weights, read_checkpoint
from genkit.engine.device import matmul_precision
from genkit.engine.folder import RunFolder, describe_environment
from genkit.engine.judge import Judge
from genkit.engine.loop import Trainer
from genkit.engine.seeds import derive_seed, isolated
from genkit.engine.stop import StopRequest
from genkit.errors import GenkitError, Problem, RecipeError, UsageError, closest
from genkit.events import EvaluationEnd, Record, RunEnd, read_records
from genkit.model import GenerativeModel
from genkit.recipe import Recipe, load_recipe
from genkit.recipe.check import resolve
from genkit.registry import installed

RUNS = Path("runs")


def run(
    recipe: str | Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    name: str | None = None,
    runs: str | Path = RUNS,
    device: str = "auto",
) -> RunEnd:
    """Trains a recipe.

    Args:
        recipe: A file, or a mapping with the same keys.
        overrides: ``key.path=value`` assignments.
        name: The run's name; the recipe file's, if not given.
        runs: The folder that runs go into.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Returns:
        How the run ended, with its folder and its final figures.

    Raises:
        UsageError: The request cannot be served: see :class:`genkit.RecipeError` for the recipe.
        GenkitError: The run failed.
    """
    folder = RunFolder(Path(runs) / checked_name(default_name(recipe) if name is None else name))
    checked = load_recipe(recipe, overrides)
    folder.check_free()
    where = choose_device(device)
    assembly = assemble(checked, where)
    with StopRequest() as stop:
        folder.create(checked, describe_environment(checked, where, installed()))
        return _train(assembly, folder, stop)


def resume(path: str | Path, *, device: str = "auto") -> RunEnd:
    """Continues a run from its last checkpoint.

    Raises:
        UsageError: There is no such run.
        CheckpointError: Its last checkpoint is missing or damaged.
    """
    folder = RunFolder(Path(path))
    folder.check_run()
    checkpoint = read_checkpoint(folder.last)
    assembly = assemble(load_recipe(folder.recipe), choose_device(device))
    with StopRequest() as stop:
        return _train(assembly, folder, stop, checkpoint)


def _train(assembly: Assembly, folder: RunFolder, stop: StopRequest, checkpoint: Checkpoint | None = None) -> RunEnd:
    manager = installed().manager
    trainer = Trainer(assembly, folder, manager)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    observers = _make_observers(manager, trainer)
    try:
        return trainer.run(stop)
    finally:
        for observer in observers:
            manager.unregister(observer)


def _make_observers(manager: PluginManager, trainer: Trainer) -> list[object]:
    """The observers of this run, registered for its duration."""
    try:
        observers = [o for made in manager.hook.make_observers(start=trainer.describe()) for o in made]
        for observer in observers:
            manager.register(observer)
        manager.check_pending()
    except GenkitError:
        raise
    except Exception as error:
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
        checkpoint: ``best`` or ``last``; the best, if there is one, where nothing is said.
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
        broken = {problem.path.split(".")[1] for problem in error.problems if problem.path.startswith("evaluate.")}
        if not broken:
            raise
        warnings.warn(f"{folder.path}: left out of the recipe: {error}", stacklevel=3)
        return load_recipe(folder.recipe, [*(f"evaluate.{name}=null" for name in sorted(broken)), "train.best=auto"])


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
        there = [path.name for path in (folder.best, folder.last) if checkpoint_exists(path)]
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
    return load_recipe({**recipe.to_plain(), "sampler": node}).sampler


def _with_evaluators(recipe: Recipe, names: Sequence[str], overrides: Sequence[str]) -> Recipe:
    """The recipe with just these evaluators, each with the overrides that it has a key for."""
    plain = recipe.to_plain()
    known = [*plain["evaluate"], *installed().names("evaluator")]
    for name in names:
        if name not in known:
            raise UsageError(f"the recipe has no evaluator {name!r}, and none is installed{closest(name, known)}")
    entries = {name: plain["evaluate"].get(name, {"use": name}) for name in names} if names else plain["evaluate"]
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
