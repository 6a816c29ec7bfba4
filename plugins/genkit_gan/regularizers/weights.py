"""Spectral normalization of the critic."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from genkit_gan.regularizer import CriticWeights

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.Bilinear)


class SpectralNorm(CriticWeights):
    r"""Divides every weight matrix of the critic by its largest singular value, found by power iteration.

    .. math:: \bar W = W / \sigma(W)

    Args:
        iterations: Steps of the power iteration at each use in training.

    References:
        Miyato et al.: Spectral Normalization for Generative Adversarial Networks, ICLR 2018, arXiv 1802.05957,
        algorithm 1.
    """

    def __init__(self, *, iterations: PositiveInt = 1) -> None:
        self.iterations = iterations

    def apply(self, network: nn.Module) -> None:
        """Parametrizes every linear map and convolution."""
        layers = [module for module in network.modules() if isinstance(module, LAYERS)]
        if not layers:
            raise ValueError("spectral_norm finds no linear map and no convolution in the critic")
        for layer in layers:
            spectral_norm(layer, n_power_iterations=self.iterations)
