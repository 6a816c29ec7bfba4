"""Which checkpoints stay: just those that the recipe asks for, whenever the run may have died."""

import contextlib
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
import toy
from test_loop import Watcher, equal, trainer_of, weights_of

import genkit
from genkit.engine import checkpoint as files
from genkit.engine import keeper
from genkit.engine.checkpoint import read_checkpoint, read_facts
from genkit.engine.folder import RunFolder, disk_usage

ONE_STEP = ["data.train=32", "train.log_every=1"]


class Scripted(genkit.Evaluator):
    """Gives the figures that it was told to give, one for each epoch, the first of them before training."""

    splits = ("validation", "test")

    def __init__(self, model: genkit.GenerativeModel, /, *, figures: Sequence[float]):
        self.figures = figures

    def evaluate(self, subject, split):
        return [genkit.Figure(self.figures[subject.epoch], better="lower")]


@pytest.fixture(autouse=True)
def _scripted(monkeypatch):
    monkeypatch.setitem(toy.COMPONENTS, "scripted", Scripted)


def trainer(folder, figures, *overrides, watcher=None):
    entry = {"use": "scripted", "figures": [0.0, *map(float, figures)], "every": 1}
    epochs = f"train.epochs={len(figures)}"
    return trainer_of(folder, watcher, [*ONE_STEP, epochs, *overrides], evaluate={"cost": entry})


def continued(folder, figures, *overrides, **options):
    again = trainer(folder, figures, *overrides, **options)
    last = RunFolder(folder).last
    if files.checkpoint_exists(last):
        again.restore(read_checkpoint(last))
    return again


def names(folder):
    return sorted(path.name for path in RunFolder(folder).checkpoints.iterdir())


def contents(folder):
    """Every file of every checkpoint."""
    there = RunFolder(folder).checkpoints
    return {str(path.relative_to(there)): path.read_bytes() for path in sorted(there.rglob("*")) if path.is_file()}


def expected(figures, epoch, last=1, best=1, every=0):
    """What is to be there when so many epochs are over."""
    past = range(1, epoch + 1)
    recent = past[-last:] if last > 1 else []
    good = sorted(past, key=lambda e: figures[e - 1])[:best] if best > 1 else []
    milestones = [e for e in past if every and e % every == 0]
    return sorted({"best", "last", *(f"epoch-{e:04d}" for e in {*recent, *good, *milestones})})


# ---- what stays --------------------------------------------------------------------------------------------------

FIGURES = [9, 5, 6, 4, 4, 7, 3, 8, 8, 2, 9, 1]
WANTED = [
    {},
    {"last": 2, "every": 5},
    {"best": 2},
    {"last": 3, "best": 2, "every": 4},
    {"every": 1},
    {"best": 20},
]


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_just_the_wanted_ones_are_there_after_each_epoch(tmp_path, wanted):
    there, weights = {}, {}

    def look(name, report):
        if name == "epoch":
            weights[report.epoch] = weights_of(run)
        if name == "epoch" and report.epoch > 1:
            there[report.epoch - 1] = names(tmp_path)

    keep = [f"train.keep.{key}={value}" for key, value in wanted.items()]
    run = trainer(tmp_path, FIGURES, *keep, watcher=Watcher(look))
    run.run()
    there[len(FIGURES)] = names(tmp_path)
    assert there == {epoch: expected(FIGURES, epoch, **wanted) for epoch in range(1, len(FIGURES) + 1)}
    folder = RunFolder(tmp_path)
    for name in there[len(FIGURES)]:
        epoch = int(name.removeprefix("epoch-")) if name.startswith("epoch-") else len(FIGURES)
        kept = read_checkpoint(folder.checkpoints / name)
        assert (kept.facts["position"]["epoch"], kept.facts["position"]["judged"]) == (epoch, epoch)
        assert equal(dict(kept.weights), weights[epoch])


