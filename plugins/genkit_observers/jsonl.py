"""Writes every figure of a run to ``metrics.jsonl``, one line each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from genkit import EpochEnd, EvaluationEnd, GenkitError, Record, RunStart, StepReport, hookimpl


class MetricsFile:
    """Appends records to the run's ``metrics.jsonl``.

    A resumed run goes on in the same file: lines of steps that are about to be taken again are removed, and a
    figure that is already there is not written twice.

    Args:
        start: The run.

    Raises:
        GenkitError: The file cannot be written.
    """

    def __init__(self, start: RunStart) -> None:
        self.path = start.folder / "metrics.jsonl"
        kept = self._kept_lines(start.start_step)
        self.known = {_key(json.loads(line)) for line in kept}
        try:
            self.path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        except OSError as error:
            raise GenkitError(f"{self.path} cannot be written: {error}") from error

    def _kept_lines(self, start_step: int) -> list[str]:
        if not self.path.is_file():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if _complete(line) and json.loads(line)["step"] <= start_step]

    @hookimpl
    def on_step(self, report: StepReport) -> None:
        """Writes the means of the last steps."""
        self.write(
            [
                *report.records,
                Record(report.step, report.epoch, "train", "steps_per_second", report.steps_per_second),
            ]
        )

    @hookimpl
    def on_epoch_end(self, report: EpochEnd) -> None:
        """Writes the means of the epoch."""
        self.write([_of_epoch(record) for record in report.records])

    @hookimpl
    def on_evaluation(self, report: EvaluationEnd) -> None:
        """Writes an evaluator's figures."""
        self.write(report.records)

    def write(self, records: Sequence[Record]) -> None:
        """Appends those that are not there yet."""
        lines = []
        for record in records:
            fields = asdict(record)
            if _key(fields) not in self.known:
                self.known.add(_key(fields))
                lines.append(json.dumps(fields) + "\n")
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
        except OSError as error:
            raise GenkitError(f"{self.path} cannot be written: {error}") from error


def _of_epoch(record: Record) -> Record:
    """Sets a mean over an epoch apart from the mean over the last steps at the same step."""
    fields = asdict(record)
    return Record(**{**fields, "name": f"{record.name}/epoch"})


def _key(fields: dict) -> tuple:
    return fields["step"], fields["split"], fields["name"]


def _complete(line: str) -> bool:
    """Whether a line was written to its end before the machine died."""
    return line.startswith("{") and line.endswith("}")
