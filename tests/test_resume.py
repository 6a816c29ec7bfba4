"""Runs that go on: with their own recipe or another, from their last checkpoint, an older one, or the beginning."""

import contextlib
import json
import signal
import subprocess
import sys

import pytest
import torch
import toy
from killing import differences, figures
from typer.testing import CliRunner

import genkit
from genkit import CheckpointError, MissingPlugin, UsageError
from genkit.cli import app
from genkit.engine import Trainer
from genkit.engine import folder as folder_module
from genkit.engine.checkpoint import read_checkpoint, read_facts
from genkit.engine.folder import RunFolder
from genkit.engine.stopwatch import Stopwatch
from genkit.events import read_records
from genkit.registry import Plugin, Registrar
from genkit.runs import resume

EVALUATE = {"cost": {"use": "nats", "every": 1}, "strip": {"use": "strip", "every": 1}}


class Adam(genkit.Optimizer):
    """Another optimizer, with another state."""

    def __init__(self, *, lr: float = 0.01):
        self.lr = lr

    def build(self, parameters):
        return torch.optim.Adam(parameters, lr=self.lr)


class RMSprop(genkit.Optimizer):
    """One whose state depends on its options."""

    def __init__(self, *, lr: float = 0.01, momentum: float = 0.0):
        self.options = {"lr": lr, "momentum": momentum}

    def build(self, parameters):
        return torch.optim.RMSprop(parameters, **self.options)


class Files:
    """The observers that leave files behind, as genkit's own plugin makes them."""

    @genkit.hookimpl
    def make_observers(self, start):
        jsonl = pytest.importorskip("genkit_observers.jsonl")
        return [jsonl.MetricsFile(start)]


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Nothing is installed but the toys and the file of metrics, and nobody asks git."""
    monkeypatch.setitem(toy.COMPONENTS, "adam", Adam)
    monkeypatch.setitem(toy.COMPONENTS, "rmsprop", RMSprop)
    monkeypatch.setattr(folder_module, "_git_state", dict)
    toys = toy.registry()
    toys.manager.register(Files())
    for module in ("genkit.runs", "genkit.recipe.check", "genkit.registry"):
        monkeypatch.setattr(sys.modules[module], "installed", lambda: toys)
    return toys


class Hook:
    """Does something when a hook is called for that time, or at that step, epoch, reason, ..."""

    def __init__(self, hook, act=lambda: signal.raise_signal(signal.SIGTERM), **when):
        self.hook, self.act, self.when = hook, act, when
        self.seen = []

    def see(self, hook, report):
        self.seen.append(hook)
        if hook == self.hook and all(getattr(report, key) == value for key, value in self.when.items()):
            self.act()

    @genkit.hookimpl
    def on_run_start(self, start):
        self.see("start", start)

    @genkit.hookimpl
    def on_step(self, report):
        self.see("step", report)

    @genkit.hookimpl
    def on_epoch_end(self, report):
        self.see("epoch", report)

    @genkit.hookimpl
    def on_evaluation(self, report):
        self.see("evaluation", report)

    @genkit.hookimpl
    def on_checkpoint(self, report):
        self.see("checkpoint", report)


def die():
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def wholes(tmp_path_factory):
    """Runs that nobody disturbed, by their overrides."""
    return tmp_path_factory.mktemp("wholes"), {}


@pytest.fixture
def runs(tmp_path, registry, wholes):
    """Starts and resumes runs of toys in one folder."""

    class Runs:
        def hooked(self, hook, work):
            if hook is not None:
                registry.manager.register(hook)
            try:
                return work()
            finally:
                if hook is not None:
                    registry.manager.unregister(hook)

        def run(self, name, *overrides, hook=None, **options):
            recipe = {**toy.RECIPE, "evaluate": EVALUATE}
            options = {"name": name, "runs": tmp_path, "device": "cpu", **options}
            return self.hooked(hook, lambda: genkit.run(recipe, overrides=["train.epochs=3", *overrides], **options))

        def whole(self, *overrides):
            """How such a run ends that nobody disturbs, and its folder."""
            place, done = wholes
            if overrides not in done:
                done[overrides] = self.run(f"run{len(done)}", *overrides, runs=place)
            return done[overrides], done[overrides].folder

        def resume(self, name, *overrides, hook=None, **options):
            path = tmp_path / name
            return self.hooked(hook, lambda: resume(path, overrides=overrides, device="cpu", **options))

    return Runs()


def contents(folder):
    """Every file of a run but its lock, with the times at which they were written."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def last_of(folder):
    return read_checkpoint(RunFolder(folder).last)


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def lines(folder, name, split="validation"):
    return [(r.step, r.value) for r in read_records(folder / "metrics.jsonl") if (r.name, r.split) == (name, split)]


