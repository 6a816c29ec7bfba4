"""How a multilayer perceptron starts."""

import pytest
import torch
from torch import nn

import genkit


def seeded(**options):
    torch.manual_seed(7)
    return genkit.build("backbone", {"use": "mlp", **options}, (1, 20, 20), (50,))


def test_by_default_it_starts_as_torchs_layers_do():
    """To the bit: each layer is drawn when it is made, first to last, and nothing is drawn besides."""
    network = seeded(hidden_dims=[200])
    torch.manual_seed(7)
    for layer, twin in ((network.layers[0], nn.Linear(400, 200)), (network.layers[-1], nn.Linear(200, 50))):
        assert torch.equal(layer.weight, twin.weight)
        assert torch.equal(layer.bias, twin.bias)


def test_glorot_is_uniform_on_the_papers_interval():
    network = seeded(hidden_dims=[200], initialization="glorot")
    for layer, bound in ((network.layers[0], (6 / 600) ** 0.5), (network.layers[-1], (6 / 250) ** 0.5)):
        assert 0.99 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert not layer.bias.any()


def test_glorot_follows_the_seed():
    one, other = seeded(initialization="glorot"), seeded(initialization="glorot")
    assert torch.equal(one.layers[0].weight, other.layers[0].weight)
