"""Data whose energy is known rather than its density."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from genkit import DataSpec, HasEnergy
from genkit_toy.potentials import POTENTIALS, Name, parabola
from genkit_toy.quadrature import REACH, Rule, gauss_legendre
from genkit_toy.synthetic import Synthetic

PROPOSALS = 2**16  # of one round of rejection
WIDTH = 1.0  # of a panel: the narrowest ridge has a standard deviation of 0.35


class Energy(Synthetic, HasEnergy):
    r"""One of the four energies in the plane of Rezende and Mohamed, with examples drawn by rejection.

    .. math:: p(z) = e^{-U(z)} / Z

    "u1" has two bumps on a ring, "u2" is a wave, "u3" a wave that forks for a while, "u4" one that forks for good:
    :mod:`genkit_toy.potentials` has the formulas. The last three never end in :math:`z_1`; here

    .. math:: U(z) + \tfrac12 \left(\frac{\max(0, |z_1| - b)}{w}\right)^2

    confines them. :math:`\ln Z` and the entropy are integrals by quadrature. :math:`\ln Z` is 1.8775 for "u1"; with
    :math:`m = 2 b + w \sqrt{2 \pi}` it is :math:`\ln(\sqrt{2 \pi}\, v\, m)` where :math:`v` is 0.4 for "u2", 0.7 for
    "u3" and 0.75 for "u4". Examples are drawn by rejection, without approximation but for what lies 8 standard
    deviations away.

    Args:
        potential: Which energy.
        bound: The wall's place :math:`b`; of no matter for "u1", as is the next.
        wall: The wall's softness :math:`w`, the standard deviation with which the density falls off behind it.
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        data_seed: Where the examples are drawn from.

    References:
        Rezende and Mohamed: Variational Inference with Normalizing Flows, ICML 2015, arXiv 1505.05770, table 1.

    Example:
        >>> round(Energy().log_partition, 4), round(Energy(potential="u2", wall=1e-6).log_partition, 4)
        (1.8775, 2.0821)
    """

    examples = ({}, {"potential": "u2"}, {"potential": "u3"}, {"potential": "u4", "bound": 3.0, "wall": 0.5})

    def __init__(
        self,
        *,
        potential: Name = "u1",
        bound: PositiveFloat = 4.0,
        wall: PositiveFloat = 0.1,
        train: PositiveInt = 10_000,
        validation: NonNegativeInt = 0,
        test: NonNegativeInt = 10_000,
        data_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(train=train, validation=validation, test=test, data_seed=data_seed)
        self.name = potential
        self.potential = POTENTIALS[potential]
        self.bound = bound
        self.wall = wall

    @property
    def spec(self) -> DataSpec:
        """A point in the plane."""
        walls = "" if self.potential.first else f", walls at {self.bound:g} with std {self.wall:g}"
        return DataSpec((2,), protocol=f"energy {self.name}{walls}")

    def energy(self, x: Tensor) -> Tensor:
        r""":math:`U` with its wall, for examples with shape :math:`(B, 2)`."""
        inner = self.potential.energy(x)
        if self.potential.first:
            return inner
        return inner + parabola((x[:, 0].abs() - self.bound).relu(), self.wall)

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, None]:
        """Draws points by rejection from an even spread over :attr:`box`."""
        rounds, found = [], 0
        while found < count:
            accepted = self._accepted(generator)
            rounds.append(accepted)
            found += len(accepted)
        return torch.cat(rounds)[:count].float(), None

    @cached_property
    def log_partition(self) -> float:
        r""":math:`\ln Z` in nats."""
        return math.log(self._rule.integrate(lambda z: (-self.energy(z)).exp()))

    @cached_property
    def entropy(self) -> float:
        r"""The entropy in nats, :math:`-\int p \ln p\, dz`."""
        return self._rule.integrate(lambda z: torch.special.entr((-self.energy(z) - self.log_partition).exp()))

    @property
    def box(self) -> Tensor:
        """Lower and upper corner of what holds all but a negligible part of the mass, with shape :math:`(2, 2)`."""
        farthest = self.bound + REACH * self.wall
        intervals = [self.potential.first or (-farthest, farthest), self.potential.second]
        return torch.tensor(intervals, dtype=torch.float64).T

    @property
    def _rule(self) -> Rule:
        (left, low), (right, high) = self.box.tolist()
        walls = () if self.potential.first else (-self.bound, self.bound)  # where the curvature jumps
        return gauss_legendre(left, *walls, right, width=WIDTH) * gauss_legendre(low, high, width=WIDTH)

    def _accepted(self, generator: Generator) -> Tensor:
        """What one round of proposals leaves; in double precision, so that tails are no heavier than they should be."""
        low, high = self.box
        z = low + (high - low) * torch.rand(PROPOSALS, 2, generator=generator, dtype=torch.float64)
        heights = self.potential.top * torch.rand(PROPOSALS, generator=generator, dtype=torch.float64)
        return z[heights < (-self.energy(z)).exp()]
