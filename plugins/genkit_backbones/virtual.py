"""Virtual batch normalization."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from genkit import Shape

REFERENCE = 64  # examples whose statistics stand for all


class VirtualBatchNorm(nn.Module):
    r"""Normalizes each example by the statistics of a fixed reference batch and of itself.

    .. math:: \mu = \tfrac{1}{R + 1} \left(\mu_x + R\, \mu_{ref}\right), \qquad
        \overline{x^2} = \tfrac{1}{R + 1} \left(\overline{x_x^2} + R\, \overline{x_{ref}^2}\right)

    Unlike batch normalization, an example's output does not depend on the rest of its batch, in training as in
    evaluation. The first :math:`R` rows of the input are the reference (see :class:`ReferenceLayers`).

    Args:
        features: Features, or channels.

    References:
        Salimans et al.: Improved Techniques for Training GANs, NeurIPS 2016, arXiv 1606.03498, section 3.5.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes reference and examples, with shape :math:`(R + B, C, ...)`."""
        exact = x if x.dtype == torch.float64 else x.float()
        flat = exact.flatten(2) if x.dim() > 2 else exact.unsqueeze(2)  # (R + B, C, positions)
        flat = (
            flat - flat[:REFERENCE].mean((0, 2))[:, None]
        )  # the reference's mean is 0 from here on: squares stay small
        means, squares = flat.mean(2), flat.square().mean(2)  # (R + B, C)
        square = squares[:REFERENCE].mean(0)  # (C,)
        share = 1 / (REFERENCE + 1)
        mean = torch.cat([torch.zeros_like(means[:REFERENCE]), share * means[REFERENCE:]])
        square = torch.cat([square.expand(REFERENCE, -1), torch.lerp(square, squares[REFERENCE:], share)])
        scale = self.weight * (square - mean.square()).clamp(min=0).add(1e-5).rsqrt()  # (R + B, C)
        return ((flat - mean.unsqueeze(2)) * scale.unsqueeze(2) + self.bias[:, None]).view_as(x).to(x.dtype)


class ReferenceLayers(nn.Sequential):
    """Layers that take a reference batch through the network beside every batch.

    Args:
        layers: The layers.
        in_shape: The shape of their input.
    """

    def __init__(self, layers: Iterable[nn.Module], in_shape: Shape) -> None:
        super().__init__(*layers)
        self.register_buffer("reference", torch.randn(REFERENCE, *in_shape))

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Takes the first inputs as the reference, again from the first one where there are too few."""
        self.reference.copy_(x[torch.arange(REFERENCE, device=x.device) % len(x)])  # pyright: ignore[reportCallIssue]

    def forward(self, x: Tensor) -> Tensor:
        """Applies the layers."""
        together = torch.cat([self.reference.to(x.dtype), x])  # pyright: ignore[reportCallIssue, reportArgumentType]
        return super().forward(together)[REFERENCE:]
