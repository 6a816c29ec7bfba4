"""Kills a run again and again, and compares what is left at its end with a run that was never stopped.

``python tests/killing.py --kills 200`` does it at length; ``tests/test_killed.py`` in the form for every day.
"""

import argparse
import contextlib
import json
import random
import signal
import tempfile
import time
from pathlib import Path

from nursery import Nursery

RECIPE = """
seed: 3
data: {use: mnist, binarize: dynamic, train: 512, validation: 64, test: 64}
model:
  use: vae
  latent_dim: 2
  encoder: {use: mlp, hidden_dims: [16], dropout: 0.1}
  decoder: {use: mlp, hidden_dims: [16]}
objective: {use: elbo}
train:
  epochs: %d
  batch_size: 32
  log_every: 3
  ema: 0.9
  clip_norm: 10
  schedule: cosine
  keep: {last: 2, best: 2, every: 10}
evaluate:
  bpd: {use: bits_per_dim, every: 1}
  samples: {use: sample_grid, every: 2, rows: 1, columns: 4}
"""


def moments(dice, kills):
    """When to kill: at any time, or while a checkpoint is being written."""
    for number in range(kills):
        yield ("writing", dice.uniform(0, 0.003)) if number % 3 == 0 else ("any time", dice.uniform(0.05, 1.2))


def kill_at(nursery, folder, kind, delay):
    """Kills the child at such a moment, if it gets there; returns whether it was killed."""
    began = time.time()
    if kind == "writing":
        while time.time() < began + 3 and not in_writing(folder, began):
            time.sleep(0.0002)
    time.sleep(delay)
    nursery.kill()
    return nursery.wait() == -signal.SIGKILL, in_writing(folder, began)


def in_writing(folder, since):
    """Whether a checkpoint is half written, by a process that was started since."""
    halves = [path for end in (".new", ".previous") for path in folder.glob(f"checkpoints/*{end}")]
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_ctime > since for path in halves)
    return True


def killed_and_whole(place, epochs, kills, seed):
    """Trains a recipe twice, once whole and once killed so many times.

    Returns:
        The two folders, the number of kills that hit, and of those the number that hit a checkpoint being written.
    """
    (place / "recipe.yaml").write_text(RECIPE % epochs)
    words = ["run", str(place / "recipe.yaml"), "--runs", str(place), "--device", "cpu"]
    folder, hits, writing = place / "killed", 0, 0
    with Nursery(place / "log.txt") as nursery:
        nursery.start(*words, "--name", "whole")
        assert nursery.wait() == 0, (place / "log.txt").read_text()
        for kind, delay in moments(random.Random(seed), kills):
            nursery.start(*words, "--name", "killed", "--resume", "auto")
            hit, in_writing = kill_at(nursery, folder, kind, delay)
            hits, writing = hits + hit, writing + (hit and in_writing)
        nursery.start(*words, "--name", "killed", "--resume", "auto")
        assert nursery.wait() == 0, (place / "log.txt").read_text()[-3000:]
    return place / "whole", folder, hits, writing


def differences(whole, killed):
    """What is not the same in two runs: tensors to the bit, figures to the digit, files by name."""
    names = sorted(path.name for path in (whole / "checkpoints").iterdir())
    found = [] if names == sorted(path.name for path in (killed / "checkpoints").iterdir()) else ["checkpoints kept"]
    for name in names:
        for file in ("model.safetensors", "state.safetensors"):
            one, other = ((run / "checkpoints" / name / file).read_bytes() for run in (whole, killed))
            found += [] if one == other else [f"{name}/{file}"]
        facts = [json.loads((run / "checkpoints" / name / "state.json").read_text()) for run in (whole, killed)]
        found += [
            f"{name}: {key}" for key in facts[0] if key not in ("sha256", "reason") and facts[0][key] != facts[1][key]
        ]
    lines = [figures(run / "metrics.jsonl") for run in (whole, killed)]
    found += [f"figure {line}" for line in sorted(set(lines[0]) ^ set(lines[1]))[:5]]
    found += ["doubled lines"] if len(set(lines[1])) != len(lines[1]) else []
    pictures = [{p.relative_to(run): p.read_bytes() for p in run.glob("images/**/*.png")} for run in (whole, killed)]
    return found + ([] if pictures[0] == pictures[1] and pictures[0] else ["pictures"])


def figures(path):
    """The lines of a ``metrics.jsonl``, all but the speed, which no two runs share."""
    return [line for line in path.read_text().splitlines() if '"steps_per_second"' not in line]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        whole, killed, hits, writing = killed_and_whole(Path(place), options.epochs, options.kills, options.seed)
        found = differences(whole, killed)
        print(f"{hits} of {options.kills} kills hit, {writing} of them while a checkpoint was written")
        print("\n".join(found) or "the same to the bit")


if __name__ == "__main__":
    main()
