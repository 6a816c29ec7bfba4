"""Signals: they break an evaluation off at once, lose nothing, and are too late once everything is done."""

import os
import signal
import threading
import time
from collections.abc import Sequence

import pytest
import torch
import toy
from test_loop import Watcher, equal, trainer_of, weights_of

import genkit
from genkit.engine.checkpoint import read_checkpoint
from genkit.engine.folder import RunFolder
from genkit.engine.stop import Stopped, StopRequest

ENDLESS = 60.0


class Counts(genkit.Evaluator):
    """Counts its calls and adds up the weights that it saw; both are in its figures, none in its constructor."""

    splits = ("validation", "test")

    def __init__(self, model: genkit.GenerativeModel, /):
        self.calls, self.sum = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.float64)

    def state(self):
        return {"calls": self.calls, "sum": self.sum}

    def load_state(self, state):
        assert set(state) == {"calls", "sum"}
        self.calls, self.sum = state["calls"].clone(), state["sum"].clone()

    def evaluate(self, subject, split):
        self.calls += 1  # in place: whoever keeps a state must have made a copy
        self.sum += sum(parameter.double().sum() for parameter in subject.model.parameters())
        return [genkit.Figure(float(self.calls)), genkit.Figure(self.sum.item(), "sum")]


class Hangs(genkit.Evaluator):
    """At one call it sends its own process a signal and never ends, as if somebody had lost patience."""

    moment = None  # (epoch, split, how); shared by all
    heard = None  # what happened in it
    splits = ("train", "validation", "test")

    def __init__(self, model: genkit.GenerativeModel, /, *, splits: Sequence[str] = ("validation", "test")):
        self.splits = tuple(splits)

    def evaluate(self, subject, split):
        how = ""
        if Hangs.moment and Hangs.moment[:2] == (subject.epoch, split):
            how, Hangs.moment = Hangs.moment[2], None
        yield genkit.Picture(torch.zeros(1, 2, 2), f"before_{split}")
        end = time.monotonic() + ENDLESS
        try:
            if how:
                os.kill(os.getpid(), signal.SIGTERM)
            while how == "busy" and time.monotonic() < end:
                torch.rand(3)
            while how == "sleep" and time.monotonic() < end:
                time.sleep(ENDLESS)
        except Exception as error:  # what a careless evaluator may do
            Hangs.heard.append(error)
        yield genkit.Figure(1.0)


ENTRIES = {
    "first": {"use": "counts", "every": 1},
    "cost": {"use": "nats", "every": 1},
    "hangs": {"use": "hangs", "every": 1},
    "last": {"use": "counts", "every": 1},
    "later": {"use": "counts", "at": [2]},
}


@pytest.fixture(autouse=True)
def _evaluators(monkeypatch):
    monkeypatch.setitem(toy.COMPONENTS, "counts", Counts)
    monkeypatch.setitem(toy.COMPONENTS, "hangs", Hangs)
    monkeypatch.setattr(Hangs, "moment", None)
    monkeypatch.setattr(Hangs, "heard", [])


def trainer(folder, watcher=None, *overrides):
    return trainer_of(folder, watcher, ["train.log_every=1", *overrides], evaluate=ENTRIES)


def figures(*watchers):
    """Every figure of evaluators; one that was taken again must be the same."""
    found = {}
    for watcher in watchers:
        for report in watcher.of("evaluation"):
            for record in report.records:
                key = (record.step, record.split, record.name)
                assert found.setdefault(key, record.value) == record.value, key
    return found


def contents(folder):
    there = RunFolder(folder).checkpoints
    return {str(path.relative_to(there)): path.read_bytes() for path in sorted(there.rglob("*")) if path.is_file()}


def stop_and_go_on(folder, moment, *overrides):
    """A run that hangs at such a call, is stopped, and goes on; returns both its parts' watchers and the trainer."""
    Hangs.moment = moment
    first, second = Watcher(), Watcher()
    began = time.monotonic()
    end = trainer(folder, first, *overrides).run()
    assert time.monotonic() - began < ENDLESS / 4
    assert (end.status, end.signal) == ("interrupted", signal.SIGTERM)
    assert (Hangs.moment, Hangs.heard) == (None, [])
    assert [report.status for report in first.of("end")] == ["interrupted"]
    torch.manual_seed(99)  # whatever happened since
    again = trainer(folder, second, *overrides)
    again.restore(read_checkpoint(RunFolder(folder).last))
    return first, second, again


# ---- in an evaluation --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("epoch", "how", "extra"),
    [(0, "busy", ()), (1, "busy", ()), (1, "sleep", ()), (2, "sleep", ()), (1, "busy", ("train.ema=0.9",))],
)
def test_an_evaluation_is_broken_off_and_done_again(tmp_path, epoch, how, extra):
    watcher = Watcher()
    whole = trainer(tmp_path / "whole", watcher, *extra)
    end = whole.run()

    first, second, again = stop_and_go_on(tmp_path / "parts", (epoch, "validation", how), *extra)
    kept = read_checkpoint(RunFolder(tmp_path / "parts").last)
    assert kept.facts["position"] == {"epoch": epoch, "step_in_epoch": 0, "judged": epoch - 1}
    assert kept.state["evaluator.first/calls"].item() == epoch  # the call of this epoch does not count
    assert [report.entry for report in first.of("evaluation")][-2:] == ["first", "cost"]
    assert [report.reason for report in first.of("checkpoint")][-1] == "interrupted"

    assert again.run().records == end.records
    assert next((r.entry, r.epoch) for r in second.of("evaluation")) == ("first", epoch)  # the whole epoch again
    assert equal(weights_of(again), weights_of(whole))
    assert figures(first, second) == figures(watcher)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    states = [one.judge.evaluator_states() for one in (again, whole)]
    assert states[0].keys() == states[1].keys()
    assert all(equal(states[0][entry], states[1][entry]) for entry in states[0])
    assert states[0]["first"]["calls"].item() == 4  # three on the validation data, one on the test data


