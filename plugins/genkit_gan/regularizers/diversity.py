"""A reward for samples that differ as their latents do."""

from __future__ import annotations

import torch
from pydantic import PositiveFloat
from torch import Tensor

from genkit import Decodes, GenerativeModel
from genkit_gan.regularizer import ModelPenalty


class Diversity(ModelPenalty):
    r"""Punishes a model whose samples are too alike for their latents.

    .. math:: -w\, \mathbb{E}_{z_1, z_2} \min\left(
        \frac{\|g(z_1) - g(z_2)\|_1 / \dim x}{\|z_1 - z_2\|_1 / \dim z},\, \tau\right)

    Args:
        weight: The weight :math:`w`.
        ceiling: Differences above it, :math:`\tau`, earn nothing more.

    References:
        Yang et al.: Diversity-Sensitive Conditional Generative Adversarial Networks, ICLR 2019, arXiv 1901.09024,
        equation 3. Mao et al.: Mode Seeking Generative Adversarial Networks, CVPR 2019, arXiv 1903.05628.
    """

    requires = (Decodes,)

    def __init__(self, *, weight: PositiveFloat = 1.0, ceiling: PositiveFloat = 1.0) -> None:
        self.weight = weight
        self.ceiling = ceiling

    def penalty(self, model: GenerativeModel, num_samples: int) -> Tensor:
        """The penalty over so many pairs of latents."""
        assert isinstance(model, Decodes)
        z = model.sample_latent(2 * num_samples)
        first, second = model.decode(z).flatten(1).chunk(2)
        between_latents = torch.sub(*z.flatten(1).chunk(2)).abs().mean(1)
        ratio = (first - second).abs().mean(1) / (between_latents + 1e-8)
        return -self.weight * ratio.clamp(max=self.ceiling).mean()