# ---- the same recipe ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", ["run", "resume"])
def test_an_interrupted_run_ends_as_one_that_was_not(runs, tmp_path, again):
    end, whole = runs.whole()
    stopped = runs.run("parts", hook=Hook("step", step=4))
    assert (stopped.status, stopped.signal) == ("interrupted", signal.SIGTERM)
    assert not RunFolder(tmp_path / "parts").result.exists()
    continued = runs.run("parts", resume=True) if again == "run" else runs.resume("parts")
    assert (continued.status, continued.message, list(continued.records)) == ("finished", "", list(end.records))
    assert differences(whole, tmp_path / "parts") == []


@pytest.mark.parametrize("again", ["run", "resume"])
def test_a_run_that_died_before_its_first_checkpoint_starts_over(runs, tmp_path, again):
    late = ["train.checkpoint_every=3", "train.best=none", "train.log_every=1"]
    end, whole = runs.whole(*late)
    with pytest.raises(KeyboardInterrupt):
        runs.run("parts", *late, hook=Hook("step", die, step=5))
    folder = RunFolder(tmp_path / "parts")
    assert folder.kept() == []
    assert len(lines(folder.path, "guess/loss", "train")) == 5
    hook = Hook("start", lambda: None)
    torch.manual_seed(99)  # whatever happened since
    options = {"hook": hook, **({"resume": True} if again == "run" else {})}
    continued = runs.run("parts", *late, **options) if again == "run" else runs.resume("parts", **options)
    assert (continued.status, continued.records) == ("finished", end.records)
    assert hook.seen.count("step") == 9
    assert differences(whole, folder.path) == []


@pytest.mark.parametrize("again", ["run", "resume"])
def test_a_finished_run_is_returned_as_it_is(runs, tmp_path, again):
    end = runs.run("run")
    before = contents(tmp_path / "run")
    hook = Hook("start", lambda: None)
    continued = runs.run("run", resume=True, hook=hook) if again == "run" else runs.resume("run", hook=hook)
    assert (continued.status, list(continued.records)) == ("finished", list(end.records))
    assert continued.message == f"{tmp_path / 'run'} is finished already"
    assert hook.seen == []
    assert contents(tmp_path / "run") == before


def test_a_run_interrupted_after_its_last_step_is_finished_when_it_goes_on(runs, tmp_path):
    end, whole = runs.whole()
    assert runs.run("parts", hook=Hook("evaluation", epoch=3, entry="strip")).status == "interrupted"
    hook = Hook("start", lambda: None)
    assert list(runs.resume("parts", hook=hook).records) == list(end.records)
    assert "step" not in hook.seen
    assert differences(whole, tmp_path / "parts") == []


def test_resuming_what_is_not_there(runs, tmp_path):
    assert runs.run("new", resume=True).status == "finished"
    with pytest.raises(UsageError, match=r"gone is no run: it has no recipe.yaml; runs beside it: new"):
        runs.resume("gone")
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match="remove it: it holds no run"):
        runs.run("mine", resume=True)
    assert list((tmp_path / "mine").iterdir()) == []


