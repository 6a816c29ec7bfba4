"""Radial flows."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from genkit import Shape
from genkit_flow.bijection import Bijection
from genkit_flow.bijections.planar import ZERO
from genkit_flow.conditioner import Numbers


class Radial(Bijection):
    r"""Pulls latents towards a point, or pushes them away from it.

    .. math:: x = z + \frac{\beta}{\alpha + r} (z - z_0), \qquad r = \lVert z - z_0 \rVert, \qquad \beta > -\alpha

    The way back is in closed form too: the radius solves a quadratic equation. The constraint is kept by
    :math:`\beta = \alpha\, (\mathrm{softplus}(\hat\beta + \ln(e - 1)) - 1)`, for which :math:`\hat\beta = 0`, where it
    starts, is the identity. Where there is a context, :math:`z_0`, :math:`\ln \alpha` and :math:`\hat\beta` are linear
    in it.

    References:
        Rezende and Mohamed: Variational Inference with Normalizing Flows, ICML 2015, arXiv 1505.05770, equations 14, 15
        and appendix A.2.
    """

    def __init__(self, shape: Shape, context_shape: Shape | None, /) -> None:
        super().__init__(shape, context_shape)
        self.size = math.prod(shape)
        self.numbers = Numbers(torch.cat([torch.randn(self.size), torch.zeros(2)]), context_shape)

    def _theta(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, ...]:
        r""":math:`x - z_0`, its length, :math:`\alpha` and :math:`\alpha + \beta`, the last three (B, 1)."""
        centre, log_alpha, beta = self.numbers(x, context).tensor_split([self.size, self.size + 1], dim=1)
        arrow = x.flatten(1) - centre
        tiny = torch.finfo(x.dtype).tiny  # the length has no gradient at 0
        length = (arrow.square().sum(1, keepdim=True) + tiny).sqrt()
        alpha = log_alpha.exp()
        return arrow, length, alpha, alpha * softplus(beta + ZERO)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """From latents to data."""
        arrow, radius, alpha, total = self._theta(z, context)
        beta = total - alpha
        x = z.flatten(1) + beta / (alpha + radius) * arrow
        return x.view_as(z), self._log_det(radius, alpha, total)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""From data to latents: :math:`r^2 + (\alpha + \beta - R)\, r = \alpha R` with the length :math:`R` here."""
        arrow, length, alpha, total = self._theta(x, context)
        half = (total - length) / 2
        root = (half.square() + alpha * length).sqrt()
        # of two forms the one whose terms have one sign
        radius = torch.where(half > 0, alpha * length / (half.clamp(min=0) + root), root - half)
        z = x.flatten(1) - (total - alpha) / (total + radius) * arrow
        return z.view_as(x), -self._log_det(radius, alpha, total)

    def _log_det(self, radius: Tensor, alpha: Tensor, total: Tensor) -> Tensor:
        """Of the map from latents to data, at a latent's radius."""
        across = (total + radius) / (alpha + radius)
        along = (alpha * total + 2 * alpha * radius + radius.square()) / (alpha + radius).square()
        return ((self.size - 1) * across.log() + along.log()).squeeze(1)
