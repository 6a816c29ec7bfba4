"""Uniform dequantization."""

from __future__ import annotations

import torch
from torch import Tensor

from genkit import DataSpec
from genkit_flow.dequantizer import Dequantizer, refuse_continuous


class UniformDequantizer(Dequantizer):
    r"""Uniform noise in each cell, :math:`q(u \mid x) = 1`.

    References:
        Theis, van den Oord and Bethge: A note on the evaluation of generative models, ICLR 2016, arXiv 1511.01844,
        section 3.1.
    """

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__(spec)
        refuse_continuous("uniform", spec)

    @property
    def label(self) -> str:
        """By its name."""
        return "uniform dequantization"

    def dequantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draws the noise."""
        return self.within_cell(x, torch.rand_like(x)), x.new_full((len(x),), -self.log_cells)
