"""Losses through torch.compile: the same training, to rounding, with the same random numbers."""

import shutil

import pytest
import torch

import genkit


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # what the compiler announces is its own
def test_compiled_losses_train_the_same(small_recipe, tmp_path, monkeypatch):
    taken, compile_ = [], torch.compile

    def counted(function, **options):
        through = compile_(function, **options)
        return lambda *inputs: (taken.append(function), through(*inputs))[1]

    monkeypatch.setattr(torch, "compile", counted)
    runs = []
    for compiled in (False, True):
        overrides = [f"train.compile={str(compiled).lower()}", "train.log_every=1", "model.encoder.dropout=0.1"]
        end = genkit.run(small_recipe, overrides=overrides, name=str(compiled), runs=tmp_path, device="cpu")
        runs.append(genkit.load(end.folder, checkpoint="last", device="cpu"))
    torch._dynamo.reset()
    for one, other in zip(runs[0].model.parameters(), runs[1].model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    losses = [[r.value for r in run.metrics if r.name == "model/loss"] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(losses[0]) == len(taken) == 6
