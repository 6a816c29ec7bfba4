"""Whether a density is one, and that of the draws that come with it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SIDE = 400
"""Cells of the grid in one direction of the plane."""


def check_mass(log_prob: Callable[[Tensor], Tensor], draws: Tensor, what: str) -> None:
    """On the line or in the plane, a density's mass is 1, and it is where draws are.

    The sum goes over a grid on the box that holds all draws, in which nearly all of the mass lies. Then the draws in
    the middle half of each direction are counted and held against the mass of the density there.

    Args:
        log_prob: The log-density in nats of points with shape :math:`(N, D)`, with shape :math:`(N,)`.
        draws: Many, with shape :math:`(N, D)`, where :math:`D` is 1 or 2.
        what: How messages name it.

    Raises:
        AssertionError: The mass is another one, or it is elsewhere.
    """
    dims = draws.shape[1]
    cells = SIDE if dims == 2 else SIDE**2
    low, high = draws.amin(0), draws.amax(0)
    widths = (high - low) / cells
    axes = [low[i] + widths[i] * (torch.arange(cells, dtype=draws.dtype) + 0.5) for i in range(dims)]
    points = torch.cartesian_prod(*axes).view(-1, dims)
    density = torch.cat([log_prob(part).double().exp() for part in points.split(40_000)]) * widths.double().prod()
    total = density.sum().item()
    assert abs(total - 1) < 0.02, f"{what}: the density's mass is {total:.4g}, not 1: it is not normalized"
    inner_low, inner_high = (torch.quantile(draws, share, dim=0) for share in (0.25, 0.75))
    mass = density[_within(points, inner_low, inner_high)].sum().item()
    frequency = _within(draws, inner_low, inner_high).double().mean().item()
    error = 5 * math.sqrt(frequency * (1 - frequency) / len(draws)) + 0.01
    assert abs(mass - frequency) < error, (
        f"{what}: {frequency:.1%} of the draws lie where the density has {mass:.1%} of its mass: "
        "draws and density are of two distributions"
    )


def _within(points: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return ((points >= low) & (points <= high)).all(1)
