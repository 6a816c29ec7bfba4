"""A posterior whose elements depend on each other."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor
from torch.distributions import Distribution, LowRankMultivariateNormal

from genkit import Shape
from genkit_vae.posterior import Posterior


class Template(Posterior):
    r"""A normal distribution whose covariance is a diagonal and a few directions besides.

    .. math:: q(z \mid x) = \mathcal{N}\left(\mu(x),\, \mathrm{diag}\, \sigma^2(x) + F(x) F(x)^\top\right)

    The encoder puts out, in this order, the :math:`D` means, the :math:`D` logarithms of :math:`\sigma^2` and the
    :math:`D \times r` factor :math:`F`.

    Args:
        rank: Directions in which elements may vary together, :math:`r`.

    References:
        Rezende, Mohamed and Wierstra: Stochastic Backpropagation, ICML 2014, arXiv 1401.4082, section 4.3 (structured
        covariances).

    Example:
        >>> import torch
        >>> q = Template((2,), rank=1).distribution(torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]]))
        >>> q.covariance_matrix[0].tolist()
        [[2.0, 1.0], [1.0, 2.0]]
    """

    examples = ({}, {"rank": 1})

    def __init__(self, latent_shape: Shape, /, *, rank: PositiveInt = 2) -> None:
        super().__init__()
        if len(latent_shape) != 1:
            raise ValueError(f"serves latents that are vectors, not of shape {latent_shape}; diagonal would do")
        self.dims = latent_shape[0]
        self.rank = rank

    @property
    def parameter_shape(self) -> Shape:
        """Means, log-variances and the factor, in one vector."""
        return (self.dims * (2 + self.rank),)

    def distribution(self, parameters: Tensor, context: Tensor | None = None) -> Distribution:
        """The posterior of each example, from the encoder's output with shape :math:`(B, D (2 + r))`."""
        mean, log_variance, factor = parameters.split([self.dims, self.dims, self.dims * self.rank], dim=1)
        factor = factor.unflatten(1, (self.dims, self.rank))
        return LowRankMultivariateNormal(mean, factor, log_variance.exp(), validate_args=False)
