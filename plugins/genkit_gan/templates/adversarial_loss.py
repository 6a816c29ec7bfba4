"""The squared hinge."""

from __future__ import annotations

from pydantic import PositiveFloat
from torch import Tensor
from torch.nn.functional import relu

from genkit_gan.loss import AdversarialLoss


class Template(AdversarialLoss):
    r"""Margins around a score of 0, whose violations count by their squares.

    .. math:: L_D = \mathbb{E}_x [m - D(x)]_+^2 + \mathbb{E}_z [m + D(g(z))]_+^2, \qquad
        L_g = -\mathbb{E}_z D(g(z))

    Beyond its margin an example is right enough, and teaches the critic nothing more. Unlike the hinge's, the critic's
    gradient goes to 0 smoothly there.

    Args:
        margin: The score :math:`m` from which on an example is right enough.

    References:
        Lim and Ye: Geometric GAN, 2017, arXiv 1705.02894 (the hinge).

    Example:
        >>> import torch
        >>> Template(margin=1.0).critic_loss(torch.tensor([0.0, 2.0]), torch.tensor([-3.0, -3.0])).item()
        0.5
    """

    examples = ({}, {"margin": 0.5})

    def __init__(self, *, margin: PositiveFloat = 1.0) -> None:
        self.margin = margin

    def critic_loss(self, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
        """What falls short of the margins, squared, from scores with shape :math:`(B,)`."""
        return relu(self.margin - real).square().mean() + relu(self.margin + fake).square().mean()

    def model_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """The samples' scores, negated."""
        return -fake.mean()