def test_a_small_case_by_hand(tmp_path):
    trainer(tmp_path, [3, 1, 2, 5, 4, 6, 7], "train.keep={last: 2, best: 1, every: 5}").run()
    assert names(tmp_path) == ["best", "epoch-0005", "epoch-0006", "epoch-0007", "last"]
    assert read_facts(RunFolder(tmp_path).best)["best"]["epoch"] == 2
    assert RunFolder(tmp_path).kept() == ["best", "last", "epoch-0005", "epoch-0006", "epoch-0007"]


def test_of_equal_epochs_the_first_is_the_better_one(tmp_path):
    trainer(tmp_path, [4, 2, 2, 3], "train.keep.best=2").run()
    assert names(tmp_path) == ["best", "epoch-0002", "epoch-0003", "last"]
    assert read_facts(RunFolder(tmp_path).best)["position"]["epoch"] == 2
    assert [best["epoch"] for best in read_facts(RunFolder(tmp_path).last)["ranking"]] == [2, 3]


def test_milestones_and_good_epochs_between_two_checkpoints(tmp_path):
    seen = []

    def look(name, report):
        if name == "checkpoint":
            seen.append((report.reason, report.epoch))

    keep = ["train.checkpoint_every=5", "train.keep={every: 3, best: 2}"]
    trainer(tmp_path, [9, 8, 7, 9, 9, 9, 9], *keep, watcher=Watcher(look)).run()
    assert names(tmp_path) == ["best", "epoch-0002", "epoch-0003", "epoch-0006", "last"]
    assert [epoch for reason, epoch in seen if reason == "epoch"] == [1, 2, 3, 5, 6, 7]  # improved, due or milestone
    assert [epoch for reason, epoch in seen if reason == "best"] == [1, 2, 3]


def test_without_a_best_there_is_none(tmp_path):
    trainer(tmp_path, FIGURES, "train.best=none", "train.keep.best=3").run()
    assert names(tmp_path) == ["last"]


def test_copies_take_no_place(tmp_path):
    seen = []

    def look(name, report):
        if name == "checkpoint" and report.reason == "best":
            seen.append(report.used)

    trainer(tmp_path, [1], "train.keep={every: 1, last: 2}", watcher=Watcher(look)).run()
    folder = RunFolder(tmp_path)
    single = sum(path.stat().st_size for path in folder.last.iterdir())
    assert names(tmp_path) == ["best", "epoch-0001", "last"]
    assert disk_usage(folder.checkpoints) == disk_usage(folder.last) == single
    assert seen == [single]
    for path in folder.last.iterdir():
        assert path.stat().st_nlink == 3


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    trainer(tmp_path / "copies", [3, 1, 2, 4], "train.keep.every=2").run()
    monkeypatch.undo()
    monkeypatch.setitem(toy.COMPONENTS, "scripted", Scripted)
    trainer(tmp_path / "links", [3, 1, 2, 4], "train.keep.every=2").run()
    assert contents(tmp_path / "copies") == contents(tmp_path / "links")
    single = disk_usage(RunFolder(tmp_path / "copies").last)
    assert disk_usage(RunFolder(tmp_path / "copies").checkpoints) > 3 * single


# ---- deaths ------------------------------------------------------------------------------------------------------

COURSE = [3, 4, 2, 5, 1]
KEEP = ["train.keep={last: 2, best: 2, every: 3}"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run leaves that nobody disturbs."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(toy.COMPONENTS, "scripted", Scripted)
        trainer(place, COURSE, *KEEP).run()
    return contents(place)


def assert_mended(folder, whole):
    """Goes on after a death; at its end there is nothing more, nothing less and nothing else."""
    continued(folder, COURSE, *KEEP).run()
    there = contents(folder)
    assert there.keys() == whole.keys()
    assert [name for name in there if there[name] != whole[name]] == []


@contextlib.contextmanager
def dying(monkeypatch, target, name, at, moment):
    """The run dies when a function is called for that time: before it does its work or after."""
    work, calls = getattr(target, name), []

    def die(*args, **options):
        calls.append(args)
        if len(calls) == at and moment == "before":
            raise KeyboardInterrupt
        result = work(*args, **options)
        if len(calls) == at:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(target, name, die)
        yield calls


BEFORE_AND_AFTER = pytest.mark.parametrize("moment", ["before", "after"])
TOLD = [*(("epoch", epoch) for epoch in range(1, 6)), ("best", 1), ("best", 3), ("best", 5)]


@pytest.mark.parametrize("told", TOLD, ids=str)
def test_a_death_when_a_checkpoint_was_told_of(tmp_path, whole, told):
    def die(name, report):
        if name == "checkpoint" and (report.reason, report.epoch) == told:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, COURSE, *KEEP, watcher=Watcher(die)).run()
    assert read_facts(RunFolder(tmp_path).last)["position"]["epoch"] == told[1]
    assert_mended(tmp_path, whole)


