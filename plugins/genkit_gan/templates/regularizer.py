"""A penalty on scores that drift away."""

from __future__ import annotations

from pydantic import PositiveFloat
from torch import Tensor

from genkit_gan.regularizer import CriticPenalty, Scored, Scores


class Template(CriticPenalty):
    r"""Keeps the critic's scores near 0.

    .. math:: w \left(\tfrac12 \mathbb{E}_x D(x)^2 + \tfrac12 \mathbb{E}_z D(g(z))^2\right)

    Where only differences between scores count, nothing else holds their level: they may drift to where numbers are
    coarse.

    Args:
        weight: The weight :math:`w`.

    References:
        Karras et al.: Progressive Growing of GANs, ICLR 2018, arXiv 1710.10196, appendix A.1 (on real data alone).
    """

    examples = ({}, {"weight": 0.1})

    def __init__(self, *, weight: PositiveFloat = 1e-3) -> None:
        self.weight = weight

    def penalty(self, critic: Scores, real: Scored, fake: Scored) -> Tensor:
        """What is added to the critic's loss, from scores with shape :math:`(B,)`."""
        return self.weight * (real.scores.square().mean() + fake.scores.square().mean()) / 2