# ---- a lock ------------------------------------------------------------------------------------------------------


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def another_that_holds(path):
    words = [sys.executable, "-S", "-c", HOLD, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as other:
        yield other.stdout.readline() == b"held\n"
        other.stdin.close()


def is_free(path):
    with another_that_holds(path) as held:
        return held


def test_a_folder_in_which_another_trains_is_left_alone(runs, tmp_path):
    pytest.importorskip("fcntl")
    runs.run("run", hook=Hook("step", step=4))
    before = contents(tmp_path / "run")
    with another_that_holds(tmp_path / "run" / ".lock"):
        for again in (lambda: runs.resume("run"), lambda: runs.run("run", resume=True)):
            with pytest.raises(UsageError, match="run is being trained by another process"):
                again()
    assert contents(tmp_path / "run") == before
    assert runs.resume("run").status == "finished"


@pytest.mark.parametrize("outcome", ["finished", "interrupted", "died", "failed"])
def test_the_lock_is_held_while_it_trains_and_then_free(runs, tmp_path, outcome):
    pytest.importorskip("fcntl")

    def act():
        held.append(not is_free(tmp_path / "run" / ".lock"))
        if outcome == "interrupted":
            signal.raise_signal(signal.SIGTERM)
        if outcome == "died":
            die()
        if outcome == "failed":
            raise ZeroDivisionError

    held = []
    raised = {"died": KeyboardInterrupt, "failed": genkit.GenkitError}.get(outcome)
    if raised:
        with pytest.raises(raised):
            runs.run("run", hook=Hook("step", act, step=4))
    else:
        assert runs.run("run", hook=Hook("step", act, step=4)).status == outcome
    assert held == [True]
    assert is_free(tmp_path / "run" / ".lock")


# ---- another recipe ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finished", [False, True], ids=["interrupted", "finished"])
@pytest.mark.parametrize("again", ["run", "resume"])
def test_another_recipe_is_refused_with_every_key_and_nothing_is_touched(runs, tmp_path, again, finished):
    runs.run("run", hook=None if finished else Hook("step", step=4))
    before = contents(tmp_path / "run")
    changes = ["train.epochs=5", "train.optimizer.lr=0.5", "evaluate.strip=null", "evaluate.more={use: strip, at: [1]}"]
    with pytest.raises(UsageError) as caught:
        runs.run("run", *changes, resume=True) if again == "run" else runs.resume("run", *changes)
    first, *keys, last = str(caught.value).splitlines()
    assert first == f"{tmp_path / 'run'} was trained with another recipe:"
    assert sorted(keys) == [
        "  evaluate.more.at: nothing, now [1]",
        "  evaluate.more.count: nothing, now 4",
        "  evaluate.more.use: nothing, now strip",
        "  evaluate.strip.count: 4, now nothing",
        "  evaluate.strip.every: 1, now nothing",
        "  evaluate.strip.use: strip, now nothing",
        "  train.epochs: 3, now 5",
        "  train.optimizer.lr: 0.01, now 0.5",
    ]
    assert last == "go on with this one with --allow-changes, or give a new run another --name"
    assert contents(tmp_path / "run") == before


def published(value):
    said = f"paper: Bits, table: one, figure: cost, value: {value}, protocol: {{train.epochs: 9}}"
    return f"published={{{said}}}"


def test_what_a_run_is_compared_with_is_no_change_of_its_training(runs, tmp_path):
    whole, folder = runs.whole()
    runs.run("run", published(1), hook=Hook("step", step=4))
    end = runs.resume("run", published(2), hook=Hook("step", step=8))
    assert end.status == "interrupted"
    end = runs.run("run", resume=True)  # and with none at all
    assert list(end.records) == list(whole.records)
    assert equal(last_of(tmp_path / "run").weights, last_of(folder).weights)
    assert "published" not in (tmp_path / "run" / "recipe.yaml").read_text()
    assert runs.run("run", published(3), resume=True).message.endswith("is finished already")


def test_a_recipe_that_was_edited_in_the_folder_is_another_one(runs, tmp_path):
    runs.run("run", hook=Hook("step", step=4))
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("momentum: 0.9", "momentum: 0.8"))
    with pytest.raises(UsageError, match=r"train.optimizer.momentum: 0.9, now 0.8"):
        runs.resume("run")


