"""Approximate posteriors."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from genkit import Component, DataSpec, Shape
from genkit_priors.prior import PosteriorOf, Prior


class Posterior(Component, nn.Module, kind="posterior", check="genkit_vae.testing:check_posterior"):
    r"""Abstract approximate posterior :math:`q(z \mid x)`, made from an encoder's output.

    Implementing a posterior:

    1. ``def __init__(self, latent_shape: Shape, /, *, ...)``: call ``super().__init__()``.
    2. Say in :attr:`parameter_shape` what the encoder must put out.
    3. Return the distribution from :meth:`distribution`, with ``rsample``, ``log_prob`` and ``mean``, batch
       shape :math:`(B,)` and event shape ``latent_shape``. One whose samples are only cheap together with their
       density caches the last sample's, as ``TransformedDistribution(..., cache_size=1)`` does.
    4. One that knows the density of nothing else says so in :attr:`own_draws_only`; elsewhere its ``log_prob`` raises
       :class:`NotImplementedError`.
    """

    @property
    @abstractmethod
    def parameter_shape(self) -> Shape:
        """The shape of the encoder's output for one example."""

    @property
    def own_draws_only(self) -> bool:
        """Whether the density is known of what was drawn last alone."""
        return False

    @abstractmethod
    def distribution(self, parameters: Tensor, context: Tensor | None = None) -> Distribution:
        """The posterior of each example, from the encoder's output with shape :math:`(B, *parameter_shape)`."""


def introduce(prior: Prior, family: Posterior, posterior: PosteriorOf, spec: DataSpec) -> None:
    """Has a prior meet the posterior of the model that owns both.

    Args:
        prior: The model's prior.
        family: The family of its posteriors.
        posterior: Its method from data to posteriors.
        spec: What the data looks like.

    Raises:
        ValueError: The prior is made of posteriors, and their density is known of their own draws alone.
    """
    if prior.needs_posterior and family.own_draws_only:
        raise ValueError(
            "the prior asks for the posterior's density everywhere, and this one knows that of its own draws alone; "
            "diagonal, full_covariance or bijections that go both ways would do"
        )
    prior.meet(posterior, spec)


class Diagonal(Posterior):
    r"""A normal distribution with diagonal covariance.

    .. math:: q(z \mid x) = \mathcal{N}(\mu(x), \mathrm{diag}\,\sigma^2(x))

    The encoder puts out :math:`\mu` and :math:`\log \sigma`, in this order, in one vector.

    References:
        Kingma and Welling: Auto-Encoding Variational Bayes, ICLR 2014, arXiv 1312.6114, equation 9.

    Example:
        >>> import torch
        >>> q = Diagonal((2,)).distribution(torch.tensor([[1.0, 2.0, 0.0, 0.0]]))
        >>> q.mean.tolist(), q.stddev.tolist()
        ([[1.0, 2.0]], [[1.0, 1.0]])
    """

    def __init__(self, latent_shape: Shape, /) -> None:
        super().__init__()
        self.latent_shape = tuple(latent_shape)

    @property
    def parameter_shape(self) -> Shape:
        """A mean and a log standard deviation for each latent dimension."""
        return (2 * self.latent_shape[0], *self.latent_shape[1:])

    def distribution(self, parameters: Tensor, context: Tensor | None = None) -> Distribution:
        """The normal of each example."""
        mean, log_std = parameters.chunk(2, dim=1)
        return Independent(Normal(mean, log_std.exp(), validate_args=False), mean.dim() - 1, validate_args=False)
