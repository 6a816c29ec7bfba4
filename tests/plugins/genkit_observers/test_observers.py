"""Observers: every figure once, on disk, in TensorBoard and before the user's eyes."""

import io
import json

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import genkit
from genkit import EpochEnd, EvaluationEnd, Record, RunEnd, RunStart, StepReport
from genkit_observers.jsonl import MetricsFile
from genkit_observers.progress import LineDisplay, LiveDisplay


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


def test_live_display_shows_progress_speed_losses_and_figures(tmp_path):
    text = shown(LiveDisplay, tmp_path)
    for part in ("3/6", "3/3", "50.0 steps/s, 1,600 examples/s", "model/loss", "0.9 bits/dim", "lower bound", "left"):
        assert part in text, part
