"""Activations and normalizations that the backbones share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from genkit import Shape
from genkit_backbones.virtual import ReferenceLayers, VirtualBatchNorm

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "elu", "softplus", "tanh"]
Normalization = Literal["none", "batch", "layer", "group", "virtual_batch"]
Initialization = Literal["default", "glorot"]
Probability = Annotated[float, Field(ge=0, lt=1)]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    # 0.2 is the slope of every GAN paper since DCGAN; torch's own default is 0.01
    "leaky_relu": functools.partial(nn.LeakyReLU, 0.2),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


def linear_layer(width_in: int, width_out: int, initialization: Initialization = "default", maps: int = 1) -> nn.Linear:
    r"""A linear map, or several of the same input that are computed as one.

    By default it starts as torch's do. "glorot" draws weights from :math:`\mathcal{U}(-a, a)` with
    :math:`a = \sqrt{6 / (n_{in} + n_{out})}`, where :math:`n_{out}` is the width of one of the maps, and starts
    biases at 0.

    References:
        Glorot and Bengio: Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010,
        equation 16.

    Example:
        >>> layer = linear_layer(2, 4, "glorot", maps=3)
        >>> layer.weight.shape, bool(layer.weight.abs().max() <= 1), bool(layer.bias.any())
        (torch.Size([12, 2]), True, False)
    """
    layer = nn.Linear(width_in, maps * width_out)
    if initialization == "glorot":
        for weight in layer.weight.detach().chunk(maps):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(layer.bias)
    return layer


def activation_layer(name: Activation) -> nn.Module:
    """A new activation layer."""
    return _ACTIVATIONS[name]()


def normalization_layers(name: Normalization, features: int, *, image: bool) -> list[nn.Module]:
    """The normalization of a layer with so many features (or channels): one layer, or none.

    Example:
        >>> normalization_layers("group", 12, image=True)[0].num_groups
        6
    """
    if name == "none":
        return []
    if name == "batch":
        return [nn.BatchNorm2d(features) if image else nn.BatchNorm1d(features)]
    if name == "layer":
        return [nn.GroupNorm(1, features) if image else nn.LayerNorm(features)]
    if name == "virtual_batch":
        return [VirtualBatchNorm(features)]
    groups = max(g for g in range(1, min(8, features) + 1) if features % g == 0)
    return [nn.GroupNorm(groups, features)]


def sequence(layers: Sequence[nn.Module], in_shape: Shape) -> nn.Sequential:
    """The layers one after the other, with a reference batch beside the input where a normalization needs one."""
    if any(isinstance(layer, VirtualBatchNorm) for layer in layers):
        return ReferenceLayers(layers, in_shape)
    return nn.Sequential(*layers)


def show_first(layers: nn.Sequential, x: Tensor) -> None:
    """Shows layers their first input, if they want to see it."""
    if isinstance(layers, ReferenceLayers):
        layers.start(x)


def dropout_layers(probability: float) -> list[nn.Module]:
    """A dropout layer, or none."""
    return [nn.Dropout(probability)] if probability else []
