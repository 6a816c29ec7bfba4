"""What evaluators say aloud, what they remember, and the floors beside their figures."""

import io
import json
import signal

import pytest
import torch
import toy
from typer.testing import CliRunner

import genkit
from genkit import EvaluationEnd, Figure, Note, Record, RunStart, read_records
from genkit.engine import Trainer, assemble
from genkit.engine.checkpoint import read_checkpoint
from genkit.engine.folder import RunFolder
from genkit.errors import PluginError
from genkit.evaluator import MEMORY
from genkit.recipe import load_recipe
from genkit.registry import Plugin, Registrar, load_registry

CPU = torch.device("cpu")


class Remembers(genkit.Evaluator):
    """Says what it measured before, and notes what it was told."""

    heard = None  # (entry's tag, epoch, split, history) of every call; shared by all

    def __init__(self, model: genkit.GenerativeModel, /, *, tag: str = "", splits: bool = False):
        self.tag = tag
        self._splits = ("validation", "test") if splits else ()

    @property
    def splits(self):
        return self._splits

    def evaluate(self, subject, split):
        Remembers.heard.append((self.tag, subject.epoch, split, list(subject.history)))
        yield Note("nothing to see", "note")
        value = float(sum(p.sum() for p in subject.model.parameters()))
        yield Figure(value, floor=0.25, better="lower")
        yield Figure(100.0 + subject.epoch, "extra")
        yield Note(f"collapsed at epoch {subject.epoch}")


class Watcher:
    """Keeps the verdicts, and may stop the run at one of them or at a step."""

    def __init__(self, hook="", step=0, entry=""):
        self.verdicts = []
        self.moment = hook, step, entry

    def see(self, hook, step, entry):
        if self.moment == (hook, step, entry):
            self.moment = ()
            signal.raise_signal(signal.SIGTERM)

    @genkit.hookimpl
    def on_step(self, report):
        self.see("step", report.step, "")

    @genkit.hookimpl
    def on_evaluation(self, report):
        self.verdicts.append(report)
        self.see("evaluation", report.step, report.entry)


@pytest.fixture
def trainer_of(tmp_path, monkeypatch):
    """Makes a trainer of a folder with two entries of the evaluator above, beside the toy one."""
    monkeypatch.setattr(Remembers, "heard", [])
    registry = toy.registry()
    Registrar(registry, Plugin("notes", "notes", "tests", "0"))("remembers", Remembers)
    entries = {
        "one": {"use": "remembers", "tag": "one", "every": 1},
        "one.b": {"use": "remembers", "tag": "one.b", "splits": True, "every": 1},
        "cost": {"use": "nats", "every": 1},
    }

    def make(name, watcher, *overrides):
        recipe = load_recipe({**toy.RECIPE, "evaluate": entries}, ["train.log_every=1", *overrides], registry)
        manager = load_registry([]).manager
        manager.register(watcher)
        return Trainer(assemble(recipe, CPU), RunFolder(tmp_path / name), manager)

    return make


def heard(tag):
    return [call[1:] for call in Remembers.heard if call[0] == tag]


# ---- notes -------------------------------------------------------------------------------------------------------


def test_notes_come_with_the_verdict_in_their_order(trainer_of):
    watcher = Watcher()
    trainer_of("run", watcher).run()
    verdicts = [v for v in watcher.verdicts if v.entry == "one"]
    assert [list(v.notes) for v in verdicts] == [
        ["note: nothing to see", f"warning: collapsed at epoch {epoch}"] for epoch in range(3)
    ]
    assert [[r.name for r in v.records] for v in verdicts] == [["one", "one/extra"]] * 3
    assert all(list(v.notes) == [] for v in watcher.verdicts if v.entry == "cost")


class Loose(Remembers):
    """Gives a bare number."""

    def evaluate(self, subject, split):
        yield 1.0


