"""Circles around the origin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Generator, Tensor

from genkit import DataSpec
from genkit_toy.quadrature import PANEL, REACH, gauss_legendre
from genkit_toy.synthetic import KnownDensity

Radii = Annotated[Sequence[PositiveFloat], Field(min_length=1)]


class Concentric(KnownDensity):
    r"""Abstract dataset of circles around the origin with noise; an example's label is its circle.

    .. math:: p(x) = \frac{1}{K} \sum_{k=1}^K \frac{1}{2 \pi \sigma^2}
        \exp\left(-\frac{|x|^2 + R_k^2}{2 \sigma^2}\right) I_0\left(\frac{|x| R_k}{\sigma^2}\right)

    with :math:`I_0` the modified Bessel function: points :math:`R_k (\cos \phi, \sin \phi) + \sigma \epsilon` with
    :math:`\phi` uniform, :math:`\epsilon \sim \mathcal{N}(0, I)` and all circles equally likely.

    Implementing one: write the constructor, for its defaults and its docstring, and hand everything on.

    Args:
        name: What the data is called in its protocol.
        radii: The circles' radii :math:`R_k`, in the order of their labels.
        std: The noise :math:`\sigma`.
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        data_seed: Where the examples are drawn from.
    """

    def __init__(
        self,
        name: str,
        radii: Sequence[float],
        std: float,
        *,
        train: int,
        validation: int,
        test: int,
        data_seed: int,
    ) -> None:
        super().__init__(train=train, validation=validation, test=test, data_seed=data_seed)
        self.name = name
        self.radii = torch.tensor(radii, dtype=torch.float64)
        self.std = std

    @property
    def spec(self) -> DataSpec:
        """A point in the plane with its circle."""
        radii = ", ".join(f"{radius:g}" for radius in self.radii.tolist())
        protocol = f"{self.name} of radii {radii}, std {self.std:g}"
        return DataSpec((2,), num_classes=len(self.radii), protocol=protocol)

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draws circles, and a point on each."""
        labels = torch.randint(len(self.radii), (count,), generator=generator)
        angles = 2 * math.pi * torch.rand(count, generator=generator)
        noise = torch.randn(count, 2, generator=generator)
        circle = torch.stack([angles.cos(), angles.sin()], dim=1)
        return self.radii.float()[labels, None] * circle + self.std * noise, labels

    def energy(self, x: Tensor) -> Tensor:
        r""":math:`-\log p(x)` for examples with shape :math:`(B, 2)`."""
        return self._radial_energy(x.norm(dim=1))

    @cached_property
    def entropy(self) -> float:
        r"""The entropy in nats, :math:`-\int_0^\infty 2 \pi r\, p \ln p\, dr`."""
        farthest = self.radii.max().item() + REACH * self.std
        rule = gauss_legendre(0.0, farthest, width=PANEL * self.std)
        return rule.integrate(
            lambda r: 2 * math.pi * r[:, 0] * torch.special.entr((-self._radial_energy(r[:, 0])).exp())
        )

    def _radial_energy(self, r: Tensor) -> Tensor:
        r""":math:`U` at distances from the origin with shape :math:`(B,)`."""
        distance, radii = r[:, None], self.radii.to(r)
        # the exponential that i0e takes off completes the square
        log_bessel = torch.special.i0e(distance * radii / self.std**2).log()  # (B, K)
        log_p = torch.logsumexp(log_bessel - (distance - radii).square() / (2 * self.std**2), dim=1)
        return math.log(2 * math.pi * self.std**2 * len(radii)) - log_p
