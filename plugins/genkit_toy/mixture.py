"""Mixtures of normals, with modes that can be counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from genkit import Dataset, DataSpec, HasModes, Split, SplitName

Point = Annotated[Sequence[float], Field(min_length=1)]


class Mixture(Dataset, HasModes):
    r"""An equal mixture of normals of one spread; an example's label is its mode.

    .. math:: p(x) = \frac{1}{K} \sum_{k=1}^K \mathcal{N}(x; c_k, \sigma^2 I)

    Every split is drawn once, from ``data_seed``.

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
        arXiv 1712.04086, section 4.1 (ring and grid).
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
        if (layout == "centres") != (centres is not None):
            raise ValueError("centres are to be given for layout: centres, and for no other")
        if layout == "centres" and (modes is not None or scale is not None):
            raise ValueError("modes and scale belong to a ring or a grid; centres say both themselves")
        self._centres = _centres(layout, modes, scale, centres)
        self._std = std or (0.01 if layout == "ring" else 0.05)
        self.sizes: dict[SplitName, int] = {"train": train, "validation": validation, "test": test}
        self.data_seed = data_seed

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

    def split(self, name: SplitName) -> Split | None:
        """Draws a split."""
        count = self.sizes[name]
        if not count:
            return None
        generator = torch.Generator().manual_seed(3 * self.data_seed + list(self.sizes).index(name))
        labels = torch.randint(len(self._centres), (count,), generator=generator)
        noise = torch.randn(count, self._centres.shape[1], generator=generator)
        return Split(self._centres[labels] + self._std * noise, Tensor.float, labels)


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
