"""Whole runs on a folder of images: the same weights however it is read, and no process that stays behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

import genkit
from genkit.cli import app

COMMAND = str(Path(sys.executable).with_name("genkit"))
RECIPE = {
    "seed": 1,
    "data": {"use": "image_folder", "path": "photos", "size": 8, "validation": 0.2, "test": 0.1},
    "model": {
        "use": "vae",
        "latent_dim": 2,
        "encoder": {"use": "mlp", "hidden_dims": [8]},
        "decoder": {"use": "mlp", "hidden_dims": [8]},
        "likelihood": "discretized_logistic",
    },
    "objective": "elbo",
    "train": {"epochs": 2, "batch_size": 8, "log_every": 1},
    "evaluate": {"bpd": {"use": "bits_per_dim", "every": 1}},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with photos and a recipe."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    for i in range(60):
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(f"photos/{i:02}.jpg")
    Path("photos.yaml").write_text(yaml.safe_dump(RECIPE))
    return tmp_path


def run(*words):
    return CliRunner().invoke(app, ["run", *words, "--device", "cpu"])


def weights(name):
    return {key: value.tolist() for key, value in load_file(f"runs/{name}/checkpoints/last/model.safetensors").items()}


def test_a_run_says_where_its_images_are_and_comes_to_the_same_weights(folder):
    how = {
        "kept": (["train.workers=2"], "60 examples kept on cpu as uint8, read once by 2 workers (11.5 kB)"),
        "kept_alone": (["train.workers=0"], "60 examples kept on cpu as uint8, read once by the training process"),
        "streamed": (["train.workers=2", "train.cache=none"], "60 examples streamed by 2 workers"),
        "streamed_alone": (["train.workers=0", "train.cache=none"], "60 examples streamed by the training process"),
        "on_host": (["train.cache=host"], "60 examples kept on cpu as uint8, read once by"),
    }
    for name, (overrides, said) in how.items():
        result = run("photos.yaml", "--name", name, *overrides)
        assert result.exit_code == 0, result.stderr
        assert f"\ndata: {said}" in result.stderr
        assert weights(name) == weights("kept"), name
    run("photos.yaml", "--name", "other", "seed=2")
    assert weights("other") != weights("kept")


def test_a_dry_run_says_it_too(folder):
    result = run("photos.yaml", "--dry-run", "train.workers=2", "train.cache=none")
    assert "60 examples streamed by 2 workers" in result.stdout


class StopsAt:
    """Asks a run to end after so many steps, as Ctrl-C does."""

    def __init__(self, step):
        self.step = step

    @genkit.hookimpl
    def on_step(self, report):
        if report.step == self.step:
            signal.raise_signal(signal.SIGINT)


def test_a_run_that_is_resumed_within_an_epoch_comes_to_the_same_weights(folder):
    assert run("photos.yaml", "--name", "whole", "train.workers=0").exit_code == 0
    manager, stopper = genkit.registry.installed().manager, StopsAt(3)
    manager.register(stopper)
    try:
        assert run("photos.yaml", "--name", "cut", "train.workers=0").exit_code == 130
    finally:
        manager.unregister(stopper)
    facts = json.loads(Path("runs/cut/checkpoints/last/state.json").read_text())
    assert (facts["position"]["epoch"], facts["position"]["step_in_epoch"]) == (0, 4)
    assert run("--resume", "runs/cut").exit_code == 0
    assert weights("cut") == weights("whole")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", ["auto", "none"])
def test_a_damaged_image_ends_a_run_with_its_name(folder, workers, cache):
    words = ["photos.yaml", f"train.workers={workers}", f"train.cache={cache}", "data.validation=0", "data.test=0"]
    content = Path("photos/07.jpg").read_bytes()
    Path("photos/07.jpg").write_bytes(content[: len(content) - 40])
    result = run(*words)
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: {folder}/photos/07.jpg cannot be read (OSError: image file is truncated")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("cache", ["device", "host"])
def test_images_that_do_not_fit_where_they_are_wanted(folder, cache, monkeypatch):
    monkeypatch.setattr("genkit.engine.placement.free_bytes", lambda device: 9000)
    result = run("photos.yaml", f"train.cache={cache}")
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: command line train.cache={cache}: train.cache: image_folder cannot be kept on the {cache}: "
        "its examples take 11.5 kB as bytes, and 9.0 kB are free; auto or none would do\n"
    )
    assert not Path("runs").exists()


# ---- processes ---------------------------------------------------------------------------------------------------


def members(group):
    """The processes of a group that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, own = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(own) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.fixture
def process(folder):
    """A run that would never end, with two workers, in a process group of its own."""
    endless = ["train.epochs=1000000", "train.checkpoint_every=1000000", "train.cache=none", "train.workers=2"]
    words = [COMMAND, "run", "photos.yaml", *endless, "evaluate=null", "--name", "cut", "--device", "cpu"]
    started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = Path("runs/cut/metrics.jsonl")
    try:
        wait_until(lambda: metrics.is_file() and '"split": "train"' in metrics.read_text(), 90)
        wait_until(lambda: len(members(started.pid)) == 3, 10)
        yield started
    finally:
        if members(started.pid):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_to_the_whole_group_ends_a_run_with_a_checkpoint(process, number, code):
    began = time.monotonic()
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - began < 5
    assert process.returncode == code
    assert "interrupted; continue with: genkit run --resume runs/cut" in stderr
    assert "Traceback" not in stderr
    assert "Exception" not in stderr
    assert not members(process.pid)
    position = json.loads(Path("runs/cut/checkpoints/last/state.json").read_text())["position"]
    assert position["epoch"] + position["step_in_epoch"] > 0


def test_no_worker_survives_its_run(process):
    process.kill()
    process.wait()
    wait_until(lambda: not members(process.pid), 15)
