"""Channels innermost: the same training to rounding, also from a checkpoint, where state must lie as weights do."""

import pytest
import torch

import genkit
from genkit.runs import resume


@pytest.fixture
def images(small_recipe):
    small_recipe["model"] |= {"encoder": {"use": "cnn", "channels": 4}, "decoder": {"use": "cnn", "channels": 4}}
    small_recipe["train"]["ema"] = 0.9
    return small_recipe


def weights(folder):
    return genkit.load(folder, checkpoint="last", device="cpu").model.state_dict()


def test_it_trains_the_same_and_goes_on_the_same(images, tmp_path):
    for layout in ("off", "on"):
        genkit.run(images, overrides=[f"train.channels_last={layout}"], name=layout, runs=tmp_path, device="cpu")
    genkit.run(images, overrides=["train.channels_last=on", "train.epochs=1"], name="part", runs=tmp_path, device="cpu")
    resume(tmp_path / "part", overrides=["train.epochs=2"], allow_changes=True, device="cpu")
    plain, innermost, resumed = (weights(tmp_path / name) for name in ("off", "on", "part"))
    laid_out = {name for name, value in innermost.items() if value.dim() == 4 and value.stride(1) == 1}
    assert any(name.startswith("encoder") for name in laid_out)
    assert not any(value.dim() == 4 and value.stride(1) == 1 and value.shape[1] > 1 for value in plain.values())
    for name, value in innermost.items():
        assert torch.allclose(value, plain[name], atol=1e-6), name
        assert torch.equal(value, resumed[name]), name
