"""The Kullback-Leibler divergence of a posterior from the prior."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from genkit_vae.ancestral import Ancestral


def kl_per_group(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    r"""The divergence :math:`\mathrm{KL}(q \,\|\, p)`, apart for each dimension where both factorize.

    In closed form for every pair of families that :func:`torch.distributions.register_kl` knows; otherwise, and for
    latents of several levels, the estimate :math:`\log q(z) - \log p(z)` of the latents given.

    Args:
        q: The posteriors, with batch shape :math:`(B,)`.
        p: The prior.
        z: What was last drawn from ``q``, with shape :math:`(B, *Z)` or :math:`(k, B, *Z)`.

    Returns:
        Nats, with shape :math:`(B, G)` in closed form, else with that of :math:`z` before the event and :math:`G`
        after it: one group for each latent dimension, or a single one.

    References:
        Kingma and Welling: Auto-Encoding Variational Bayes, ICLR 2014, arXiv 1312.6114, appendix B.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> q = Independent(Normal(torch.ones(1, 2), torch.ones(1, 2)), 1)
        >>> p = Independent(Normal(torch.zeros(2), torch.ones(2)), 1)
        >>> kl_per_group(q, p, q.rsample()).tolist()
        [[0.5, 0.5]]
    """
    try:
        if isinstance(q, Independent) and isinstance(p, Independent):
            return kl_divergence(q.base_dist, p.base_dist).flatten(1)
        return kl_divergence(q, p).unsqueeze(1)
    except NotImplementedError:
        return sampled_kl_per_group(q, p, z)


def sampled_kl_per_group(q: Distribution, p: Distribution, z: Tensor) -> Tensor:
    r"""The estimate :math:`\log q(z) - \log p(z)` of the divergence, apart for each dimension where both factorize.

    Args:
        q: The posteriors, with batch shape :math:`(B,)`.
        p: The prior.
        z: What was last drawn from ``q``, with shape :math:`(B, *Z)` or :math:`(k, B, *Z)`.

    Returns:
        Nats, with the shape of :math:`z` before the event and :math:`G` after it: one group for each latent dimension,
        level by level where there are several, or a single one.
    """
    return torch.cat(_sampled_kl_per_level(q, p, z), dim=-1)


def kl_per_level(q: Distribution, p: Distribution, z: Tensor) -> list[Tensor]:
    """As :func:`kl_per_group`, level by level: one that does not factorize has a single group, whatever others have.

    Returns:
        Nats, for each level, with the shape that :func:`kl_per_group` gives; of one level where there are no several.
    """
    if isinstance(q, Ancestral) and isinstance(p, Ancestral):
        return _sampled_kl_per_level(q, p, z)
    return [kl_per_group(q, p, z)]


def _sampled_kl_per_level(q: Distribution, p: Distribution, z: Tensor) -> list[Tensor]:
    if isinstance(q, Ancestral) and isinstance(p, Ancestral):
        pairs = zip(q.parts(z), p.parts(z), strict=True)
        levels = [_difference(q_level, p_level, own, same) for (q_level, own), (p_level, same) in pairs]
        return [level.reshape(*z.shape[:-1], -1) for level in levels]
    return [_difference(q, p, z, z)]


def _difference(q: Distribution, p: Distribution, z: Tensor, same: Tensor) -> Tensor:
    """``log q(z) - log p(z)``; of the one value each distribution has it in a shape of its own."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        dims = len(q.event_shape)
        log_q, log_p = q.base_dist.log_prob(z), p.base_dist.log_prob(same)
        return log_q.flatten(-dims) - log_p.flatten(-dims).reshape(log_q.flatten(-dims).shape)
    log_q = q.log_prob(z)
    return (log_q - p.log_prob(same).reshape(log_q.shape)).unsqueeze(-1)