def test_a_signal_in_the_first_of_two_splits(tmp_path, monkeypatch):
    both = {**ENTRIES, "hangs": {"use": "hangs", "splits": ["train", "validation"], "every": 1}}
    monkeypatch.setitem(globals(), "ENTRIES", both)
    watcher = Watcher()
    trainer(tmp_path / "whole", watcher).run()
    first, second, again = stop_and_go_on(tmp_path / "parts", (1, "train", "busy"))
    again.run()
    assert figures(first, second) == figures(watcher)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_what_was_broken_off_leaves_no_trace(tmp_path):
    """No picture, no figure, and modules and gradients as training wants them."""
    Hangs.moment = (1, "validation", "busy")
    watcher = Watcher()
    run = trainer(tmp_path, watcher)
    run.run()
    assert [report.epoch for report in watcher.of("evaluation") if report.entry == "hangs"] == [0]
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == ["before_validation_0000.png"]
    assert torch.is_grad_enabled()
    assert run.assembly.parts.model.training
    assert run.judge.ranking == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_signal_before_counts_too(tmp_path):
    """Somebody asked while an observer was told of one verdict: the next evaluator is not called."""

    def ask(name, report):
        if name == "evaluation" and (report.entry, report.epoch) == ("first", 1):
            signal.raise_signal(signal.SIGTERM)

    watcher = Watcher(ask)
    assert trainer(tmp_path, watcher).run().status == "interrupted"
    assert [report.entry for report in watcher.of("evaluation")][-1] == "first"
    assert read_checkpoint(RunFolder(tmp_path).last).facts["position"]["judged"] == 0


def test_entries_with_a_common_beginning_remember_each_their_own(tmp_path, monkeypatch):
    dotted = {"first": ENTRIES["first"], "first.b": {"use": "counts", "at": [1]}, "hangs": ENTRIES["hangs"]}
    monkeypatch.setitem(globals(), "ENTRIES", dotted)
    watcher = Watcher()
    trainer(tmp_path / "whole", watcher).run()
    first, second, again = stop_and_go_on(tmp_path / "parts", (2, "validation", "busy"))
    again.run()
    assert figures(first, second) == figures(watcher)


# ---- in the final test -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["busy", "sleep"])
def test_the_final_test_is_broken_off_and_done_again(tmp_path, how):
    watcher = Watcher()
    end = trainer(tmp_path / "whole", watcher).run()
    tested = [(r.entry, r.epoch) for r in watcher.of("evaluation") if r.split == "test"]
    assert len(tested) == 5

    best = read_checkpoint(RunFolder(tmp_path / "whole").best).facts["position"]["epoch"]
    first, second, again = stop_and_go_on(tmp_path / "parts", (best, "test", how))
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")  # of the test nothing is kept
    resumed = again.run()
    assert (resumed.status, resumed.records) == ("finished", end.records)
    assert [(r.entry, r.epoch) for r in second.of("evaluation")] == tested
    assert second.of("step") == second.of("epoch") == second.of("checkpoint") == []
    assert figures(first, second) == figures(watcher)
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a_signal_between_two_final_verdicts(tmp_path):
    def ask(name, report):
        if name == "evaluation" and (report.entry, report.split) == ("first", "test"):
            signal.raise_signal(signal.SIGINT)

    end = trainer(tmp_path, Watcher(ask)).run()
    assert (end.status, end.signal) == ("interrupted", signal.SIGINT)


def test_a_signal_after_everything_is_done_changes_nothing(tmp_path):
    def ask(name, report):
        if name == "evaluation" and (report.entry, report.split) == ("later", "test"):
            signal.raise_signal(signal.SIGTERM)

    plain = trainer(tmp_path / "plain").run()
    watcher = Watcher(ask)
    end = trainer(tmp_path / "asked", watcher).run()
    assert (end.status, end.signal, end.records) == ("finished", 0, plain.records)
    assert [report.status for report in watcher.of("end")] == ["finished"]
    assert contents(tmp_path / "asked") == contents(tmp_path / "plain")


# ---- the request itself ------------------------------------------------------------------------------------------


def test_the_first_signal_is_noted_the_second_interrupts():
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert not stop
        signal.raise_signal(signal.SIGTERM)
        assert stop
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_under_a_launcher_a_second_signal_changes_nothing(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with StopRequest() as stop:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM


def test_at_once_means_now_and_only_there():
    reached = []
    with StopRequest() as stop:
        with stop.at_once():
            pass
        signal.raise_signal(signal.SIGTERM)  # after it: noted, no more
        with pytest.raises(Stopped), stop.at_once():
            reached.append("inside")
    assert reached == []
    with StopRequest() as stop:
        with pytest.raises(Stopped), stop.at_once():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):  # a second one
            signal.raise_signal(signal.SIGTERM)


def test_at_once_ends_with_an_error_too():
    with StopRequest() as stop:
        with pytest.raises(ZeroDivisionError), stop.at_once():
            raise ZeroDivisionError
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM


def test_stopped_is_not_for_those_who_catch_errors():
    assert not issubclass(Stopped, Exception)


def test_outside_the_main_thread_signals_are_left_alone(tmp_path):
    found = []

    def run():
        found.append(trainer(tmp_path).run().status)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == ["finished"]
    assert signal.getsignal(signal.SIGTERM) is before
