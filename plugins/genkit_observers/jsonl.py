"""Writes every figure of a run to ``metrics.jsonl``, one line each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from genkit import EpochEnd, EvaluationEnd, GenkitError, Record, RunStart, StepReport, hookimpl, read_records


class MetricsFile:
    """Appends records to the run's ``metrics.jsonl``.

    A resumed run goes on in the same file: lines of steps that are about to be taken again are removed, those on the
    test data too, which comes last; and a figure that is already there is not written twice.

    Args:
        start: The run.

    Raises:
        GenkitError: The file cannot be written.
    """

    def __init__(self, start: RunStart) -> None:
        self.path = start.folder / "metrics.jsonl"
        try:
            kept = [r for r in read_records(self.path) if r.step <= start.start_step and r.split != "test"]
            rewritten = self.path.with_name(f"{self.path.name}.new")
            rewritten.write_text("".join(map(_line, kept)), encoding="utf-8")
            rewritten.replace(self.path)
        except OSError as error:
            raise GenkitError(f"{self.path} cannot be written: {error}") from error
        self.known = {_key(record) for record in kept}

    @hookimpl
    def on_step(self, report: StepReport) -> None:
        """Writes the means of the last steps."""
        speed = replace(report.records[0], name="steps_per_second", value=report.steps_per_second, unit="")
        self.write([*report.records, speed])

    @hookimpl
    def on_epoch_end(self, report: EpochEnd) -> None:
        """Writes the means of the epoch, set apart from those of the last steps at the same step."""
        self.write([replace(record, name=f"{record.name}/epoch") for record in report.records])

    @hookimpl
    def on_evaluation(self, report: EvaluationEnd) -> None:
        """Writes an evaluator's figures."""
        self.write(report.records)

    def write(self, records: Sequence[Record]) -> None:
        """Appends those that are not there yet."""
        new = [record for record in records if _key(record) not in self.known]
        self.known |= {_key(record) for record in new}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(map(_line, new))
        except OSError as error:
            raise GenkitError(f"{self.path} cannot be written: {error}") from error


def _line(record: Record) -> str:
    values = asdict(record)
    if record.floor is None:
        del values["floor"]  # which few figures have
    return json.dumps(values) + "\n"


def _key(record: Record) -> tuple[int, str, str]:
    return record.step, record.split, record.name
