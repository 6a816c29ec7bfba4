"""Recorded steps on a real device: the same training as plain ones, to the rounding of the precision.

They run where there is a CUDA device: ``python -m pytest tests/gpu``. Speed is not asserted here: ``genkit bench``
prints it.
"""

from pathlib import Path

import pytest
import torch

import genkit
from genkit.engine import Trainer, assemble
from genkit.engine.folder import RunFolder
from genkit.recipe import load_recipe
from genkit.registry import load_registry
from genkit.runs import resume

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = {
    "vae_mlp": ["data.train=1000", "data.validation=100", "data.test=100", "train.ema=0.9", "train.clip_norm=10"],
    "vae_cnn": ["data.train=600", "data.validation=100", "data.test=100", "model.encoder.normalization=batch"],
    "gan_mlp": ["data.train=1000", "data.test=0", "objective.critic_steps=2"],
    "flow_toy": ["data.train=1000", "data.validation=100", "data.test=100", "train.schedule=cosine"],
    "flow_mnist_small": ["data.train=400", "data.validation=100", "data.test=100", "train.batch_size=64"],
}


def losses(end):
    return {
        (r.step, r.name): r.value for r in genkit.load(end.folder).metrics if r.split == "train" and "loss" in r.name
    }


@pytest.mark.parametrize("name", SMALL)
def test_recorded_steps_train_as_plain_ones(name, tmp_path):
    """Last, smaller batches, averages, clipping, schedules and two players included."""
    ends = {}
    for switch in ("off", "on"):
        overrides = [*SMALL[name], "train.epochs=3", "train.log_every=1", "evaluate=null", f"train.cuda_graph={switch}"]
        ends[switch] = genkit.run(
            RECIPES / f"{name}.yaml", overrides=overrides, name=switch, runs=tmp_path, device="cuda"
        )
    plain, recorded = (losses(ends[switch]) for switch in ("off", "on"))
    assert plain.keys() == recorded.keys()
    for key, value in plain.items():
        assert recorded[key] == pytest.approx(value, rel=2e-3, abs=1e-3), key
    models = [genkit.load(ends[switch].folder, checkpoint="last").model for switch in ("off", "on")]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-3)


def test_steps_are_recorded_where_they_can_be(tmp_path):
    recipe = load_recipe(RECIPES / "vae_mlp.yaml", [*SMALL["vae_mlp"], "train.epochs=2", "evaluate=null"])
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    trainer = Trainer(assemble(recipe, torch.device("cuda", 0)), folder, load_registry([]).manager)
    trainer.run()
    assert trainer.recorder.obstacle == ""
    assert trainer.recorder.recorded == 1  # full batches; the epoch's last one came too seldom


def test_a_resumed_recording_trains_as_a_whole_one(tmp_path):
    overrides = [*SMALL["vae_mlp"], "evaluate=null", "train.cuda_graph=on"]
    whole, parts = (
        genkit.run(RECIPES / "vae_mlp.yaml", overrides=[*overrides, f"train.epochs={n}"], name=name, runs=tmp_path)
        for name, n in (("whole", 4), ("parts", 2))
    )
    resume(parts.folder, overrides=["train.epochs=4"], allow_changes=True)
    models = [genkit.load(end.folder, checkpoint="last").model for end in (whole, parts)]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_stays_near(precision, tmp_path):
    ends = [
        genkit.run(
            RECIPES / "vae_mlp.yaml",
            overrides=[*SMALL["vae_mlp"], "train.epochs=3", "evaluate=null", f"train.precision={p}"],
            name=p,
            runs=tmp_path,
        )
        for p in ("fp32", precision)
    ]
    plain, low = (losses(end) for end in ends)
    assert [low[key] for key in plain] == pytest.approx(list(plain.values()), rel=0.05)


@pytest.mark.parametrize("cache", ["device", "host", "none"])
def test_images_that_are_not_resident_arrive_as_they_are(cache, tmp_path):
    """Copied ahead on a stream of their own, a batch must not change under whoever still reads it."""
    from PIL import Image

    generator = torch.Generator().manual_seed(0)
    for index in range(600):
        pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=generator).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{index:04d}.png")
    data = f"data={{use: image_folder, path: {tmp_path}, size: 16, validation: 50, test: 50}}"
    options = ["model.likelihood=discretized_logistic", "train.batch_size=32", "train.epochs=2", "evaluate=null"]
    models = []
    for device in ("cuda", "cpu"):
        overrides = [data, *options, f"train.cache={cache}", "train.workers=2", "model.encoder.channels=4"]
        end = genkit.run(RECIPES / "vae_cnn.yaml", overrides=overrides, name=device, runs=tmp_path, device=device)
        models.append(losses(end))
    first = min(models[0])
    assert models[0][first] == pytest.approx(models[1][first], rel=0.05)
