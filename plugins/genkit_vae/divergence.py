"""The Kullback-Leibler divergence of a posterior from the prior."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence, register_kl

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
        or a single one. Where there are several levels, one that does not factorize shares its divergence out equally
        among its dimensions.
    """
    if isinstance(q, Ancestral) and isinstance(p, Ancestral):
        return torch.cat([_shared_out(nats, size) for nats, size in _levels(q, p, z)], dim=-1)
    return _difference(q, p, z, z)


def kl_per_level(q: Distribution, p: Distribution, z: Tensor) -> list[Tensor]:
    """As :func:`kl_per_group`, level by level; one that does not factorize has a single group.

    Returns:
        Nats for each level, or for the only one, with the shape that :func:`kl_per_group` gives.
    """
    if isinstance(q, Ancestral) and isinstance(p, Ancestral):
        return [nats for nats, _ in _levels(q, p, z)]
    return [kl_per_group(q, p, z)]


def _levels(q: Ancestral, p: Ancestral, z: Tensor) -> list[tuple[Tensor, int]]:
    """The estimates of each level, and its dimensions."""
    pairs = zip(q.parts(z), p.parts(z), strict=True)
    levels = [(_difference(q_level, p_level, own, same), own) for (q_level, own), (p_level, same) in pairs]
    return [(nats.reshape(*z.shape[:-1], nats.shape[-1]), own.shape[-1]) for nats, own in levels]


def _shared_out(nats: Tensor, size: int) -> Tensor:
    """What groups have as what each of so many dimensions has."""
    share = size // nats.shape[-1]  # dimensions in a group
    return (nats / share).repeat_interleave(share, dim=-1)


def _difference(q: Distribution, p: Distribution, z: Tensor, same: Tensor) -> Tensor:
    """``log q(z) - log p(z)``; of the one value each distribution has it in a shape of its own."""
    if isinstance(q, Independent) and isinstance(p, Independent):
        dims = len(q.event_shape)
        log_q, log_p = q.base_dist.log_prob(z), p.base_dist.log_prob(same)
        return log_q.flatten(-dims) - log_p.flatten(-dims).reshape(log_q.flatten(-dims).shape)
    log_q = q.log_prob(z)
    return (log_q - p.log_prob(same).reshape(log_q.shape)).unsqueeze(-1)


@register_kl(MultivariateNormal, Independent)
def kl_from_independent_normals(q: MultivariateNormal, p: Independent) -> Tensor:
    r"""The divergence of a normal of any covariance :math:`L L^\top` from independent normals, which torch lacks.

    .. math:: \sum_i \left( \log \frac{s_i}{L_{ii}}
        + \frac{\sum_j L_{ij}^2 + (\mu_i - m_i)^2}{2 s_i^2} - \frac{1}{2} \right)

    Args:
        q: :math:`\mathcal{N}(\mu, L L^\top)`.
        p: :math:`\prod_i \mathcal{N}(m_i, s_i^2)`, as one event.

    Returns:
        Nats, with the batch shape of both.

    Raises:
        NotImplementedError: ``p`` is not independent normals of one vector.
    """
    normals = p.base_dist
    if not isinstance(normals, Normal) or p.event_shape != q.event_shape:
        raise NotImplementedError
    diagonal = q.scale_tril.diagonal(dim1=-2, dim2=-1)
    variance = q.scale_tril.square().sum(-1)  # (*B, D)
    squares = (variance + (q.loc - normals.loc).square()) / normals.scale.square()
    return ((normals.scale / diagonal).log() + 0.5 * squares - 0.5).sum(-1)
