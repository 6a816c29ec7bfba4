"""Priors over latents."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.distributions import Uniform as UniformDistribution

from genkit import Component, Shape


class Prior(Component, nn.Module, kind="prior", check="genkit_priors.testing:check_prior"):
    r"""Abstract prior :math:`p(z)` of a model with latents.

    Implementing a prior:

    1. ``def __init__(self, latent_shape: Shape, /, *, ...)``: call ``super().__init__()``.
    2. Return :math:`p(z)` from :meth:`distribution`, with event shape ``latent_shape``, differentiable in the
       prior's own parameters. Pass ``validate_args=False``: validation makes the device wait for the host.
    3. Draw in :meth:`sample`.
    """

    @abstractmethod
    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The prior itself."""

    @abstractmethod
    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws latents with shape :math:`(N, *Z)`; a temperature below 1 narrows the prior."""


class StandardNormal(Prior):
    """The standard normal distribution."""

    def __init__(self, latent_shape: Shape, /) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(latent_shape), persistent=False)
        self.std = nn.Buffer(torch.ones(latent_shape), persistent=False)

    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The standard normal."""
        normal = Normal(self.mean, self.std, validate_args=False)
        return Independent(normal, self.mean.dim(), validate_args=False)

    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from a normal with the temperature as standard deviation."""
        return temperature * torch.randn(num_samples, *self.mean.shape, device=self.mean.device, dtype=self.mean.dtype)


class Uniform(Prior):
    r"""The uniform distribution on :math:`[-1, 1]` in each dimension.

    References:
        Radford, Metz and Chintala: Unsupervised Representation Learning with Deep Convolutional GANs, ICLR 2016,
        arXiv 1511.06434, section 4.
    """

    def __init__(self, latent_shape: Shape, /) -> None:
        super().__init__()
        self.bound = nn.Buffer(torch.ones(latent_shape), persistent=False)

    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The uniform distribution."""
        uniform = UniformDistribution(-self.bound, self.bound, validate_args=False)
        return Independent(uniform, self.bound.dim(), validate_args=False)

    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from an interval that the temperature narrows."""
        unit = torch.rand(num_samples, *self.bound.shape, device=self.bound.device, dtype=self.bound.dtype)
        return temperature * (2 * unit - 1)
