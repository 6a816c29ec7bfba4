"""Maximum likelihood: what it is for models whose likelihood is known by hand, and whom it moves."""

import math

import pytest
import torch
from torch import nn

import genkit
from genkit import Batch, GenerativeModel, HasLogProb, LogProb, Progress
from genkit.recipe import load_recipe

NOW = Progress(torch.zeros(()), torch.zeros(()))


class Gaussian(GenerativeModel, HasLogProb):
    """Independent normals with a mean and a logarithm of a standard deviation for each dimension."""

    def __init__(self, spec):
        super().__init__(spec)
        self.mean = nn.Parameter(torch.zeros(spec.shape))
        self.log_std = nn.Parameter(torch.zeros(spec.shape))

    def log_prob(self, x, context=None, num_samples=1):
        normal = torch.distributions.Normal(self.mean, self.log_std.exp())
        return LogProb(normal.log_prob(x).flatten(1).sum(1), "exact", "density")


def turn_of(model):
    (turn,) = genkit.build("objective", "maximum_likelihood", model).turns(model)
    return turn


def test_is_the_mean_over_the_batch_of_the_sum_over_dimensions():
    model, x = Gaussian(genkit.DataSpec((2,))), torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    turn = turn_of(model)
    loss = turn.loss(Batch(x), NOW)
    expected = math.log(2 * math.pi) + (1 + 4 + 9 + 0) / 2 / 2
    assert loss.total.item() == pytest.approx(expected, rel=1e-6)
    assert {name: term.item() for name, term in loss.terms.items()} == {"nll": loss.total.item()}
    assert turn.units == {"nll": "nats"}
    loss.total.backward()
    assert model.mean.grad.tolist() == [-2.0, -1.0]
    assert model.log_std.grad.tolist() == [1 - (1 + 9) / 2, 1 - 4 / 2]


def test_is_least_at_the_mean_and_the_spread_of_the_data():
    model, x = Gaussian(genkit.DataSpec((1, 2, 2))), torch.randn(500, 1, 2, 2) * 3 + 1
    with torch.no_grad():
        model.mean.copy_(x.mean(0))
        model.log_std.copy_(x.std(0, correction=0).log())
    loss = turn_of(model).loss(Batch(x), NOW)
    entropy = 4 * 0.5 * math.log(2 * math.pi * math.e) + model.log_std.sum().item()  # of the fitted normals
    assert loss.total.item() == pytest.approx(entropy, rel=1e-5)
    loss.total.backward()
    assert torch.cat([model.mean.grad, model.log_std.grad]).abs().max() < 1e-5


def test_is_the_negative_bound_of_a_variational_autoencoder():
    node = {"use": "mlp", "hidden_dims": [8]}
    model = genkit.build(
        "model", {"use": "vae", "latent_dim": 3, "encoder": node, "decoder": node}, genkit.DataSpec((1, 4, 4), levels=2)
    )
    x = torch.bernoulli(torch.full((6, 1, 4, 4), 0.4))
    (bound,) = genkit.build("objective", "elbo", model).turns(model)
    losses = []
    for turn in (bound, turn_of(model)):
        torch.manual_seed(1)
        losses.append(turn.loss(Batch(x), NOW))
    assert losses[1].total.item() == pytest.approx(losses[0].terms["negative_elbo"].item(), rel=1e-6)


def test_one_player_moves_the_whole_model():
    model = Gaussian(genkit.DataSpec((2,)))
    players = genkit.build("objective", "maximum_likelihood", model).players(model)
    assert list(players) == ["model"] == [turn_of(model).player]
    assert [id(parameter) for parameter in players["model"]] == [id(parameter) for parameter in model.parameters()]


def test_models_without_a_likelihood_are_refused(small_recipe):
    recipe = {**small_recipe, "objective": "maximum_likelihood"}
    assert load_recipe(recipe).objective.name == "maximum_likelihood"
    with pytest.raises(genkit.RecipeError, match="maximum_likelihood needs a model with HasLogProb, which generator"):
        load_recipe({**recipe, "model": {"use": "generator"}, "evaluate": {}})
