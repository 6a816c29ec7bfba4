"""Which of a run's checkpoints stay on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genkit.engine.checkpoint import (
    Checkpoint,
    copy_checkpoint,
    read_facts,
    remove_checkpoint,
    write_checkpoint,
)
from genkit.engine.folder import RunFolder
from genkit.engine.judge import Best
from genkit.engine.state import Position
from genkit.errors import CheckpointError
from genkit.recipe.recipe import Keep


class Keeper:
    """Writes the last checkpoint, and gives those that are to stay a name of their own.

    Copies share their files with the checkpoint that they are made from, where the file system can do that.

    Args:
        folder: The run's folder.
        wanted: What the recipe asks for.
    """

    def __init__(self, folder: RunFolder, wanted: Keep) -> None:
        self.folder = folder
        self.wanted = wanted

    def due(self, epoch: int) -> bool:
        """Whether an epoch is one of those that stay for ever."""
        return self.wanted.every is not None and epoch % self.wanted.every == 0

    def write(self, checkpoint: Checkpoint) -> None:
        """Writes the last checkpoint.

        Raises:
            CheckpointError: It cannot be written; the one before stands.
        """
        write_checkpoint(self.folder.last, checkpoint)

    def keep(self, epoch: int, ranking: Sequence[Best]) -> Path | None:
        """Gives the last checkpoint, written after an epoch, the names that it is to be kept under.

        Args:
            epoch: Epochs completed.
            ranking: The best epochs, the best one first.

        Returns:
            The best checkpoint, if this is it.

        Raises:
            CheckpointError: A copy cannot be made.
        """
        best = {one.epoch for one in ranking} if self.wanted.best > 1 else set()
        if self.due(epoch) or self.wanted.last > 1 or epoch in best:
            copy_checkpoint(self.folder.last, self.folder.epoch(epoch))
        self._prune(epoch, best)
        if not ranking or ranking[0].epoch != epoch:
            return None
        copy_checkpoint(self.folder.last, self.folder.best)
        return self.folder.best

    def mend(self, place: Position, ranking: Sequence[Best]) -> Path | None:
        """Does again what a death between the last checkpoint and its further names left undone.

        Args:
            place: The restored place in training.
            ranking: The best epochs as they were there, the best one first.

        Returns:
            The best checkpoint as it is to be there; ``None`` if there is none, or none any more: after going
            back behind the best epoch it may be lost.

        Raises:
            CheckpointError: A copy cannot be made.
        """
        at, _ = self._facts(self.folder.last)
        if place.is_judged and at == place:
            self.keep(place.epoch, ranking)
        if not ranking:
            return None
        best = ranking[0]
        for name in self.folder.kept():
            path = self.folder.checkpoints / name
            at, best_there = self._facts(path)
            if best_there == best and at is not None and at.is_judged and at.epoch == best.epoch:
                if path != self.folder.best:
                    copy_checkpoint(path, self.folder.best)
                return self.folder.best
        return None

    def _facts(self, path: Path) -> tuple[Position | None, Best | None]:
        """Where in training a checkpoint was taken, and the best epoch then; of a damaged one nothing is known."""
        try:
            facts = read_facts(path)
        except CheckpointError:
            return None, None
        return Position(**facts["position"]), None if facts["best"] is None else Best(**facts["best"])

    def _prune(self, epoch: int, best: set[int]) -> None:
        """Removes the epochs that need not stay, and those ahead of a run that went back."""
        there = self.folder.epochs()
        recent = [other for other in there if other <= epoch][-self.wanted.last :] if self.wanted.last > 1 else []
        for other in there:
            if other > epoch or not (other in recent or other in best or self.due(other)):
                remove_checkpoint(self.folder.epoch(other))