@BEFORE_AND_AFTER
@pytest.mark.parametrize(("name", "calls"), [("copy_checkpoint", 8), ("remove_checkpoint", 2)])
def test_a_death_before_or_after_each_copy_and_removal(tmp_path, whole, monkeypatch, name, calls, moment):
    for at in range(1, calls + 1):
        with dying(monkeypatch, keeper, name, at, moment), pytest.raises(KeyboardInterrupt):
            trainer(tmp_path / str(at), COURSE, *KEEP).run()
        assert_mended(tmp_path / str(at), whole)
    with dying(monkeypatch, keeper, name, 0, moment) as made:
        trainer(tmp_path / "all", COURSE, *KEEP).run()
    assert len(made) == calls


@BEFORE_AND_AFTER
@pytest.mark.parametrize("at", [2, 3, 8, 13, 17])
def test_a_death_at_a_rename(tmp_path, whole, monkeypatch, at, moment):
    with dying(monkeypatch, Path, "rename", at, moment), pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, COURSE, *KEEP).run()
    assert_mended(tmp_path, whole)


def test_a_death_after_the_last_rename(tmp_path, whole, monkeypatch):
    rename, written = Path.rename, []

    def die(path, target):
        rename(path, target)
        written.append(path.name)
        if written.count("last.new") == len(COURSE):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(Path, "rename", die)
        trainer(tmp_path, COURSE, *KEEP).run()
    assert_mended(tmp_path, whole)


@pytest.mark.parametrize("at", [1, 5, 9, 15])
def test_a_death_while_files_are_linked(tmp_path, whole, monkeypatch, at):
    with dying(monkeypatch, os, "link", at, "after"), pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, COURSE, *KEEP).run()
    assert_mended(tmp_path, whole)


def test_a_death_in_the_middle_of_a_removal(tmp_path, whole, monkeypatch):
    """What is left has the facts of a checkpoint, but not its weights: it must not be taken for one."""
    remove = shutil.rmtree

    def halfway(path, **options):
        if Path(path).name.startswith("epoch-") and Path(path).is_dir():
            (Path(path) / "model.safetensors").unlink()
            raise KeyboardInterrupt
        remove(path, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(shutil, "rmtree", halfway)
        trainer(tmp_path, COURSE, *KEEP).run()
    assert_mended(tmp_path, whole)


def test_a_death_while_it_is_mended(tmp_path, whole, monkeypatch):
    def die(name, report):
        if name == "checkpoint" and report.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path, COURSE, *KEEP, watcher=Watcher(die)).run()
    for at, moment in ((1, "before"), (1, "after"), (2, "before"), (2, "after")):
        with dying(monkeypatch, keeper, "copy_checkpoint", at, moment), pytest.raises(KeyboardInterrupt):
            continued(tmp_path, COURSE, *KEEP)
    assert_mended(tmp_path, whole)


def test_the_best_is_found_again_under_another_name(tmp_path):
    trainer(tmp_path, [3, 1, 2], "train.keep.every=1").run()
    folder = RunFolder(tmp_path)
    shutil.rmtree(folder.best)
    continued(tmp_path, [3, 1, 2], "train.keep.every=1").run()
    assert read_facts(folder.best)["position"]["epoch"] == 2


