"""A normal posterior whose elements depend on each other."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from genkit import Shape
from genkit_vae.posterior import Posterior


class FullCovariance(Posterior):
    r"""A normal distribution with any covariance.

    .. math:: q(z \mid x) = \mathcal{N}(\mu(x), L(x) L(x)^\top)

    :math:`L` is lower triangular with a positive diagonal. The encoder puts out, in this order, the :math:`D` means,
    the :math:`D` logarithms of the diagonal and the :math:`D (D - 1) / 2` elements below it, row by row.

    References:
        Kingma and Welling: An Introduction to Variational Autoencoders, Foundations and Trends in Machine Learning
        2019, arXiv 1906.02691, section 2.5.1.

    Example:
        >>> q = FullCovariance((2,)).distribution(torch.tensor([[5.0, 6.0, 0.0, 0.0, 3.0]]))
        >>> q.mean.tolist(), q.covariance_matrix.tolist()
        ([[5.0, 6.0]], [[[1.0, 3.0], [3.0, 10.0]]])
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, latent_shape: Shape, /) -> None:
        super().__init__()
        if len(latent_shape) != 1:
            raise ValueError(f"serves latents that are vectors, not of shape {tuple(latent_shape)}; diagonal would do")
        self.dims = latent_shape[0]
        rows, columns = torch.tril_indices(self.dims, self.dims, offset=-1)  # (D (D - 1) / 2,) each
        self.rows = nn.Buffer(rows, persistent=False)
        self.columns = nn.Buffer(columns, persistent=False)

    @property
    def parameter_shape(self) -> Shape:
        """Means, the logarithms of the diagonal and what is below it, in one vector."""
        return (2 * self.dims + len(self.rows),)

    def distribution(self, parameters: Tensor, context: Tensor | None = None) -> Distribution:
        """The normal of each example."""
        mean, log_diagonal, below = parameters.split([self.dims, self.dims, len(self.rows)], dim=1)
        triangle = torch.diag_embed(log_diagonal.exp())  # (B, D, D)
        triangle[:, self.rows, self.columns] = below
        return MultivariateNormal(mean, scale_tril=triangle, validate_args=False)
