"""Builds all that a recipe names, in the order in which the parts need each other."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from genkit.component import Factory
from genkit.dataset import Dataset, DataSpec, Split, SplitName
from genkit.engine.ema import MovingAverage
from genkit.engine.feed import Feed
from genkit.engine.graph import obstacle_to_graphs
from genkit.engine.machine import usual_workers
from genkit.engine.placement import pools_for
from genkit.engine.player import Player, moves_all
from genkit.engine.seeds import derive_seed, isolated
from genkit.errors import DataError, PluginError, Problem, RecipeError, closest
from genkit.evaluator import Evaluator
from genkit.model import GenerativeModel
from genkit.objective import Objective, Turn
from genkit.recipe import Recipe
from genkit.recipe.check import askers

if TYPE_CHECKING:
    from genkit.engine.sharded import Shards

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
        dataset: The dataset.
        parts: Model, objective and evaluators.
        turns: The objective's turns.
        players: The players by name.
        feeds: The splits that are not empty.
        ema: The moving average of the model's weights, if the recipe asks for one.
        shards: What weights and gradients are shared out by, if they are.
    """

    recipe: Recipe
    device: torch.device
    dataset: Dataset
    parts: Parts
    turns: list[Turn]
    players: dict[str, Player]
    feeds: dict[SplitName, Feed]
    ema: MovingAverage | None = None
    shards: Shards | None = None

    @cached_property
    def batches_per_step(self) -> int:
        """Batches that one step takes."""
        return self.recipe.train.accumulate * max(turn.repeats for turn in self.turns)

    @cached_property
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
        _refuse_withheld(recipe, model)
        objective = recipe.objective(model)
        _prepare(recipe.objective, objective, dataset)
    with isolated(derive_seed(recipe.seed, "sampler"), device):
        recipe.sampler(model, objective)
    evaluators: dict[str, Evaluator] = {}
    for name, entry in recipe.evaluate.items():
        with isolated(derive_seed(recipe.seed, "evaluator", name), device), start:
            evaluators[name] = entry.evaluator(model)
            _prepare(entry.evaluator, evaluators[name], dataset)
    wanted = recipe.train.channels_last
    layout = torch.channels_last if wanted == "on" or (wanted == "auto" and device.type == "cuda") else None
    for module in (model, objective):
        module.to(device)
        if layout is not None:
            module.to(memory_format=layout)
    return Parts(spec, model, objective, evaluators)


def build_dataset(recipe: Recipe) -> Dataset:
    """Builds the dataset; no data is read yet."""
    return recipe.data()


def dry_build(recipe: Recipe) -> Parts:
    """Builds everything without memory or data, to find what does not fit together.

    Raises:
        RecipeError: Some parts do not fit.
        DataError: The data's shape is not known before it is there.
    """
    parts = build_parts(recipe, build_dataset(recipe), torch.device("meta"))
    check_names(recipe, parts)
    check_batches(recipe, parts.objective)
    return parts


def assemble(recipe: Recipe, device: torch.device, ranks: int = 1) -> Assembly:
    """Builds a run.

    Args:
        recipe: The recipe.
        device: Where it trains.
        ranks: Processes that share each batch.

    Raises:
        RecipeError: Some parts do not fit, or a batch is larger than the data.
        DataError: The data cannot be read.
    """
    _import_compiler_ahead()
    dataset = build_dataset(recipe)
    parts = build_parts(recipe, dataset, device)
    check_names(recipe, parts)
    feeds = read_feeds(recipe, dataset, device)
    check_batches(recipe, parts.objective, len(feeds["train"]), ranks)
    turns = list(parts.objective.turns(parts.model))
    ema = None if recipe.train.ema is None else MovingAverage(parts.model, recipe.train.ema)
    shards = _share_out(recipe, parts, ema, device) if ranks > 1 and recipe.train.strategy == "fsdp" else None
    recordable = recipe.train.cuda_graph != "off" and not obstacle_to_graphs(device, ranks)
    players = _players(recipe, parts, recordable)
    return Assembly(recipe, device, dataset, parts, turns, players, feeds, ema, shards)


def read_feeds(recipe: Recipe, dataset: Dataset, device: torch.device) -> dict[SplitName, Feed]:
    """Reads every split that is not empty.

    Raises:
        DataError: There is no training data.
        RecipeError: A batch is larger than the training data, or that cannot be kept where the recipe says.
    """
    splits: dict[SplitName, Split] = {name: s for name in SPLITS if (s := dataset.split(name)) is not None}
    pools = pools_for(recipe, splits, device)
    workers = usual_workers() if recipe.train.workers is None else recipe.train.workers
    feeds: dict[SplitName, Feed] = {
        name: Feed(split, device, workers, pools.get(name)) for name, split in splits.items()
    }
    if "train" not in feeds or not len(feeds["train"]):
        raise DataError(f"{recipe.data.name}: there is no training data")
    size, batch = len(feeds["train"]), recipe.train.batch_size
    if batch > size:
        message = f"a batch of {batch} is larger than the training data, {size} examples; set it to at most {size}"
        raise RecipeError([Problem("train.batch_size", message, recipe.place("train.batch_size"))])
    return feeds


