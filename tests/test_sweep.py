"""Sweeps: the grid, what is handed to a launcher, the table, and what is left when somebody stops them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import genkit
from genkit import Record, runs
from genkit.sweep import Axis, Outcome, Point, Sweep, grid, table, write_csv


class InProcess:
    """A launcher that reads a job's command and runs it here; some fail."""

    def __init__(self, failing=()):
        self.failing = failing
        self.names = []

    def run(self, jobs):
        for job in jobs:
            self.names.append(job.name)
            words = list(job.words[job.words.index("run") + 1 :])
            options = {words[i]: words[i + 1] for i, word in enumerate(words) if word.startswith("--")}
            overrides = words[1 : words.index("--name")]
            assert options["--resume"] == "auto"
            if job.name in self.failing:
                job.log.parent.mkdir(exist_ok=True)
                job.log.write_text("epoch 1\nerror: it broke\nmore\n")
                yield job, 1
                continue
            runs.run(
                words[0], overrides=overrides, name=options["--name"], runs=options["--runs"], device="cpu", resume=True
            )
            yield job, 0


@pytest.fixture
def recipe(small_recipe, tmp_path):
    small_recipe["train"]["epochs"] = 1
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small_recipe))
    return path


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("a.b=0.5,1,4", ("0.5", "1", "4")),
        ("seed=0..4", ("0", "1", "2", "3", "4")),
        ("seed=3..1,9", ("3", "2", "1", "9")),
        ("seed=-1..1", ("-1", "0", "1")),
        ("h=[1, 2],[3]", ("[1, 2]", "[3]")),
        ("o={use: adam, lr: 0.1},sgd", ("{use: adam, lr: 0.1}", "sgd")),
        ("path='a,b',c", ("'a,b'", "c")),
        ("one=1", ("1",)),
        ("file=a..b", ("a..b",)),
    ],
)
def test_axes_are_read_as_they_are_meant(word, values):
    assert Axis.parse(word) == Axis(word.partition("=")[0], values)


@pytest.mark.parametrize("word", ["beta", "=1,2", "beta=", "beta=1,,2"])
def test_a_word_that_is_no_axis_is_refused(word):
    with pytest.raises(genkit.UsageError, match=r"a sweep takes key\.path=value"):
        Axis.parse(word)


def test_the_grid_is_the_product_with_fixed_overrides_in_each():
    points = list(grid([Axis("a.x", ("1", "2")), Axis("b.x", ("3", "4")), Axis("c", ("5",))]))
    assert [point.name for point in points] == ["a.x=1_b.x=3", "a.x=1_b.x=4", "a.x=2_b.x=3", "a.x=2_b.x=4"]
    assert points[1].overrides == ("a.x=1", "b.x=4", "c=5")
    assert points[1].values == {"a.x": "1", "b.x": "4"}


def test_names_can_be_folders_and_tell_points_apart():
    names = [point.name for point in grid([Axis("o", ("{use: a}", "{use- a}", "a/b"))])]
    assert len(set(names)) == 3
    assert all(runs.checked_name(name) == name for name in names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seed=1"], "a sweep needs a key with several values"),
        (["seed=1,2", "seed=3"], "seed is given twice"),
        (["seed=1,1"], "seed=1 is given twice"),
        (["objective.betta=1,2"], "objective.betta: there is no such key; did you mean 'beta'"),
        (["model.encoder=mlp,cmn"], "no backbone is called 'cmn'"),
        (["evaluate.manifold={use: manifold}", "model.latent_dim=2,3"], "evaluate.manifold"),
    ],
)
def test_everything_is_checked_before_anything_starts(words, message, recipe, tmp_path):
    with pytest.raises(genkit.UsageError, match=message):
        Sweep(recipe, words, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_only_what_is_unfinished_is_run_again(recipe, tmp_path):
    words = ["objective.beta=0.5,1", "seed=0..1"]
    first = InProcess(failing=["beta=1_seed=0"])
    outcomes = list(Sweep(recipe, words, tmp_path / "sweep").run(first))
    assert [o.status for o in outcomes] == ["finished", "finished", "failed", "finished"]
    assert "error: it broke" in outcomes[2].message
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "sweep").glob("*/checkpoints/last/*")}

    second = InProcess()
    sweep = Sweep(recipe, words, tmp_path / "sweep")
    again = list(sweep.run(second))
    assert second.names == ["beta=1_seed=0"]
    assert [o.point.name for o in again][-1] == "beta=1_seed=0", "it was the last to end"
    assert [o.point for o in sweep.in_order(again)] == sweep.points
    assert [o.status for o in again] == ["finished"] * 4
    assert {p: p.stat().st_mtime_ns for p in kept} == kept

    alone = runs.run(recipe, overrides=["objective.beta=0.5", "seed=1"], name="alone", runs=tmp_path, device="cpu")
    assert [o.records for o in again if o.point.name == "beta=0.5_seed=1"] == [list(alone.records)]


