"""Mixtures of normals, with modes that can be counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from statistics import fmean
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from genkit import DataSpec, HasModes
from genkit_toy.quadrature import standard_normal
from genkit_toy.synthetic import KnownDensity

Point = Annotated[Sequence[float], Field(min_length=1)]


class Mixture(KnownDensity, HasModes):
    r"""An equal mixture of normals of one spread; an example's label is its mode.

    .. math:: p(x) = \frac{1}{K} \sum_{k=1}^K \mathcal{N}(x; c_k, \sigma^2 I)

    The entropy, in one or two dimensions, is an integral by quadrature around every mode: -4.2930 nats for the ring
    and 0.0653 for the grid, whose modes do not overlap: :math:`\ln K + \ln(2 \pi e \sigma^2)`. The eight normals of
    FFJORD's code are a ring with scale 2.82885 and std 0.353607, of entropy 2.8319.

    Args:
        layout: Where the modes lie: a "ring" of 8 with radius 1; a "grid" of 5 x 5 on {-4, -2, 0, 2, 4}; or at the
            given "centres".
        modes: Modes of the ring, or along each side of the grid; 8 and 5 where nothing is said.
        scale: The ring's radius, or the distance between neighbours in the grid; 1 and 2 where nothing is said.
        centres: The modes' places, for a layout of "centres".
        std: The spread; 0.01 for a ring and 0.05 otherwise, where nothing is said.
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        data_seed: Where the examples are drawn from.

    References:
        Lin et al.: PacGAN: The power of two samples in generative adversarial networks, NeurIPS 2018,
        arXiv 1712.04086, section 4.1 (ring and grid). Grathwohl et al.: FFJORD, ICLR 2019, arXiv 1810.01367 (eight
        normals).
    """

    examples = ({}, {"layout": "grid"}, {"layout": "centres", "centres": [[0.0, 0.0, 1.0], [2.0, 0.0, 1.0]]})

    def __init__(
        self,
        *,
        layout: Literal["ring", "grid", "centres"] = "ring",
        modes: PositiveInt | None = None,
        scale: PositiveFloat | None = None,
        centres: Annotated[Sequence[Point], Field(min_length=1)] | None = None,
        std: PositiveFloat | None = None,
        train: PositiveInt = 100_000,
        validation: NonNegativeInt = 0,
        test: NonNegativeInt = 10_000,
        data_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(train=train, validation=validation, test=test, data_seed=data_seed)
        if (layout == "centres") != (centres is not None):
            raise ValueError("centres are to be given for layout: centres, and for no other")
        if layout == "centres" and (modes is not None or scale is not None):
            raise ValueError("modes and scale belong to a ring or a grid; centres say both themselves")
        self._centres = _centres(layout, modes, scale, centres)
        self._std = std or (0.01 if layout == "ring" else 0.05)

    @property
    def spec(self) -> DataSpec:
        """A vector with its mode."""
        modes, dims = self._centres.shape
        return DataSpec((dims,), num_classes=modes, protocol=f"mixture of {modes} normals, std {self._std:g}")

    @property
    def centres(self) -> Tensor:
        """The modes' centres."""
        return self._centres

    @property
    def std(self) -> float:
        """The spread of each mode."""
        return self._std

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draws modes, and a point around each."""
        labels = torch.randint(len(self._centres), (count,), generator=generator)
        noise = torch.randn(count, self._centres.shape[1], generator=generator)
        return self._centres[labels] + self._std * noise, labels

    def energy(self, x: Tensor) -> Tensor:
        r""":math:`-\log p(x)` for examples with shape :math:`(B, D)`."""
        modes, dims = self._centres.shape
        squares = (x[:, None] - self._centres.to(x)).square().sum(2)  # (B, K)
        log_p = torch.logsumexp(-squares / (2 * self._std**2), dim=1)
        return math.log(modes) + dims * math.log(math.sqrt(2 * math.pi) * self._std) - log_p

    @cached_property
    def entropy(self) -> float | None:
        """The entropy in nats; ``None`` in more than two dimensions."""
        dims = self._centres.shape[1]
        if dims > 2:
            return None
        noise = standard_normal(dims)
        places = self._centres.double()
        return fmean(noise.integrate(lambda u, centre=c: self.energy(centre + self._std * u)) for c in places)


def _centres(layout: str, modes: int | None, scale: float | None, centres: Sequence[Sequence[float]] | None) -> Tensor:
    if layout == "ring":
        return ring(modes or 8, scale or 1.0)
    if layout == "grid":
        return grid(modes or 5, scale or 2.0)
    assert centres is not None
    if len({len(centre) for centre in centres}) > 1:
        raise ValueError("all centres must have the same number of dimensions")
    return torch.tensor([list(map(float, centre)) for centre in centres])


def ring(modes: int, radius: float) -> Tensor:
    """Points on a circle, all different, with shape :math:`(K, 2)`.

    Example:
        >>> ring(4, 1.0).round().abs().tolist()
        [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    """
    angles = torch.arange(modes) * (2 * math.pi / modes)
    return radius * torch.stack([angles.cos(), angles.sin()], dim=1)


def grid(side: int, spacing: float) -> Tensor:
    """Points of a square grid around the origin, with shape :math:`(side^2, 2)`.

    Example:
        >>> grid(2, 2.0).tolist()
        [[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]
    """
    along = (torch.arange(side) - (side - 1) / 2) * spacing
    return torch.cartesian_prod(along, along)
