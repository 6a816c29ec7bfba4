"""The training loop: read it from top to bottom."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from typing import Any

import torch
from pluggy import PluginManager
from torch import Tensor

from genkit.engine.assembly import Assembly
from genkit.engine.checkpoint import Checkpoint, checkpoint_exists, load_weights, read_checkpoint
from genkit.engine.device import matmul_precision
from genkit.engine.diagnosis import gradient_norms
from genkit.engine.feed import Ticket
from genkit.engine.folder import RunFolder, device_name, disk_usage
from genkit.engine.graph import Cuda, Recorder, obstacle_to_graphs
from genkit.engine.judge import Best, Judge
from genkit.engine.keeper import Keeper
from genkit.engine.ledger import Ledger
from genkit.engine.placement import describe
from genkit.engine.seeds import derive_seed, isolated, preserved, seed_all
from genkit.engine.shards import made_whole, part
from genkit.engine.shared import SharedLoss
from genkit.engine.state import Position, below, capture, restore
from genkit.engine.step import TrainStep
from genkit.engine.stop import Stopped, StopRequest
from genkit.engine.world import World
from genkit.errors import GenkitError, TrainingDiverged
from genkit.events import CheckpointWritten, EpochEnd, EvaluationEnd, Record, RunEnd, RunStart, StepReport
from genkit.model import complaints, watchers
from genkit.objective import Progress
from genkit.units import bits_per_dim

CHANGED = "changed"
"""The reason of a checkpoint that a run goes on from in another way than it was written."""

PATIENCE = 100
"""Steps in a row that may be skipped because a figure was not finite."""


class Trainer:
    """Trains an assembly, judges it on the way, and keeps its checkpoints.

    Args:
        assembly: What to train.
        folder: Where the run's files go; it exists already.
        manager: The hooks to call.
        world: The processes that train together; only their leader writes, judges and calls hooks.
    """

    def __init__(
        self, assembly: Assembly, folder: RunFolder, manager: PluginManager, world: World | None = None
    ) -> None:
        train = assembly.recipe.train
        self.world = World(assembly.device) if world is None else world
        self.assembly = assembly
        self.folder = folder
        self.hook = manager.hook
        model = assembly.parts.model
        self.ema = assembly.ema
        self.step = TrainStep(
            assembly.turns,
            assembly.players,
            assembly.device,
            accumulate=train.accumulate,
            clip_norm=train.clip_norm,
            precision=train.precision,
            after=None if self.ema is None else self.ema.update,
            watchers=watchers(model, assembly.parts.objective),
            owners=(model, assembly.parts.objective),
            skips=train.on_nan == "skip",
            compiles=train.compile,
            world=self.world,
            share=SharedLoss if assembly.shards is None else assembly.shards.loss_of,
        )
        self.judged_model = model if self.ema is None else self.ema.model
        self.judge = Judge(assembly, self.judged_model, folder.images)
        self.keeper = Keeper(folder, train.keep)
        self.ledger = Ledger(PATIENCE if train.on_nan == "skip" else 0, self.world.mean)
        self.position = Position()
        self.started = False
        self.latest: dict[tuple[str, str], Record] = {}
        self._now = Progress(torch.zeros((), device=assembly.device), torch.zeros((), device=assembly.device))
        obstacle = obstacle_to_graphs(assembly.device, self.world.size)
        recording = None if obstacle or train.cuda_graph == "off" else Cuda(assembly.device)
        self.recorder = Recorder(self._step_on_device, train.cuda_graph, recording, obstacle)
        self.seed_noise()

    # ---- the run -------------------------------------------------------------------------------------------------

    def run(self, stop: StopRequest | None = None) -> RunEnd:
        """Trains from the current position to the end, or until it is asked to stop.

        Args:
            stop: Who is asked; by default whoever sends a signal from here on.

        Raises:
            TrainingDiverged: A figure is not finite.
            GenkitError: A checkpoint or a figure cannot be written, or an observer failed.
        """
        began = time.perf_counter()
        try:
            with ExitStack() as stack:
                stop = stack.enter_context(StopRequest()) if stop is None else stop
                stack.enter_context(matmul_precision(self.assembly.recipe.train.precision))
                self._emit("on_run_start", start=self.describe())
                self._train(stop)
                complete = not self._asked(stop) and self._finish(stop)
        except BaseException as error:
            failed = RunEnd("failed", self.folder.path, (), time.perf_counter() - began, str(error))
            with suppress(GenkitError):  # what ended the run is the news, not who stumbled over it
                self._emit("on_run_end", report=failed)
            raise
        status = "finished" if complete else "interrupted"
        seconds = time.perf_counter() - began
        end = RunEnd(status, self.folder.path, self.final_records(), seconds, signal=0 if complete else stop.signal)
        self._emit("on_run_end", report=end)
        return end

    def _train(self, stop: StopRequest) -> None:
        total = self.assembly.recipe.train.epochs
        if not self.started:
            self._start()
        while not self._asked(stop):
            if self.position.judged < self.position.epoch:
                self._judge(stop)
            if self._asked(stop) or self.position.epoch >= total:
                break
            self.train_epoch(stop)
        if self._asked(stop):
            self._save("interrupted")

    def _asked(self, stop: StopRequest) -> bool:
        """Whether any rank was asked to end."""
        return self.world.any(bool(stop))[0]

    def _start(self) -> None:
        """Shows a fresh model and its objective their first batch, for those that start from data."""
        recipe, model = self.assembly.recipe, self.assembly.parts.model
        with (
            isolated(derive_seed(recipe.seed, "start"), self.assembly.device),
            torch.no_grad(),
            made_whole(model, self.assembly.parts.objective, lasting=True),
        ):
            order = self.assembly.feeds["train"].epoch(recipe.train.batch_size, seed=recipe.seed, epoch=0)
            x = next(order).x
            model.start(x)
            self.assembly.parts.objective.start(model, x)
        if self.ema is not None:
            self.ema.copy()
        self.started = True

    def train_epoch(self, stop: StopRequest) -> None:
        """One pass over the training data; nothing here waits for the device but the ledger."""
        train = self.assembly.recipe.train
        place = self.position
        first_step = place.epoch * self.assembly.steps_per_epoch
        seconds, reported, clock = 0.0, place.step_in_epoch, time.perf_counter()
        for model in (self.assembly.parts.model, self.assembly.parts.objective):
            model.train()
        for tickets in self._rounds(place.epoch, skip=place.step_in_epoch):
            self._set_progress(first_step + place.step_in_epoch)
            row = self._take(tickets)
            self.ledger.write(self.step.names, row)
            place.step_in_epoch += 1
            step = first_step + place.step_in_epoch
            asked, broken = self._look(stop, row, step)
            if broken:
                self._read_ledger(step)
            if step % train.log_every == 0:
                self._read_ledger(step)
                elapsed = time.perf_counter() - clock
                self.report_steps(step, (place.step_in_epoch - reported) / elapsed)
                seconds, reported, clock = seconds + elapsed, place.step_in_epoch, time.perf_counter()
            if asked:
                self._read_ledger(step)
                return
        self._read_ledger(first_step + place.step_in_epoch)
        seconds += time.perf_counter() - clock
        place.epoch, place.step_in_epoch = place.epoch + 1, 0
        step = place.epoch * self.assembly.steps_per_epoch
        records = self._train_records(self.ledger.epoch.take(), step, place.epoch)
        self._emit("on_epoch_end", report=EpochEnd(place.epoch, step, records, seconds))

    def _look(self, stop: StopRequest, row: Tensor, step: int) -> tuple[bool, ...]:
        """Whether any rank was asked to end, and whether a figure is not finite, as far as that costs no waiting.

        Ranks ask each other, and a device is asked for a value, at the log's pace; on the CPU at every step.
        """
        if not row.is_cpu and self.world.size > 1 and step % self.assembly.recipe.train.log_every:
            return False, False
        return self.world.any(bool(stop), not self.step.finite)

    def _rounds(self, epoch: int, skip: int) -> Iterator[list[Ticket]]:
        """The batches of each step that is left in the epoch."""
        train, size = self.assembly.recipe.train, self.assembly.batches_per_step
        tickets = self.assembly.feeds["train"].tickets(
            train.batch_size,
            seed=self.assembly.recipe.seed,
            epoch=epoch,
            drop_last=train.drop_last,
            skip=skip * size,
            rank=self.world.rank,
            ranks=self.world.size,
        )
        while group := list(islice(tickets, size)):
            yield group

    def _take(self, tickets: Sequence[Ticket]) -> Tensor:
        """Takes a step, or replays one that was recorded; returns its figures."""
        feed = self.assembly.feeds["train"]
        if self.recorder.obstacle:
            return self.step([feed.open(ticket) for ticket in tickets], self._now)
        row = self.recorder(*(tensor for ticket in tickets for tensor in (ticket.values, ticket.labels)))
        if self.recorder.obstacle:
            warnings.warn(f"train.cuda_graph: {self.recorder.obstacle}; every step is taken anew", stacklevel=2)
        return row

    def _step_on_device(self, *tensors: Tensor | None) -> Tensor:
        """A step whose only inputs are tensors on the device."""
        feed, pairs = self.assembly.feeds["train"], zip(tensors[::2], tensors[1::2], strict=True)
        tickets = [Ticket(values, labels) for values, labels in pairs if values is not None]
        return self.step([feed.open(ticket) for ticket in tickets], self._now)

    def seed_noise(self) -> None:
        """Begins this rank's own stream of random numbers for training, another one at each step it is begun at."""
        purpose = ("rank", self.world.rank, self.steps_taken) if self.world.rank or self.steps_taken else ()
        seed_all(derive_seed(self.assembly.recipe.seed, "train", *purpose))

    @property
    def steps_taken(self) -> int:
        """Steps taken in all."""
        return self.position.epoch * self.assembly.steps_per_epoch + self.position.step_in_epoch

    def _set_progress(self, step: int) -> None:
        epoch = step / self.assembly.steps_per_epoch
        for player in self.assembly.players.values():
            player.set_learning_rate(epoch, self.assembly.recipe.train.epochs)
        self._now.step.fill_(step)
        self._now.epoch.fill_(epoch)

    # ---- judging and keeping -------------------------------------------------------------------------------------

    def _judge(self, stop: StopRequest) -> None:
        """Has the leader call the evaluators that are due, then keeps the epoch's checkpoint and perhaps the best."""
        place, train = self.position, self.assembly.recipe.train
        parts = self.assembly.parts
        owners = dict.fromkeys((parts.model, parts.objective, self.judged_model))
        self.world.average([b for owner in owners for b in owner.buffers() if b.is_floating_point()])
        with made_whole(self.judged_model, parts.objective, here=self.world.leader):
            ranking = self.world.told(self._verdict(stop) if self.world.leader else None)
        if ranking is None:
            return
        place.judged = place.epoch
        improved, self.judge.ranking = ranking != self.judge.ranking, ranking
        due = place.epoch % train.checkpoint_every == 0 or place.epoch == train.epochs or self.keeper.due(place.epoch)
        if place.epoch and (improved or due):
            self._save("epoch")
            if self.world.leader and self.keeper.keep(place.epoch, ranking):
                self._emit("on_checkpoint", report=self._checkpoint_report(self.folder.best, "best"))

    def _verdict(self, stop: StopRequest) -> list[Best] | None:
        """The best epochs, this one counted in; ``None`` if somebody broke the evaluation off.

        Then the epoch is judged again, whole, when the run goes on.
        """
        ranking, remembered = self.judge.ranking, self.judge.evaluator_states()
        try:
            for report in self.judge.due(self.position.epoch, stop):
                self._report_evaluation(report)
                ranking = self.judge.ranked(report, ranking)
        except Stopped:
            self.judge.load_evaluator_states(remembered)
            return None
        return ranking

    def _finish(self, stop: StopRequest) -> bool:
        """Has the leader judge the best weights on the test data.

        Returns:
            Whether nobody broke it off.
        """
        epoch, step = self._load_best()
        with made_whole(self.judged_model, self.assembly.parts.objective, here=self.world.leader):
            return self.world.told(self._final_verdict(epoch, step, stop) if self.world.leader else None)

    def _load_best(self) -> tuple[int, int]:
        """Takes the best weights, and the objective's networks as they were then; returns their epoch and step."""
        if self.judge.best is None or not checkpoint_exists(self.folder.best):
            return self.position.epoch, self.position.epoch * self.assembly.steps_per_epoch
        checkpoint = read_checkpoint(self.folder.best)
        load_weights(self.judged_model, checkpoint.weights, "this recipe's model")
        load_weights(self.assembly.parts.objective, below("objective.", checkpoint.state), "this recipe's objective")
        return checkpoint.facts["best"]["epoch"], checkpoint.facts["best"]["step"]

    def _final_verdict(self, epoch: int, step: int, stop: StopRequest) -> bool:
        """Judges the weights as they are; returns whether to the end."""
        try:
            for report in self.judge.final(epoch, step, stop):
                self._report_evaluation(report)
        except Stopped:
            return False
        return True

    def _report_evaluation(self, report: EvaluationEnd) -> None:
        self.latest |= {(record.split, record.name): record for record in report.records}
        self.judge.remember(report.records)
        self._emit("on_evaluation", report=report)

    def final_records(self) -> list[Record]:
        """The figures on the test data and those on none; without any, the latest of each other figure."""
        final = [record for record in self.latest.values() if record.split in ("test", "")]
        return final or list(self.latest.values())

    # ---- reporting -----------------------------------------------------------------------------------------------

    def _read_ledger(self, step: int) -> None:
        try:
            self.ledger.read(step)
        except TrainingDiverged as error:
            model, objective = self.assembly.parts.model, self.assembly.parts.objective
            norms = "" if self.recorder.recorded else gradient_norms(model, objective)  # a replay's are elsewhere
            seen = [*complaints(model, objective), *([norms] if norms else [])]
            raise TrainingDiverged("; ".join([str(error), *seen, self._last_good()])) from error

    def _last_good(self) -> str:
        there = checkpoint_exists(self.folder.last)
        return f"the last good checkpoint is {self.folder.last}" if there else "there is no checkpoint yet"

    def report_steps(self, step: int, speed: float) -> None:
        """Tells observers the means of the figures since the last report, and the steps a second."""
        place = self.position
        records = self._train_records(self.ledger.window.take(), step, step / self.assembly.steps_per_epoch)
        rates = [
            Record(step, step / self.assembly.steps_per_epoch, "train", f"{name}/lr", player.learning_rate)
            for name, player in self.assembly.players.items()
        ]
        samples = speed * self.assembly.recipe.train.batch_size * self.assembly.batches_per_step
        if self.ledger.patience:
            rates.append(
                Record(step, step / self.assembly.steps_per_epoch, "train", "skipped_steps", self.ledger.skipped)
            )
        report = StepReport(step, place.epoch + 1, place.step_in_epoch, [*records, *rates], speed, samples)
        self._emit("on_step", report=report)

    def _train_records(self, means: list[float], step: int, epoch: float) -> list[Record]:
        """The ledger's means; a term in nats also in bits per dimension."""
        units = {f"{turn.name}/{term}": unit for turn in self.assembly.turns for term, unit in turn.units.items()}
        num_dims = self.assembly.parts.spec.num_dims
        records: list[Record] = []
        for name, value in zip(self.ledger.names if means else (), means, strict=True):
            unit = units.get(name, "")
            records.append(Record(step, epoch, "train", name, value, unit))
            if unit == "nats":
                bits = bits_per_dim(value, num_dims)
                records.append(Record(step, epoch, "train", f"{name}_bits_per_dim", bits, "bits/dim"))
        return records

    def describe(self) -> RunStart:
        """What observers are told at the start."""
        assembly, train = self.assembly, self.assembly.recipe.train
        return RunStart(
            name=self.folder.path.name,
            folder=self.folder.path,
            recipe=assembly.recipe.to_plain(),
            device=device_name(assembly.device),
            epochs=train.epochs,
            steps_per_epoch=assembly.steps_per_epoch,
            samples_per_step=train.batch_size * assembly.batches_per_step,
            parameters={name: player.num_parameters for name, player in assembly.players.items()},
            start_step=self.steps_taken,
            data=describe(assembly.feeds),
        )

    def _emit(self, event: str, **report: Any) -> None:
        if not self.world.leader:
            return
        try:
            with preserved(self.assembly.device):
                getattr(self.hook, event)(**report)
        except GenkitError:
            raise
        except Exception as error:
            raise GenkitError(f"an observer failed in {event}: {type(error).__name__}: {error}") from error

    # ---- checkpoints ---------------------------------------------------------------------------------------------

    def _save(self, reason: str) -> None:
        """Keeps the state, unless the last update broke it: then the checkpoint before stands."""
        owners = (("model", self.assembly.parts.model), ("objective", self.assembly.parts.objective))
        weights = ((name, what, part(own)) for what, module in owners for name, own in module.named_parameters())
        broken = next((f"{name} of the {what}" for name, what, own in weights if not torch.isfinite(own).all()), "")
        if self.world.any(bool(broken))[0]:
            raise TrainingDiverged(f"{broken or 'a weight'} is no longer finite; {self._last_good()}")
        self.keep_place(reason)
        if self.world.leader:  # others would look into a folder that changes under them
            self._emit("on_checkpoint", report=self._checkpoint_report(self.folder.last, reason))

    def keep_place(self, reason: str) -> None:
        """Makes the last checkpoint one of now.

        Raises:
            CheckpointError: It cannot be written; the one before stands.
        """
        checkpoint = capture(self, reason)
        if self.world.leader:
            self.keeper.write(checkpoint)

    def _checkpoint_report(self, path: Any, reason: str) -> CheckpointWritten:
        step = self.steps_taken
        return CheckpointWritten(
            path, step, step / self.assembly.steps_per_epoch, reason, disk_usage(self.folder.checkpoints)
        )

    def restore(self, checkpoint: Checkpoint, *, anew: bool = False) -> None:
        """Goes back to where a checkpoint was written.

        Args:
            checkpoint: The checkpoint.
            anew: Make it the last one, with this recipe, before anything else on disk changes.

        Raises:
            CheckpointError: It belongs to another recipe.
        """
        restore(self, checkpoint)
        if anew:
            self.keep_place(CHANGED)
        mended = self.keeper.mend(self.position, self.judge.ranking) if self.world.leader else None
        best = self.world.told(mended)
        if self.judge.ranking and best is None:
            warnings.warn("the best checkpoint is no longer there: the best from here on counts", stacklevel=2)
            self.judge.ranking = []
