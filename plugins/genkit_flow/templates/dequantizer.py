"""Dequantization with noise that keeps to the middle of each cell."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.distributions import Beta

from genkit import DataSpec
from genkit_flow.dequantizer import Dequantizer, refuse_continuous


class Template(Dequantizer):
    r"""Noise from a symmetric beta distribution in each cell: more of it in the middle than near the borders.

    .. math:: q(u \mid x) = \prod_d \mathrm{Beta}(u_d; a, a), \qquad y = (i + u) / L

    A density need not jump where one cell meets the next, which smooth maps find hard. The bound pays for it by the
    entropy that the noise has less than uniform noise: 0.125 nats a dimension for :math:`a = 2`.

    Args:
        concentration: How closely the noise keeps to the middle, :math:`a`; 1 is uniform noise.

    References:
        Hoogeboom, Cohen and Tomczak: Learning Discrete Distributions by Dequantization, AABI 2021, arXiv 2001.11235.
    """

    examples = ({}, {"concentration": 4.0})

    def __init__(self, spec: DataSpec, /, *, concentration: Annotated[float, Field(ge=1, le=100)] = 2.0) -> None:
        super().__init__(spec)
        refuse_continuous("template", spec)
        self.concentration = concentration

    @property
    def label(self) -> str:
        """Part of every likelihood's tag: figures under other noise are other figures."""
        return f"beta dequantization, concentration {self.concentration:g}"

    def dequantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draws noise for data with shape :math:`(B, *S)`, and says what the bound gets for it, nats."""
        concentration = torch.full_like(x, self.concentration)
        noise = Beta(concentration, concentration, validate_args=False)
        tiny = torch.finfo(x.dtype).eps
        u = noise.sample().clamp(tiny, 1 - tiny)  # the logarithm of its density is not finite at the ends
        return self.within_cell(x, u), -self.log_cells - noise.log_prob(u).flatten(1).sum(1)
