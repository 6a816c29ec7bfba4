"""What models with latents have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from genkit import (
    DataSpec,
    Decodes,
    Encodes,
    Factory,
    GenerativeModel,
    HasLogProb,
    LatentVariable,
    LogProb,
    SamplesDifferentiably,
)
from genkit_vae.divergence import kl_per_group
from genkit_vae.likelihood import Likelihood
from genkit_vae.weights import log_mean_exp


class LatentModel(GenerativeModel, Encodes, Decodes, LatentVariable, HasLogProb, SamplesDifferentiably):
    """Abstract model of latents with a prior, a likelihood and an approximate posterior.

    Args:
        spec: What the data looks like.
        likelihood: The distribution of data given a latent; it must fit the data's values.
    """

    def __init__(self, spec: DataSpec, likelihood: Factory[Likelihood], /) -> None:
        super().__init__(spec)
        self.likelihood_family = likelihood(spec)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The posterior's mean."""
        return self.posterior(x, context).mean

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The likelihood's mean."""
        return self.likelihood(z, context).mean

    def rsample(self, num_samples: int, context: Tensor | None = None) -> Tensor:
        """Means of the likelihood at latents from the prior: draws of bits would carry no gradient."""
        return self.decode(self.sample_latent(num_samples, context), context)

    def log_prob(self, x: Tensor, context: Tensor | None = None, num_samples: int = 1) -> LogProb:
        r"""The evidence lower bound with one latent, or its importance-weighted relative with more.

        .. math:: \log \frac{1}{k} \sum_{i=1}^k \frac{p(x \mid z_i)\, p(z_i)}{q(z_i \mid x)}, \quad z_i \sim q(z \mid x)

        One latent is drawn at a time: of many, only the weights are kept.

        References:
            Burda, Grosse and Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016, arXiv 1509.00519.
        """
        q, p = self.posterior(x, context), self.prior(context)
        measure = self.likelihood_family.measure
        if num_samples == 1:
            z = q.rsample()
            nats = self.likelihood(z, context).log_prob(x) - kl_per_group(q, p, z).sum(1)
            return LogProb(nats, "lower bound", measure)
        log_weights = x.new_empty(num_samples, len(x))
        for i in range(num_samples):
            z = q.rsample()
            log_weights[i] = self.likelihood(z, context).log_prob(x) + p.log_prob(z) - q.log_prob(z)
        return LogProb(log_mean_exp(log_weights), "estimate", measure, num_samples)


def full_precision(parameters: Tensor) -> Tensor:
    """A network's output at no less than float32: distributions lose nats, and levels, to bfloat16."""
    return parameters.float() if parameters.dtype in (torch.bfloat16, torch.float16) else parameters
