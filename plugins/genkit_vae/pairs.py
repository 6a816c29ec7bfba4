"""Densities of every latent of a batch under every posterior of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from genkit_vae.ancestral import Ancestral


def log_densities_of_pairs(q: Distribution, z: Tensor) -> Tensor:
    r""":math:`\log q(z_i \mid x_j)` of all pairs.

    Of several levels only that which is drawn first depends on the example itself; each other is given its own level
    before.

    Args:
        q: The posteriors of a batch, with batch shape :math:`(B,)`.
        z: What was last drawn from them, with shape :math:`(B, *Z)`.

    Returns:
        Nats, with shape :math:`(B, B)`: latents by rows, posteriors by columns.
    """
    if not isinstance(q, Ancestral):
        return q.log_prob(z.unsqueeze(1))
    parts = q.parts(z)
    (first, own), *later = parts[::-1] if q.backward else parts
    pairs = first.log_prob(own.unsqueeze(1))
    for level, part in later:
        pairs = pairs + level.log_prob(part).unsqueeze(1)
    return pairs


def log_marginals_of_pairs(q: Distribution, z: Tensor) -> Tensor:
    r""":math:`\log q(z_{i,d} \mid x_j)` of all pairs, apart for each dimension :math:`d`.

    Of several levels, those after the first have no such density in closed form, since the level before is drawn:
    theirs is :math:`q(z_{i,d} \mid z'_j)`, given the :math:`j`-th example's own draw :math:`z'_j` of the level before.

    Args:
        q: The posteriors of a batch, with batch shape :math:`(B,)`.
        z: What was last drawn from them, with shape :math:`(B, *Z)`.

    Returns:
        Nats, with shape :math:`(B, B, D)`: latents, posteriors, dimensions.

    Raises:
        NotImplementedError: The family is not known to have them.

    Example:
        >>> q = Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1)
        >>> log_marginals_of_pairs(q, q.rsample()).shape
        torch.Size([3, 3, 2])
    """
    if isinstance(q, Ancestral):
        return torch.cat([log_marginals_of_pairs(level, part) for level, part in q.parts(z)], dim=-1)
    if isinstance(q, Independent) and not q.base_dist.event_shape:
        return q.base_dist.log_prob(z.unsqueeze(1)).flatten(2)
    if isinstance(q, MultivariateNormal):
        return Normal(q.loc, q.variance.sqrt(), validate_args=False).log_prob(z.unsqueeze(1))
    raise NotImplementedError(f"{type(q).__name__} has no known density of a single dimension")
