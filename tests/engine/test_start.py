"""The first batch: model and objective see it once, under no gradient, and nobody's random numbers move."""

import signal

import pytest
import torch
import toy

import genkit
from genkit.engine import Trainer, assemble
from genkit.engine.checkpoint import read_checkpoint
from genkit.engine.folder import RunFolder
from genkit.recipe import load_recipe
from genkit.registry import load_registry

CPU = torch.device("cpu")


class Stop:
    """Asks a run to stop when a hook reports a step."""

    def __init__(self, hook, step):
        self.moment = hook, step

    def see(self, hook, step):
        if self.moment == (hook, step):
            signal.raise_signal(signal.SIGTERM)

    @genkit.hookimpl
    def on_step(self, report):
        self.see("step", report.step)

    @genkit.hookimpl
    def on_evaluation(self, report):
        self.see("evaluation", report.step)


def trainer_of(folder, overrides=(), observer=None):
    manager = load_registry([]).manager
    if observer is not None:
        manager.register(observer)
    recipe = load_recipe(toy.RECIPE, ["train.log_every=1", *overrides], toy.registry())
    return Trainer(assemble(recipe, CPU), RunFolder(folder), manager)


def resumed(folder):
    trainer = trainer_of(folder)
    trainer.restore(read_checkpoint(RunFolder(folder).last))
    return trainer


