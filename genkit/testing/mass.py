"""Whether a density is one, and that of the draws that come with it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SIDE = 400
"""Cells of the grid in one direction of the plane."""
CELLS, BOXES, SHARE = 24, 4, 0.1
"""In space: cells of a box in one direction, how many boxes there are, and the share of the draws that is in each."""
LogDensity = Callable[[Tensor], Tensor]


def check_mass(log_prob: LogDensity, draws: Tensor, what: str, side: int = SIDE) -> None:
    """A density's mass is 1, and it is where draws are.

    On the line and in the plane the sum goes over a grid that holds all draws, whose cells grow with the distance from
    the middle, so that heavy tails do not make them coarse there; then the draws in the middle half of each direction
    are counted and held against the mass of the density there. In space draws are counted in boxes around some of them.

    Args:
        log_prob: The log-density in nats of points with shape :math:`(N, D)`, with shape :math:`(N,)`.
        draws: Many, with shape :math:`(N, D)`, where :math:`D` is 1, 2 or 3.
        what: How messages name it.
        side: Cells of the grid in one direction of the plane.

    Raises:
        AssertionError: The mass is another one, or it is elsewhere.
    """
    dims = draws.shape[1]
    if dims > 2:
        _check_boxes(log_prob, draws, what)
        return
    edges = [_edges(draws[:, i], side if dims == 2 else side**2) for i in range(dims)]
    points, mass = _masses(log_prob, edges)
    total = mass.sum().item()
    assert abs(total - 1) < 0.02, f"{what}: the density's mass is {total:.4g}, not 1: it is not normalized"
    low, high = (
        torch.stack([_nearest(edges[i], torch.quantile(draws[:, i], share)) for i in range(dims)])
        for share in (0.25, 0.75)
    )
    _compare(mass[_within(points, low, high)].sum().item(), _within(draws, low, high), what)


def _check_boxes(log_prob: LogDensity, draws: Tensor, what: str) -> None:
    """Around each of some draws, in the box that holds a share of all of them."""
    for centre in draws[:BOXES]:
        radius = torch.quantile((draws - centre).abs().amax(1), SHARE)
        low, high = centre - radius, centre + radius
        steps = torch.linspace(0, 1, CELLS + 1).to(draws)
        _, mass = _masses(log_prob, [start + 2 * radius * steps for start in low])
        _compare(mass.sum().item(), _within(draws, low, high), what)


def _edges(values: Tensor, cells: int) -> Tensor:
    """Where the cells of one direction end: even in the middle half of the draws, growing beyond it."""
    middle = values.median()
    unit = (torch.quantile(values, 0.75) - torch.quantile(values, 0.25)).clamp(min=torch.finfo(values.dtype).tiny)
    low, high = (torch.asinh((end - middle) / unit).item() for end in (values.min(), values.max()))
    return middle + unit * torch.sinh(torch.linspace(low, high, cells + 1, dtype=torch.float64)).to(values)


def _masses(log_prob: LogDensity, edges: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The middles of all cells, and the density's mass in each."""
    dims = len(edges)
    points = torch.cartesian_prod(*((edge[1:] + edge[:-1]) / 2 for edge in edges)).view(-1, dims)
    widths = torch.cartesian_prod(*(edge.double().diff() for edge in edges)).view(-1, dims)
    density = torch.cat([log_prob(part).double().exp() for part in points.split(40_000)])
    return points, density * widths.prod(1)


def _compare(mass: float, inside: Tensor, what: str) -> None:
    frequency = inside.double().mean().item()
    error = 5 * math.sqrt(frequency * (1 - frequency) / len(inside)) + 0.01
    assert abs(mass - frequency) < error, (
        f"{what}: {frequency:.1%} of the draws lie where the density has {mass:.1%} of its mass: "
        "draws and density are of two distributions"
    )


def _nearest(edges: Tensor, value: Tensor) -> Tensor:
    """Where a cell ends, so that none is cut."""
    return edges[(edges - value).abs().argmin()]


def _within(points: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return ((points >= low) & (points <= high)).all(1)
