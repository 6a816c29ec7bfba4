"""The residual backbone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from genkit import Backbone, Shape, refuse_context
from residual_net.blocks import (
    Activation,
    Size,
    growing_block,
    halving_block,
    image_block,
    normalized,
    vector_block,
)

Width = Annotated[int, Field(ge=2)]  # normalization of a single feature would leave nothing of it
SMALL = 4  # an image is halved until its shorter side has no more pixels
MOST = 4  # channels double with each halving, up to so many times those at full size


class Residual(Backbone):
    r"""A residual network between vectors and images, in any combination that keeps or drops the size of an image.

    .. math:: x_{l + 1} = x_l + f_l(x_l), \qquad f = W_2\, \sigma(\mathrm{norm}(W_1\, \sigma(\mathrm{norm}(x))))

    A linear map or a convolution leads into the blocks, a last one leads out of them. From image to vector the image
    is halved until its shorter side has 4 pixels, with ``depth`` blocks at each size; from vector to image it grows the
    same way back. Between images of one size, and between vectors, there are ``depth`` blocks. Normalization is that of
    each example by itself.

    Args:
        width: Features of the blocks between vectors.
        channels: Channels of an image at its full size; they double with each halving, up to four times as many.
        depth: Blocks at each size.
        activation: The activation before each linear map.
        dropout: Probability that a feature (of images: a whole channel) is dropped within a block in training.

    References:
        He et al.: Identity Mappings in Deep Residual Networks, ECCV 2016, arXiv 1603.05027, figure 4 (e).

    Example:
        >>> import torch
        >>> encoder = Residual((1, 28, 28), (40,), channels=8)
        >>> decoder = Residual((20,), (1, 28, 28), channels=8)
        >>> encoder(torch.zeros(2, 1, 28, 28)).shape, decoder(torch.zeros(2, 20)).shape
        (torch.Size([2, 40]), torch.Size([2, 1, 28, 28]))
    """

    examples = (
        {"width": 8, "channels": 4},
        {"width": 6, "channels": 4, "depth": 2, "activation": "silu", "dropout": 0.1},
    )

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        /,
        *,
        width: Width = 256,
        channels: Width = 16,
        depth: PositiveInt = 1,
        activation: Activation = "gelu",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    ) -> None:
        super().__init__()
        self.width = width
        self.channels = channels
        self.depth = depth
        self.activation: Activation = activation
        self.dropout = dropout
        self.layers = nn.Sequential(*self._between(tuple(in_shape), tuple(out_shape)))

    def _between(self, in_shape: Shape, out_shape: Shape) -> list[nn.Module]:
        """The layers for two shapes.

        Raises:
            ValueError: There are none.
        """
        ways: dict[tuple[int, int], Callable[[Shape, Shape], list[nn.Module]]] = {
            (1, 1): self._vectors,
            (3, 1): self._encoder,
            (1, 3): self._decoder,
            (3, 3): self._images,
        }
        way = ways.get((len(in_shape), len(out_shape)))
        if way is None or (way == self._images and in_shape[1:] != out_shape[1:]):
            raise ValueError(
                f"goes between vectors and images, from image to image where both have one size; {in_shape} to "
                f"{out_shape} is neither, and mlp would do"
            )
        return way(in_shape, out_shape)

    def _vectors(self, in_shape: Shape, out_shape: Shape) -> list[nn.Module]:
        blocks = [vector_block(self.width, self.activation, self.dropout) for _ in range(self.depth)]
        lead_in, lead_out = nn.Linear(in_shape[0], self.width), nn.Linear(self.width, out_shape[0])
        return [lead_in, *blocks, *normalized(self.width, self.activation), lead_out]

    def _images(self, in_shape: Shape, out_shape: Shape) -> list[nn.Module]:
        lead_in = nn.Conv2d(in_shape[0], self.channels, 3, padding=1)
        return [lead_in, *self._blocks(self.channels, self.depth), *self._to_image(out_shape)]

    def _encoder(self, in_shape: Shape, out_shape: Shape) -> list[nn.Module]:
        stages = self._stages(in_shape)
        layers = [nn.Conv2d(in_shape[0], self.channels, 3, padding=1), *self._blocks(self.channels, self.depth)]
        for (before, _), (after, _) in itertools.pairwise(stages):
            layers += [halving_block(before, after, self.activation, self.dropout)]
            layers += self._blocks(after, self.depth - 1)
        channels, size = stages[-1]
        head = nn.Linear(channels * math.prod(size), out_shape[0])
        return [*layers, *normalized(channels, self.activation), nn.Flatten(), head]

    def _decoder(self, in_shape: Shape, out_shape: Shape) -> list[nn.Module]:
        stages = self._stages(out_shape)[::-1]
        start = (stages[0][0], *stages[0][1])
        layers = [nn.Linear(in_shape[0], math.prod(start)), nn.Unflatten(1, start)]
        layers += self._blocks(start[0], self.depth)
        for (before, _), (after, size) in itertools.pairwise(stages):
            layers += [growing_block(before, after, size, self.activation, self.dropout)]
            layers += self._blocks(after, self.depth - 1)
        return [*layers, *self._to_image(out_shape)]

    def _blocks(self, channels: int, count: int) -> list[nn.Module]:
        return [image_block(channels, self.activation, self.dropout) for _ in range(count)]

    def _to_image(self, shape: Shape) -> list[nn.Module]:
        return [*normalized(self.channels, self.activation), nn.Conv2d(self.channels, shape[0], 3, padding=1)]

    def _stages(self, shape: Shape) -> list[tuple[int, Size]]:
        """Channels and size of an image at each halving, from its full size on."""
        stages = [(self.channels, (shape[1], shape[2]))]
        while min(stages[-1][1]) > SMALL:
            height, width = stages[-1][1]
            channels = min(2 * stages[-1][0], MOST * self.channels)
            stages.append((channels, (math.ceil(height / 2), math.ceil(width / 2))))
        return stages

    @property
    def output_layer(self) -> nn.Module:
        """The linear map or convolution that leads out of the blocks."""
        return self.layers[-1]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Applies the layers."""
        refuse_context(self, context)
        return self.layers(x)
