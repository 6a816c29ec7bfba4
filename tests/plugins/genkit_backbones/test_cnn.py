"""The CNN: the practical's layers at 28 x 28, and any other size."""

import pytest
import torch
from torch import nn

import genkit


def convolutions(network):
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


def test_encoder_is_the_practicals():
    layers = convolutions(genkit.build("backbone", {"use": "cnn", "channels": 32}, (1, 28, 28), (40,)))
    assert [layer.out_channels for layer in layers] == [32, 32, 64, 64, 64]
    assert [layer.stride[0] for layer in layers] == [2, 1, 2, 1, 2]
    assert {layer.kernel_size for layer in layers} == {(3, 3)}


def test_decoder_is_the_practicals():
    layers = convolutions(genkit.build("backbone", {"use": "cnn", "channels": 32}, (20,), (1, 28, 28)))
    assert [layer.out_channels for layer in layers] == [64, 64, 32, 32, 1]
    assert [type(layer) for layer in layers] == [nn.ConvTranspose2d, nn.Conv2d] * 2 + [nn.ConvTranspose2d]
    assert [layer.output_padding[0] for layer in layers[::2]] == [0, 1, 1]


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 32, 32), (1, 5, 9), (2, 64, 48), (3, 1, 1), (1, 2, 3)])
def test_serves_any_size_both_ways(size):
    x = torch.randn(2, *size)
    z = genkit.build("backbone", {"use": "cnn", "channels": 4}, size, (6,))(x)
    assert z.shape == (2, 6)
    assert genkit.build("backbone", {"use": "cnn", "channels": 4}, (6,), size)(z).shape == x.shape


def test_normalization_and_dropout_follow_each_layer_but_the_last():
    node = {"use": "cnn", "channels": 8, "normalization": "batch", "dropout": 0.25}
    network = genkit.build("backbone", node, (6,), (1, 28, 28))
    assert sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) == 5  # one after the linear map
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.25] * 4
    assert isinstance(network.layers[-1], nn.ConvTranspose2d)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 17, 12), (2, 9, 30)])
def test_nearest_pixels_leave_no_checkerboard(shape):
    """The same weights everywhere: a constant image stays constant away from its border, at every stage."""
    node = {"use": "cnn", "channels": 4, "upsampling": "nearest"}
    network = genkit.build("backbone", node, (6,), shape)
    assert not any(isinstance(m, nn.ConvTranspose2d) for m in network.modules())
    torch.manual_seed(0)
    doubles = [m for m in network.modules() if isinstance(m, nn.Sequential) and isinstance(m[0], nn.Upsample)]
    assert tuple(doubles[-1][0].size) == shape[1:]
    image = doubles[-1](torch.rand(1, doubles[-1][1].in_channels, 1, 1).expand(-1, -1, 5, 5))
    assert torch.allclose(image[:, :, 1:-1, 1:-1], image[:, :, 1:2, 1:2].expand_as(image[:, :, 1:-1, 1:-1]), atol=1e-6)
    assert network(torch.randn(2, 6)).shape == (2, *shape)


def test_vectors_are_sent_to_the_mlp():
    with pytest.raises(genkit.RecipeError, match=r"not \(3,\) to \(4,\); use mlp"):
        genkit.build("backbone", "cnn", (3,), (4,))


def test_mlp_layers_in_order():
    node = {"use": "mlp", "hidden_dims": [5], "activation": "leaky_relu", "normalization": "layer", "dropout": 0.5}
    layers = genkit.build("backbone", node, (3,), (2,)).layers
    assert [type(layer) for layer in layers] == [nn.Linear, nn.LayerNorm, nn.LeakyReLU, nn.Dropout, nn.Linear]
    assert layers[2].negative_slope == 0.2
