"""Maps of each element by itself that do not depend on the others."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from genkit import Shape
from genkit_flow.bijection import Bijection, channel_shape, constant_log_det


class Affine(Bijection):
    r"""A shift and a positive scale, :math:`z = s x + t`, fixed or learned for each element.

    Args:
        scale: The scale :math:`s`, or where it starts.
        shift: The shift :math:`t`, or where it starts.
        learned: Whether each element has a scale and a shift of its own that are trained.
    """

    examples = ({"scale": 2.0, "shift": -1.0}, {"learned": True})

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        *,
        scale: PositiveFloat = 1.0,
        shift: float = 0.0,
        learned: bool = False,
    ) -> None:
        super().__init__(shape, context_shape)
        log_scale, shifts = torch.full(shape, math.log(scale)), torch.full(shape, shift)
        if learned:
            self.log_scale, self.shift = nn.Parameter(log_scale), nn.Parameter(shifts)
        else:
            self.register_buffer("log_scale", log_scale, persistent=False)
            self.register_buffer("shift", shifts, persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scales, then shifts."""
        return x * self.log_scale.exp() + self.shift, constant_log_det(x, self.log_scale)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undoes the shift, then the scale."""
        return (z - self.shift) * (-self.log_scale).exp(), constant_log_det(z, -self.log_scale)


class Actnorm(Bijection):
    r"""Activation normalization: an affine map of each channel that starts from the first batch.

    .. math:: z = (x + b)\, e^s

    The start gives each channel of an image, or each element of a vector, mean 0 and variance 1 on the first batch of
    training data; from there on :math:`b` and :math:`s` are trained like any other parameters. In a prior, a posterior
    or a dequantizer, which see no data first, it starts as the identity.

    References:
        Kingma and Dhariwal: Glow, NeurIPS 2018, arXiv 1807.03039, section 3.1.
    """

    def __init__(self, shape: Shape, context_shape: Shape | None, /) -> None:
        super().__init__(shape, context_shape)
        self.bias = nn.Parameter(torch.zeros(channel_shape(shape)))
        self.log_scale = nn.Parameter(torch.zeros(channel_shape(shape)))

    @torch.no_grad()
    def start(self, x: Tensor, context: Tensor | None = None) -> None:
        """Takes mean and spread of the first batch."""
        channels = x.transpose(0, 1).flatten(1)  # (C, B * positions)
        self.bias.copy_(-channels.mean(1).view_as(self.bias))
        spread = channels.std(1, correction=0)
        known = torch.where(spread > 1e-6, spread, 1)  # a channel may be constant, and a batch a single example
        self.log_scale.copy_(-known.log().view_as(self.log_scale))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shifts, then scales."""
        return (x + self.bias) * self.log_scale.exp(), constant_log_det(x, self.log_scale)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undoes the scale, then the shift."""
        return z * (-self.log_scale).exp() - self.bias, constant_log_det(z, -self.log_scale)


class Logit(Bijection):
    r"""From the unit interval to the real line.

    .. math:: z = \mathrm{logit}(\alpha + (1 - 2 \alpha)\, x)

    Args:
        alpha: What keeps the ends of the interval away from infinity; less than 1e-7 is lost on float32.

    References:
        Dinh, Sohl-Dickstein and Bengio: Density estimation using Real NVP, ICLR 2017, arXiv 1605.08803, section 4.1.
        Papamakarios, Pavlakou and Murray: Masked Autoregressive Flow, NeurIPS 2017, arXiv 1705.07057, section 4.3.
    """

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        *,
        alpha: Annotated[float, Field(ge=1e-7, lt=0.5)] = 1e-5,
    ) -> None:
        super().__init__(shape, context_shape)
        self.alpha = alpha

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Moves the ends inwards and takes the logit."""
        p = self.alpha + (1 - 2 * self.alpha) * x
        z = p.log() - (-p).log1p()
        return z, -self._log_slopes(z).flatten(1).sum(1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Takes the sigmoid and moves the ends outwards."""
        x = (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)
        return x, self._log_slopes(z).flatten(1).sum(1)

    def _log_slopes(self, z: Tensor) -> Tensor:
        """Of the inverse, elementwise."""
        return logsigmoid(z) + logsigmoid(-z) - math.log(1 - 2 * self.alpha)