def check_names(recipe: Recipe, parts: Parts) -> None:
    """Checks the players and turns that the recipe's ``train`` names against those that the objective has.

    Raises:
        RecipeError: The objective has no such player or turn.
        PluginError: The objective gives two turns one name.
    """
    players = parts.objective.players(parts.model)
    idle = [name for name, own in players.items() if not own]
    if idle:
        what = f"{recipe.objective.name} gives player {idle[0]!r} nothing to move: no part of it is trained"
        raise RecipeError([Problem("model", what, recipe.place("model"))])
    turns = [turn.name for turn in parts.objective.turns(parts.model)]
    if len(set(turns)) < len(turns):
        raise PluginError(f"{recipe.objective.name}: two of its turns share a name: {', '.join(turns)}")
    clip = recipe.train.clip_norm
    named = [("optimizers", "player", name, list(players)) for name in recipe.train.optimizers]
    named += [("clip_norm", "turn", name, turns) for name in (clip if isinstance(clip, Mapping) else ())]
    problems = [
        Problem(
            f"train.{key}.{name}",
            f"{recipe.objective.name} has no {what} {name!r}{closest(name, allowed)}",
            recipe.place(f"train.{key}.{name}"),
        )
        for key, what, name, allowed in named
        if name not in allowed
    ]
    if problems:
        raise RecipeError(problems)


def _refuse_withheld(recipe: Recipe, model: GenerativeModel) -> None:
    """Refuses who needs a capability that the model's class has, but not this model with its options."""
    problems = [
        Problem(asker.path, f"{asker.name} needs a model with {capability.__name__}: {reason}", asker.location)
        for _, asker in askers(recipe)
        for capability, reason in model.withheld.items()
        if capability in asker.resolved.requires
    ]
    if problems:
        raise RecipeError(problems)


def _prepare(build: Factory[Any], judge: Objective | Evaluator, dataset: Dataset) -> None:
    try:
        judge.prepare(dataset)
    except ValueError as error:
        raise RecipeError([Problem(build.path, f"{build.name}: {error}", build.location)]) from error


def check_batches(recipe: Recipe, objective: Objective, examples: int | None = None, ranks: int = 1) -> None:
    """Checks that every batch can be grouped as the objective groups examples.

    Args:
        recipe: The recipe.
        objective: The objective.
        examples: Training examples, if they are known yet.
        ranks: Processes that share each batch.

    Raises:
        RecipeError: A batch, the last of an epoch included, is no multiple of what the objective groups.
    """
    train, together = recipe.train, objective.batch_multiple
    multiple = together * ranks if together > 1 else 1  # each process judges its own part
    last = 0 if examples is None or train.drop_last else examples % train.batch_size
    message = ""
    if train.batch_size % multiple:
        nearest = max(train.batch_size // multiple, 1) * multiple
        message = f"batches of {train.batch_size} are no multiple of {multiple}; {nearest} would be"
    elif last % multiple:
        message = f"an epoch's last batch has {last} examples, no multiple of {multiple}; set train.drop_last to true"
    if message:
        shared = f" in each of {ranks} processes" if ranks > 1 else ""
        problem = f"{recipe.objective.name} judges {together} examples together{shared}, but {message}"
        raise RecipeError([Problem("train.batch_size", problem, recipe.place("train.batch_size"))])


def _import_compiler_ahead() -> None:
    """Imports torch's compiler while data is read: torch does so, for a second, when an optimizer is first made."""
    if "torch._dynamo" not in sys.modules:
        threading.Thread(target=importlib.import_module, args=("torch._dynamo",), daemon=True).start()


def _share_out(recipe: Recipe, parts: Parts, ema: MovingAverage | None, device: torch.device) -> Shards:
    """Leaves this process its part of all weights."""
    if recipe.train.channels_last == "on":
        message = "weights that are shared out (train.strategy: fsdp) cannot be channels-last; auto or off would do"
        raise RecipeError([Problem("train.channels_last", message, recipe.place("train.channels_last"))])
    for module in (parts.model, parts.objective, *([] if ema is None else [ema.model])):
        module.to(memory_format=torch.contiguous_format)  # torch shares out no other
    own = [list(parameters) for parameters in parts.objective.players(parts.model).values()]
    sharded = importlib.import_module("genkit.engine.sharded")  # and with it torch's, which nobody else waits for
    shards = sharded.Shards(parts.model, parts.objective, device, alone=moves_all(own, (parts.model, parts.objective)))
    if ema is not None:
        shards.share_out(ema.model)
    return shards


def _players(recipe: Recipe, parts: Parts, recordable: bool) -> dict[str, Player]:
    train = recipe.train
    return {
        name: Player(list(own), train.optimizers.get(name, train.optimizer)(), train.schedule(), recordable=recordable)
        for name, own in parts.objective.players(parts.model).items()
    }
