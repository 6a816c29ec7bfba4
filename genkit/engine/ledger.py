"""Keeps a turn's figures on the device and reads them at the log's pace, not at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
        """The means, and starts again; empty without any step."""
        means = [total / self.count for total in self.sums] if self.count else []
        self.sums, self.count = [], 0
        return means


class Ledger:
    """Rows of figures, one for each step, that wait on the device until they are read.

    Args:
        patience: Rows in a row that may be not finite: they are left out of all means and counted.
        mean: Averages rows on the host over the processes that train together.

    Attributes:
        skipped: Rows that were not finite.
    """

    def __init__(self, patience: int = 0, mean: Callable[[Tensor], Tensor] = lambda rows: rows) -> None:
        self.patience = patience
        self.skipped = 0
        self.mean = mean
        self.names: tuple[str, ...] = ()
        self.window = Means()
        self.epoch = Means()
        self._in_a_row = 0
        self._waiting: list[Tensor] = []

    def write(self, names: tuple[str, ...], row: Tensor) -> None:
        """Notes one step's figures.

        Args:
            names: Their names, the same at every step.
            row: Their values on the device, with shape :math:`(k,)`.
        """
        if self.names != names:  # another recipe than the one whose means were restored
            self.window, self.epoch, self._waiting = Means(), Means(), []
            self.names = names
        self._waiting.append(row if row.is_cpu else row.clone())  # a step that is replayed overwrites its figures

    def state(self) -> dict[str, Any]:
        """The running sums of what has been read, for a checkpoint."""
        counts = {"skipped": self.skipped, "in_a_row": self._in_a_row}
        return {"names": list(self.names), "window": asdict(self.window), "epoch": asdict(self.epoch), **counts}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes back what :meth:`state` returned."""
        self.names = tuple(state["names"])
        self.window, self.epoch = Means(**state["window"]), Means(**state["epoch"])
        self.skipped, self._in_a_row = state["skipped"], state["in_a_row"]

    def read(self, step: int) -> None:
        """Brings the waiting rows to the host, which waits for the device here and nowhere else.

        Args:
            step: Steps taken so far.

        Raises:
            TrainingDiverged: More rows are not finite than patience allows; the message names the step and its terms.
        """
        if not self._waiting:
            return
        rows = self.mean(torch.stack(self._waiting).cpu().double())  # in this order: not every device has float64
        self._waiting = []
        sound = torch.isfinite(rows).all(1)
        for number, (row, fine) in enumerate(zip(rows, sound.tolist(), strict=True), step - len(rows) + 1):
            self._in_a_row = 0 if fine else self._in_a_row + 1
            self.skipped += not fine
            if self._in_a_row > self.patience:
                raise TrainingDiverged(f"step {number}: {self._explain(row)}")
        self.window.add(rows[sound])
        self.epoch.add(rows[sound])

    def _explain(self, row: Tensor) -> str:
        """The first term that is not finite, with all the terms of its turn."""
        values = dict(zip(self.names, row.tolist(), strict=True))
        bad = next(name for name, value in values.items() if not math.isfinite(value))
        turn, _, term = bad.partition("/")
        terms = ", ".join(f"{k.partition('/')[2]} {v:.6g}" for k, v in values.items() if k.startswith(f"{turn}/"))
        after = f" for the {self._in_a_row}th time in a row" if self.patience else ""
        return f"term {term!r} of turn {turn!r} is {values[bad]}{after} (its terms: {terms})"
