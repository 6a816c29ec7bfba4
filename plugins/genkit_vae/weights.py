"""Importance weights: how much likelier a latent is with an example than its posterior says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from genkit import LatentVariable


@dataclass(frozen=True)
class Draws:
    r"""Latents from the posteriors of some examples, and what they weigh.

    .. math:: \log w_i = \log p(x \mid z_i) + \log p(z_i) - \log q(z_i \mid x)

    Attributes:
        z: Latents with shape :math:`(k, B, *Z)`.
        log_likelihood: :math:`\log p(x \mid z_i)` in nats, with shape :math:`(k, B)`.
        log_prior: :math:`\log p(z_i)`, likewise.
        log_posterior: :math:`\log q(z_i \mid x)`, likewise.
        posterior: The posteriors that they were drawn from.
        prior: The prior.
    """

    z: Tensor
    log_likelihood: Tensor
    log_prior: Tensor
    log_posterior: Tensor
    posterior: Distribution
    prior: Distribution

    @property
    def log_joint(self) -> Tensor:
        r""":math:`\log p(x, z_i)` in nats, with shape :math:`(k, B)`."""
        return self.log_likelihood + self.log_prior

    @property
    def log_weights(self) -> Tensor:
        """The weights' logarithms in nats, with shape :math:`(k, B)`."""
        return self.log_joint - self.log_posterior


def draw(model: LatentVariable, x: Tensor, k: int) -> Draws:
    """Draws latents for each example, with gradients, and weighs them.

    Args:
        model: Whose prior, posterior and likelihood.
        x: Examples with shape :math:`(B, *S)`.
        k: Latents for each.
    """
    return draw_from(model.posterior(x), model.prior(), model, x, k)


def draw_from(q: Distribution, p: Distribution, model: LatentVariable, x: Tensor, k: int) -> Draws:
    """As :func:`draw`, from posteriors and a prior that are there already."""
    z = q.rsample(torch.Size([k]))  # (k, B, *Z)
    return Draws(z, log_likelihoods(model, x, z), p.log_prob(z), q.log_prob(z), q, p)


def log_likelihoods(model: LatentVariable, x: Tensor, z: Tensor) -> Tensor:
    r""":math:`\log p(x \mid z_i)` of several latents for each example.

    Args:
        model: Whose likelihood.
        x: Examples with shape :math:`(B, *S)`.
        z: Latents with shape :math:`(k, B, *Z)`.

    Returns:
        Nats, with shape :math:`(k, B)`.
    """
    many = x.expand(len(z), *x.shape).flatten(0, 1)  # (k B, *S)
    return model.likelihood(z.flatten(0, 1)).log_prob(many).view(z.shape[:2])


def log_mean_exp(log_values: Tensor) -> Tensor:
    """The logarithm of the mean of values that are given by theirs, over the first dimension.

    Example:
        >>> round(log_mean_exp(torch.tensor([1.0, 3.0]).log()).exp().item(), 6)
        2.0
    """
    return log_values.logsumexp(0) - math.log(len(log_values))


def effective_samples(log_weights: Tensor) -> Tensor:
    r"""How many equally weighted samples weighted ones are worth, :math:`(\sum w)^2 / \sum w^2`.

    Args:
        log_weights: With shape :math:`(k, B)`.

    Returns:
        Between 1 and :math:`k`, with shape :math:`(B,)`.

    References:
        Kong: A note on importance sampling using standardized weights, University of Chicago, 1992.

    Example:
        >>> effective_samples(torch.zeros(4, 1)).tolist()
        [4.0]
    """
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def along_path(q: Distribution, z: Tensor) -> Tensor:
    r""":math:`\log q(z)`, whose gradient reaches the posterior's parameters through :math:`z` alone.

    The distribution's own parameters count as constants. For that, the density's slope at :math:`z` is taken first.

    Args:
        q: The posteriors.
        z: Latents with shape :math:`(k, B, *Z)`.

    Returns:
        Nats, with shape :math:`(k, B)`.

    Raises:
        NotImplementedError: The density is known of the last draw alone.

    References:
        Roeder, Wu and Duvenaud: Sticking the Landing, NeurIPS 2017, arXiv 1703.09194, equation 8.
    """
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        log_prob = q.log_prob(leaf)
        (slope,) = torch.autograd.grad(log_prob.sum(), leaf)
    path = (slope * (z - leaf.detach())).flatten(2).sum(-1)  # 0, with the slope as its gradient
    return log_prob.detach() + path
