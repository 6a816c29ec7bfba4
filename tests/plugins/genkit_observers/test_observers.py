"""Observers: every figure once, on disk, in TensorBoard and before the user's eyes."""

import contextlib
import io
import itertools
import json
import os
import random
import signal
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

import genkit
from genkit import EpochEnd, EvaluationEnd, Record, RunEnd, RunStart, StepReport
from genkit.engine.checkpoint import read_checkpoint
from genkit.runs import resume
from genkit_observers.jsonl import MetricsFile
from genkit_observers.progress import LineDisplay, LiveDisplay
from genkit_observers.tensorboard import TensorBoard


def start(folder, step=0):
    return RunStart("small", folder, {}, "cpu", 2, 3, 32, {"model": 26_004}, step)


def step_report(step, value=1.5):
    return StepReport(step, 1, step, [Record(step, step / 3, "train", "model/loss", value)], 50.0, 1600.0)


def evaluation(step, value=0.9):
    return EvaluationEnd(
        "bpd", "validation", 1, step, [Record(step, 1, "validation", "bpd", value, "bits/dim", "lower bound")]
    )


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_one_line_a_figure(tmp_path):
    file = MetricsFile(start(tmp_path))
    file.on_step(step_report(1))
    file.on_evaluation(evaluation(3))
    assert [(line["step"], line["split"], line["name"], line["value"], line["tag"]) for line in lines(tmp_path)] == [
        (1, "train", "model/loss", 1.5, ""),
        (1, "train", "steps_per_second", 50.0, ""),
        (3, "validation", "bpd", 0.9, "lower bound"),
    ]


def test_resumed_file_has_no_line_twice_and_none_from_the_future(tmp_path):
    file = MetricsFile(start(tmp_path))
    for step in (1, 2, 3):
        file.on_step(step_report(step))
    with file.path.open("a") as broken:
        broken.write('{"step": 3, "val')  # the machine died here
    again = MetricsFile(start(tmp_path, step=2))
    again.on_step(step_report(2))
    again.on_step(step_report(3, value=7.0))
    steps = [(line["step"], line["value"]) for line in lines(tmp_path) if line["name"] == "model/loss"]
    assert steps == [(1, 1.5), (2, 1.5), (3, 7.0)]


def test_epoch_means_stand_apart_from_the_last_steps(tmp_path):
    file = MetricsFile(start(tmp_path))
    file.on_step(step_report(3))
    file.on_epoch_end(EpochEnd(1, 3, [Record(3, 1, "train", "model/loss", 2.5)], 0.1))
    assert {line["name"]: line["value"] for line in lines(tmp_path)} == {
        "model/loss": 1.5,
        "steps_per_second": 50.0,
        "model/loss/epoch": 2.5,
    }


