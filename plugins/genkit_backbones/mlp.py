"""The multilayer perceptron."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor, nn

from genkit import Backbone, Shape, refuse_context
from genkit_backbones.layers import (
    Activation,
    Initialization,
    Normalization,
    Probability,
    activation_layer,
    dropout_layers,
    linear_layer,
    normalization_layers,
    sequence,
    show_first,
)


class MLP(Backbone):
    """Fully connected layers between any two shapes.

    Flattens the input, applies ``hidden_dims`` layers of linear map, normalization, activation and dropout,
    then one linear map to the output.

    Args:
        hidden_dims: Widths of the hidden layers; none makes the network linear.
        activation: The activation of each hidden layer.
        normalization: The normalization before each activation. "virtual_batch" normalizes each example by itself
            and a fixed reference batch, the first inputs that the network sees.
        dropout: Probability that a hidden unit is dropped in training.
        initialization: How linear maps start: "default" as torch's do; "glorot" with uniform weights as wide as both
            widths ask for, and biases at 0.

    References:
        Glorot and Bengio: Understanding the difficulty of training deep feedforward neural networks, AISTATS 2010,
        equation 16 ("glorot").

    Example:
        >>> import torch
        >>> MLP((1, 28, 28), (40,), hidden_dims=[512, 512])(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 40])
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        /,
        *,
        hidden_dims: Sequence[PositiveInt] = (512, 512),
        activation: Activation = "relu",
        normalization: Normalization = "none",
        dropout: Probability = 0.0,
        initialization: Initialization = "default",
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        widths = [math.prod(in_shape), *hidden_dims]
        layers: list[nn.Module] = []
        for width_in, width_out in itertools.pairwise(widths):
            layers += [
                linear_layer(width_in, width_out, initialization),
                *normalization_layers(normalization, width_out, image=False),
                activation_layer(activation),
                *dropout_layers(dropout),
            ]
        last = linear_layer(widths[-1], math.prod(out_shape), initialization)
        self.layers = sequence([*layers, last], (widths[0],))

    def start(self, x: Tensor) -> None:
        """For virtual batch normalization, which keeps the first inputs as its reference."""
        show_first(self.layers, x.flatten(1))

    @property
    def output_layer(self) -> nn.Module:
        """The last linear map."""
        return self.layers[-1]

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Applies the layers."""
        refuse_context(self, context)
        return self.layers(x.flatten(1)).unflatten(1, self.out_shape)
