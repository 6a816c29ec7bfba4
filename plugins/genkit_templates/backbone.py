"""A residual network."""

from __future__ import annotations

import math

from pydantic import PositiveInt
from torch import Tensor, nn

from genkit import Backbone, Shape, refuse_context


class Block(nn.Module):
    r"""One residual block: :math:`x + f(\mathrm{norm}(x))`, where :math:`f` has one hidden layer.

    Args:
        width: Features in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Adds the branch to features with shape :math:`(B, W)`."""
        return x + self.branch(x)


class Template(Backbone):
    r"""Fully connected residual blocks between any two shapes.

    .. math:: h_0 = W_{in} x, \qquad h_{k + 1} = h_k + f_k(h_k), \qquad y = W_{out} \, \mathrm{norm}(h_K)

    What comes in is flattened, so that every input and output shape is served. No activation follows the last map: its
    outputs are parameters, logits or features, and the network's owner knows which.

    Args:
        width: Features of each block.
        blocks: How many blocks, :math:`K`.

    References:
        He et al.: Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385.

    Example:
        >>> import torch
        >>> Template((1, 28, 28), (40,), width=16)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 40])
    """

    examples = ({}, {"width": 8, "blocks": 1})

    def __init__(
        self, in_shape: Shape, out_shape: Shape, /, *, width: PositiveInt = 256, blocks: PositiveInt = 2
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(in_shape), width),
            *(Block(width) for _ in range(blocks)),
            nn.LayerNorm(width),
            nn.Linear(width, math.prod(out_shape)),
            nn.Unflatten(1, tuple(out_shape)),
        )

    @property
    def output_layer(self) -> nn.Module:
        """The last linear map."""
        return self.layers[-2]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Applies the layers to inputs with shape :math:`(B, *in)`."""
        refuse_context(self, context)
        return self.layers(x)
