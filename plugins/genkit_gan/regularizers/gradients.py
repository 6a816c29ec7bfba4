"""Penalties on the gradient of the critic's score in its input."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from genkit_gan.regularizer import CriticPenalty, Scored, Scores


class GradientPenalty(CriticPenalty):
    r"""Draws the gradient's norm to 1 between real data and samples.

    .. math:: w\, \mathbb{E}\, (\|\nabla_{\hat x} D(\hat x)\| - t)^2, \qquad
        \hat x = \epsilon x + (1 - \epsilon) g(z), \quad \epsilon \sim U(0, 1)

    Args:
        weight: The weight :math:`w`.
        target: The norm :math:`t`; 0 draws it to 0.

    References:
        Gulrajani et al.: Improved Training of Wasserstein GANs, NeurIPS 2017, arXiv 1704.00028, equation 3.
    """

    def __init__(self, *, weight: PositiveFloat = 10.0, target: NonNegativeFloat = 1.0) -> None:
        self.weight = weight
        self.target = target

    def penalty(self, critic: Scores, real: Scored, fake: Scored) -> Tensor:
        """The penalty on the lines between pairs."""
        share = torch.rand(len(real.x), *[1] * (real.x.dim() - 1), device=real.x.device)
        between = torch.lerp(fake.x.detach(), real.x.detach(), share).requires_grad_()
        norms = (Scored(between, critic(between)).squared_gradients + 1e-12).sqrt()  # sqrt has no gradient at 0
        return self.weight * (norms - self.target).square().mean()


class R1(CriticPenalty):
    r"""Draws the critic's gradient at real data to 0.

    .. math:: \tfrac{\gamma}{2}\, \mathbb{E}_x \|\nabla_x D(x)\|^2

    Args:
        gamma: The weight :math:`\gamma`, for inputs in the range that the critic sees.

    References:
        Mescheder, Geiger and Nowozin: Which Training Methods for GANs do actually Converge?, ICML 2018,
        arXiv 1801.04406, equation 9.
    """

    def __init__(self, *, gamma: PositiveFloat = 10.0) -> None:
        self.gamma = gamma

    def penalty(self, critic: Scores, real: Scored, fake: Scored) -> Tensor:
        """The penalty at real data."""
        return self.gamma / 2 * real.squared_gradients.mean()


class R2(CriticPenalty):
    r"""Draws the critic's gradient at samples to 0.

    .. math:: \tfrac{\gamma}{2}\, \mathbb{E}_z \|\nabla_x D(g(z))\|^2

    Args:
        gamma: The weight :math:`\gamma`, for inputs in the range that the critic sees.

    References:
        Mescheder, Geiger and Nowozin: Which Training Methods for GANs do actually Converge?, ICML 2018,
        arXiv 1801.04406, equation 10.
    """

    def __init__(self, *, gamma: PositiveFloat = 10.0) -> None:
        self.gamma = gamma

    def penalty(self, critic: Scores, real: Scored, fake: Scored) -> Tensor:
        """The penalty at samples."""
        return self.gamma / 2 * fake.squared_gradients.mean()
