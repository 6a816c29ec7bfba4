"""The training loop of the engine, and the same work in a bare loop written by hand."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path

import torch
from torch import Tensor, nn

from genkit.dataset import Batch
from genkit.engine.assembly import Assembly, assemble
from genkit.engine.device import autocast
from genkit.engine.feed import Ticket
from genkit.engine.folder import RunFolder
from genkit.engine.loop import Trainer
from genkit.engine.seeds import derive_seed, isolated
from genkit.engine.stop import StopRequest
from genkit.objective import Loss, Progress, Turn
from genkit.recipe import Recipe
from genkit.registry import load_registry


def started(recipe: Recipe, device: torch.device) -> Assembly:
    """A run's parts, ready to be trained: models that start from data have seen their first batch.

    Raises:
        RecipeError: Some parts do not fit, or a batch is larger than the data.
        DataError: The data cannot be read.
    """
    assembly = assemble(recipe, device)
    model, objective = assembly.parts.model, assembly.parts.objective
    with isolated(derive_seed(recipe.seed, "start"), device), torch.no_grad():
        x = next(assembly.feeds["train"].epoch(recipe.train.batch_size, seed=recipe.seed, epoch=0)).x
        model.start(x)
        objective.start(model, x)
    return assembly


class Loop(ABC):
    """Abstract way to train an assembly, as far as it is told."""

    @abstractmethod
    def take(self, steps: int) -> None:
        """Takes so many steps from where it is, over the ends of epochs."""


# ---- the engine's own --------------------------------------------------------------------------------------------


class Engine(Loop):
    """The engine's own loop, ends of epochs included; without observers, evaluations and checkpoints.

    Args:
        assembly: What to train.
        folder: A folder that nobody else uses; nothing is written into it.
    """

    def __init__(self, assembly: Assembly, folder: Path) -> None:
        self.trainer = Paused(assembly, RunFolder(folder), load_registry(()).manager)

    def take(self, steps: int) -> None:
        """Trains until the trainer has taken so many."""
        stop = StepLimit(self.trainer, steps)
        while not stop:
            self.trainer.train_epoch(stop)


class Paused(Trainer):
    """A trainer that keeps its place in the data when it is stopped.

    A run that is resumed draws the epoch's order again to find its place; one that just goes on does not.
    """

    def _rounds(self, epoch: int, skip: int) -> Iterator[list[Ticket]]:
        if not skip:
            self._ahead = super()._rounds(epoch, skip)
        return self._ahead


class StepLimit(StopRequest):
    """Asks a trainer to stop after so many further steps."""

    def __init__(self, trainer: Trainer, steps: int) -> None:
        super().__init__()
        self.trainer = trainer
        self.end = trainer.steps_taken + steps

    def __bool__(self) -> bool:
        return self.trainer.steps_taken >= self.end


# ---- by hand -----------------------------------------------------------------------------------------------------


class ByHand(Loop):
    """Abstract loop without the engine: every turn of every step, at one learning rate, as at the first step.

    Args:
        assembly: What to train.
    """

    def __init__(self, assembly: Assembly) -> None:
        self.assembly = assembly
        self.train = assembly.recipe.train
        self.device = assembly.device
        self.model = assembly.parts.model
        self.progress = Progress(torch.zeros((), device=self.device), torch.zeros((), device=self.device))

    def take(self, steps: int) -> None:
        """Takes the turns, with repeats on further batches, each over as many batches as are accumulated."""
        size = self.train.accumulate
        for batches in self.steps(steps):
            moves = [batches[i : i + size] for i in range(0, len(batches), size)]
            for turn in self.assembly.turns:
                for move in moves[: turn.repeats]:
                    self.move(turn, move)
            if self.train.ema is not None:
                self.average(self.train.ema)

    @abstractmethod
    def steps(self, steps: int) -> Iterator[Sequence[Batch]]:
        """The batches of each of so many steps."""

    @abstractmethod
    def move(self, turn: Turn, batches: Sequence[Batch]) -> None:
        """One player's step."""

    @abstractmethod
    def average(self, decay: float) -> None:
        """Updates the moving average of the model's weights."""

    def loss(self, turn: Turn, batch: Batch) -> Loss:
        """The loss in the arithmetic that the recipe asks for."""
        with autocast(self.device, self.train.precision):
            return turn.loss(batch, self.progress)

    def norm(self, turn: Turn) -> float | None:
        """The largest gradient norm of a turn."""
        clip = self.train.clip_norm
        return clip.get(turn.name) if isinstance(clip, Mapping) else clip


class Floor(ByHand):
    """The bare loop that an expert would write: the work itself, on resident data, with the recipe's own optimizers.

    Nothing is logged or checked. For the same seed it does what the engine does, batch by batch.

    Args:
        assembly: What to train; its training data must be resident.
    """

    def __init__(self, assembly: Assembly) -> None:
        super().__init__(assembly)
        self.batches = self._endless()
        self.inputs = {name: self._inputs(player.parameters) for name, player in assembly.players.items()}
        if self.train.ema is not None:
            self.averaged = copy.deepcopy(self.model).requires_grad_(False)
            self.averages: list[Tensor] = list(self.averaged.parameters())
            self.weights: list[Tensor] = list(self.model.parameters())
            self.buffers = list(zip(self.averaged.buffers(), self.model.buffers(), strict=True))
            self.updates = 0

    def steps(self, steps: int) -> Iterator[Sequence[Batch]]:
        """Goes on where it stopped."""
        return islice(self.batches, steps)

    def move(self, turn: Turn, batches: Sequence[Batch]) -> None:
        """Gradients, clipped if the recipe asks for it, and the optimizer's step."""
        player, norm = self.assembly.players[turn.player], self.norm(turn)
        player.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            loss = self.loss(turn, batch).total
            if len(batches) > 1:
                loss = loss * (1 / len(batches))
            loss.backward(inputs=self.inputs[turn.player])
        if norm is not None:
            nn.utils.clip_grad_norm_(player.parameters, norm)
        player.optimizer.step()

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """All weights in one operation; the first time they are copied."""
        share = 1 - decay if self.updates else 1.0
        torch._foreach_lerp_(self.averages, self.weights, share)  # pyright: ignore[reportPrivateImportUsage]
        for average, buffer in self.buffers:
            average.copy_(buffer)
        self.updates += 1

    def _endless(self) -> Iterator[Sequence[Batch]]:
        """The batches of every step, epoch after epoch."""
        feed, size = self.assembly.feeds["train"], self.train.batch_size
        images, labels, prepare = feed.resident, feed.labels, feed.split.prepare
        assert images is not None
        end = feed.steps(size, self.train.drop_last) * size
        for epoch in count():
            generator = torch.Generator().manual_seed(derive_seed(self.assembly.recipe.seed, "order", epoch))
            order = torch.randperm(len(images), generator=generator)[:end].to(self.device)
            for step in order.split(size * self.assembly.batches_per_step):
                yield [
                    Batch(prepare(images.index_select(0, i)), None if labels is None else labels.index_select(0, i))
                    for i in step.split(size)
                ]

    def _inputs(self, parameters: Sequence[Tensor]) -> Sequence[Tensor] | None:
        """Whose gradients a player needs; ``None`` where it moves all that there is, which need not be searched for."""
        everything = {*self.model.parameters(), *self.assembly.parts.objective.parameters()}
        return None if everything == set(parameters) else parameters