def test_what_is_no_figure_is_refused_with_the_evaluators_name(trainer_of, monkeypatch):
    monkeypatch.setattr(Remembers, "evaluate", Loose.evaluate)
    with pytest.raises(PluginError, match=r"^evaluate.one: Remembers gives float, where a Figure, a Picture or a Note"):
        trainer_of("run", Watcher()).run()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"value": torch.tensor(1.0)}, TypeError, r"Figure\(value=...\): a number is wanted, Tensor given; try .item"),
        ({"value": 1.0, "floor": "low"}, TypeError, r"Figure\(floor=...\): a number is wanted, str given"),
        ({"value": 1.0, "better": "smaller"}, ValueError, r"Figure\(better='smaller'\): lower, higher or None"),
    ],
)
def test_a_figure_is_a_number_with_a_direction(options, error, message):
    with pytest.raises(error, match=message):
        Figure(**options)
    assert Figure(1, better="lower", floor=0).value == 1


START = {"name": "r", "recipe": {}, "device": "cpu", "epochs": 2, "steps_per_epoch": 3, "samples_per_step": 4}
SAID = ["warning: collapsed [bold]here[/bold]", "note: fine"]


def start(folder):
    return RunStart(folder=folder, parameters={"model": 1}, **START)


def verdict(*records, notes=SAID):
    return EvaluationEnd("modes", "", 1, 3, list(records), (), notes)


def shown(display_class, folder, report):
    from rich.console import Console

    text = io.StringIO()
    live = display_class.__name__ == "LiveDisplay"
    console = Console(file=text, force_terminal=live, width=160, color_system=None)
    display = display_class(start(folder), console)
    display.on_run_start(start(folder))
    display.on_evaluation(report)
    display.on_run_end(genkit.RunEnd("finished", folder))
    return text.getvalue()


def test_lines_print_notes_as_they_are_even_without_figures(tmp_path):
    progress = pytest.importorskip("genkit_observers.progress")
    figure = Record(3, 1, "", "modes", 7.0, floor=8.0)
    assert shown(progress.LineDisplay, tmp_path, verdict(figure)).splitlines()[1:-1] == [
        "  modes: modes 7 (floor 8)",
        *(f"  modes: {note}" for note in SAID),
    ]
    assert shown(progress.LineDisplay, tmp_path, verdict()).splitlines()[1:-1] == [f"  modes: {n}" for n in SAID]


def test_the_live_display_prints_notes_above_itself(tmp_path):
    progress = pytest.importorskip("genkit_observers.progress")
    text = shown(progress.LiveDisplay, tmp_path, verdict(Record(3, 1, "", "modes", 7.0, floor=8.0)))
    for note in SAID:
        assert f"epoch 1, modes: {note}" in text
    assert "7 (floor 8)" in text


