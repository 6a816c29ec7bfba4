"""Mixtures of normals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from genkit import Shape
from genkit_priors.prior import Prior

Points = Annotated[Sequence[Annotated[Sequence[float], Field(min_length=1)]], Field(min_length=1)]


class Mixture(Prior):
    r"""A mixture of normals with diagonal covariances, fixed or learned.

    .. math:: p(z) = \sum_{k=1}^K \pi_k\, \mathcal{N}(z; \mu_k, \mathrm{diag}\, \sigma_k^2)

    The weights :math:`\pi` are equal at the start. A temperature :math:`T` shrinks the mixture as a whole around its
    mean, distances between the components included: a draw :math:`z` becomes :math:`m + T (z - m)` with
    :math:`m = \sum_k \pi_k \mu_k`.

    Densities carry gradients to all three of :math:`\pi`, :math:`\mu` and :math:`\sigma`; draws carry them to
    :math:`\mu` and :math:`\sigma` only, since which component a draw comes from is no smooth function of the weights.
    Objectives of draws do not learn the weights: an adversary leaves them, a reverse divergence moves them by noise.

    Args:
        components: How many, :math:`K`; as many as ``locs``, or 10, where nothing is said.
        locs: The starting centres :math:`\mu`, for latents that are vectors.
        spread: Without ``locs``, starting centres are drawn from a normal around 0 with this standard deviation; 1
            where nothing is said.
        scale: The starting standard deviation :math:`\sigma` of each component.
        learned: Whether weights, centres and (by their logarithms) standard deviations are trained.

    References:
        Dilokthanakul et al.: Deep Unsupervised Clustering with Gaussian Mixture Variational Autoencoders, 2016,
        arXiv 1611.02648. Izmailov et al.: Semi-Supervised Learning with Normalizing Flows, ICML 2020,
        arXiv 1912.13025 (as the base of a flow).

    Example:
        >>> prior = Mixture((2,), locs=[[0.0, 4.0], [2.0, 0.0]])
        >>> prior.sample(1, temperature=0.0).tolist()
        [[1.0, 2.0]]
    """

    examples = ({}, {"locs": [[-1.0, 0.0], [1.0, 0.0]], "learned": False})

    def __init__(
        self,
        latent_shape: Shape,
        /,
        *,
        components: PositiveInt | None = None,
        locs: Points | None = None,
        spread: PositiveFloat | None = None,
        scale: PositiveFloat = 1.0,
        learned: bool = True,
    ) -> None:
        super().__init__()
        if locs is None:
            centres = (spread or 1.0) * torch.randn(components or 10, *latent_shape)
        else:
            centres = _given(locs, components, spread, latent_shape)
        keep = nn.Parameter if learned else nn.Buffer  # kept in either case: they may have been drawn
        self.locs = keep(centres)
        self.log_scales = keep(torch.full_like(centres, math.log(scale)))
        self.logits = keep(torch.zeros(len(centres)))

    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The mixture."""
        normals = Normal(self.locs, self.log_scales.exp(), validate_args=False)
        components = Independent(normals, self.locs.dim() - 1, validate_args=False)
        return MixtureSameFamily(self._weights(), components, validate_args=False)

    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from the mixture, shrunk around its mean; differentiable in centres and standard deviations."""
        weights = self._weights()
        k = weights.sample(torch.Size([num_samples]))  # (N,)
        z = self.locs[k] + self.log_scales[k].exp() * torch.randn_like(self.locs[k])  # (N, *Z)
        mean = torch.tensordot(weights.probs.detach(), self.locs, dims=1)  # (*Z,)
        return temperature * z + (1 - temperature) * mean

    def _weights(self) -> Categorical:
        return Categorical(logits=self.logits, validate_args=False)


def _given(locs: Points, components: int | None, spread: float | None, latent_shape: Shape) -> Tensor:
    """The centres that a recipe gives, with shape :math:`(K, D)`."""
    if spread is not None:
        raise ValueError("spread is of centres that are drawn; with locs given, leave it out")
    if components not in (None, len(locs)):
        raise ValueError(f"there are {len(locs)} locs for {components} components; leave components out")
    if len(latent_shape) != 1:
        raise ValueError(
            f"locs are for latents that are vectors, but these have shape {latent_shape}; "
            "components and spread would do"
        )
    for place, loc in enumerate(locs):
        if len(loc) != latent_shape[0]:
            raise ValueError(
                f"locs[{place}] has length {len(loc)}, but the latent has shape {latent_shape}; "
                f"length {latent_shape[0]} would fit"
            )
    return torch.tensor([[float(value) for value in loc] for loc in locs])
