"""Independent normals of any centre and spread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.distributions import Normal as NormalDistribution

from genkit import Shape
from genkit_priors.prior import Prior


class Normal(Prior):
    r"""Independent normals of any centre and spread, fixed or learned.

    .. math:: p(z) = \prod_i \mathcal{N}(z_i; \mu_i, \sigma_i^2)

    Args:
        loc: The centres :math:`\mu`: one number for all elements or, for latents that are vectors, one for each.
        scale: The standard deviations :math:`\sigma`, likewise.
        learned: Whether both are trained, starting there; the standard deviations by their logarithms.

    Example:
        >>> Normal((2,), loc=[0.0, 5.0], scale=2.0).sample(3, temperature=0.0).tolist()
        [[0.0, 5.0], [0.0, 5.0], [0.0, 5.0]]
    """

    examples = ({}, {"loc": 1.0, "scale": 0.5, "learned": True})

    def __init__(
        self,
        latent_shape: Shape,
        /,
        *,
        loc: float | Sequence[float] = 0.0,
        scale: PositiveFloat | Sequence[PositiveFloat] = 1.0,
        learned: bool = False,
    ) -> None:
        super().__init__()
        start, log_start = filled("loc", loc, latent_shape), filled("scale", scale, latent_shape).log()
        self.loc = nn.Parameter(start) if learned else nn.Buffer(start, persistent=False)
        self.log_scale = nn.Parameter(log_start) if learned else nn.Buffer(log_start, persistent=False)

    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The normals as one distribution."""
        normal = NormalDistribution(self.loc, self.log_scale.exp(), validate_args=False)
        return Independent(normal, self.loc.dim(), validate_args=False)

    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from normals whose standard deviations the temperature scales; differentiable in both parameters."""
        noise = torch.randn(num_samples, *self.loc.shape, device=self.loc.device, dtype=self.loc.dtype)
        return self.loc + temperature * self.log_scale.exp() * noise


def filled(name: str, given: float | Sequence[float], latent_shape: Shape) -> Tensor:
    """One number for all elements of a latent, or one for each, with the latent's shape.

    Raises:
        ValueError: There are more or fewer numbers than elements, or the latent is no vector.

    Example:
        >>> filled("loc", 2.0, (1, 2)).tolist()
        [[2.0, 2.0]]
    """
    if not isinstance(given, Sequence):
        return torch.full(latent_shape, float(given))
    if latent_shape != (len(given),):
        fits = f"length {latent_shape[0]}, or one number for all," if len(latent_shape) == 1 else "one number for all"
        raise ValueError(f"{name} has length {len(given)}, but the latent has shape {latent_shape}; {fits} would fit")
    return torch.tensor([float(value) for value in given])
