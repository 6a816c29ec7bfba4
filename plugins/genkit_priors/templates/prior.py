"""The Laplace distribution as a prior."""

from __future__ import annotations

import math

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace

from genkit import Shape
from genkit_priors.prior import Prior


class Template(Prior):
    r"""Independent Laplace distributions: a sharp peak at 0 and heavy tails, so that few elements are large at a time.

    .. math:: p(z) = \prod_i \frac{1}{2 b_i} e^{-|z_i| / b_i}

    Args:
        scale: The scales :math:`b`, or where they start.
        learned: Whether each element has a scale of its own that is trained, by its logarithm.

    References:
        Barello, Charles and Pillow: Sparse-Coding Variational Auto-Encoders, 2018.

    Example:
        >>> Template((2,)).sample(1, temperature=0.0).abs().tolist()
        [[0.0, 0.0]]
    """

    examples = ({}, {"scale": 0.5, "learned": True})

    def __init__(self, latent_shape: Shape, /, *, scale: PositiveFloat = 1.0, learned: bool = False) -> None:
        super().__init__()
        start = torch.full(latent_shape, math.log(scale))
        self.log_scale = nn.Parameter(start) if learned else nn.Buffer(start, persistent=False)

    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The prior of one latent, with event shape :math:`Z`."""
        scale = self.log_scale.exp()
        laplace = Laplace(torch.zeros_like(scale), scale, validate_args=False)
        return Independent(laplace, scale.dim(), validate_args=False)

    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws latents with shape :math:`(N, *Z)`, differentiable in the scales, which the temperature multiplies."""
        return temperature * self.distribution(context).rsample(torch.Size([num_samples]))
