"""Priors over latents."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from genkit import Component, Shape


class Prior(Component, nn.Module, kind="prior"):
    r"""Abstract prior :math:`p(z)` of a latent-variable model.

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
        self.register_buffer("mean", torch.zeros(latent_shape), persistent=False)
        self.register_buffer("std", torch.ones(latent_shape), persistent=False)

    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The standard normal."""
        normal = Normal(self.mean, self.std, validate_args=False)
        return Independent(normal, self.mean.dim(), validate_args=False)

    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from a normal with the temperature as standard deviation."""
        return temperature * torch.randn(num_samples, *self.mean.shape, device=self.mean.device)
