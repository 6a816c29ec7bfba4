"""What a whole run spends beside its training steps: start-up, verdicts, checkpoints, reports."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from genkit.bench.clock import now, time_of
from genkit.bench.loops import Engine, started
from genkit.engine.device import choose_device, matmul_precision
from genkit.engine.folder import RunFolder, describe_environment, device_name, recipe_text
from genkit.engine.judge import Best
from genkit.engine.loop import Trainer
from genkit.errors import UsageError
from genkit.events import RunEnd
from genkit.recipe import Recipe, load_recipe
from genkit.registry import installed
from genkit.runs import observers_of


@dataclass(frozen=True)
class Expense:
    """Something that a run does beside its training steps.

    Attributes:
        what: What it is.
        times: How often it is done.
        first: What the first time takes, in seconds.
        later: What each later time takes.
    """

    what: str
    times: int
    first: float
    later: float = 0.0

    @property
    def seconds(self) -> float:
        """What it takes in all."""
        return self.first + self.later * (self.times - 1) if self.times else 0.0


@dataclass(frozen=True)
class WholeRun:
    """Where the time of a whole run goes, as far as can be said from a part of it.

    Attributes:
        recipe: The resolved recipe.
        device: Where, with its name.
        threads: Threads that torch computes with on the CPU.
        steps: Training steps of the run.
        seconds_per_step: What one takes.
        expenses: All that is done beside them.
    """

    recipe: Mapping[str, Any]
    device: str
    threads: int
    steps: int
    seconds_per_step: float
    expenses: Sequence[Expense] = field(default_factory=tuple)

    @property
    def training(self) -> float:
        """All training steps, in seconds."""
        return self.steps * self.seconds_per_step

    @property
    def ratio(self) -> float:
        """The run's wall time over its training steps' time."""
        return 1 + sum(expense.seconds for expense in self.expenses) / self.training

    def to_plain(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        plain = {"training_seconds": self.training, "ratio": self.ratio}
        return {**asdict(self), "expenses": [{**asdict(e), "seconds": e.seconds} for e in self.expenses], **plain}


def whole_run(
    recipe: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    steps: int = 100,
    device: str = "auto",
) -> WholeRun:
    """Measures each part of a run once or twice, and adds up what a whole run at its cadence comes to.

    An evaluator's first verdict may do what later ones find done, such as training a classifier: both are measured.
    The model has hardly been trained, which the time of most verdicts does not depend on.

    Args:
        recipe: A file, or a mapping with the same keys.
        overrides: ``key.path=value`` assignments.
        steps: Training steps that are timed.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        UsageError: The request cannot be served: see :class:`genkit.RecipeError` for the recipe.
    """
    if steps < 1:
        raise UsageError(f"steps is {steps}: at least 1 is wanted")
    checked, where = load_recipe(recipe, overrides), choose_device(device)
    with tempfile.TemporaryDirectory(prefix="genkit-bench-") as place, matmul_precision(checked.train.precision):
        engine = Engine(started(checked, where), Path(place))
        begun = Expense("start-up", 1, _start_up(checked, Path(place), where))
        engine.take(steps)  # a warm-up
        per_step = time_of(engine, where, steps) / steps
        trainer = _in_a_folder(checked, Path(place, "run"), where)
        expenses = [begun, *_verdicts(trainer), _checkpoints(trainer), _reports(trainer)]
        total = checked.train.epochs * engine.trainer.assembly.steps_per_epoch
    threads = torch.get_num_threads()
    return WholeRun(checked.to_plain(), device_name(where), threads, total, per_step, tuple(expenses))


def _start_up(recipe: Recipe, place: Path, device: torch.device) -> float:
    """A process from its start to where training would begin: imports, data, networks."""
    path = place / "recipe.yaml"
    path.write_text(recipe_text(recipe), encoding="utf-8")
    words = [sys.executable, "-m", "genkit", "run", str(path), "--dry-run", "--device", str(device)]
    began = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _in_a_folder(recipe: Recipe, path: Path, device: torch.device) -> Trainer:
    """A trainer as a run has it, with a folder to write into."""
    folder = RunFolder(path)
    folder.create(recipe, describe_environment(recipe, device, installed()))
    trainer = Trainer(started(recipe, device), folder, installed().manager)
    Engine(trainer.assembly, path).take(1)  # makes the optimizers' states
    return trainer


def _verdicts(trainer: Trainer) -> Iterator[Expense]:
    assembly, judge = trainer.assembly, trainer.judge
    epochs = assembly.recipe.train.epochs
    for entry, evaluator in assembly.parts.evaluators.items():
        due = sum(assembly.recipe.evaluate[entry].due(epoch, epochs) for epoch in range(epochs + 1))
        calls = dict.fromkeys(judge.splits(evaluator, ("train", "validation")), due)
        calls |= dict.fromkeys(judge.splits(evaluator, ("test",)) if evaluator.splits else (), 1)
        for split, times in calls.items():
            verdict = partial(judge.judge, entry, evaluator, split, epochs, trainer.steps_taken)
            yield _expense(f"{entry}{f' on {split}' if split else ''}", times, verdict, assembly.device)


def _checkpoints(trainer: Trainer) -> Expense:
    """All that can come about: where a best epoch is chosen, each may be the best."""
    train = trainer.assembly.recipe.train
    chosen = train.best != "none" and bool(trainer.assembly.parts.evaluators)
    times = train.epochs if chosen else -(-train.epochs // train.checkpoint_every)
    best = [Best("", 0.0, trainer.position.epoch, trainer.steps_taken, "lower")] if chosen else []

    def keep() -> None:
        trainer.keep_place("epoch")
        trainer.keeper.keep(trainer.position.epoch, best)

    return _expense("checkpoints", times, keep, trainer.assembly.device)


def _reports(trainer: Trainer) -> Expense:
    """Figures on their way to the display, ``metrics.jsonl`` and TensorBoard, of which nothing is shown."""
    train = trainer.assembly.recipe.train
    steps = train.epochs * trainer.assembly.steps_per_epoch
    engine = Engine(trainer.assembly, trainer.folder.path)
    engine.take(1)
    means = engine.trainer.ledger.epoch
    trainer.ledger.names = engine.trainer.ledger.names

    def report() -> None:
        trainer.ledger.window = replace(means)
        trainer.report_steps(1, 1.0)

    with redirect_stderr(io.StringIO()):
        observers = observers_of(installed().manager, trainer)
        try:
            trainer.hook.on_run_start(start=trainer.describe())
            return _expense("reports", steps // train.log_every, report, trainer.assembly.device)
        finally:
            trainer.hook.on_run_end(report=RunEnd("interrupted", trainer.folder.path, (), 0.0))
            for observer in observers:
                installed().manager.unregister(observer)


def _expense(what: str, times: int, do: Callable[[], Any], device: torch.device) -> Expense:
    taken = [0.0, 0.0]
    for number in range(min(times, 2)):
        began = now(device)
        do()
        taken[number] = now(device) - began
    return Expense(what, times, *taken)
