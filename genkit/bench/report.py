"""What was measured, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

ENGINE, FLOOR, CONVENTIONAL = "engine", "loop", "dataloader"


@dataclass(frozen=True)
class Bench:
    """What a recipe's training step costs.

    Attributes:
        recipe: The resolved recipe, without evaluators.
        device: Where, with its name.
        threads: Threads that torch computes with on the CPU.
        torch: Torch's version.
        examples_per_step: New examples that a step takes, on average over an epoch.
        is_image: Whether they are images.
        steps: Steps in a round.
        workers: Processes of the conventional loop's data loader.
        seconds: What each round took, by loop.
        shares: Shares of the engine's time in a pass of its own: in losses, backward passes and optimizers' steps,
            and outside all of these.
        peak_bytes: The most memory that was in use; ``None`` where nobody knows.
        peak_of: What memory that is.
        notes: What a reader of the figures must know.
    """

    recipe: Mapping[str, Any]
    device: str
    threads: int
    torch: str
    examples_per_step: float
    is_image: bool
    steps: int
    workers: int
    seconds: Mapping[str, Sequence[float]]
    shares: Mapping[str, float]
    peak_bytes: int | None
    peak_of: str
    notes: Sequence[str] = ()

    @property
    def batch_size(self) -> int:
        """Examples in a batch."""
        return self.recipe["train"]["batch_size"]

    @property
    def rounds(self) -> int:
        """How often each loop was timed."""
        return len(self.seconds[ENGINE])

    @property
    def reference(self) -> str:
        """What the others are compared with: the bare loop, or the engine where there is none."""
        return FLOOR if FLOOR in self.seconds else ENGINE

    def seconds_per_step(self, loop: str) -> float:
        """The median over the rounds."""
        return median(self.seconds[loop]) / self.steps

    def ratios(self, loop: str) -> list[float]:
        """A loop's time in each round over the reference's in the same round."""
        return [own / base for own, base in zip(self.seconds[loop], self.seconds[self.reference], strict=True)]

    def quartiles(self, loop: str) -> tuple[float, float, float]:
        """The lower quartile, the median and the upper quartile of the ratios."""
        low, middle, high = np.quantile(self.ratios(loop), [0.25, 0.5, 0.75]).tolist()
        return low, middle, high

    def examples_per_second(self, loop: str) -> float:
        """At the median time."""
        return self.examples_per_step / self.seconds_per_step(loop)

    def to_plain(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "device": self.device,
            "threads": self.threads,
            "torch": self.torch,
            "batch_size": self.batch_size,
            "examples_per_step": self.examples_per_step,
            "rounds": self.rounds,
            "steps": self.steps,
            "workers": self.workers,
            "reference": self.reference,
            "loops": {name: self._plain(name) for name in self.seconds},
            "shares": dict(self.shares),
            "peak_memory": {"bytes": self.peak_bytes, "of": self.peak_of},
            "notes": list(self.notes),
            "recipe": dict(self.recipe),
        }

    def _plain(self, loop: str) -> dict[str, Any]:
        low, middle, high = self.quartiles(loop)
        return {
            "milliseconds_per_step": 1000 * self.seconds_per_step(loop),
            "ratio": middle,
            "quartiles": [low, high],
            "examples_per_second": self.examples_per_second(loop),
            "seconds_per_round": list(self.seconds[loop]),
        }