def test_allowed_changes_take_effect_and_are_noted(runs, tmp_path):
    folder = RunFolder(tmp_path / "run")
    runs.run("run", hook=Hook("step", step=4))
    before = json.loads(folder.environment.read_text())
    changes = ["train.epochs=5", "train.optimizer.lr=0.002"]
    with pytest.raises(UsageError):
        runs.resume("run", *changes)
    end = runs.resume("run", *changes, allow_changes=True)
    assert end.status == "finished"
    assert last_of(folder.path).facts["position"]["epoch"] == 5
    rates = dict(lines(folder.path, "model/lr", "train"))
    assert rates == {2: 0.01, 4: 0.01, **dict.fromkeys((6, 8, 10, 12, 14), 0.002)}
    changed = genkit.load(folder.path, device="cpu").recipe
    assert (changed.train.epochs, changed.train.optimizer.options["lr"]) == (5, 0.002)
    assert last_of(folder.path).facts["recipe"] == changed.to_plain()
    after = json.loads(folder.environment.read_text())
    noted = {"train.epochs": 5, "train.optimizer.lr": 0.002}
    assert after.pop("resumed") == [{"step": 5, "recipe": noted, "environment": {}}]
    assert after == before
    assert runs.resume("run").message.endswith("is finished already")  # what was allowed is its recipe now


class Straight(toy.Line):
    """A line under another name."""


def test_a_run_goes_on_with_another_distributions_component_where_it_is_named(runs, registry):
    """What served the run is gone; its own recipe can no longer be read, and need not be."""
    mine, others = (Plugin(name, name, f"{name}-dist", "1") for name in ("mine", "other"))
    Registrar(registry, mine)("straight", Straight)
    runs.run("run", "model.network=straight", hook=Hook("step", step=4))
    registry.discard(mine)
    Registrar(registry, others)("straight", Straight)
    with pytest.raises(MissingPlugin, match="write other-dist/straight to take that"):
        runs.resume("run")
    assert runs.resume("run", "model.network.use=other-dist/straight").status == "finished"
    assert runs.resume("run").message.endswith("is finished already")  # its recipe says by whom it is served now


def test_an_unchanged_resumption_is_noted_too(runs, tmp_path):
    runs.run("run", hook=Hook("step", step=4))
    runs.resume("run", hook=Hook("step", step=8))
    runs.resume("run", allow_changes=True)
    resumed = json.loads((tmp_path / "run" / "environment.json").read_text())["resumed"]
    assert resumed == [{"step": step, "recipe": {}, "environment": {}} for step in (5, 9)]


def test_a_finished_run_goes_on_where_a_change_is_allowed(runs, tmp_path):
    runs.run("run")
    longer, whole = runs.whole("train.epochs=5")
    end = runs.resume("run", "train.epochs=5", allow_changes=True)
    assert (end.message, list(end.records)) == ("", list(longer.records))
    assert equal(last_of(tmp_path / "run").weights, last_of(whole).weights)
    assert list(RunFolder(tmp_path / "run").read_result().records) == list(end.records)


def test_changes_of_the_data_and_the_model_that_do_not_fit_are_errors_of_ours(runs):
    runs.run("run", hook=Hook("step", step=4))
    with pytest.raises(CheckpointError, match=r"does not fit this recipe's model: (?s:.*)network.linear.weight"):
        runs.resume("run", "data.dims=6", allow_changes=True)


def limited(runs, name, *overrides, epochs=2):
    """Resumes with a change, but for no more than so many epochs."""
    seen = []

    def count():
        seen.append(True)
        if len(seen) == epochs:
            signal.raise_signal(signal.SIGTERM)

    return runs.resume(name, *overrides, allow_changes=True, hook=Hook("epoch", count)), seen


@pytest.mark.parametrize("finished", [False, True], ids=["interrupted", "finished"])
def test_fewer_epochs_than_it_has_had_end_it(runs, finished):
    runs.run("run", "train.epochs=4", hook=None if finished else Hook("step", step=11))
    end, seen = limited(runs, "run", "train.epochs=2")
    assert (end.status, seen) == ("finished", [])