# ---- going back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["epoch-0001", "epoch-0002", "epoch-0003", "best"])
def test_going_back_ends_with_the_same_checkpoints(tmp_path, name):
    keep = ["train.keep={every: 1, best: 2}"]
    trainer(tmp_path, COURSE, *keep).run()
    before = contents(tmp_path)
    back = trainer(tmp_path, COURSE, *keep)
    back.restore(read_checkpoint(RunFolder(tmp_path).checkpoints / name))
    back.run()
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("figures", "keep", "name", "then"),
    [
        ([5, 4, 3, 2, 1], "{every: 2, last: 3}", "epoch-0002", ["epoch-0002", "epoch-0003"]),
        ([5, 1, 2, 3, 4], "{last: 2}", "best", ["epoch-0003"]),
    ],
    ids=["milestones", "the last two"],
)
def test_going_back_leaves_nothing_of_the_future(tmp_path, figures, keep, name, then):
    trainer(tmp_path, figures, f"train.keep={keep}").run()
    assert {"epoch-0004", "epoch-0005"} < set(names(tmp_path))
    there = []

    def look(name, report):
        if name == "epoch" and report.epoch == 4:
            there.extend(names(tmp_path))

    back = trainer(tmp_path, figures, f"train.keep={keep}", watcher=Watcher(look))
    back.restore(read_checkpoint(RunFolder(tmp_path).checkpoints / name))
    back.run()
    assert there == ["best", *then, "last"]


def test_going_back_behind_a_best_that_is_gone(tmp_path):
    trainer(tmp_path, [1, 5, 0.5, 6, 7], "train.keep.every=2").run()
    assert names(tmp_path) == ["best", "epoch-0002", "epoch-0004", "last"]
    back = trainer(tmp_path, [1, 5, 4, 6, 7], "train.keep.every=2")
    with pytest.warns(UserWarning, match="the best checkpoint is no longer there: the best from here on counts"):
        back.restore(read_checkpoint(RunFolder(tmp_path).epoch(2)))  # the best was the first epoch then
    assert back.run().status == "finished"
    assert read_facts(RunFolder(tmp_path).best)["position"]["epoch"] == 3


@pytest.mark.filterwarnings("ignore:the best checkpoint is no longer there")
@pytest.mark.parametrize(
    ("figures", "at"), [([5, 4, 3], "[3]"), ([1, 4, 0.5], "[1, 3]")], ids=["no best yet", "a best that is gone"]
)
def test_going_back_does_not_leave_the_best_of_the_future(tmp_path, figures, at):
    options = ["train.keep.every=2", "evaluate.cost.every=null", f"evaluate.cost.at={at}"]
    trainer(tmp_path, figures, *options).run()
    folder = RunFolder(tmp_path)
    assert read_facts(folder.best)["position"]["epoch"] == 3
    trainer(tmp_path, figures, *options).restore(read_checkpoint(folder.epoch(2)))
    assert not folder.best.exists() or read_facts(folder.best)["position"]["epoch"] <= 2


def damaged(path):
    """The same checkpoint with one bit flipped, in a file of its own."""
    file = path / "model.safetensors"
    broken = bytearray(file.read_bytes())
    broken[-1] ^= 1
    file.unlink()
    file.write_bytes(broken)


def test_a_damaged_last_is_not_copied_over_what_is_whole(tmp_path):
    trainer(tmp_path, [2, 1], "train.keep.every=1").run()
    folder = RunFolder(tmp_path)
    damaged(folder.last)
    trainer(tmp_path, [2, 1], "train.keep.every=1").restore(read_checkpoint(folder.epoch(2)))
    for path in (folder.epoch(2), folder.best):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("moment", "overrides"),
    [(0, "train.keep.every=5"), (2, "train.keep.last=3")],
    ids=["before training", "between two checkpoints"],
)
def test_an_interruption_leaves_no_more_checkpoints(tmp_path, moment, overrides):
    def stop(name, report):
        if name == "evaluation" and report.epoch == moment and report.split == "validation":
            signal.raise_signal(signal.SIGTERM)

    course = [4, 3, 2, 1]
    options = [overrides, "train.checkpoint_every=3", "train.best=none"]
    trainer(tmp_path / "whole", course, *options).run()
    assert trainer(tmp_path / "parts", course, *options, watcher=Watcher(stop)).run().status == "interrupted"
    continued(tmp_path / "parts", course, *options).run()
    assert names(tmp_path / "parts") == names(tmp_path / "whole")
