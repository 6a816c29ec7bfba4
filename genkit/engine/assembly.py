"""Builds all that a recipe names, in the order in which the parts need each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from genkit.dataset import Dataset, DataSpec, Split, SplitName
from genkit.engine.feed import Feed
from genkit.engine.player import Player
from genkit.engine.seeds import derive_seed, isolated
from genkit.errors import DataError, Problem, RecipeError, closest
from genkit.evaluator import Evaluator
from genkit.model import GenerativeModel
from genkit.objective import Objective, Turn
from genkit.recipe import Recipe

SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass
class Parts:
    """What can be built without reading data beyond its description.

    Attributes:
        spec: What the data looks like.
        model: The model.
        objective: The objective with its own networks.
        evaluators: The evaluators by their recipe keys.
    """

    spec: DataSpec
    model: GenerativeModel
    objective: Objective
    evaluators: dict[str, Evaluator]


@dataclass
class Assembly:
    """Everything that a run consists of, on its device.

    Attributes:
        recipe: The recipe.
        device: The device.
        parts: Model, objective and evaluators.
        turns: The objective's turns.
        players: The players by name.
        feeds: The splits that are not empty.
    """

    recipe: Recipe
    device: torch.device
    parts: Parts
    turns: list[Turn]
    players: dict[str, Player]
    feeds: dict[SplitName, Feed]

    @property
    def batches_per_step(self) -> int:
        """Batches that one step takes."""
        return self.recipe.train.accumulate * max(turn.repeats for turn in self.turns)

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one epoch."""
        train = self.recipe.train
        return -(-self.feeds["train"].steps(train.batch_size, train.drop_last) // self.batches_per_step)


def build_parts(recipe: Recipe, dataset: Dataset, device: torch.device) -> Parts:
    """Builds model, objective and evaluators, each from its own random stream.

    Networks start on the CPU whatever the device is, so that a seed gives the same ones everywhere.

    Raises:
        RecipeError: A component refused its options or what it was given.
    """
    spec = dataset.spec
    start = torch.device("meta") if device.type == "meta" else torch.device("cpu")
    with isolated(derive_seed(recipe.seed, "model"), device), start:
        model = recipe.model(spec)
    with isolated(derive_seed(recipe.seed, "objective"), device), start:
        objective = recipe.objective(model)
    recipe.sampler(model, objective)
    evaluators = {name: entry.evaluator(model) for name, entry in recipe.evaluate.items()}
    return Parts(spec, model.to(device), objective.to(device), evaluators)


def build_dataset(recipe: Recipe) -> Dataset:
    """Builds the dataset; no data is read yet."""
    return recipe.data()


def dry_build(recipe: Recipe) -> Parts:
    """Builds everything without memory or data, to find what does not fit together.

    Raises:
        RecipeError: Some parts do not fit.
        DataError: The data's shape is not known before it is there.
    """
    return build_parts(recipe, build_dataset(recipe), torch.device("meta"))


def assemble(recipe: Recipe, device: torch.device) -> Assembly:
    """Builds a run.

    Raises:
        RecipeError: Some parts do not fit, or a batch is larger than the data.
        DataError: The data cannot be read.
    """
    dataset = build_dataset(recipe)
    parts = build_parts(recipe, dataset, device)
    feeds = read_feeds(recipe, dataset, device)
    turns = list(parts.objective.turns(parts.model))
    players = _players(recipe, parts)
    _check_clip(recipe, turns)
    return Assembly(recipe, device, parts, turns, players, feeds)


def read_feeds(recipe: Recipe, dataset: Dataset, device: torch.device) -> dict[SplitName, Feed]:
    """Reads every split that is not empty.

    Raises:
        DataError: There is no training data.
        RecipeError: A batch is larger than the training data.
    """
    splits: dict[SplitName, Split | None] = {name: dataset.split(name) for name in SPLITS}
    feeds: dict[SplitName, Feed] = {
        name: Feed(split, device, recipe.train.workers) for name, split in splits.items() if split is not None
    }
    if "train" not in feeds or not len(feeds["train"]):
        raise DataError(f"{recipe.data.name}: there is no training data")
    size, batch = len(feeds["train"]), recipe.train.batch_size
    if batch > size:
        raise _train_problem("batch_size", f"a batch of {batch} is larger than the training data, {size} examples")
    return feeds


def _players(recipe: Recipe, parts: Parts) -> dict[str, Player]:
    named: Mapping[str, object] = recipe.train.optimizers
    parameters = parts.objective.players(parts.model)
    unknown = [name for name in named if name not in parameters]
    if unknown:
        message = f"{recipe.objective.name} has no player {unknown[0]!r}{closest(unknown[0], parameters)}"
        raise _train_problem(f"optimizers.{unknown[0]}", message)
    return {
        name: Player(list(own), recipe.train.optimizers.get(name, recipe.train.optimizer)(), recipe.train.schedule())
        for name, own in parameters.items()
    }


def _check_clip(recipe: Recipe, turns: list[Turn]) -> None:
    clip = recipe.train.clip_norm
    for name in clip if isinstance(clip, Mapping) else ():
        if name not in {turn.name for turn in turns}:
            hint = closest(name, (turn.name for turn in turns))
            raise _train_problem(f"clip_norm.{name}", f"{recipe.objective.name} has no turn {name!r}{hint}")


def _train_problem(key: str, message: str) -> RecipeError:
    return RecipeError([Problem(f"train.{key}", message)])