def test_a_point_whose_recipe_changed_is_not_taken_for_finished(recipe, tmp_path):
    list(Sweep(recipe, ["seed=0..1"], tmp_path / "sweep").run(InProcess()))
    recipe.write_text(recipe.read_text().replace("latent_dim: 2", "latent_dim: 3"))
    with pytest.raises(genkit.UsageError, match=r"model.latent_dim: 2, now 3"):
        list(Sweep(recipe, ["seed=0..1"], tmp_path / "sweep").run(InProcess()))


def outcome(value, tag, **values):
    record = Record(1, 1, "test", "bpd", value, "bits/dim", tag)
    return Outcome(Point("_".join(values.values()), values, ()), "finished", [record])


def test_the_table_takes_seeds_together_and_never_tags():
    outcomes = [
        outcome(1.0, "exact", beta="1", seed="0"),
        outcome(3.0, "exact", beta="1", seed="1"),
        outcome(0.5, "lower bound", beta="2", seed="0"),
        Outcome(Point("d", {"beta": "2", "seed": "1"}, ()), "failed"),
    ]
    headers, rows = table(outcomes)
    assert headers == ["beta", "test bpd bits/dim [exact]", "test bpd bits/dim [lower bound]", "status"]
    assert rows == [["1", "2.0000 ± 1.4142", "", "2 finished"], ["2", "", "0.5000", "1 finished, 1 failed"]]


def test_every_figure_is_in_the_csv(tmp_path):
    write_csv([outcome(1.0, "exact", beta="1"), Outcome(Point("d", {"beta": "2"}, ()), "failed")], tmp_path / "s.csv")
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert [(r["beta"], r["status"], r["value"], r["tag"]) for r in rows] == [
        ("1", "finished", "1.0", "exact"),
        ("2", "failed", None, None),
    ]


def test_a_stopped_sweep_leaves_runs_that_can_go_on(recipe, tmp_path):
    base = [
        sys.executable,
        "-m",
        "genkit",
        "sweep",
        str(recipe),
        "--runs",
        str(tmp_path),
        "--name",
        "s",
        "--device",
        "cpu",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = [*base, "seed=0..1", "train.epochs=100000", "evaluate=null", "--jobs", "2"]
    process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    states = [tmp_path / "s" / f"seed={seed}" / "checkpoints" / "last" / "state.json" for seed in (0, 1)]
    end = time.monotonic() + 120
    while not all(state.exists() for state in states):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "ending the runs that are under way" in stderr
    assert "Traceback" not in stderr
    for state in states:
        log = tmp_path / "s" / "logs" / f"{state.parents[2].name}.txt"
        assert "interrupted; continue with" in log.read_text()
        assert json.loads(state.read_text())["position"]["epoch"] > 0


def test_the_command_lists_and_refuses(recipe, tmp_path):
    from typer.testing import CliRunner

    from genkit.cli import app

    def invoke(*words):
        return CliRunner().invoke(app, ["sweep", str(recipe), *words, "--runs", str(tmp_path)])

    listed = invoke("seed=0..1", "train.epochs=2", "--dry-run")
    assert [line.split() for line in listed.stdout.splitlines()[1:]] == [
        ["seed=0", "seed=0", "train.epochs=2"],
        ["seed=1", "seed=1", "train.epochs=2"],
    ]
    assert [path.name for path in Path(tmp_path).iterdir()] == ["small.yaml"]
    for words, message in [
        (("seed=0..1", "--launcher", "slum"), "no launcher is called 'slum'; did you mean 'slurm'"),
        (("seed=0..1", "--launcher", "{use: slurm, hour: 2}"), "hour: there is no such key; did you mean 'hours'"),
        (("seed=0..1", "--launcher", "{use"), "a name or '{use: name, key: value}' is wanted"),
        (("seed=0..1", "--launcher", "slurm", "--jobs", "2"), "--jobs is for runs on this machine"),
        (("seed=0..1", "--name", "../x"), "run name"),
    ]:
        result = invoke(*words)
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
