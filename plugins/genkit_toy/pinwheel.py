"""A pinwheel of bent arms."""

from __future__ import annotations

import math

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from genkit import DataSpec
from genkit_toy.synthetic import Synthetic


class Pinwheel(Synthetic):
    r"""The bent arms of a pinwheel around the origin; an example's label is its arm.

    .. math:: x = 2\, (r, t) \begin{pmatrix} \cos \theta & -\sin \theta \\ \sin \theta & \cos \theta \end{pmatrix},
        \quad \theta = \frac{2 \pi k}{K} + \rho\, e^r, \quad r \sim \mathcal{N}(1, \sigma_r^2), \quad
        t \sim \mathcal{N}(0, \sigma_t^2)

    The density has no closed form. The volume of an arm's map is known, :math:`|\det| = 4\, |1 + \rho\, e^r t|`, and
    bounds the entropy from above by that of arms which do not overlap:

    .. math:: H \le \ln K + \ln(2 \pi e\, \sigma_r \sigma_t) + \mathbb{E} \ln |\det|

    That is 2.324 nats for the defaults, where the entropy itself is 2.316 by an estimate from nearest neighbours.

    Args:
        arms: Arms, :math:`K`, all equally likely.
        radial_std: The spread :math:`\sigma_r` along an arm.
        tangential_std: The spread :math:`\sigma_t` across an arm.
        rate: How much an arm bends, :math:`\rho`; 0 leaves it straight.
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        data_seed: Where the examples are drawn from.

    References:
        Johnson et al.: Composing graphical models with neural networks for structured representations and fast
        inference, NeurIPS 2016, arXiv 1603.06277, figure 1. Grathwohl et al.: FFJORD, ICLR 2019, arXiv 1810.01367
        (this size).
    """

    def __init__(
        self,
        *,
        arms: PositiveInt = 5,
        radial_std: PositiveFloat = 0.3,
        tangential_std: PositiveFloat = 0.1,
        rate: NonNegativeFloat = 0.25,
        train: PositiveInt = 10_000,
        validation: NonNegativeInt = 0,
        test: NonNegativeInt = 10_000,
        data_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(train=train, validation=validation, test=test, data_seed=data_seed)
        self.arms = arms
        self.stds = (radial_std, tangential_std)
        self.rate = rate

    @property
    def spec(self) -> DataSpec:
        """A point in the plane with its arm."""
        radial, tangential = self.stds
        protocol = f"pinwheel of {self.arms} arms, stds {radial:g} and {tangential:g}, rate {self.rate:g}"
        return DataSpec((2,), num_classes=self.arms, protocol=protocol)

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draws arms, and a point in each."""
        labels = torch.randint(self.arms, (count,), generator=generator)
        features = torch.randn(count, 2, generator=generator) * torch.tensor(self.stds) + torch.tensor([1.0, 0.0])
        return bend(features, 2 * math.pi / self.arms * labels, self.rate), labels


def bend(features: Tensor, angles: Tensor, rate: float) -> Tensor:
    r"""Where a point of an arm lies in the plane, with shape :math:`(N, 2)`.

    Args:
        features: The places :math:`(r, t)` along and across an arm, with shape :math:`(N, 2)`.
        angles: The arms' directions in radians, with shape :math:`(N,)`.
        rate: How much an arm bends, :math:`\rho`.

    Example:
        >>> bend(torch.tensor([[1.0, 0.25]]), torch.zeros(1), rate=0.0).tolist()
        [[2.0, 0.5]]
    """
    r, t = features.unbind(1)
    theta = angles + rate * r.exp()
    return 2 * torch.stack([r * theta.cos() + t * theta.sin(), t * theta.cos() - r * theta.sin()], dim=1)
