"""The multilayer perceptron of gated linear units."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor, nn

from genkit import Backbone, Shape, refuse_context
from genkit_backbones.layers import Initialization, Probability, dropout_layers, linear_layer


class GatedMLP(Backbone):
    r"""Fully connected layers whose units are let through by gates.

    .. math:: h' = (W_1 h + b_1) \odot \sigma(W_2 h + b_2)

    Flattens the input, applies ``hidden_dims`` such layers, each with dropout, then one linear map to the output. Where
    a gate is open a layer is linear, so that gradients do not fade with depth.

    Args:
        hidden_dims: Widths of the hidden layers; none makes the network linear.
        dropout: Probability that a hidden unit is dropped in training.
        initialization: How linear maps, gates included, start: "default" as torch's do; "glorot" with uniform weights
            as wide as both widths ask for, and biases at 0.

    References:
        Dauphin et al.: Language Modeling with Gated Convolutional Networks, ICML 2017, arXiv 1612.08083, equation 1.
        Tomczak and Welling: VAE with a VampPrior, AISTATS 2018, arXiv 1705.07120, section 5 (300-300 between images
        and latents).

    Example:
        >>> import torch
        >>> GatedMLP((1, 28, 28), (80,))(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 80])
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        /,
        *,
        hidden_dims: Sequence[PositiveInt] = (300, 300),
        dropout: Probability = 0.0,
        initialization: Initialization = "default",
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        widths = [math.prod(in_shape), *hidden_dims]
        layers: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise(widths):
            both = linear_layer(width_in, width_out, initialization, maps=2)  # W_1 above W_2
            layers += [both, nn.GLU(dim=1), *dropout_layers(dropout)]
        self.layers = nn.Sequential(*layers, linear_layer(widths[-1], math.prod(out_shape), initialization))

    @property
    def output_layer(self) -> nn.Module:
        """The last linear map."""
        return self.layers[-1]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Applies the layers."""
        refuse_context(self, context)
        return self.layers(x.flatten(1)).unflatten(1, self.out_shape)