def weights_of(trainer):
    return [value.clone() for value in trainer.assembly.parts.model.state_dict().values()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def calls(monkeypatch):
    """Who was shown what, in order; both draw random numbers and compute with what could carry a gradient."""
    seen = []

    def start_model(self, x):
        torch.rand(7)
        seen.append(("model", x, (self.network.linear.weight * 2).requires_grad))

    def start_objective(self, model, x):
        torch.randn(7)
        seen.append(("objective", x, (self.scale * 2).requires_grad))
        assert isinstance(model, toy.Denoiser)

    monkeypatch.setattr(toy.Denoiser, "start", start_model)
    monkeypatch.setattr(toy.Denoising, "start", start_objective)
    return seen


def test_the_objective_sees_the_models_first_batch_after_it_and_once(tmp_path, calls):
    trainer = trainer_of(tmp_path)
    trainer.run()
    assert [who for who, _, _ in calls] == ["model", "objective"]
    expected = next(trainer.assembly.feeds["train"].epoch(32, seed=3, epoch=0)).x
    for _, x, tracked in calls:
        assert torch.equal(x, expected)
        assert not tracked


def test_it_is_over_before_anything_is_judged(tmp_path, calls):
    class Judged(Stop):
        @genkit.hookimpl
        def on_evaluation(self, report):
            calls.append(("evaluation", None, None))

    trainer_of(tmp_path, observer=Judged("", 0)).run()
    assert [who for who, _, _ in calls][:3] == ["model", "objective", "evaluation"]


MOMENTS = [("step", 1), ("step", 3), ("step", 4), ("evaluation", 3), ("evaluation", 0)]


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_a_resumed_run_has_seen_it(tmp_path, calls, moment):
    assert trainer_of(tmp_path, observer=Stop(*moment)).run().status == "interrupted"
    calls.clear()
    assert resumed(tmp_path).run().status == "finished"
    assert calls == []


def test_a_run_that_was_interrupted_before_it_trained_ends_as_any_other(tmp_path, monkeypatch):
    """Whatever is done about the first batch then: the weights are the same."""
    monkeypatch.setattr(toy.Denoising, "start", lambda self, model, x: self.scale.data.fill_(x.mean() + torch.rand(())))
    whole = trainer_of(tmp_path / "whole")
    whole.run()
    assert trainer_of(tmp_path / "parts", observer=Stop("evaluation", 0)).run().status == "interrupted"
    parts = resumed(tmp_path / "parts")
    parts.run()
    assert same(weights_of(whole), weights_of(parts))
    assert torch.equal(whole.assembly.parts.objective.scale, parts.assembly.parts.objective.scale)


def test_it_moves_no_random_numbers_of_the_training(tmp_path, monkeypatch):
    plain = trainer_of(tmp_path / "plain")
    plain.run()
    monkeypatch.setattr(toy.Denoising, "start", lambda self, model, x: torch.rand(99))
    greedy = trainer_of(tmp_path / "greedy")
    greedy.run()
    assert same(weights_of(plain), weights_of(greedy))


def test_what_starts_from_data_is_in_the_moving_average(tmp_path, monkeypatch):
    monkeypatch.setattr(toy.Denoiser, "start", lambda self, x: self.network.linear.bias.fill_(x.mean()))
    trainer = trainer_of(tmp_path, ["train.ema=0.9"], Stop("evaluation", 0))
    trainer.run()
    bias = trainer.judged_model.network.linear.bias
    x = next(trainer.assembly.feeds["train"].epoch(32, seed=3, epoch=0)).x
    assert torch.equal(bias, x.mean().expand_as(bias))


# ---- through the components that own networks ---------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch):
    """The inputs that networks were shown first."""
    mlp = pytest.importorskip("genkit_backbones.mlp")
    seen = []
    monkeypatch.setattr(mlp.MLP, "start", lambda self, x: seen.append(x.clone()))
    return seen


NET = {"use": "mlp", "hidden_dims": [4]}


def test_a_generator_shows_its_network_latents(shown):
    pytest.importorskip("genkit_gan")
    spec = genkit.DataSpec((1, 4, 4), levels=256)
    genkit.build("model", {"use": "generator", "latent_dim": 3, "network": NET}, spec).start(torch.rand(6, 1, 4, 4))
    assert [x.shape for x in shown] == [(6, 3)]


def test_a_vae_shows_its_encoder_data_and_its_decoder_latents(shown):
    pytest.importorskip("genkit_vae")
    x = torch.rand(6, 1, 4, 4).round()
    node = {"use": "vae", "latent_dim": 3, "encoder": NET, "decoder": NET}
    genkit.build("model", node, genkit.DataSpec((1, 4, 4), levels=2)).start(x)
    assert torch.equal(shown[0], x)
    assert shown[1].shape == (6, 3)


ADVERSARIAL = {"use": "adversarial", "critic": NET, "regularizers": ["packing", {"use": "instance_noise", "std": 9.0}]}


@pytest.mark.parametrize("node", [ADVERSARIAL, {"use": "sum", "parts": {"a": ADVERSARIAL}}], ids=["alone", "in a sum"])
def test_an_adversary_shows_its_critic_the_data_as_the_critic_sees_them(shown, node):
    """Moved to [-1, 1] and packed, but without the noise of training."""
    pytest.importorskip("genkit_gan")
    model = genkit.build("model", {"use": "generator", "network": NET}, genkit.DataSpec((1, 4, 4), levels=256))
    x = torch.rand(6, 1, 4, 4)
    genkit.build("objective", node, model).start(model, x)
    assert len(shown) == 1
    assert torch.allclose(shown[0], (2 * x - 1).view(3, 2, 4, 4))


def test_virtual_batch_normalization_keeps_its_first_batch_through_a_run_and_a_checkpoint(tmp_path):
    pytest.importorskip("genkit_gan")
    pytest.importorskip("genkit_mnist")
    net = {**NET, "normalization": "virtual_batch"}
    recipe = {
        "seed": 3,
        "data": {"use": "mnist", "train": 96, "validation": 0, "test": 16},
        "model": {"use": "generator", "latent_dim": 2, "network": net},
        "objective": {"use": "adversarial", "critic": net},
        "train": {"epochs": 2, "batch_size": 32, "ema": 0.5},
    }
    end = genkit.run(recipe, name="vbn", runs=tmp_path, device="cpu")
    x = next(assemble(load_recipe(recipe), CPU).feeds["train"].epoch(32, seed=3, epoch=0)).x
    checkpoint = read_checkpoint(RunFolder(end.folder).last)
    kept = checkpoint.state["objective.critic.network.layers.reference"]
    assert torch.equal(kept, (2 * x - 1).flatten(1).repeat(2, 1))  # 64 from 32
    latents = {name: checkpoint.state[name] for name in checkpoint.state if name.startswith("trained.")}
    assert torch.equal(latents["trained.network.layers.reference"], checkpoint.weights["network.layers.reference"])
