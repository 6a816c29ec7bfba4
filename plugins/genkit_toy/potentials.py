r"""The four energies in the plane of Rezende and Mohamed, each a function from :math:`(B, 2)` to :math:`(B,)`.

.. math::
    w_1 = \sin\frac{2 \pi z_1}{4}, \quad w_2 = 3 \exp\left(-\frac12 \left(\frac{z_1 - 1}{0.6}\right)^2\right), \quad
    w_3 = 3\, \mathrm{sigmoid}\left(\frac{z_1 - 1}{0.3}\right)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Name = Literal["u1", "u2", "u3", "u4"]


@dataclass(frozen=True)
class Potential:
    r"""An energy and what it takes to draw from it.

    Attributes:
        energy: :math:`U`, in nats.
        top: What :math:`e^{-U}` exceeds nowhere.
        first: The interval of :math:`z_1` that holds all but a negligible part of the mass; ``None`` where the
            energy alone does not confine it.
        second: The interval of :math:`z_2`, at any :math:`z_1`.
    """

    energy: Callable[[Tensor], Tensor]
    top: float
    first: tuple[float, float] | None
    second: tuple[float, float]


def u1(z: Tensor) -> Tensor:
    r"""Two bumps on a ring.

    .. math:: \tfrac12 \left(\frac{|z| - 2}{0.4}\right)^2 - \ln\left(
        e^{-\frac12 ((z_1 - 2) / 0.6)^2} + e^{-\frac12 ((z_1 + 2) / 0.6)^2}\right)
    """
    z1 = z[:, 0]
    return parabola(z.norm(dim=1) - 2, 0.4) - torch.logaddexp(-parabola(z1 - 2, 0.6), -parabola(z1 + 2, 0.6))


def u2(z: Tensor) -> Tensor:
    r"""A wave, :math:`\tfrac12 ((z_2 - w_1) / 0.4)^2`."""
    return parabola(above_wave(z), 0.4)


def u3(z: Tensor) -> Tensor:
    r"""A wave that forks for a while.

    .. math:: -\ln\left(e^{-\frac12 ((z_2 - w_1) / 0.35)^2} + e^{-\frac12 ((z_2 - w_1 + w_2) / 0.35)^2}\right)
    """
    y, w2 = above_wave(z), 3 * (-parabola(z[:, 0] - 1, 0.6)).exp()
    return -torch.logaddexp(-parabola(y, 0.35), -parabola(y + w2, 0.35))


def u4(z: Tensor) -> Tensor:
    r"""A wave that forks for good.

    .. math:: -\ln\left(e^{-\frac12 ((z_2 - w_1) / 0.4)^2} + e^{-\frac12 ((z_2 - w_1 + w_3) / 0.35)^2}\right)
    """
    y, w3 = above_wave(z), 3 * torch.sigmoid((z[:, 0] - 1) / 0.3)
    return -torch.logaddexp(-parabola(y, 0.4), -parabola(y + w3, 0.35))


def parabola(distance: Tensor, width: float) -> Tensor:
    r"""The energy of a normal but for its constant, :math:`\tfrac12 (d / w)^2`.

    Example:
        >>> parabola(torch.tensor([1.0, 3.0]), 0.5).tolist()
        [2.0, 18.0]
    """
    return 0.5 * (distance / width).square()


def above_wave(z: Tensor) -> Tensor:
    """How far points lie above the wave, :math:`z_2 - w_1`."""
    return z[:, 1] - torch.sin(2 * math.pi * z[:, 0] / 4)


# Intervals leave at least 8 standard deviations to every ridge. Exponentials of parabolas are at most 1; the two
# bumps' centres are so far apart that where one is large the other is at most exp(-(2 / 0.6)^2 / 2).
POTENTIALS: dict[Name, Potential] = {
    "u1": Potential(u1, 1 + math.exp(-0.5 * (2 / 0.6) ** 2), (-5.2, 5.2), (-5.2, 5.2)),
    "u2": Potential(u2, 1.0, None, (-4.2, 4.2)),
    "u3": Potential(u3, 2.0, None, (-6.8, 3.8)),
    "u4": Potential(u4, 2.0, None, (-6.8, 4.2)),
}
