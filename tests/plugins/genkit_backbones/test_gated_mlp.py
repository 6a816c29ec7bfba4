"""Gated layers against the paper's formula, by hand."""

import pytest
import torch
from torch import nn

import genkit


def built(in_shape=(1, 2, 3), out_shape=(4,), **options):
    return genkit.build("backbone", {"use": "gated_mlp", **options}, in_shape, out_shape)


def test_is_the_formula_of_the_paper():
    network, x = built(hidden_dims=[5, 7]).double(), torch.randn(6, 1, 2, 3, dtype=torch.float64)
    state = network.state_dict()
    h = x.flatten(1)
    for layer, width in ((0, 5), (2, 7)):
        weight, bias = state[f"layers.{layer}.weight"], state[f"layers.{layer}.bias"]
        value, gate = h @ weight[:width].T + bias[:width], h @ weight[width:].T + bias[width:]
        h = value / (1 + (-gate).exp())
    expected = h @ state["layers.4.weight"].T + state["layers.4.bias"]
    assert torch.allclose(network(x), expected, rtol=1e-12, atol=1e-14)


def test_is_as_large_as_the_papers():
    """784-300-300 and two heads of 40, each layer with as many weights for gates: the encoder of the paper."""
    gated = 2 * (784 * 300 + 300) + 2 * (300 * 300 + 300)
    network = built((1, 28, 28), (80,))
    assert sum(p.numel() for p in network.parameters()) == gated + 300 * 80 + 80


def test_dropout_follows_each_gated_layer():
    kinds = [type(layer) for layer in built(hidden_dims=[5, 7], dropout=0.2).layers]
    assert kinds == [nn.Linear, nn.GLU, nn.Dropout] * 2 + [nn.Linear]


def test_without_hidden_layers_it_is_linear():
    network = built(hidden_dims=[])
    x, y = torch.randn(2, 1, 2, 3), torch.randn(2, 1, 2, 3)
    together, apart = network(x + y) - network(y), network(x) - network(0 * x)
    assert torch.allclose(together, apart, atol=1e-6)


def test_glorot_fits_each_map_by_itself():
    """Uniform on the interval of the paper's equation 16, for values and gates alike; biases start at 0."""
    network = built((1, 20, 20), (50,), hidden_dims=[200], initialization="glorot")
    both, last = network.layers[0], network.layers[-1]
    for weight, bound in ((both.weight[:200], 0.1), (both.weight[200:], 0.1), (last.weight, (6 / 250) ** 0.5)):
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not both.bias.any()
    assert not last.bias.any()
