"""Writes figures and pictures for TensorBoard."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from genkit import EpochEnd, EvaluationEnd, Record, RunEnd, RunStart, StepReport, hookimpl


class TensorBoard:
    """Scalars by split and name over steps, pictures, and the recipe's options beside the final figures.

    Args:
        start: The run; a resumed one hides what it takes again, and shows nothing twice.
    """

    def __init__(self, start: RunStart) -> None:
        folder = start.folder / "tensorboard"
        self.shown = shown(folder, start.start_step) if folder.is_dir() else set()
        purge = start.start_step + 1 if folder.is_dir() else None
        self.writer = SummaryWriter(str(folder), purge_step=purge)
        self.options = flatten(start.recipe)

    @hookimpl
    def on_step(self, report: StepReport) -> None:
        """Writes the means of the last steps."""
        self.scalars(report.records)
        self.writer.add_scalar("speed/steps_per_second", report.steps_per_second, report.step)

    @hookimpl
    def on_epoch_end(self, report: EpochEnd) -> None:
        """Writes the means of the epoch."""
        self.scalars(report.records, suffix="/epoch")
        self.writer.flush()

    @hookimpl
    def on_evaluation(self, report: EvaluationEnd) -> None:
        """Writes an evaluator's figures and pictures."""
        self.scalars(report.records)
        for picture, path in report.pictures:
            name = f"{report.entry}/{picture.name}" if picture.name else path.parent.name
            if (name, report.step, None) not in self.shown:
                self.writer.add_image(name, picture.image, report.step)
        for note in report.notes:
            self.writer.add_text(f"notes/{report.entry}", note, report.step)
        self.writer.flush()  # before the checkpoint: a run that dies after it never comes back here

    @hookimpl
    def on_run_end(self, report: RunEnd) -> None:
        """Writes the final figures beside the recipe and closes the file."""
        if report.status == "finished":
            figures = {f"final/{record.split}/{record.name}": record.value for record in report.records}
            self.writer.add_hparams(self.options, figures, run_name="hparams")
        self.writer.close()

    def scalars(self, records: Sequence[Record], suffix: str = "") -> None:
        """Writes records as scalars."""
        for record in records:
            tag = "/".join(part for part in (record.split, record.name) if part) + suffix
            if (tag, record.step, float32(record.value)) not in self.shown:
                self.writer.add_scalar(tag, record.value, record.step)
            if record.floor is not None:
                self.writer.add_scalar(f"{tag}_floor", record.floor, record.step)


def shown(folder: Path, last_step: int) -> set[tuple[str, int, float | None]]:
    """What event files show up to a step: scalars by tag, step and value, pictures by tag and step."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415  (slow)

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    scalars = {(tag, e.step, float32(e.value)) for tag in events.Tags()["scalars"] for e in events.Scalars(tag)}
    pictures = {(tag, e.step, None) for tag in events.Tags()["images"] for e in events.Images(tag)}
    return {one for one in scalars | pictures if one[1] <= last_step}


def float32(value: float) -> float:
    """A value as an event file keeps it."""
    return struct.unpack("f", struct.pack("f", value))[0]


def flatten(options: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Options by their dotted paths, as TensorBoard's table of hyperparameters wants them.

    Example:
        >>> flatten({"model": {"use": "vae", "dims": [1, 2]}, "seed": 1})
        {'model.use': 'vae', 'model.dims': '[1, 2]', 'seed': 1}
    """
    flat: dict[str, bool | int | float | str] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return flat
