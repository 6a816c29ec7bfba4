"""Two interleaved half circles."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from genkit import DataSpec
from genkit_toy.quadrature import PANEL, REACH, Rule, gauss_legendre
from genkit_toy.synthetic import KnownDensity

SHIFT = (-1.0, -0.2)
TURN = (1.0, 0.5)  # a half turn around half of this maps each moon onto the other


class Moons(KnownDensity):
    r"""Two interleaved half circles with noise; an example's label is its moon.

    .. math:: x = s\, (c_k(t) + \sigma \epsilon) + (-1, -0.2), \quad
        c_0(t) = (\cos t, \sin t), \quad c_1(t) = (1 - \cos t, \tfrac12 - \sin t)

    with :math:`t` uniform on :math:`[0, \pi]`, :math:`\epsilon \sim \mathcal{N}(0, I)` and both moons equally likely.
    The density is an integral over :math:`t`, by quadrature: time and memory of an energy grow as :math:`1 / \sigma`,
    time of the entropy as its square. The entropy is 2.3939 nats; 1.0076 at scale 1, there 0.2893 at std 0.05.

    Args:
        std: The noise :math:`\sigma`, in radii of a moon.
        scale: The radius :math:`s` of a moon.
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        data_seed: Where the examples are drawn from.

    References:
        Pedregosa et al.: Scikit-learn: Machine Learning in Python, JMLR 2011 (``make_moons``, there with :math:`t`
        evenly spaced). Grathwohl et al.: FFJORD, ICLR 2019, arXiv 1810.01367 (scale and shift).

    Example:
        >>> far, near = Moons().energy(torch.tensor([[9.0, 0.0], [1.0, -0.2]])).tolist()  # the top of a moon is near
        >>> far > 100, near < 3
        (True, True)
    """

    def __init__(
        self,
        *,
        std: PositiveFloat = 0.1,
        scale: PositiveFloat = 2.0,
        train: PositiveInt = 10_000,
        validation: NonNegativeInt = 0,
        test: NonNegativeInt = 10_000,
        data_seed: NonNegativeInt = 0,
    ) -> None:
        super().__init__(train=train, validation=validation, test=test, data_seed=data_seed)
        self.std = std
        self.scale = scale

    @property
    def spec(self) -> DataSpec:
        """A point in the plane with its moon."""
        return DataSpec((2,), num_classes=2, protocol=f"moons, std {self.std:g}, scale {self.scale:g}")

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draws points on both moons."""
        labels = torch.randint(2, (count,), generator=generator)
        outer = circle(math.pi * torch.rand(count, generator=generator))
        points = torch.where(labels[:, None] == 0, outer, torch.tensor(TURN) - outer)
        noise = torch.randn(count, 2, generator=generator)
        return self.scale * (points + self.std * noise) + torch.tensor(SHIFT), labels

    def energy(self, x: Tensor) -> Tensor:
        r""":math:`-\log p(x)` for examples with shape :math:`(B, 2)`."""
        return self._mixed(*self._log_moons((x - x.new_tensor(SHIFT)) / self.scale))

    @cached_property
    def entropy(self) -> float:
        r"""The entropy in nats: the mean of :math:`U` over the outer moon, that of the inner being the same."""
        nearest, farthest = max(0.0, 1 - REACH * self.std), 1 + REACH * self.std
        beyond = math.asin(min(1.0, REACH * self.std))  # radians that noise goes past the ends
        radii = gauss_legendre(nearest, farthest, width=PANEL * self.std)
        angles = gauss_legendre(-beyond, math.pi + beyond, width=PANEL * self.std / farthest)
        return (radii * angles).integrate(self._polar_integrand)

    def _polar_integrand(self, polar: Tensor) -> Tensor:
        r, angle = polar.unbind(1)
        log_outer, log_inner = self._log_moons(r[:, None] * circle(angle))
        return r * log_outer.exp() * self._mixed(log_outer, log_inner)

    def _mixed(self, log_outer: Tensor, log_inner: Tensor) -> Tensor:
        """The energy at full scale, from what :meth:`_log_moons` returns."""
        return math.log(2 * self.scale**2) - torch.logaddexp(log_outer, log_inner)

    def _log_moons(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """The logarithms of both moons' densities for radius 1 and no shift, each with shape :math:`(B,)`."""
        return self._log_outer(raw), self._log_outer(raw.new_tensor(TURN) - raw)

    def _log_outer(self, raw: Tensor) -> Tensor:
        t, weights = self._arc.nodes[:, 0], self._arc.weights
        first, second = circle(t).to(raw).unbind(1)  # (N,)
        squares = (raw[:, :1] - first).square() + (raw[:, 1:] - second).square()  # (B, N)
        log_weights = (weights / (2 * math.pi**2 * self.std**2)).log().to(raw)
        return torch.logsumexp(log_weights - squares / (2 * self.std**2), dim=1)

    @cached_property
    def _arc(self) -> Rule:
        return gauss_legendre(0.0, math.pi, width=PANEL * self.std)


def circle(angles: Tensor) -> Tensor:
    r"""Points on the circle of radius 1, with shape :math:`(N, 2)`, from angles with shape :math:`(N,)`.

    Example:
        >>> circle(torch.tensor([0.0])).tolist()
        [[1.0, 0.0]]
    """
    return torch.stack([angles.cos(), angles.sin()], dim=1)
