"""Which of a run's checkpoints stay on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genkit.engine.checkpoint import (
    Checkpoint,
    copy_checkpoint,
    read_checkpoint,
    read_facts,
    remove_checkpoint,
    tidy,
    write_checkpoint,
)
from genkit.engine.folder import RunFolder
from genkit.engine.judge import Best
from genkit.engine.state import Position
from genkit.errors import CheckpointError
from genkit.recipe.recipe import Keep

DUE = "epoch"
"""The reason of a checkpoint that an epoch's end brought about."""


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
            back behind the best epoch it may be lost. Then there is no other in its place either.

        Raises:
            CheckpointError: A copy cannot be made.
        """
        tidy(self.folder.checkpoints)
        facts = self._facts(self.folder.last)
        if facts and facts["reason"] == DUE and facts["position"] == asdict(place) and self._is_whole(self.folder.last):
            self.keep(place.epoch, ranking)
        found = self._find(ranking[0]) if ranking else None
        if found is None:
            remove_checkpoint(self.folder.best)
            return None
        if found != self.folder.best:
            copy_checkpoint(found, self.folder.best)
        return self.folder.best

    def _find(self, best: Best) -> Path | None:
        """A whole checkpoint of the best epoch."""
        for path in (self.folder.checkpoints / name for name in self.folder.kept()):
            facts = self._facts(path)
            place = Position(**facts["position"]) if facts else Position()
            right = facts and facts["best"] == asdict(best) and place.is_judged and place.epoch == best.epoch
            if right and self._is_whole(path):
                return path
        return None

    def _facts(self, path: Path) -> Mapping[str, Any] | None:
        """What is no tensor of a checkpoint, if it can be read."""
        try:
            return read_facts(path)
        except CheckpointError:
            return None

    def _is_whole(self, path: Path) -> bool:
        try:
            read_checkpoint(path)
        except CheckpointError:
            return False
        return True

    def _prune(self, epoch: int, best: set[int]) -> None:
        """Removes the epochs that need not stay, and those ahead of a run that went back."""
        there = self.folder.epochs()
        recent = [other for other in there if other <= epoch][-self.wanted.last :] if self.wanted.last > 1 else []
        for other in there:
            if other > epoch or not (other in recent or other in best or self.due(other)):
                remove_checkpoint(self.folder.epoch(other))
