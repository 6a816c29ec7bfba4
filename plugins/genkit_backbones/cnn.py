"""The convolutional network: from image to vector, from vector to image, from image to image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from genkit import Backbone, Shape, refuse_context
from genkit_backbones.layers import (
    Activation,
    Normalization,
    Probability,
    activation_layer,
    dropout_layers,
    normalization_layers,
    sequence,
    show_first,
)

SMALLEST_SIDE = 4  # images are halved until the shorter side is no longer than this


def halvings(side: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The sides of an image that is halved, rounding up, until it is small; at least once.

    Example:
        >>> halvings((28, 28))
        [(28, 28), (14, 14), (7, 7), (4, 4)]
        >>> halvings((3, 2))
        [(3, 2), (2, 1)]
    """
    sides = [tuple(side)]
    while len(sides) == 1 or min(sides[-1]) > SMALLEST_SIDE:
        sides.append(tuple((length + 1) // 2 for length in sides[-1]))
    return sides


class CNN(Backbone):
    r"""3x3 convolutions that halve an image step by step, or double it back.

    For 28 x 28 images and :math:`c` channels, an encoder is :math:`c, c, 2c, 2c, 2c` convolutions with stride 2
    at the 1st, 3rd and 5th (28, 14, 7, 4) and a linear head; a decoder is its mirror with transposed convolutions.
    Other sizes take as many halvings as bring the shorter side to 4 or less. Between images of one size it is a
    stack of five convolutions with stride 1.

    Args:
        channels: Channels of the first convolution, :math:`c`.
        multipliers: Channels at each halving, as multiples of ``channels``; the last is repeated.
        activation: The activation after each convolution.
        normalization: The normalization before each activation. "virtual_batch" normalizes each example by itself
            and a fixed reference batch, the first inputs that the network sees.
        dropout: Probability that an element is dropped in training.
        upsampling: How a decoder doubles an image: "transposed" convolutions with stride 2, or its "nearest" pixels
            followed by a convolution, which leaves no checkerboard behind.

    References:
        P. Lippe: UvA Deep Learning Tutorials, tutorial 9 (deep autoencoders).

    Example:
        >>> import torch
        >>> encoder = CNN((1, 28, 28), (40,), channels=8)
        >>> decoder = CNN((20,), (1, 28, 28), channels=8)
        >>> encoder(torch.zeros(2, 1, 28, 28)).shape, decoder(torch.zeros(2, 20)).shape
        (torch.Size([2, 40]), torch.Size([2, 1, 28, 28]))
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        /,
        *,
        channels: PositiveInt = 32,
        multipliers: Annotated[Sequence[PositiveInt], Field(min_length=1)] = (1, 2, 2),
        activation: Activation = "gelu",
        normalization: Normalization = "none",
        dropout: Probability = 0.0,
        upsampling: Literal["transposed", "nearest"] = "transposed",
    ) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.channels = channels
        self.multipliers = tuple(multipliers)
        self.activation: Activation = activation
        self.normalization: Normalization = normalization
        self.dropout = dropout
        self.layers = sequence(self._choose(tuple(in_shape), tuple(out_shape)), tuple(in_shape))

    def start(self, x: Tensor) -> None:
        """For virtual batch normalization, which keeps the first inputs as its reference."""
        show_first(self.layers, x)

    def _choose(self, in_shape: Shape, out_shape: Shape) -> list[nn.Module]:
        if len(in_shape) == 3 and len(out_shape) == 1:
            return self._encoder(in_shape, out_shape[0])
        if len(in_shape) == 1 and len(out_shape) == 3:
            return self._decoder(in_shape[0], out_shape)
        if len(in_shape) == 3 and in_shape[1:] == out_shape[1:]:
            return self._same_size(in_shape[0], out_shape[0])
        raise ValueError(
            f"maps an image to a vector, a vector to an image or an image to one of the same size, "
            f"not {in_shape} to {out_shape}; use mlp"
        )

    def _widths(self, stages: int) -> list[int]:
        repeated = [*self.multipliers, *[self.multipliers[-1]] * stages]
        return [self.channels * multiplier for multiplier in repeated[:stages]]

    def _activated(self, convolution: nn.Module, width: int) -> list[nn.Module]:
        return [
            convolution,
            *normalization_layers(self.normalization, width, image=True),
            activation_layer(self.activation),
            *dropout_layers(self.dropout),
        ]

    def _encoder(self, in_shape: Shape, features: int) -> list[nn.Module]:
        sides = halvings(in_shape[1:])
        widths = [in_shape[0], *self._widths(len(sides) - 1)]
        layers: list[nn.Module] = []
        for stage, (before, width) in enumerate(itertools.pairwise(widths), start=1):
            layers += self._activated(nn.Conv2d(before, width, 3, stride=2, padding=1), width)
            if stage < len(widths) - 1:
                layers += self._activated(nn.Conv2d(width, width, 3, padding=1), width)
        return [*layers, nn.Flatten(), nn.Linear(widths[-1] * math.prod(sides[-1]), features)]

    def _decoder(self, features: int, out_shape: Shape) -> list[nn.Module]:
        sides = halvings(out_shape[1:])[::-1]
        widths = [*self._widths(len(sides) - 1)[::-1], out_shape[0]]
        start = (widths[0], *sides[0])
        layers: list[nn.Module] = [nn.Linear(features, math.prod(start))]
        if self.normalization == "none":
            layers += [activation_layer(self.activation), nn.Unflatten(1, start)]
        else:
            layers += [nn.Unflatten(1, start), *normalization_layers(self.normalization, start[0], image=True)]
            layers += [activation_layer(self.activation)]
        for stage, (before, width) in enumerate(itertools.pairwise(widths), start=1):
            double = self._double(before, width, *sides[stage - 1 : stage + 1])
            if stage == len(widths) - 1:
                return [*layers, double]
            layers += self._activated(double, width)
            layers += self._activated(nn.Conv2d(width, width, 3, padding=1), width)
        return layers

    def _double(self, before: int, width: int, small: tuple[int, ...], large: tuple[int, ...]) -> nn.Module:
        if self.upsampling == "nearest":
            return nn.Sequential(nn.Upsample(size=large), nn.Conv2d(before, width, 3, padding=1))
        # a stride of 2 gives 2n - 1 pixels; the padding adds the one that an even side lacks
        padding = tuple(side - (2 * half - 1) for half, side in zip(small, large, strict=True))
        return nn.ConvTranspose2d(before, width, 3, stride=2, padding=1, output_padding=padding)

    def _same_size(self, channels_in: int, channels_out: int) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for width in self._widths(4):
            layers += self._activated(nn.Conv2d(channels_in, width, 3, padding=1), width)
            channels_in = width
        return [*layers, nn.Conv2d(channels_in, channels_out, 3, padding=1)]

    @property
    def output_layer(self) -> nn.Module:
        """The last convolution, or the linear map at the end of an encoder."""
        last = self.layers[-1]
        return last[-1] if isinstance(last, nn.Sequential) else last

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Applies the layers."""
        refuse_context(self, context)
        return self.layers(x)
