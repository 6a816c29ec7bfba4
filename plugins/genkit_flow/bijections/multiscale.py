"""What changes the shape: squeezing an image, splitting off a part of it, and repeating other bijections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor
from torch.nn import functional

from genkit import Factory, Shape
from genkit_flow.bijection import Bijection, Way
from genkit_flow.chain import Chain

Bijections = Annotated[Sequence[Factory[Bijection]], Field(min_length=1)]


class Squeeze(Bijection):
    """Trades size for channels: each 2 x 2 square of an image becomes four channels.

    References:
        Dinh, Sohl-Dickstein and Bengio: Density estimation using Real NVP, ICLR 2017, arXiv 1605.08803, section 3.6.
    """

    def __init__(self, shape: Shape, context_shape: Shape | None, /) -> None:
        super().__init__(shape, context_shape)
        if len(shape) != 3:
            raise ValueError(f"squeezes images, not data of shape {tuple(shape)}")
        if shape[1] % 2 or shape[2] % 2:
            raise ValueError(f"squeezes images with even sides, and {shape[1]} x {shape[2]} is odd; pad or resize them")

    @property
    def out_shape(self) -> Shape:
        """Four times the channels, half of each side."""
        channels, height, width = self.in_shape
        return (4 * channels, height // 2, width // 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Squares become channels."""
        return functional.pixel_unshuffle(x, 2), x.new_zeros(len(x))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Channels become squares."""
        return functional.pixel_shuffle(z, 2), z.new_zeros(len(z))


class Split(Bijection):
    r"""Factors out one half of the channels (or of a vector's elements) and goes on with the other.

    .. math:: (x_1, x_2) = x, \qquad z = (x_1, g(x_2))

    The half that stays is not changed any more; both make one vector at the end. What comes after the split is listed
    within it, so that scales are nested as they are thought of.

    Args:
        bijections: What the other half goes through.

    References:
        Dinh, Sohl-Dickstein and Bengio: Density estimation using Real NVP, ICLR 2017, arXiv 1605.08803, section 3.6.
    """

    examples = ({"bijections": ["actnorm"]},)

    def __init__(self, shape: Shape, context_shape: Shape | None, /, *, bijections: Bijections) -> None:
        super().__init__(shape, context_shape)
        if shape[0] % 2:
            what = "channels" if len(shape) == 3 else "elements"
            raise ValueError(
                f"splits an even number of {what}, and there are {shape[0]}; a squeeze before it gives four times as "
                "many channels"
            )
        self.half_shape = (shape[0] // 2, *shape[1:])
        self.chain = Chain(bijections, self.half_shape, context_shape)

    @property
    def out_shape(self) -> Shape:
        """One vector."""
        return (math.prod(self.in_shape),)

    @property
    def one_way(self) -> Way | None:
        """As what is within."""
        return self.chain.one_way

    def why_one_way(self) -> str:
        """What within it is."""
        return self.chain.why_one_way() if self.one_way else ""

    def start(self, x: Tensor, context: Tensor | None = None) -> None:
        """Shows what is within its half."""
        self.chain.start(x.chunk(2, dim=1)[1], context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Splits, and sends one half on."""
        stays, goes = x.chunk(2, dim=1)
        goes, log_det = self.chain(goes, context)
        return torch.cat([stays.flatten(1), goes.flatten(1)], dim=1), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Brings one half back, and joins both."""
        stays, goes = z.chunk(2, dim=1)
        goes, log_det = self.chain.inverse(goes.unflatten(1, self.chain.out_shape), context)
        return torch.cat([stays.unflatten(1, self.half_shape), goes], dim=1), log_det


class Repeat(Bijection):
    """The same bijections several times over, each time with parameters of their own.

    Args:
        bijections: What is repeated, from data to latents.
        times: How often.
    """

    examples = ({"times": 2, "bijections": ["actnorm", "permutation"]},)

    def __init__(
        self, shape: Shape, context_shape: Shape | None, /, *, bijections: Bijections, times: PositiveInt = 2
    ) -> None:
        super().__init__(shape, context_shape)
        self.chain = Chain([*bijections] * times, shape, context_shape)

    @property
    def out_shape(self) -> Shape:
        """As the last leaves it."""
        return self.chain.out_shape

    @property
    def one_way(self) -> Way | None:
        """As what is within."""
        return self.chain.one_way

    def why_one_way(self) -> str:
        """What within it is."""
        return self.chain.why_one_way() if self.one_way else ""

    def start(self, x: Tensor, context: Tensor | None = None) -> None:
        """Shows each its input."""
        self.chain.start(x, context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Through all of them."""
        return self.chain(x, context)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Back through all of them."""
        return self.chain.inverse(z, context)