def test_full_disk_is_an_error_of_ours(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(genkit.GenkitError, match=r"metrics.jsonl cannot be written"):
        MetricsFile(start(tmp_path))


def test_a_run_that_starts_over_writes_what_came_before_training_once(tmp_path):
    MetricsFile(start(tmp_path)).on_evaluation(evaluation(0))
    again = MetricsFile(start(tmp_path))
    again.on_evaluation(evaluation(0))
    again.on_step(step_report(1))
    assert [(line["step"], line["name"]) for line in lines(tmp_path)] == [
        (0, "bpd"),
        (1, "model/loss"),
        (1, "steps_per_second"),
    ]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("name", ["write_text", "replace"])
def test_the_file_of_a_resumed_run_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, name, error):
    file = MetricsFile(start(tmp_path))
    for step in (1, 2, 3):
        file.on_step(step_report(step))
    before = file.path.read_bytes()

    def fail(*args, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, name, fail)
        with pytest.raises(genkit.GenkitError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
            MetricsFile(start(tmp_path, step=2))
    assert "metrics.jsonl cannot be written: [Errno 28]" in str(caught.value) or not isinstance(error, OSError)
    assert file.path.read_bytes() == before
    MetricsFile(start(tmp_path, step=2))
    assert {line["step"] for line in lines(tmp_path)} == {1, 2}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_line_that_cannot_be_written_is_an_error_of_ours(tmp_path, monkeypatch):
    file = MetricsFile(start(tmp_path))

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(genkit.GenkitError, match=r"metrics.jsonl cannot be written: .*No space left on device"):
        file.on_step(step_report(1))


def test_tensorboard_holds_scalars_images_and_the_recipe(small_recipe, tmp_path):
    small_recipe["evaluate"]["samples"] = {"use": "sample_grid", "rows": 2, "columns": 2, "every": 1}
    genkit.run(small_recipe, name="small", runs=tmp_path, device="cpu")
    events = EventAccumulator(str(tmp_path / "small" / "tensorboard")).Reload()
    run = genkit.load(tmp_path / "small", device="cpu")
    expected = {r.step: r.value for r in run.metrics if (r.split, r.name) == ("validation", "bpd")}
    assert {e.step: e.value for e in events.Scalars("validation/bpd")} == pytest.approx(expected)
    assert [event.step for event in events.Images("samples/means")] == [0, 3, 6]
    final = EventAccumulator(str(tmp_path / "small" / "tensorboard" / "hparams")).Reload()
    assert "final/test/bpd" in final.Tags()["scalars"]


def shown(display_class, folder):
    text = io.StringIO()
    console = Console(file=text, force_terminal=display_class is LiveDisplay, width=120, color_system=None)
    display = display_class(start(folder), console)
    display.on_run_start(start(folder))
    if display_class is LiveDisplay:
        display.on_step(step_report(2))
    display.on_epoch_end(EpochEnd(1, 3, [Record(3, 1, "train", "model/loss", 2.5)], 0.1))
    display.on_evaluation(evaluation(3))
    display.on_run_end(RunEnd("finished", folder))
    return text.getvalue()


def test_lines_where_there_is_no_terminal(tmp_path):
    assert shown(LineDisplay, tmp_path).splitlines() == [
        "small on cpu: model 26,004 parameters; 2 epochs of 3 steps",
        "epoch 1/2  0.1 s  model/loss 2.5",
        "  validation: bpd 0.9 bits/dim [lower bound]",
        "finished after 0.0 s",
    ]


def test_figures_under_different_tags_stand_on_different_lines(tmp_path):
    text = io.StringIO()
    display = LineDisplay(start(tmp_path), Console(file=text, width=200))
    one, other = "estimate (5 samples)", "estimate (9 samples)"
    named = (("nll", one), ("nll/error", one), ("nll/prior", other), ("nll/untagged", ""))
    records = [Record(3, 1, "test", name, 2.0, tag=tag) for name, tag in named]
    display.on_evaluation(EvaluationEnd("nll", "test", 1, 3, records, [], []))
    assert text.getvalue().splitlines() == [
        f"  test: nll 2  nll/error 2 [{one}]",
        f"  test: nll/prior 2 [{other}]",
        "  test: nll/untagged 2",
    ]


def test_live_display_shows_progress_speed_losses_and_figures(tmp_path):
    text = shown(LiveDisplay, tmp_path)
    for part in ("3/6", "3/3", "50.0 steps/s, 1,600 examples/s", "model/loss", "0.9 bits/dim", "lower bound", "left"):
        assert part in text, part


# ---- in a run ----------------------------------------------------------------------------------------------------


class Dicey(toy.Denoising):
    """Its loss depends on every global generator."""

    def turns(self, model):
        guess, shrink = super().turns(model)

        def diced(batch, progress):
            loss = guess.loss(batch, progress)
            return genkit.Loss(loss.total * (1 + random.random() + np.random.rand() + torch.rand(())), loss.terms)

        return [genkit.Turn("guess", "model", diced, units=guess.units), shrink]


class Gambler:
    """An observer that draws from every global generator, and sets them too."""

    def draw(self):
        torch.rand(3), np.random.standard_normal(3), random.gauss(0, 1), random.random()
        torch.manual_seed(1), np.random.seed(1), random.seed(1)
        Gambler.drawn += 1

    @genkit.hookimpl
    def on_run_start(self):
        self.draw()

    @genkit.hookimpl
    def on_step(self):
        self.draw()

    @genkit.hookimpl
    def on_epoch_end(self):
        self.draw()

    @genkit.hookimpl
    def on_evaluation(self):
        self.draw()

    @genkit.hookimpl
    def on_checkpoint(self):
        self.draw()

    @genkit.hookimpl
    def on_run_end(self):
        self.draw()


class GamblersMaker:
    """A plugin that makes such an observer, and draws while it does."""

    @genkit.hookimpl
    def make_observers(self):
        gambler = Gambler()
        gambler.draw()
        return [gambler]


class FilesMaker:
    """Genkit's own observers that leave files."""

    @genkit.hookimpl
    def make_observers(self, start):
        return [MetricsFile(start), TensorBoard(start)]


@pytest.fixture
def toys(monkeypatch):
    """Nothing is installed but the toys."""
    monkeypatch.setitem(toy.COMPONENTS, "dicey", Dicey)
    registry = toy.registry()
    for module in ("genkit.runs", "genkit.recipe.check", "genkit.registry"):
        monkeypatch.setattr(sys.modules[module], "installed", lambda: registry)
    return registry


def run(place, name, *overrides, **options):
    evaluate = {"cost": {"use": "nats", "every": 1}, "other": {"use": "nats", "every": 1}}
    recipe = {**toy.RECIPE, "evaluate": evaluate}
    overrides = ["train.log_every=1", *overrides]
    return genkit.run(recipe, overrides=overrides, name=name, runs=place, device="cpu", **options)


@pytest.mark.parametrize("plugin", [Gambler, GamblersMaker])
def test_no_observer_changes_a_weight(toys, tmp_path, plugin, monkeypatch):
    monkeypatch.setattr(Gambler, "drawn", 0, raising=False)
    run(tmp_path, "alone", "objective=dicey")
    toys.manager.register(plugin())
    run(tmp_path, "watched", "objective=dicey")
    assert Gambler.drawn == 1 + 6 + 2 + 3 * 2 + 2 + 2 * 2 + 1 + (plugin is GamblersMaker)
    for file in ("model.safetensors", "state.safetensors"):  # which holds the generators too
        one, other = (tmp_path / name / "checkpoints" / "last" / file for name in ("alone", "watched"))
        assert one.read_bytes() == other.read_bytes()


def test_dice_matter(toys, tmp_path, monkeypatch):
    """What makes the test above one: each generator decides about the weights."""
    seen, draw = [], torch.rand
    for name in ("random", "numpy", "torch", "none"):
        with monkeypatch.context() as patch:
            if name == "random":
                patch.setattr(random, "random", lambda: 0.5)
            if name == "numpy":
                patch.setattr(np.random, "rand", lambda: 0.5)
            if name == "torch":
                patch.setattr(torch, "rand", lambda *shape, **options: draw(*shape, **options) if options else 0.5)
            run(tmp_path, name, "objective=dicey", "train.epochs=1", "evaluate=null")
        seen.append(read_checkpoint(tmp_path / name / "checkpoints" / "last").weights["network.linear.bias"])
    assert not any(torch.equal(one, other) for one, other in itertools.combinations(seen, 2))


class Misspelt:
    @genkit.hookimpl
    def on_stepp(self, report):
        raise AssertionError("nobody calls this")


def test_an_observer_that_cannot_be_made_leaves_no_other_behind(toys, tmp_path):
    class Maker:
        @genkit.hookimpl
        def make_observers(self):
            return [Gambler(), Misspelt()]

    before = set(toys.manager.get_plugins())
    maker = Maker()
    toys.manager.register(maker)
    with pytest.raises(genkit.GenkitError, match=r"an observer cannot be made: .*unknown hook 'on_stepp'"):
        run(tmp_path, "run")
    toys.manager.unregister(maker)
    assert set(toys.manager.get_plugins()) == before


# ---- tensorboard after a death -----------------------------------------------------------------------------------


@pytest.fixture
def slow_clock(monkeypatch):
    """Each file is begun in a second of its own, as those of real restarts are: they are read in that order."""
    seconds = itertools.count(1_000_000_000)
    monkeypatch.setattr(event_file_writer, "time", types.SimpleNamespace(time=lambda: next(seconds)))


def scalars(folder):
    """What is shown by tag, but for the speed, which no two runs share."""
    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def killed(work):
    """Does some work in a process that ends without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: this child starts its own
        child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


@pytest.mark.parametrize("checkpoint", [3, 4])
def test_tensorboard_of_a_killed_process_goes_on_without_hole_and_double(tmp_path, slow_clock, checkpoint):
    def work():
        board = TensorBoard(start(tmp_path))
        for step in (1, 2, 3):
            board.on_step(step_report(step))
        board.on_epoch_end(EpochEnd(1, 3, [Record(3, 1, "train", "model/loss", 2.5)], 0.1))
        board.on_evaluation(evaluation(3))
        for step in (4, 5):
            board.on_step(step_report(step))
        if checkpoint == 4:
            board.writer.flush()

    killed(work)
    next_life = [next(iter([0])) for _ in range(2000)]  # as long as the child lived, by the clock that it took with it
    assert [event_file_writer.time.time() for _ in next_life]
    board = TensorBoard(start(tmp_path, step=checkpoint))
    for step in range(checkpoint + 1, 7):
        board.on_step(step_report(step, value=9.0))
    board.on_evaluation(evaluation(6, value=0.5))
    board.on_run_end(RunEnd("interrupted", tmp_path))
    shown = scalars(tmp_path)
    assert shown["train/model/loss"] == [(step, 1.5 if step <= checkpoint else 9.0) for step in range(1, 7)]
    assert shown["train/model/loss/epoch"] == [(3, 2.5)]
    assert shown["validation/bpd"] == [(3, pytest.approx(0.9)), (6, 0.5)]


class At:
    """Does something at a moment, once."""

    def __init__(self, act, **moment):
        self.act, self.moment = act, moment

    def see(self, report):
        if self.moment and all(getattr(report, key, None) == value for key, value in self.moment.items()):
            self.moment = {}
            self.act()

    @genkit.hookimpl
    def on_step(self, report):
        self.see(report)

    @genkit.hookimpl(trylast=True)
    def on_evaluation(self, report):
        self.see(report)

    @genkit.hookimpl(trylast=True)
    def on_checkpoint(self, report):
        self.see(report)


def die():
    raise KeyboardInterrupt


def stop():
    signal.raise_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """What runs show that nobody disturbs, by their overrides."""
    return tmp_path_factory.mktemp("wholes"), {}


LATE = ["train.checkpoint_every=4", "train.best=none"]
DEATHS = [
    (die, {"step": 5, "step_in_epoch": 2}, []),
    (die, {"entry": "cost", "epoch": 2}, []),
    (die, {"reason": "epoch", "epoch": 2}, []),
    (die, {"reason": "best", "epoch": 1}, []),
    (stop, {"step": 4, "step_in_epoch": 1}, []),
    (stop, {"entry": "other", "epoch": 1}, []),
    (die, {"split": "test", "entry": "cost"}, []),
    (stop, {"entry": "cost", "epoch": 1}, []),
    (die, {"step": 8, "step_in_epoch": 2}, LATE),
]


@pytest.mark.parametrize(("act", "moment", "overrides"), DEATHS, ids=lambda v: getattr(v, "__name__", None) or str(v))
def test_tensorboard_shows_every_figure_once(toys, tmp_path, monkeypatch, slow_clock, wholes, act, moment, overrides):
    overrides = ["train.epochs=4", *overrides]
    monkeypatch.setattr(TensorBoard, "on_run_end", lambda self, report: self.writer.flush())  # nobody closes it
    maker = FilesMaker()
    toys.manager.register(maker)
    place, known = wholes
    if str(overrides) not in known:
        known[str(overrides)] = scalars(run(place, f"run{len(known)}", *overrides).folder)
    hook = At(act, **moment)
    toys.manager.register(hook)
    with contextlib.suppress(KeyboardInterrupt):
        assert run(tmp_path, "parts", *overrides).status == "interrupted"
    assert hook.moment == {}
    assert resume(tmp_path / "parts", device="cpu").status == "finished"
    shown = scalars(tmp_path / "parts")
    assert len(shown["train/guess/loss"]) == 12
    assert shown == known[str(overrides)]
