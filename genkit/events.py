"""What lifecycle hooks are told: plain records, no tensors but a picture's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from genkit.picture import Picture

Better = Literal["lower", "higher"]


@dataclass(frozen=True)
class Record:
    """One figure of a run, as it stands in ``metrics.jsonl``.

    Attributes:
        step: Steps taken when it was measured.
        epoch: Epochs completed when it was measured (a fraction within an epoch).
        split: The data it was measured on: ``train``, ``validation``, ``test``; empty if on none.
        name: What it is, ``bpd`` or ``model/kl``.
        value: The number.
        unit: ``nats``, ``bits/dim`` or empty.
        tag: What a reader must know to compare it: for a likelihood, whether it is exact or a bound.
        better: Which way is better, if it can be said.
        floor: What real data would get in the samples' place, for figures that mean little without it.
    """

    step: int
    epoch: float
    split: str
    name: str
    value: float
    unit: str = ""
    tag: str = ""
    better: Better | None = None
    floor: float | None = None


def read_records(path: Path) -> list[Record]:
    """Reads a ``metrics.jsonl``; a line that was cut off when the machine died is passed over."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Record(**json.loads(line)) for line in lines if line.startswith("{") and line.endswith("}")]


@dataclass(frozen=True)
class RunStart:
    """A run that is about to train.

    Attributes:
        name: The run's name.
        folder: The run's folder.
        recipe: The resolved recipe, plain.
        device: The device's name.
        epochs: Epochs in all.
        steps_per_epoch: Steps in one epoch.
        samples_per_step: Training examples in one step.
        parameters: Number of trained parameters of each player.
        start_step: The step it starts from; above 0 when resumed.
        data: Where the examples are and who reads them, in words.
    """

    name: str
    folder: Path
    recipe: Mapping[str, Any]
    device: str
    epochs: int
    steps_per_epoch: int
    samples_per_step: int
    parameters: Mapping[str, int]
    start_step: int = 0
    data: str = ""


@dataclass(frozen=True)
class StepReport:
    """Figures of the steps since the last report.

    Attributes:
        step: Steps taken in all.
        epoch: Epochs begun, counted from 1.
        step_in_epoch: Steps taken in this epoch.
        records: Means over the steps since the last report.
        steps_per_second: Training speed since the last report, evaluations left out.
        samples_per_second: The same in training examples.
    """

    step: int
    epoch: int
    step_in_epoch: int
    records: Sequence[Record]
    steps_per_second: float
    samples_per_second: float


@dataclass(frozen=True)
class EpochEnd:
    """An epoch that is over.

    Attributes:
        epoch: Epochs completed.
        step: Steps taken in all.
        records: Training figures, means over the epoch.
        seconds: Time spent in training steps.
    """

    epoch: int
    step: int
    records: Sequence[Record]
    seconds: float


@dataclass(frozen=True)
class EvaluationEnd:
    """One evaluator's verdict.

    Attributes:
        entry: The evaluator's key in the recipe.
        split: The data it was given.
        epoch: Epochs completed.
        step: Steps taken in all.
        records: The figures.
        pictures: The pictures, each with the file it was written to.
        notes: What is to be said aloud, each beginning with ``note:`` or ``warning:``.
    """

    entry: str
    split: str
    epoch: int
    step: int
    records: Sequence[Record]
    pictures: Sequence[tuple[Picture, Path]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class CheckpointWritten:
    """A checkpoint on disk.

    Attributes:
        path: Its folder.
        step: Steps taken in all.
        epoch: Epochs completed (a fraction within an epoch).
        reason: ``epoch``, ``best``, ``interrupted``.
        used: Bytes that all checkpoints of the run take on disk.
    """

    path: Path
    step: int
    epoch: float
    reason: str
    used: int = 0


@dataclass(frozen=True)
class RunEnd:
    """A run that is over.

    Attributes:
        status: How it ended.
        folder: The run's folder.
        records: The final figures, those on the test split among them.
        seconds: Time since the run started or was resumed.
        message: For a failed run, why; for a finished one, that it was finished before.
        signal: For an interrupted run, the signal that asked for it.
    """

    status: Literal["finished", "interrupted", "failed"]
    folder: Path
    records: Sequence[Record] = field(default_factory=tuple)
    seconds: float = 0.0
    message: str = ""
    signal: int = 0
