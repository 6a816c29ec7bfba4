"""The logged norm of a player's gradient: that of the move that was made, where it is asked for or clipped."""

import copy

import pytest
import torch
import toy
from torch import nn

import genkit
from genkit import Batch, Loss, Progress, Turn
from genkit.engine import Trainer, assemble
from genkit.engine.folder import RunFolder
from genkit.engine.player import Player
from genkit.engine.step import TrainStep
from genkit.recipe import load_recipe
from genkit.registry import load_registry

CPU = torch.device("cpu")
NOW = Progress(torch.zeros(()), torch.zeros(()))


def player(module):
    return Player(list(module.parameters()), toy.Momentum(lr=0.1, momentum=0.0), toy.Decay())


def batches(count):
    generator = torch.Generator().manual_seed(5)
    return [Batch(torch.randn(4, 2, generator=generator)) for _ in range(count)]


def cost(module, batch):
    return module(batch.x).square().mean()


def norm_by_hand(module, given):
    """The norm of the mean gradient of some batches, over all parameters together."""
    total = sum(cost(module, batch) for batch in given) / len(given)
    gradients = torch.autograd.grad(total, list(module.parameters()))
    return torch.cat([gradient.flatten() for gradient in gradients]).norm().item()


@pytest.fixture
def layer():
    return nn.Linear(2, 3)


def figures(layer, given, *, log=True, repeats=1, **options):
    """What a step with one turn logs; the layer is moved."""
    turn = Turn("one", "one", lambda batch, progress: Loss(cost(layer, batch)), repeats, log_grad_norm=log)
    step = TrainStep([turn], {"one": player(layer)}, CPU, **options)
    row = step(given, NOW)
    return dict(zip(step.names, row.tolist(), strict=True))


def test_it_is_the_norm_over_all_parameters_before_the_step(layer):
    given = batches(1)
    expected = {"one/loss": cost(layer, given[0]).item(), "one/grad_norm": norm_by_hand(layer, given)}
    assert figures(layer, given) == pytest.approx(expected, rel=1e-6)


def test_of_accumulated_batches_it_is_the_norm_of_their_mean(layer):
    expected = norm_by_hand(layer, batches(3))
    assert figures(layer, batches(3), accumulate=3)["one/grad_norm"] == pytest.approx(expected, rel=1e-5)


def test_of_repeats_it_is_the_mean_of_their_norms(layer):
    twin, norms = copy.deepcopy(layer), []
    for batch in batches(3):
        norms.append(norm_by_hand(twin, [batch]))
        figures(twin, [batch])
    logged = figures(layer, batches(3), repeats=3)["one/grad_norm"]
    assert logged == pytest.approx(sum(norms) / 3, rel=1e-5)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("clip", [1e-3, {"one": 1e-3}], ids=["all", "by turn"])
def test_where_gradients_are_clipped_it_is_the_norm_that_they_had(layer, log, clip):
    expected = norm_by_hand(layer, batches(1))
    assert expected > 1e-2
    assert figures(layer, batches(1), log=log, clip_norm=clip)["one/grad_norm"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("clip", [None, {"other": 1.0}])
def test_a_turn_that_does_not_ask_for_it_logs_none(layer, clip):
    assert list(figures(layer, batches(1), log=False, clip_norm=clip)) == ["one/loss"]


def test_logging_changes_no_step(layer):
    twin = copy.deepcopy(layer)
    figures(layer, batches(2), repeats=2)
    figures(twin, batches(2), repeats=2, log=False)
    assert all(torch.equal(a, b) for a, b in zip(layer.parameters(), twin.parameters(), strict=True))


def test_only_the_turns_own_player_counts(layer):
    critic = nn.Linear(3, 1)

    def fool(batch, progress):
        return Loss(critic(layer(batch.x)).square().mean())

    def tell(batch, progress):
        return Loss(critic(layer(batch.x).detach()).square().mean())

    turns = [Turn("fool", "model", fool, log_grad_norm=True), Turn("tell", "critic", tell)]
    step = TrainStep(turns, {"model": player(layer), "critic": player(critic)}, CPU)
    expected = torch.autograd.grad(fool(batches(1)[0], NOW).total, list(layer.parameters()))
    row = step(batches(1), NOW)
    assert step.names == ("fool/loss", "fool/grad_norm", "tell/loss")
    assert row[1].item() == pytest.approx(torch.cat([g.flatten() for g in expected]).norm().item(), rel=1e-6)


def test_parameters_that_no_gradient_reaches_count_for_nothing(layer):
    idle = nn.Linear(5, 5)
    both = nn.ModuleList([layer, idle])
    turn = Turn("one", "one", lambda batch, progress: Loss(cost(layer, batch)), log_grad_norm=True)
    expected = norm_by_hand(layer, batches(1))
    row = TrainStep([turn], {"one": player(both)}, CPU)(batches(1), NOW)
    assert row[1].item() == pytest.approx(expected, rel=1e-6)


def test_a_run_reports_it_by_turn_without_unit(tmp_path, monkeypatch):
    turns = toy.Denoising.turns

    def watched(self, model):
        guess, shrink = turns(self, model)
        return [Turn(guess.name, guess.player, guess.loss, units=guess.units, log_grad_norm=True), shrink]

    class Watcher:
        @genkit.hookimpl
        def on_epoch_end(self, report):
            reports.append({record.name: record for record in report.records})

    reports = []
    monkeypatch.setattr(toy.Denoising, "turns", watched)
    manager = load_registry([]).manager
    manager.register(Watcher())
    Trainer(assemble(load_recipe(toy.RECIPE, (), toy.registry()), CPU), RunFolder(tmp_path), manager).run()
    assert [name for name in reports[0] if name.endswith("grad_norm")] == ["guess/grad_norm"]
    assert reports[0]["guess/grad_norm"].unit == ""
    assert reports[0]["guess/grad_norm"].value > 0