@pytest.mark.parametrize(
    ("change", "moment"), [("train.clip_norm=1.0", ("step", 4)), ("train.on_nan=skip", ("epoch", 1))], ids=str
)
def test_what_adds_a_figure_is_an_allowed_change(runs, change, moment):
    runs.run("run", "train.log_every=4", hook=Hook(moment[0], **dict([moment])))
    assert runs.resume("run", change, allow_changes=True).status == "finished"


def test_another_optimizer_is_an_allowed_change(runs):
    runs.run("run", hook=Hook("step", step=4))
    with pytest.warns(UserWarning, match="the optimizer of player '(model|scale)' is another one: it starts anew"):
        end = runs.resume("run", "train.optimizer=adam", allow_changes=True)
    assert end.status == "finished"


@pytest.mark.filterwarnings("ignore:the optimizer of player")
def test_another_option_of_the_optimizer_is_an_allowed_change(runs):
    runs.run("run", "train.optimizer={use: rmsprop}", hook=Hook("step", step=4))
    assert runs.resume("run", "train.optimizer.momentum=0.9", allow_changes=True).status == "finished"


def test_the_evaluator_that_chose_the_best_may_go(runs, tmp_path):
    runs.run("run", "evaluate.other={use: nats, every: 1}", hook=Hook("step", step=4))
    runs.resume("run", "evaluate.cost=null", allow_changes=True)
    assert last_of(tmp_path / "run").facts["best"]["name"] == "other"


@pytest.mark.parametrize("best", ["other", "none"])
def test_another_choice_of_the_best_takes_effect(runs, tmp_path, best):
    runs.run("run", "evaluate.other={use: nats, every: 1}")
    end = runs.resume("run", f"train.best={best}", "train.epochs=4", allow_changes=True)
    chosen = last_of(tmp_path / "run").facts["best"]
    assert chosen is None if best == "none" else chosen["name"] == "other"
    assert best != "none" or {record.epoch for record in end.records} == {4}


def test_a_final_figure_that_is_measured_otherwise_replaces_the_first(runs, tmp_path, monkeypatch):
    runs.run("run")
    monkeypatch.setattr(toy.Nats, "evaluate", lambda self, subject, split: [genkit.Figure(7.0, better="lower")])
    end = runs.resume("run", "evaluate.strip=null", allow_changes=True)
    assert [record.value for record in end.records] == [7.0]
    assert [value for _, value in lines(tmp_path / "run", "cost", "test")] == [7.0]


def test_an_allowed_change_need_not_be_allowed_again_after_a_death(runs):
    runs.run("run", hook=Hook("step", step=4))
    with pytest.raises(KeyboardInterrupt):
        runs.resume("run", "train.epochs=5", allow_changes=True, hook=Hook("step", die, step=6))
    assert runs.resume("run").status == "finished"


@pytest.mark.parametrize("name", ["_note_resumption", "replace_text"])
def test_a_death_while_a_change_is_noted(runs, monkeypatch, name):
    runs.run("run", hook=Hook("step", step=4))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(sys.modules["genkit.runs"], name, lambda *args: die())
        runs.resume("run", "train.epochs=5", allow_changes=True)
    assert runs.resume("run").status == "finished"


# ---- another machine ---------------------------------------------------------------------------------------------


def test_other_versions_threads_and_plugins_are_warned_of(runs, tmp_path):
    runs.run("run", hook=Hook("step", step=4))
    path = tmp_path / "run" / "environment.json"
    environment = json.loads(path.read_text())
    threads, torch_now = environment["threads"], environment["packages"]["torch"]
    environment["threads"], environment["packages"]["torch"] = 64, "2.0.0"
    environment["plugins"]["toys"] = "toy 0.9"
    environment["git"] = {"commit": "another", "changed": True}  # of which nobody wants to hear
    path.write_text(json.dumps(environment))
    with pytest.warns(UserWarning, match="^not as when") as caught:
        end = runs.resume("run")
    assert [str(warning.message) for warning in caught] == [
        f"not as when {tmp_path / 'run'} began: threads was 64, is {threads}; torch was 2.0.0, is {torch_now}; "
        "plugin toys was toy 0.9, is None"
    ]
    assert end.status == "finished"
    (note,) = json.loads(path.read_text())["resumed"]
    assert note["environment"] == {"threads": threads, "torch": torch_now, "plugin toys": None}