def test_tensorboard_keeps_notes_as_text_and_floors_as_scalars(tmp_path):
    tensorboard = pytest.importorskip("genkit_observers.tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = tensorboard.TensorBoard(start(tmp_path))
    board.on_evaluation(verdict(Record(3, 1, "", "modes", 7.0, floor=8.0), Record(3, 1, "", "modes/kl", 0.5)))
    board.on_run_end(genkit.RunEnd("interrupted", tmp_path))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    written = events.Tensors("notes/modes/text_summary")
    assert [(event.step, event.tensor_proto.string_val[0].decode()) for event in written] == [(3, n) for n in SAID]
    assert sorted(events.Tags()["scalars"]) == ["modes", "modes/kl", "modes_floor"]
    assert [(event.step, event.value) for event in events.Scalars("modes_floor")] == [(3, 8.0)]


# ---- what an evaluator remembers ---------------------------------------------------------------------------------


def test_it_remembers_its_own_figures_of_the_same_split_oldest_first(trainer_of):
    watcher = Watcher()
    trainer_of("run", watcher, "train.epochs=3").run()
    for entry, split in (("one", ""), ("one.b", "validation")):
        verdicts = [v for v in watcher.verdicts if (v.entry, v.split) == (entry, split)]
        calls = [call for call in heard(entry) if call[1] != "test"]
        assert [epoch for epoch, _, _ in calls] == [0, 1, 2, 3]
        for epoch, _, history in calls:
            assert history == [record for verdict in verdicts[:epoch] for record in verdict.records]
    (test,) = [history for _, split, history in heard("one.b") if split == "test"]
    assert test == []


def test_it_remembers_so_many_verdicts_and_no_more(trainer_of):
    trainer = trainer_of("run", Watcher(), f"train.epochs={MEMORY + 3}")
    trainer.run()
    _, _, history = heard("one")[-1]
    last = range(3, MEMORY + 3)
    assert [r.epoch for r in history if r.name == "one/extra"] == list(last)
    assert len(history) == 2 * MEMORY
    kept = read_checkpoint(trainer.folder.last).facts["history"]
    assert len(kept) == MEMORY * (2 + 2 + 1)  # of three entries, what is on the validation data or on none


MOMENTS = [
    ("step", 1, ""),
    ("step", 4, ""),
    ("evaluation", 0, "one"),
    ("evaluation", 3, "one"),
    ("evaluation", 3, "cost"),
    ("evaluation", 9, "one.b"),
]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_a_resumed_run_remembers_the_same(trainer_of, moment):
    trainer_of("whole", Watcher(), "train.epochs=3").run()
    whole = list(Remembers.heard)
    Remembers.heard.clear()
    assert trainer_of("parts", Watcher(*moment), "train.epochs=3").run().status == "interrupted"
    continued = trainer_of("parts", Watcher(), "train.epochs=3")
    continued.restore(read_checkpoint(continued.folder.last))
    continued.run()
    by_call = {(tag, epoch, split): history for tag, epoch, split, history in whole}
    assert len(by_call) == len(whole)
    for tag, epoch, split, history in Remembers.heard:  # an epoch that is judged again is among them twice
        assert history == by_call[tag, epoch, split]
        assert all(record.epoch < epoch for record in history)
    assert {call[:3] for call in Remembers.heard} == set(by_call)


# ---- floors ------------------------------------------------------------------------------------------------------


def test_floors_are_written_where_there_are_some_and_read_back(tmp_path):
    jsonl = pytest.importorskip("genkit_observers.jsonl")
    with_floor, without = Record(3, 1, "test", "frechet", 8.5, floor=0.5), Record(3, 1, "test", "bpd", 0.9)
    jsonl.MetricsFile(start(tmp_path)).on_evaluation(verdict(with_floor, without))
    path = tmp_path / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["floor"] == 0.5
    assert "floor" not in lines[1]
    assert read_records(path) == [with_floor, without]


def test_a_floor_of_zero_is_a_floor(tmp_path):
    jsonl = pytest.importorskip("genkit_observers.jsonl")
    record = Record(3, 1, "test", "frechet", 8.5, floor=0.0)
    jsonl.MetricsFile(start(tmp_path)).on_evaluation(verdict(record))
    assert read_records(tmp_path / "metrics.jsonl") == [record]


TINY = """\
data: {use: mixture, train: 128, validation: 16, test: 32}
model: {use: generator, latent_dim: 2, network: {use: mlp, hidden_dims: [4]}}
objective: {use: adversarial, critic: {use: mlp, hidden_dims: [4]}}
train: {epochs: 1, batch_size: 64}
evaluate:
  distance: {use: frechet, extractor: values}
"""


def test_floors_reach_the_final_table_and_the_file_and_no_column_is_empty(tmp_path, monkeypatch):
    from genkit.cli import app

    for plugin in ("genkit_gan", "genkit_toy", "genkit_metrics", "genkit_vae", "genkit_observers"):
        pytest.importorskip(plugin)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text(TINY)
    printed = CliRunner().invoke(app, ["run", "tiny.yaml"]).stdout
    header, row = printed.splitlines()[:2]
    assert header.split()[:4] == ["split", "figure", "value", "floor"]
    assert row.split()[:2] == ["test", "distance"]
    records = [r for r in genkit.load("runs/tiny", device="cpu").metrics if r.name == "distance"]
    assert [r.split for r in records] == ["validation", "test"]
    assert all(r.floor is not None and r.floor > 0 for r in records)
    assert row.split()[2:4] == [f"{records[-1].value:.4f}", f"{records[-1].floor:.4f}"]

    plain = "model={use: vae, latent_dim: 2, likelihood: gaussian, encoder: {use: mlp}, decoder: {use: mlp}}"
    words = ["run", "tiny.yaml", "--name", "plain", plain, "evaluate={bpd: bits_per_dim}"]
    header = CliRunner().invoke(app, words).stdout.splitlines()[0]
    assert "value" in header
    assert "floor" not in header
