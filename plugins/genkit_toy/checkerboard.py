"""Every second square of a board."""

from __future__ import annotations

import math

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Generator, Tensor

from genkit import DataSpec
from genkit_toy.synthetic import KnownDensity

LARGEST = 1 - 2.0**-22  # of a place in a square of side 1: rounding moves nothing beyond onto the edge


class Checkerboard(KnownDensity):
    r"""Every second square of a board of 4 x 4, evenly filled; an example's label is its square.

    .. math:: p(x) = \frac{1}{32} \ \text{ where } \lfloor x_1 / 2 \rfloor + \lfloor x_2 / 2 \rfloor
        \text{ is even and } x \in [-4, 4)^2

    Eight squares of side 2, the column counting before the row in their labels. The entropy is :math:`\ln 32 = 3.4657`
    nats. The energy is constant on the squares and :math:`+\infty` outside, with gradient 0 everywhere: a model that
    is trained on the energy and not on the data needs one that is smooth.

    Args:
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        data_seed: Where the examples are drawn from.

    References:
        Grathwohl et al.: FFJORD, ICLR 2019, arXiv 1810.01367, figure 2.

    Example:
        >>> Checkerboard().energy(torch.tensor([[1.0, 1.0], [1.0, -1.0]])).tolist()
        [3.465735912322998, inf]
    """

    finite_energy = False

    def __init__(
        self,
        *,
        train: PositiveInt = 10_000,
        validation: NonNegativeInt = 0,
        test: NonNegativeInt = 10_000,
        data_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(train=train, validation=validation, test=test, data_seed=data_seed)

    @property
    def spec(self) -> DataSpec:
        """A point in the plane with its square."""
        return DataSpec((2,), num_classes=8, protocol="checkerboard, 8 squares of side 2")

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draws squares, and a place in each."""
        labels = torch.randint(8, (count,), generator=generator)
        column, upper = labels // 2, labels % 2
        corners = torch.stack([column, column % 2 + 2 * upper], dim=1) - 2  # lower left, in sides of a square
        return 2 * (corners + torch.rand(count, 2, generator=generator).clamp(max=LARGEST)), labels

    def energy(self, x: Tensor) -> Tensor:
        r""":math:`-\log p(x)` for examples with shape :math:`(B, 2)`."""
        cells = (x / 2).floor()
        filled = (cells.sum(1) % 2 == 0) & ((cells >= -2) & (cells < 2)).all(1)
        flat = self.entropy + 0 * x.sum(1)  # constant, but to be differentiated as any other energy
        return torch.where(filled, flat, math.inf)

    @property
    def entropy(self) -> float:
        """The entropy in nats."""
        return math.log(32)