# ---- going back --------------------------------------------------------------------------------------------------

KEEP = ["train.epochs=4", "train.keep={every: 1, best: 2}", "train.log_every=1"]


@pytest.mark.parametrize("name", ["epoch-0001", "epoch-0002", "best"])
def test_going_back_ends_the_same(runs, tmp_path, name):
    end, whole = runs.whole(*KEEP)
    runs.run("back", *KEEP)
    hook = Hook("start", lambda: None)
    again = runs.resume("back", checkpoint=name, hook=hook)
    assert (again.status, again.message, again.records) == ("finished", "", end.records)
    start = read_facts(RunFolder(whole).checkpoints / name)["position"]["epoch"]
    assert hook.seen.count("step") == 12 - 3 * start
    found = differences(whole, tmp_path / "back")
    assert found == []
    written = figures(tmp_path / "back" / "metrics.jsonl")
    assert sorted(written) == sorted(set(written)) == sorted(figures(whole / "metrics.jsonl"))


def test_going_back_from_the_middle_of_an_epoch(runs, tmp_path):
    end, whole = runs.whole(*KEEP)
    runs.run("back", *KEEP, hook=Hook("step", step=11))
    assert runs.resume("back", checkpoint="epoch-0002").records == end.records
    assert differences(whole, tmp_path / "back") == []


def test_going_back_to_what_is_not_there(runs, tmp_path):
    runs.run("run", *KEEP)
    before = contents(tmp_path / "run")
    with pytest.raises(UsageError, match=r"no checkpoint 'epoch-0005'; did you mean 'epoch-000\d'\? \(allowed: best, "):
        runs.resume("run", checkpoint="epoch-0005")
    assert contents(tmp_path / "run") == before


