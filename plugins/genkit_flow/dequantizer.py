"""Dequantizers: from discrete values to a continuous space that has a density, and back."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor, nn

from genkit import Component, DataSpec


class Dequantizer(Component, nn.Module, kind="dequantizer", check="genkit_flow.testing:check_dequantizer"):
    r"""Abstract dequantizer: it fills the cell of each discrete value with noise :math:`u \in [0, 1)^D`.

    A value of level :math:`i` of :math:`L` becomes :math:`y = (i + u) / L`, and the density of :math:`y` bounds the
    probability of :math:`x`:

    .. math:: \log P(x) \ge \mathbb{E}_{q(u \mid x)}\left[\log p(y) - D \log L - \log q(u \mid x)\right]

    Implementing a dequantizer: ``def __init__(self, spec: DataSpec, /, *, ...)`` refuses data that it cannot serve with
    :class:`ValueError`; then override :meth:`dequantize`, and the rest where data is not discrete.

    References:
        Theis, van den Oord and Bethge: A note on the evaluation of generative models, ICLR 2016, arXiv 1511.01844,
        section 3.1. Ho et al.: Flow++, ICML 2019, arXiv 1902.00275, section 3.1.
    """

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__()
        self.spec = spec

    @property
    @abstractmethod
    def label(self) -> str:
        """What a likelihood under it was taken under, for its tag; empty if it changes nothing."""

    @abstractmethod
    def dequantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Draws a continuous value for each discrete one.

        Args:
            x: Data in the spec's range, with shape :math:`(B, *S)`.

        Returns:
            :math:`y` with the same shape, and :math:`-D \log L - \log q(u \mid x)` in nats with shape :math:`(B,)`.
        """

    def within_cell(self, x: Tensor, u: Tensor) -> Tensor:
        """The continuous values of noise, never at the upper end of their cells, where rounding can take them."""
        index = self.index(x)
        upper = (index + 1) / self.levels * (1 - 4 * torch.finfo(x.dtype).eps)
        return torch.minimum((index + u) / self.levels, upper)

    def centre(self, x: Tensor) -> Tensor:
        """The middle of each value's cell."""
        return (self.index(x) + 0.5) / self.levels

    def quantize(self, y: Tensor) -> Tensor:
        """The value in whose cell each :math:`y` lies, in the spec's range; the end's beyond the ends."""
        return (y * self.levels).floor().clamp(0, self.levels - 1) / (self.levels - 1)

    @property
    def levels(self) -> int:
        """Discrete levels of each element."""
        assert self.spec.levels is not None
        return self.spec.levels

    def index(self, x: Tensor) -> Tensor:
        """The level of each value, as a float."""
        return (x * (self.levels - 1)).round()

    @property
    def log_cells(self) -> float:
        r""":math:`D \log L`, minus the log-volume of a cell, in nats."""
        return self.spec.num_dims * math.log(self.levels)


def refuse_continuous(name: str, spec: DataSpec) -> None:
    """Raises ``ValueError`` if data has no discrete levels to be dequantized."""
    if spec.levels is None:
        raise ValueError(f"{name} dequantizes discrete data, and this is continuous; use dequantizer: none")


def straight_through(y: Tensor, x: Tensor) -> Tensor:
    """The values of :math:`x` with the gradients of :math:`y`, from which they were rounded."""
    return x.detach() + (y - y.detach()) if y.requires_grad and torch.is_grad_enabled() else x
