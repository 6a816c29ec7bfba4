"""Keeps a turn's figures on the device and reads them at the log's pace, not at every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from genkit.errors import TrainingDiverged


@dataclass
class Means:
    """Running sums on the host.

    Attributes:
        sums: One for each term.
        count: Steps summed.
    """

    sums: list[float] = field(default_factory=list)
    count: int = 0

    def add(self, rows: Tensor) -> None:
        """Adds rows with shape :math:`(n, k)`."""
        totals = rows.sum(0).tolist()
        self.sums = [a + b for a, b in zip(self.sums or [0.0] * len(totals), totals, strict=True)]
        self.count += len(rows)

    def take(self) -> list[float]:
        """The means, and starts again."""
        means = [total / self.count for total in self.sums]
        self.sums, self.count = [], 0
        return means


class Ledger:
    """Rows of figures, one for each step, that wait on the device until they are read.

    Args:
        capacity: Rows that fit between two readings.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.names: tuple[str, ...] = ()
        self.window = Means()
        self.epoch = Means()
        self._rows: Tensor | None = None
        self._filled = 0

    def write(self, names: Sequence[str], row: Tensor) -> None:
        """Notes one step's figures.

        Args:
            names: Their names, the same at every step.
            row: Their values on the device, with shape :math:`(k,)`.
        """
        if self._rows is None or self._rows.shape[1] != len(row):
            self.names = tuple(names)
            self._rows = row.new_empty(self.capacity, len(row))
        self._rows[self._filled].copy_(row)
        self._filled += 1

    def state(self) -> dict[str, Any]:
        """The running sums of what has been read, for a checkpoint."""
        return {"names": list(self.names), "window": asdict(self.window), "epoch": asdict(self.epoch)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` returned."""
        self.names = tuple(state["names"])
        self.window, self.epoch = Means(**state["window"]), Means(**state["epoch"])

    def read(self, step: int) -> None:
        """Brings the waiting rows to the host, which waits for the device here and nowhere else.

        Args:
            step: Steps taken so far.

        Raises:
            TrainingDiverged: A figure is not finite; the message names the first step, turn and term.
        """
        if self._rows is None or not self._filled:
            return
        rows = self._rows[: self._filled].cpu().double()  # in this order: not every device has float64
        self._filled = 0
        bad = (~torch.isfinite(rows)).nonzero()
        if len(bad):
            row, column = bad[0].tolist()
            turn, _, term = self.names[column].partition("/")
            raise TrainingDiverged(
                f"step {step - len(rows) + row + 1}: term {term!r} of turn {turn!r} is {rows[row, column].item()}"
            )
        self.window.add(rows)
        self.epoch.add(rows)
