"""Turns: several players, each with its own optimizer, in the order and as often as the objective says."""

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


def player(module, lr=0.1, **schedule):
    return Player(list(module.parameters()), toy.Momentum(lr=lr, momentum=0.0), toy.Decay(**schedule))


@pytest.fixture
def pair():
    """A generator that adds, a critic that multiplies."""
    generator, critic = nn.Linear(2, 2), nn.Linear(2, 1)
    return generator, critic


def game(generator, critic, repeats=1):
    def fool(batch, progress):
        return Loss(-critic(generator(batch.x)).mean(), {"fooled": critic(generator(batch.x)).mean()})

    def tell(batch, progress):
        return Loss((critic(generator(batch.x).detach()) - critic(batch.x)).mean())

    return [Turn("generator", "generator", fool), Turn("critic", "critic", tell, repeats=repeats)]


def batches(count):
    generator = torch.Generator().manual_seed(5)
    return [Batch(torch.randn(4, 2, generator=generator)) for _ in range(count)]


def test_two_players_move_as_two_optimizers_by_hand(pair):
    generator, critic = pair
    by_hand = copy.deepcopy(pair)
    step = TrainStep(game(*pair, repeats=3), {"generator": player(generator), "critic": player(critic, 0.2)}, CPU)
    given = batches(3)
    step(given, NOW)

    g, c = by_hand
    optimizers = torch.optim.SGD(g.parameters(), lr=0.1), torch.optim.SGD(c.parameters(), lr=0.2)
    optimizers[0].zero_grad()
    (-c(g(given[0].x)).mean()).backward()
    optimizers[0].step()
    for batch in given:
        optimizers[1].zero_grad()
        (c(g(batch.x).detach()) - c(batch.x)).mean().backward()
        optimizers[1].step()
    for one, other in zip(
        (*generator.parameters(), *critic.parameters()), (*g.parameters(), *c.parameters()), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-7)


def test_a_turn_leaves_the_other_players_gradients_alone(pair):
    generator, critic = pair
    step = TrainStep(game(*pair)[:1], {"generator": player(generator), "critic": player(critic)}, CPU)
    step(batches(1), NOW)
    assert all(parameter.grad is None for parameter in critic.parameters())


def test_figures_are_named_by_turn_and_term(pair):
    generator, critic = pair
    players = {"generator": player(generator), "critic": player(critic)}
    step = TrainStep(game(*pair, repeats=2), players, CPU, clip_norm={"critic": 1e-3})
    row = step(batches(2), NOW)
    assert step.names == ("generator/loss", "generator/fooled", "critic/loss", "critic/grad_norm")
    assert row.shape == (4,)


def test_accumulated_batches_are_one_large_batch(pair):
    generator, critic = pair
    twin = copy.deepcopy(generator), copy.deepcopy(critic)
    parts = batches(4)
    whole = Batch(torch.cat([batch.x for batch in parts]))
    TrainStep(game(*pair)[:1], {"generator": player(generator)}, CPU, accumulate=4)(parts, NOW)
    TrainStep(game(*twin)[:1], {"generator": player(twin[0])}, CPU)([whole], NOW)
    for one, other in zip(generator.parameters(), twin[0].parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_clipping_bounds_the_step(pair):
    generator, _critic = pair
    before = [parameter.detach().clone() for parameter in generator.parameters()]
    TrainStep(game(*pair)[:1], {"generator": player(generator, lr=1.0)}, CPU, clip_norm=1e-2)(batches(1), NOW)
    moved = torch.cat([(a - b).flatten() for a, b in zip(generator.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(1e-2, rel=1e-3)


def test_last_step_of_an_epoch_may_lack_batches(pair):
    """Three batches where two repeats of two were due: the second repeat has one."""
    generator, critic = pair
    g, c = by_hand = copy.deepcopy(pair)
    players = {"generator": player(generator), "critic": player(critic)}
    given = batches(3)
    TrainStep(game(*pair, repeats=2), players, CPU, accumulate=2)(given, NOW)

    optimizers = [torch.optim.SGD(module.parameters(), lr=0.1) for module in by_hand]
    fool, tell = game(g, c)
    for optimizer, turn, micro in ((0, fool, given[:2]), (1, tell, given[:2]), (1, tell, given[2:])):
        optimizers[optimizer].zero_grad()
        gradients = torch.autograd.grad(
            sum(turn.loss(batch, NOW).total for batch in micro) / len(micro), list(by_hand[optimizer].parameters())
        )
        for parameter, gradient in zip(by_hand[optimizer].parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimizers[optimizer].step()
    moved, expected = (*generator.parameters(), *critic.parameters()), (*g.parameters(), *c.parameters())
    for one, other in zip(moved, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-7)


def test_a_refusal_in_a_loss_is_told_with_its_turn(pair):
    layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    turn = Turn("guess", "one", lambda batch, progress: Loss(layers(batch.x).sum()))
    step = TrainStep([turn], {"one": player(layers)}, CPU)
    with pytest.raises(genkit.GenkitError, match="turn 'guess' on a batch of 1: Expected more than 1 value"):
        step([Batch(torch.zeros(1, 2))], NOW)


def test_bf16_computes_losses_in_bf16_and_keeps_weights(pair):
    seen = []

    def loss(batch, progress):
        y = pair[0](batch.x)
        seen.append(y.dtype)
        return Loss(y.float().square().mean())

    TrainStep([Turn("one", "one", loss)], {"one": player(pair[0])}, CPU, precision="bf16")(batches(1), NOW)
    assert seen == [torch.bfloat16]
    assert pair[0].weight.dtype == torch.float32


def test_learning_rate_follows_the_schedule(pair):
    moving = player(pair[0], lr=0.5, gamma=0.1)
    moving.set_learning_rate(2.5, 80)
    assert moving.learning_rate == pytest.approx(0.005)


def test_ema_is_the_moving_average(tmp_path):
    recipe = load_recipe(toy.RECIPE, ["train.ema=0.75"], toy.registry())
    trainer = Trainer(assemble(recipe, CPU), RunFolder(tmp_path), load_registry([]).manager)
    name = "network.linear.weight"
    history = []
    for batch in trainer.assembly.feeds["train"].epoch(32, seed=1, epoch=0):
        trainer.step([batch], NOW)
        history.append(trainer.assembly.parts.model.state_dict()[name].clone())
    expected = history[0]
    for weights in history[1:]:
        expected = 0.75 * expected + 0.25 * weights
    assert torch.allclose(trainer.judged_model.state_dict()[name], expected, atol=1e-6)
    assert not torch.allclose(history[-1], expected, atol=1e-6)
