"""Shows a run as it goes: a live display on a terminal, plain lines anywhere else."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from rich import filesize
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from genkit import CheckpointWritten, EpochEnd, EvaluationEnd, Record, RunEnd, RunStart, StepReport, hookimpl


def make_display(start: RunStart) -> Any:
    """The display that fits standard error: live on a terminal, lines otherwise."""
    console = Console(stderr=True)
    return LiveDisplay(start, console) if console.is_terminal else LineDisplay(start, console)


def format_value(record: Record) -> str:
    """A figure with its unit.

    Example:
        >>> format_value(Record(1, 1, "train", "model/kl", 25.123456, "nats"))
        '25.123 nats'
        >>> format_value(Record(1, 1, "test", "frechet", 8.25, floor=0.5))
        '8.25 (floor 0.5)'
    """
    floor = "" if record.floor is None else f"(floor {record.floor:.5g})"
    return " ".join(part for part in (f"{record.value:.5g}", record.unit, floor) if part)


class LineDisplay:
    """Prints a line for the start, each epoch, each evaluation that has figures, and the end."""

    def __init__(self, start: RunStart, console: Console) -> None:
        self.console = console
        self.epochs = start.epochs

    @hookimpl
    def on_run_start(self, start: RunStart) -> None:
        """Prints what is trained."""
        self.line(headline(start))
        if start.data:
            self.line(f"data: {start.data}")
        if start.start_step:
            self.line(f"resumed after step {start.start_step}")

    @hookimpl
    def on_epoch_end(self, report: EpochEnd) -> None:
        """Prints the epoch's means."""
        terms = "  ".join(f"{r.name} {format_value(r)}" for r in report.records if r.unit != "bits/dim")
        self.line(f"epoch {report.epoch}/{self.epochs}  {report.seconds:.1f} s  {terms}")

    @hookimpl
    def on_evaluation(self, report: EvaluationEnd) -> None:
        """Prints an evaluator's figures, on a line all those in a row that have one tag."""
        when = "" if report.epoch else "before training, "
        for tag, records in groupby(report.records, key=lambda record: record.tag):
            figures = "  ".join(f"{record.name} {format_value(record)}" for record in records)
            self.line(f"  {when}{report.split or report.entry}: {figures}{f' [{tag}]' if tag else ''}")
        for note in report.notes:
            self.line(f"  {report.entry}: {note}")

    @hookimpl
    def on_run_end(self, report: RunEnd) -> None:
        """Prints how it ended."""
        self.line(f"{report.status} after {report.seconds:.1f} s")

    def line(self, text: str) -> None:
        """Prints one line, however long."""
        self.console.print(text, soft_wrap=True, markup=False, highlight=False)


class LiveDisplay:
    """Bars for the epoch and the whole run, speed, losses by turn and term, and the evaluators' last figures."""

    def __init__(self, start: RunStart, console: Console) -> None:
        self.start = start
        self.losses: dict[str, Record] = {}
        self.figures: dict[tuple[str, str], Record] = {}
        self.checkpoint = ""
        self.speed = ""
        self.bars = Progress(
            TextColumn("{task.description:>6}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            expand=True,
            console=console,
        )
        steps = start.epochs * start.steps_per_epoch
        self.total = self.bars.add_task("run", total=steps, completed=start.start_step)
        self.epoch = self.bars.add_task("epoch", total=start.steps_per_epoch)
        self.live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=False)

    @hookimpl
    def on_run_start(self, start: RunStart) -> None:
        """Begins to draw."""
        self.live.console.print(headline(start), markup=False, highlight=False)
        if start.data:
            self.live.console.print(f"data: {start.data}", markup=False, highlight=False)
        self.live.start()

    @hookimpl
    def on_step(self, report: StepReport) -> None:
        """Moves the bars."""
        self.bars.update(self.total, completed=report.step)
        self.bars.update(self.epoch, completed=report.step_in_epoch, description=f"ep {report.epoch}")
        self.losses |= {record.name: record for record in report.records}
        self.speed = f"{report.steps_per_second:.1f} steps/s, {report.samples_per_second:,.0f} examples/s"

    @hookimpl
    def on_epoch_end(self, report: EpochEnd) -> None:
        """Fills the epoch's bar."""
        self.bars.update(self.total, completed=report.step)
        self.bars.update(self.epoch, completed=self.start.steps_per_epoch)

    @hookimpl
    def on_evaluation(self, report: EvaluationEnd) -> None:
        """Shows the last figures."""
        self.figures |= {(record.split, record.name): record for record in report.records}
        for note in report.notes:
            self.live.console.print(f"epoch {report.epoch}, {report.entry}: {note}", markup=False)

    @hookimpl
    def on_checkpoint(self, report: CheckpointWritten) -> None:
        """Shows where the last checkpoint is."""
        size = filesize.decimal(report.used)
        self.checkpoint = f"{report.path} (epoch {report.epoch:g}, {report.reason}; {size} in all checkpoints)"

    @hookimpl
    def on_run_end(self, report: RunEnd) -> None:
        """Leaves the last picture standing."""
        self.live.stop()

    def render(self) -> RenderableType:
        """The display as it is now."""
        notes = Table.grid(padding=(0, 2))
        if self.speed:
            notes.add_row("speed", self.speed)
        if self.checkpoint:
            notes.add_row("checkpoint", self.checkpoint)
        return Group(self.bars, notes, self.table())

    def table(self) -> Table:
        """Losses and figures."""
        table = Table(box=None, pad_edge=False)
        for header in ("split", "figure", "value", "tag"):
            table.add_column(header, justify="right" if header == "value" else "left")
        for record in (*self.losses.values(), *self.figures.values()):
            table.add_row(record.split, record.name, format_value(record), record.tag)
        return table


def headline(start: RunStart) -> str:
    """The run in one line."""
    players = ", ".join(f"{name} {count:,} parameters" for name, count in start.parameters.items())
    return f"{start.name} on {start.device}: {players}; {start.epochs} epochs of {start.steps_per_epoch} steps"