def test_a_death_on_the_way_back_leaves_all_as_it_was(runs, tmp_path, monkeypatch):
    runs.run("run", *KEEP)
    best = RunFolder(tmp_path / "run").best
    before = read_facts(best)["position"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(Trainer, "keep_place", lambda *args: die())
        runs.resume("run", checkpoint="epoch-0002")
    assert runs.resume("run").message.endswith("is finished already")
    assert read_facts(best)["position"] == before


def flip(path):
    """One bit of the weights is another one, in a file of its own."""
    file = path / "model.safetensors"
    broken = bytearray(file.read_bytes())
    broken[-1] ^= 1
    file.unlink()
    file.write_bytes(broken)


def test_a_damaged_last_names_the_others_and_they_do(runs, tmp_path):
    end, whole = runs.whole(*KEEP)
    runs.run("run", *KEEP, hook=Hook("step", step=11))
    folder = RunFolder(tmp_path / "run")
    flip(folder.last)
    before = contents(folder.path)
    for again in (lambda: runs.resume("run"), lambda: runs.run("run", *KEEP, resume=True)):
        with pytest.raises(CheckpointError) as caught:
            again()
        assert str(caught.value) == (
            f"checkpoint {folder.last} is damaged: model.safetensors is not what was written there; "
            "go on from another with --checkpoint: best, epoch-0001, epoch-0002, epoch-0003"
        )
    assert contents(folder.path) == before
    assert runs.resume("run", checkpoint="epoch-0003").records == end.records
    assert differences(whole, folder.path) == []


def test_a_damaged_last_that_is_alone(runs, tmp_path):
    runs.run("run", "train.best=none", hook=Hook("step", step=4))
    flip(RunFolder(tmp_path / "run").last)
    with pytest.raises(CheckpointError, match=r"is not what was written there$"):
        runs.resume("run")


def test_a_death_after_going_back_loses_no_figure(runs, tmp_path):
    _, whole = runs.whole(*KEEP)
    runs.run("back", *KEEP)
    with pytest.raises(KeyboardInterrupt):
        runs.resume("back", checkpoint="epoch-0002", hook=Hook("step", die, step=7))
    runs.resume("back")
    assert lines(tmp_path / "back", "cost") == lines(whole, "cost")


# ---- the time that it took ---------------------------------------------------------------------------------------


class Clock:
    """A clock that stands still unless it is told that something took time."""

    now = 100.0

    def perf_counter(self):
        return self.now

    def spend(self, seconds, then):
        """What a hook does that takes so many seconds."""

        def act():
            self.now += seconds
            then()

        return act


@pytest.fixture
def clock(monkeypatch):
    """The clock of all runs."""
    own = Clock()
    monkeypatch.setattr("genkit.engine.stopwatch.time", own)
    return own


def stop():
    signal.raise_signal(signal.SIGTERM)


def time_of(folder):
    return json.loads((folder / "result.json").read_text())["time"]


def pause():
    pass


def test_the_time_of_all_sessions_is_that_of_the_run(runs, tmp_path, clock):
    runs.run("run", hook=Hook("step", clock.spend(10, stop), step=4))
    runs.resume("run", hook=Hook("step", clock.spend(5, stop), step=6))
    with pytest.raises(KeyboardInterrupt):
        runs.resume("run", hook=Hook("start", clock.spend(1, die)))  # who dies of an error is not killed
    runs.resume("run", hook=Hook("step", clock.spend(2, pause), step=8))
    assert time_of(tmp_path / "run") == {"seconds": 18.0, "at_least": False}


def test_the_time_of_a_run_that_was_killed_is_known_to_its_last_checkpoint(
    runs, registry, tmp_path, clock, monkeypatch
):
    dies = Hook("step", clock.spend(5, die), step=8)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(Stopwatch, "close", lambda self: None)
        registry.manager.register(dies)
        runs.run("run", hook=Hook("step", clock.spend(10, pause), step=4))
    registry.manager.unregister(dies)
    assert json.loads((tmp_path / "run" / "time.json").read_text()) == {
        "seconds": 10.0,
        "at_least": False,
        "running": True,
    }
    runs.resume("run", hook=Hook("step", clock.spend(2, pause), step=8))
    assert time_of(tmp_path / "run") == {"seconds": 12.0, "at_least": True}


def test_a_run_that_was_killed_once_does_not_forget_it(runs, tmp_path, clock, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(Stopwatch, "close", lambda self: None)
        runs.run("run", hook=Hook("start", clock.spend(5, die)))
    runs.resume("run", hook=Hook("step", clock.spend(10, stop), step=4))
    runs.resume("run")
    assert time_of(tmp_path / "run") == {"seconds": 10.0, "at_least": True}


@pytest.mark.parametrize("text", [None, "", "[]", '{"seconds": 1'])
def test_the_time_of_what_an_older_genkit_began_is_not_known_whole(runs, tmp_path, clock, text):
    runs.run("run", hook=Hook("step", clock.spend(10, stop), step=4))
    file = tmp_path / "run" / "time.json"
    file.unlink() if text is None else file.write_text(text)
    runs.resume("run", hook=Hook("step", clock.spend(2, pause), step=8))
    assert time_of(tmp_path / "run") == {"seconds": 2.0, "at_least": True}


def test_a_run_that_goes_on_after_its_end_takes_the_time_of_both(runs, tmp_path, clock):
    runs.run("run", hook=Hook("step", clock.spend(10, pause), step=4))
    assert time_of(tmp_path / "run") == {"seconds": 10.0, "at_least": False}
    changed = "train.epochs=5"
    runs.resume("run", changed, allow_changes=True, hook=Hook("step", clock.spend(3, pause), step=12))
    assert time_of(tmp_path / "run") == {"seconds": 13.0, "at_least": False}


# ---- the command -------------------------------------------------------------------------------------------------


def invoke(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def command(tmp_path, monkeypatch):
    """``genkit run`` of a recipe file, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.json").write_text(json.dumps({**toy.RECIPE, "evaluate": EVALUATE}))
    return lambda *words: invoke("run", *words, "--device", "cpu")


def test_resume_auto_begins_goes_on_and_leaves_it(command, runs, tmp_path, registry):
    hook = Hook("step", step=2)
    stopped = runs.hooked(hook, lambda: command("small.json", "--resume", "auto"))
    assert stopped.exit_code == 128 + signal.SIGTERM
    assert stopped.stderr.splitlines()[-1] == "interrupted; continue with: genkit run --resume runs/small"
    position = last_of(tmp_path / "runs" / "small").facts["position"]
    assert (position["epoch"], position["step_in_epoch"]) == (1, 0) or position["step_in_epoch"] == 3
    done = command("small.json", "--resume", "auto")
    assert (done.exit_code, done.stderr) == (0, "")
    again = command("small.json", "--resume", "auto")
    assert (again.exit_code, again.stderr) == (0, "runs/small is finished already\n")
    assert again.stdout == done.stdout
    assert command("--resume", "runs/small").stdout == done.stdout
    refused = command("small.json")
    assert refused.exit_code == 2
    assert "give the run another --name" in refused.stderr


def test_changes_are_refused_and_allowed_on_the_command_line(command, runs, tmp_path):
    runs.hooked(Hook("step", step=2), lambda: command("small.json"))
    for words in (("small.json", "--resume", "auto"), ("--resume", "runs/small")):
        refused = command(*words, "train.epochs=4")
        assert refused.exit_code == 2
        assert "  train.epochs: 2, now 4\n" in refused.stderr
        assert "--allow-changes" in refused.stderr
    first = command("--resume", "runs/small", "train.epochs=3", "--allow-changes")
    assert first.exit_code == 0
    second = command("small.json", "--resume", "auto", "train.epochs=4", "--allow-changes")
    assert second.exit_code == 0
    folder = tmp_path / "runs" / "small"
    assert last_of(folder).facts["position"]["epoch"] == 4
    resumed = json.loads((folder / "environment.json").read_text())["resumed"]
    assert [note["recipe"] for note in resumed] == [{"train.epochs": 3}, {"train.epochs": 4}]


def test_going_back_on_the_command_line(command, tmp_path):
    keep = ["train.epochs=3", "train.keep.every=1"]
    done = command("small.json", *keep)
    flip(tmp_path / "runs" / "small" / "checkpoints" / "last")
    damaged = command("--resume", "runs/small")
    assert (damaged.exit_code, damaged.stdout) == (1, "")
    assert "go on from another with --checkpoint: best, epoch-0001, epoch-0002, epoch-0003" in damaged.stderr
    back = command("--resume", "runs/small", "--checkpoint", "epoch-0002")
    assert (back.exit_code, back.stdout) == (0, done.stdout)


REQUESTS = [
    (["small.json", "--resume", "runs/small"], "--resume RUN takes the run's own recipe"),
    (["--resume", "runs/small", "--name", "other"], "--resume RUN takes the run's own recipe"),
    (["--resume", "runs/small", "--dry-run"], "--resume RUN takes the run's own recipe"),
    (["small.json", "--checkpoint", "best"], "--checkpoint and --allow-changes are for --resume RUN"),
    (["small.json", "--allow-changes"], "--checkpoint and --allow-changes are for --resume RUN"),
    (["small.json", "--resume", "auto", "--checkpoint", "best"], "--checkpoint and --allow-changes are for"),
    (["--resume", "auto"], "a recipe is wanted, or --resume RUN"),
    ([], "a recipe is wanted, or --resume RUN"),
    (["--resume", "runs/gone"], "runs/gone is no run"),
]


@pytest.mark.parametrize(("words", "message"), REQUESTS, ids=lambda value: " ".join(value) if value else "nothing")
def test_requests_that_cannot_be_served(command, tmp_path, words, message):
    result = command(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}")
    assert not (tmp_path / "runs").exists()
