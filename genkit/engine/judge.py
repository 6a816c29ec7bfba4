"""Calls the evaluators without moving anything of the training, and remembers the best epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torchvision.utils import save_image

from genkit.dataset import SplitName
from genkit.engine.assembly import Assembly
from genkit.engine.device import matmul_precision
from genkit.engine.seeds import derive_seed, isolated
from genkit.errors import GenkitError, UsageError
from genkit.evaluator import MEMORY, Evaluator, Figure, Note, Picture, Subject
from genkit.events import EvaluationEnd, Record
from genkit.model import GenerativeModel


@dataclass
class Best:
    """The best epoch so far.

    Attributes:
        name: The figure that chooses.
        value: Its value.
        epoch: Epochs completed then.
        step: Steps taken then.
    """

    name: str
    value: float
    epoch: int
    step: int


class Judge:
    """Judges a model as the recipe says.

    Args:
        assembly: The run.
        model: The model to judge: the trained one, or its moving average.
        pictures: The folder that pictures go into.
    """

    def __init__(self, assembly: Assembly, model: GenerativeModel, pictures: Path) -> None:
        self.assembly = assembly
        self.model = model
        self.pictures = pictures
        self.best: Best | None = None
        self.history: dict[str, list[Record]] = {}
        with isolated(derive_seed(assembly.recipe.seed, "sampler"), assembly.device):
            self.sampler = assembly.recipe.sampler(model, assembly.parts.objective)

    def due(self, epoch: int) -> Iterator[EvaluationEnd]:
        """Judges as the cadence says; no figure is taken on the test data, which may only give others their floor.

        Args:
            epoch: Epochs completed.
        """
        recipe = self.assembly.recipe
        for entry, evaluator in self.assembly.parts.evaluators.items():
            if recipe.evaluate[entry].due(epoch, recipe.train.epochs):
                for split in self._splits(evaluator, ("train", "validation")):
                    yield self.judge(entry, evaluator, split, epoch, epoch * self.assembly.steps_per_epoch)

    def final(self, epoch: int, step: int) -> Iterator[EvaluationEnd]:
        """Judges on the test data, once."""
        for entry, evaluator in self.assembly.parts.evaluators.items():
            if evaluator.splits and "test" in self._splits(evaluator, ("test",)):
                yield self.judge(entry, evaluator, "test", epoch, step)

    def judge(
        self,
        entry: str,
        evaluator: Evaluator,
        split: SplitName | None,
        epoch: int,
        step: int,
        folder: str = "",
    ) -> EvaluationEnd:
        """Calls one evaluator and writes its pictures."""
        assembly = self.assembly
        subject = Subject(
            model=self.model,
            objective=assembly.parts.objective,
            sampler=self.sampler,
            dataset=assembly.dataset,
            data=assembly.feeds,
            epoch=epoch,
            batch_size=assembly.recipe.train.eval_batch_size,
            history=self._before(entry, split, step),
        )
        seed = derive_seed(assembly.recipe.seed, "evaluate", entry, split or "")
        with (
            isolated(seed, assembly.device),
            matmul_precision("fp32"),
            evaluation_mode(self.model, assembly.parts.objective),
            torch.no_grad(),
        ):
            if self.sampler.fitted:
                self.sampler.fit(assembly.feeds)
            results = list(evaluator.evaluate(subject, split))
        records = [_record(entry, result, split, epoch, step) for result in results if isinstance(result, Figure)]
        pictures = [
            (result, self._write(entry, result, folder or f"{epoch:04d}"))
            for result in results
            if isinstance(result, Picture)
        ]
        notes = [f"{result.level}: {result.text}" for result in results if isinstance(result, Note)]
        return EvaluationEnd(entry, split or "", epoch, step, records, pictures, notes)

    def remember(self, records: Sequence[Record]) -> None:
        """Keeps a verdict's figures for the evaluator's next one; those of the last :data:`MEMORY` verdicts stay."""
        for record in records:
            past = self.history.setdefault(f"{record.split}/{record.name}", [])
            past[:] = [*(other for other in past if other.step < record.step), record][-MEMORY:]

    def _before(self, entry: str, split: str | None, step: int) -> list[Record]:
        past = (record for records in self.history.values() for record in records)
        own = (r for r in past if r.split == (split or "") and r.name.partition("/")[0] == entry and r.step < step)
        return sorted(own, key=lambda record: record.step)

    def better(self, report: EvaluationEnd, best: Best | None) -> Best | None:
        """The best epoch when this verdict is counted in; before training there is none."""
        chooser = self.assembly.recipe.train.best
        records = [r for r in report.records if r.split == "validation" and r.better and r.name == report.entry]
        if not records and chooser == report.entry and report.split in ("", "validation"):
            raise UsageError(f"train.best: {chooser!r} gives no figure on the validation data that could choose")
        if not records or not report.epoch or chooser not in ("auto", report.entry):
            return best
        record = records[0]
        sign = 1 if record.better == "lower" else -1
        if not math.isfinite(record.value) or (best is not None and best.name != record.name):
            return best
        if best is not None and sign * record.value >= sign * best.value:
            return best
        return Best(record.name, record.value, report.epoch, report.step)

    def _splits(self, evaluator: Evaluator, wanted: tuple[SplitName, ...]) -> list[SplitName | None]:
        if not evaluator.splits:
            return [None]
        return [split for split in evaluator.splits if split in wanted and split in self.assembly.feeds]

    def _write(self, entry: str, picture: Picture, label: str) -> Path:
        path = self.pictures / entry / (f"{picture.name}_{label}.png" if picture.name else f"{label}.png")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_image(picture.image, path)
        except OSError as error:
            raise GenkitError(f"picture {path} cannot be written: {error}") from error
        return path


def _record(entry: str, figure: Figure, split: SplitName | None, epoch: int, step: int) -> Record:
    name = f"{entry}/{figure.name}" if figure.name else entry
    return Record(step, epoch, split or "", name, figure.value, figure.unit, figure.tag, figure.better, figure.floor)


class evaluation_mode:
    """Puts modules into evaluation mode for a while."""

    def __init__(self, *modules: torch.nn.Module) -> None:
        self.modules = modules

    def __enter__(self) -> None:
        self.before = [module.training for module in self.modules]
        for module in self.modules:
            module.eval()

    def __exit__(self, *error: Any) -> None:
        for module, training in zip(self.modules, self.before, strict=True):
            module.train(training)
