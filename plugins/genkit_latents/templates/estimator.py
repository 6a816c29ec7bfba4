"""Defensive importance sampling."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from genkit import LatentVariable
from genkit_latents.averaging import Averaging, Weigher
from genkit_vae.weights import log_likelihoods


class Template(Averaging):
    r"""Importance sampling from the posterior with a share of the prior, so that nothing it forgot is out of reach.

    .. math:: \log p(x) \approx \log \frac{1}{k} \sum_{i=1}^k \frac{p(x \mid z_i)\, p(z_i)}{r(z_i)}, \quad
        z_i \sim r = (1 - \alpha)\, q(\cdot \mid x) + \alpha\, p

    No weight is above :math:`p(x \mid z_i) / \alpha`, however narrow the posterior is.

    Args:
        k: Draws for each example.
        share: The prior's share of the draws, :math:`\alpha`, between 0 and 1.
        chunk: Latents that are decoded at a time; memory grows with them, and not with ``k``.

    References:
        Hesterberg: Weighted Average Importance Sampling and Defensive Mixture Distributions, Technometrics 37, 1995.
    """

    examples = ({"k": 20}, {"k": 7, "share": 0.5, "chunk": 100})

    def __init__(
        self,
        *,
        k: PositiveInt = 5000,
        share: Annotated[float, Field(gt=0, lt=1)] = 0.1,
        chunk: PositiveInt = 2000,
    ) -> None:
        super().__init__(k, chunk)
        self.share = share

    @property
    def label(self) -> str:
        """What the draws are."""
        return f"importance sampling from the posterior with {self.share:g} of the prior"

    def weigher(self, model: LatentVariable, x: Tensor) -> Weigher:
        """Draws from the mixture; a weight is how much likelier a latent is with the example than that says."""
        q, p = model.posterior(x), model.prior()

        def weigh(count: int) -> Tensor:
            narrow, wide = q.sample(torch.Size([count])), p.sample(torch.Size([count, len(x)]))  # (k, B, *Z)
            chosen = torch.rand(narrow.shape[:2], device=narrow.device) < self.share
            z = torch.where(chosen.view(*chosen.shape, *[1] * (narrow.dim() - 2)), wide, narrow)
            log_prior = p.log_prob(z)
            log_mixture = torch.logaddexp(math.log1p(-self.share) + q.log_prob(z), math.log(self.share) + log_prior)
            return log_likelihoods(model, x, z) + log_prior - log_mixture

        return weigh
