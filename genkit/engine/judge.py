"""Calls the evaluators without moving anything of the training, and remembers the best epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genkit.dataset import SplitName
from genkit.engine.assembly import Assembly
from genkit.engine.device import matmul_precision
from genkit.engine.seeds import derive_seed, isolated
from genkit.engine.stop import StopRequest
from genkit.errors import CheckpointError, GenkitError, PluginError, UsageError
from genkit.evaluator import MEMORY, Evaluator, Figure, Note, Picture, Subject
from genkit.events import Better, EvaluationEnd, Record
from genkit.model import GenerativeModel
from genkit.picture import save_png


@dataclass
class Best:
    """The best epoch so far.

    Attributes:
        name: The figure that chooses.
        value: Its value.
        epoch: Epochs completed then.
        step: Steps taken then.
        better: Which way is better.
    """

    name: str
    value: float
    epoch: int
    step: int
    better: Better


class Judge:
    """Judges a model as the recipe says.

    Args:
        assembly: The run.
        model: The model to judge: the trained one, or its moving average.
        pictures: The folder that pictures go into.

    Attributes:
        ranking: The best epochs so far, the best one first; as many as the recipe keeps.
        history: What was measured before, by split and name.
    """

    def __init__(self, assembly: Assembly, model: GenerativeModel, pictures: Path) -> None:
        self.assembly = assembly
        self.model = model
        self.pictures = pictures
        self.ranking: list[Best] = []
        self.history: dict[str, list[Record]] = {}
        with isolated(derive_seed(assembly.recipe.seed, "sampler"), assembly.device):
            self.sampler = assembly.recipe.sampler(model, assembly.parts.objective)

    @property
    def best(self) -> Best | None:
        """The best epoch so far."""
        return self.ranking[0] if self.ranking else None

    def due(self, epoch: int, stop: StopRequest) -> Iterator[EvaluationEnd]:
        """Judges as the cadence says; no figure is taken on the test data, which may only give others their floor.

        Args:
            epoch: Epochs completed.
            stop: Who may break it off.

        Raises:
            Stopped: It was broken off.
        """
        recipe = self.assembly.recipe
        for entry, evaluator in self.assembly.parts.evaluators.items():
            if recipe.evaluate[entry].due(epoch, recipe.train.epochs):
                for split in self.splits(evaluator, ("train", "validation")):
                    yield self.judge(entry, evaluator, split, epoch, epoch * self.assembly.steps_per_epoch, stop=stop)

    def final(self, epoch: int, step: int, stop: StopRequest) -> Iterator[EvaluationEnd]:
        """Judges on the test data, once.

        Raises:
            Stopped: It was broken off.
        """
        for entry, evaluator in self.assembly.parts.evaluators.items():
            if evaluator.splits and "test" in self.splits(evaluator, ("test",)):
                yield self.judge(entry, evaluator, "test", epoch, step, stop=stop)

    def judge(
        self,
        entry: str,
        evaluator: Evaluator,
        split: SplitName | None,
        epoch: int,
        step: int,
        folder: str = "",
        stop: StopRequest | None = None,
    ) -> EvaluationEnd:
        """Calls one evaluator and writes its pictures.

        Raises:
            Stopped: It was broken off; nothing has changed but what the evaluator remembers.
        """
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
            nullcontext() if stop is None else stop.at_once(),
        ):
            if self.sampler.fitted:
                self.sampler.fit(assembly.feeds)
            results = list(evaluator.evaluate(subject, split))
        odd = [result for result in results if not isinstance(result, Figure | Picture | Note)]
        if odd:
            raise PluginError(
                f"evaluate.{entry}: {type(evaluator).__qualname__} gives {type(odd[0]).__name__}, where a Figure, a "
                "Picture or a Note is wanted"
            )
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

    def ranked(self, report: EvaluationEnd, ranking: Sequence[Best]) -> list[Best]:
        """The best epochs when this verdict is counted in; of equals the first ones. Before training there is none."""
        candidate = self._candidate(report)
        if candidate is None or any(best.name != candidate.name for best in ranking):
            return list(ranking)
        sign = 1 if candidate.better == "lower" else -1
        return sorted([*ranking, candidate], key=lambda best: sign * best.value)[: self.assembly.recipe.train.keep.best]

    def eligible(self, ranking: Sequence[Best]) -> list[Best]:
        """The best epochs of an earlier recipe, as far as this one's choice falls on the same figure."""
        recipe = self.assembly.recipe
        there = [best for best in ranking if best.name in recipe.evaluate and recipe.train.best in ("auto", best.name)]
        return there[: recipe.train.keep.best]

    def _candidate(self, report: EvaluationEnd) -> Best | None:
        chooser = self.assembly.recipe.train.best
        records = [r for r in report.records if r.split == "validation" and r.better and r.name == report.entry]
        if not records and chooser == report.entry and report.split in ("", "validation"):
            raise UsageError(f"train.best: {chooser!r} gives no figure on the validation data that could choose")
        if not records or not report.epoch or chooser not in ("auto", report.entry):
            return None
        record = records[0]
        if record.better is None or not math.isfinite(record.value):
            return None
        return Best(record.name, record.value, report.epoch, report.step, record.better)

    # ---- what evaluators remember --------------------------------------------------------------------------------

    def evaluator_states(self) -> dict[str, dict[str, Tensor]]:
        """Copies of what each evaluator remembers."""
        every = self.assembly.parts.evaluators.items()
        return {entry: {k: v.clone() for k, v in evaluator.state().items()} for entry, evaluator in every}

    def load_evaluator_states(self, states: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Takes back what :meth:`evaluator_states` returned; an evaluator that had nothing keeps its fresh state.

        Raises:
            CheckpointError: An evaluator does not take its own state back.
        """
        for entry, state in states.items():
            if not state:
                continue
            try:
                self.assembly.parts.evaluators[entry].load_state(state)
            except (KeyError, ValueError, RuntimeError) as error:
                raise CheckpointError(f"evaluator {entry!r} does not take back what it remembered: {error}") from error

    def splits(self, evaluator: Evaluator, wanted: Sequence[SplitName]) -> list[SplitName | None]:
        """The splits among some that an evaluator looks at; ``None`` stands for one that needs no data."""
        if not evaluator.splits:
            return [None]
        return [split for split in evaluator.splits if split in wanted and split in self.assembly.feeds]

    def _write(self, entry: str, picture: Picture, label: str) -> Path:
        path = self.pictures / entry / (f"{picture.name}_{label}.png" if picture.name else f"{label}.png")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_png(picture.image, path)
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
