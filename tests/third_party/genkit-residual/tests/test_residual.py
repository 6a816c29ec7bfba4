"""The residual backbone: the contract, its shapes, and that it is residual."""

import doctest

import pytest
import torch
from residual_net import residual
from residual_net.blocks import Block, growing_block, halving_block
from residual_net.residual import Residual
from torch import nn

import genkit
from genkit.testing import check_backbone, factory

SERVED = [
    ((7,), (3,)),
    ((1, 28, 28), (10,)),
    ((3, 32, 32), (5,)),
    ((2, 9, 30), (4,)),
    ((1, 2, 2), (4,)),
    ((4,), (1, 28, 28)),
    ((3,), (3, 17, 12)),
    ((3,), (2, 1, 5)),
    ((1, 8, 8), (1, 8, 8)),
    ((2, 11, 5), (6, 11, 5)),
]


def blocks(network: nn.Module) -> list[Block]:
    """The blocks of a network."""
    return [module for module in network.modules() if isinstance(module, Block)]


def silence(network: nn.Module) -> None:
    """Sets what each branch adds to zero."""
    for block in blocks(network):
        nn.init.zeros_(block.branch[-1].weight)
        nn.init.zeros_(block.branch[-1].bias)


@pytest.mark.parametrize("options", Residual.examples, ids=str)
def test_it_keeps_the_contract(options: dict) -> None:
    check_backbone(factory("backbone", {"use": "residual", **options}))


@pytest.mark.parametrize(("in_shape", "out_shape"), SERVED, ids=str)
def test_it_serves_vectors_and_images_of_any_size_and_channels(in_shape: tuple, out_shape: tuple) -> None:
    network = Residual(in_shape, out_shape, width=8, channels=4, depth=2)
    assert network(torch.randn(3, *in_shape)).shape == (3, *out_shape)


@pytest.mark.parametrize(
    ("in_shape", "out_shape"), [((1, 8, 8), (1, 8, 9)), ((4, 4), (3,)), ((3,), (4, 4)), ((), (3,))], ids=str
)
def test_other_shapes_are_refused(in_shape: tuple, out_shape: tuple) -> None:
    with pytest.raises(ValueError, match=r"where both have one size; .* is neither, and mlp would do"):
        Residual(in_shape, out_shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 1}, "width.*greater than or equal to 2"),
        ({"channels": 0}, "channels.*greater than or equal to 2"),
        ({"depth": 0}, "depth.*greater than 0"),
        ({"dropout": 1.0}, "dropout.*less than 1"),
        ({"activation": "sine"}, "activation.*'relu', 'gelu', 'silu' or 'elu'"),
        ({"hidden_dims": [8]}, "hidden_dims"),
    ],
    ids=str,
)
def test_options_out_of_bounds_are_refused(options: dict, message: str) -> None:
    with pytest.raises(genkit.RecipeError, match=message):
        factory("backbone", {"use": "residual", **options})


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize(
    ("in_shape", "out_shape", "sizes"),
    [((5,), (3,), 1), ((1, 28, 28), (3,), 4), ((3,), (1, 28, 28), 4), ((1, 28, 28), (1, 28, 28), 1)],
    ids=str,
)
def test_there_are_depth_blocks_at_each_size(in_shape: tuple, out_shape: tuple, sizes: int, depth: int) -> None:
    assert len(blocks(Residual(in_shape, out_shape, width=4, channels=2, depth=depth))) == depth * sizes


def test_a_block_without_its_branch_is_its_shortcut() -> None:
    network = Residual((5,), (3,), width=8, depth=4)
    x = torch.randn(2, 5)
    assert not torch.allclose(network(x), network.layers[-3:](network.layers[0](x)))
    silence(network)
    assert torch.equal(network(x), network.layers[-3:](network.layers[0](x)))


@pytest.mark.parametrize("side", [7, 8])
def test_shortcut_and_branch_agree_on_odd_and_even_sides(side: int) -> None:
    small = halving_block(2, 4, "relu", 0.0)(torch.randn(1, 2, side, side))
    assert small.shape == (1, 4, 4, 4)
    assert growing_block(4, 2, (side, side), "relu", 0.0)(small).shape == (1, 2, side, side)


def test_dropout_is_for_training() -> None:
    network = Residual((1, 8, 8), (3,), channels=4, dropout=0.5)
    x = torch.randn(2, 1, 8, 8)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_a_context_is_refused() -> None:
    with pytest.raises(ValueError, match="Residual cannot be conditioned on a context"):
        Residual((3,), (3,))(torch.zeros(1, 3), torch.zeros(1, 2))


@pytest.mark.parametrize(("in_shape", "out_shape"), SERVED, ids=str)
def test_the_output_layer_is_the_last_word(in_shape: tuple, out_shape: tuple) -> None:
    network = Residual(in_shape, out_shape, width=8, channels=4)
    nn.init.zeros_(network.output_layer.weight)
    nn.init.zeros_(network.output_layer.bias)
    assert not network(torch.randn(2, *in_shape)).any()


def test_it_fits_what_a_linear_map_cannot() -> None:
    """The product of two numbers, whose best linear fit is 0 with an error of 1/9."""
    torch.manual_seed(0)
    x = 2 * torch.rand(512, 2) - 1
    y = x.prod(1, keepdim=True)
    network = Residual((2,), (1,), width=32, depth=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (network(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.005


def test_the_docstrings_example_is_right() -> None:
    found = doctest.testmod(residual)
    assert found.failed == 0
    assert found.attempted == 4
