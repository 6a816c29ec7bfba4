"""Integrals by quadrature, in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import mul

import numpy as np
import torch
from torch import Tensor

NODES = 16  # of the Gauss-Legendre rule on each panel
CHUNK = 4096  # nodes that a function is given at a time
REACH = 8.0  # standard deviations from a normal's centre beyond which there is nothing: 1e-14 of its mass
PANEL = 4.0  # standard deviations that a panel may be wide for entropies to be right to 1e-6


@dataclass(frozen=True)
class Rule:
    r"""Nodes and weights, :math:`\int f(x)\, dx \approx \sum_n w_n f(x_n)`.

    Attributes:
        nodes: The places :math:`x_n`, float64, with shape :math:`(N, D)`.
        weights: The weights :math:`w_n`, with shape :math:`(N,)`.
    """

    nodes: Tensor
    weights: Tensor

    def __mul__(self, other: Rule) -> Rule:
        """The rule for the product of two spaces.

        Example:
            >>> square = gauss_legendre(0.0, 1.0, width=1.0) * gauss_legendre(0.0, 2.0, width=1.0)
            >>> round(square.integrate(lambda x: x[:, 0] * x[:, 1] ** 2), 12)  # 1/2 times 8/3
            1.333333333333
        """
        first = self.nodes.repeat_interleave(len(other.nodes), dim=0)
        second = other.nodes.repeat(len(self.nodes), 1)
        return Rule(torch.cat([first, second], dim=1), torch.outer(self.weights, other.weights).flatten())

    def integrate(self, function: Callable[[Tensor], Tensor]) -> float:
        """The integral of a function, which maps :math:`(N, D)` to :math:`(N,)`."""
        parts = zip(self.nodes.split(CHUNK), self.weights.split(CHUNK), strict=True)
        return sum((weights * function(nodes)).sum().item() for nodes, weights in parts)


def gauss_legendre(*edges: float, width: float) -> Rule:
    r"""The composite Gauss-Legendre rule on a line: 16 nodes on each of many panels.

    Args:
        *edges: Where panels must end, in ascending order: the ends of the interval and, between them, where the
            function or a derivative of it jumps.
        width: What a panel is at most wide: a few times the width of what there is to see.

    Example:
        >>> rule = gauss_legendre(-8.0, 0.0, 8.0, width=4.0)
        >>> rule.nodes.shape
        torch.Size([64, 1])
        >>> round(rule.integrate(lambda x: (-x[:, 0].square() / 2).exp()), 6)  # the square root of 2 pi
        2.506628
    """
    parts = [_ticks(low, high, width) for low, high in pairwise(edges)]
    ends = torch.cat(parts).unique()  # (P + 1,), each edge once
    half = ends.diff()[:, None] / 2  # (P, 1)
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(NODES))
    return Rule(((ends[:-1, None] + half) + half * nodes).view(-1, 1), (half * weights).flatten())


def _ticks(low: float, high: float, width: float) -> Tensor:
    return torch.linspace(low, high, math.ceil((high - low) / width) + 1, dtype=torch.float64)


def standard_normal(dims: int) -> Rule:
    r"""The rule for expectations under a standard normal, whose density is part of the weights.

    Args:
        dims: Dimensions; there are :math:`64^\mathrm{dims}` nodes.

    Example:
        >>> round(standard_normal(2).integrate(lambda x: x.square().sum(1)), 12)
        2.0
    """
    line = gauss_legendre(-REACH, REACH, width=PANEL)
    density = (-line.nodes[:, 0].square() / 2).exp() / math.sqrt(2 * math.pi)
    return reduce(mul, [Rule(line.nodes, line.weights * density)] * dims)
