"""A convolutional network with gated residual layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from genkit import Backbone, Shape, refuse_context


class ConcatELU(nn.Module):
    """ELU of the input and of its negative, as twice the channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Doubles the channels."""
        return torch.cat([functional.elu(x), functional.elu(-x)], dim=1)


class ChannelNorm(nn.Module):
    """Layer normalization over the channels of each pixel.

    Args:
        channels: How many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalizes each pixel."""
        centred = x - x.mean(1, keepdim=True)
        variance = centred.square().mean(1, keepdim=True)
        return self.weight * (centred * (variance + 1e-5).rsqrt()) + self.bias


class GatedLayer(nn.Module):
    r"""A residual layer :math:`x + v(x) \sigma(g(x))`.

    Args:
        channels: Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConcatELU(),
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            ConcatELU(),
            nn.Conv2d(2 * channels, 2 * channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Adds what the gate lets through."""
        value, gate = self.layers(x).chunk(2, dim=1)
        return x + value * torch.sigmoid(gate)


class GatedCNN(Backbone):
    """Gated residual convolutions between images of one size, made for the conditioners of couplings.

    Args:
        channels: Channels of the hidden layers.
        layers: Gated layers, each followed by a normalization over channels.

    References:
        P. Lippe: UvA Deep Learning Tutorials, tutorial 11 (normalizing flows for image modeling). Ho et al.: Flow++,
        ICML 2019, arXiv 1902.00275, section 3.3 (gated convolutions as conditioners).

    Example:
        >>> GatedCNN((1, 28, 28), (2, 28, 28), channels=8, layers=1)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 2, 28, 28])
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        /,
        *,
        channels: PositiveInt = 32,
        layers: PositiveInt = 3,
    ) -> None:
        super().__init__()
        if len(in_shape) != 3 or tuple(in_shape[1:]) != tuple(out_shape[1:]):
            raise ValueError(f"maps an image to one of the same size, not {in_shape} to {out_shape}; use mlp or cnn")
        hidden: Sequence[nn.Module] = [m for _ in range(layers) for m in (GatedLayer(channels), ChannelNorm(channels))]
        self.layers = nn.Sequential(
            nn.Conv2d(in_shape[0], channels, 3, padding=1),
            *hidden,
            ConcatELU(),
            nn.Conv2d(2 * channels, out_shape[0], 3, padding=1),
        )

    @property
    def output_layer(self) -> nn.Module:
        """The last convolution."""
        return self.layers[-1]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Applies the layers."""
        refuse_context(self, context)
        return self.layers(x)
