"""Priors over latents."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.distributions import Uniform as UniformDistribution

from genkit import Component, DataSpec, Factory, Shape
from genkit.registry import installed

PosteriorOf = Callable[[Tensor], Distribution]
"""From data with shape :math:`(B, *S)` to the posterior of each example's latent, with batch shape :math:`(B,)`."""


class Prior(Component, nn.Module, kind="prior", check="genkit_priors.testing:check_prior"):
    r"""Abstract prior :math:`p(z)` of a model with latents.

    Implementing a prior:

    1. ``def __init__(self, latent_shape: Shape, /, *, ...)``: call ``super().__init__()``.
    2. Return :math:`p(z)` from :meth:`distribution`, with event shape ``latent_shape``, differentiable in the
       prior's own parameters. Pass ``validate_args=False``: validation makes the device wait for the host.
    3. Draw in :meth:`sample`.
    4. One that is made of its owner's posterior says so: ``needs_posterior = True``. It is shown the posterior in
       :meth:`meet`, and makes there what has the data's shape. Keep what was given as it is, in a plain attribute: the
       posterior is a method of the owner, so that a copy of the owner has a prior that asks the copy, and the
       encoder is no part of the prior.
    5. One that starts from data sees the first batch in :meth:`start`.

    An owner that has a posterior calls :meth:`meet` when it has made all of its parts, and :meth:`start` once its
    encoder has started; one that has none builds its prior by :func:`without_posterior`.

    Attributes:
        needs_posterior: Whether it can do nothing before it has met a posterior.
    """

    needs_posterior: ClassVar[bool] = False

    def meet(self, posterior: PosteriorOf, spec: DataSpec) -> None:
        """Is shown its owner's posterior once, when the owner is built.

        Args:
            posterior: A method of the owner.
            spec: What the data looks like.
        """

    def start(self, x: Tensor) -> None:
        """Sees the first batch of training data once, before anything is trained, if its owner has a posterior.

        Args:
            x: Examples with shape :math:`(B, *S)`.
        """

    @abstractmethod
    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The prior itself."""

    @abstractmethod
    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws latents with shape :math:`(N, *Z)`; a temperature below 1 narrows the prior."""


def without_posterior(prior: Factory[Prior], latent_shape: Shape, owner: str) -> Prior:
    """Builds a prior for an owner that has no posterior.

    Args:
        prior: The prior that a recipe names.
        latent_shape: The shape of one latent.
        owner: How messages name the owner.

    Raises:
        ValueError: The prior needs a posterior; the message names those that do not.
    """
    if prior.resolved.needs_posterior:
        every = [(r.name, cast(type[Prior], r.load())) for r in installed().components("prior")]
        others = ", ".join(name for name, cls in every if not cls.needs_posterior)
        raise ValueError(f"{prior.name} needs a posterior, and {owner} has none; priors that would do: {others}")
    return prior(latent_shape)


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
