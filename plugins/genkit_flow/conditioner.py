"""Networks and numbers that bijections take their parameters from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genkit import Backbone, Factory, Shape
from genkit_flow.bijection import channel_shape, join, joined_shape


class Conditioner(nn.Module):
    """A backbone from one part of an input, and a context, to the parameters of a map of the other part.

    Args:
        backbone: The network.
        shape: The shape of its input without the context.
        context_shape: The shape of the context, if there is one.
        target_shape: The shape of what is mapped.
        num_parameters: Parameters of the map for each element of that.
        zero_start: Whether the output layer starts at zero, so that every map starts from the same parameters.

    Raises:
        ValueError: The network is to start at zero and names no output layer.
    """

    def __init__(
        self,
        backbone: Factory[Backbone],
        shape: Shape,
        context_shape: Shape | None,
        target_shape: Shape,
        num_parameters: int,
        *,
        zero_start: bool,
    ) -> None:
        super().__init__()
        self.split = (num_parameters, *target_shape)
        output = (num_parameters * target_shape[0], *target_shape[1:])
        self.network = backbone(joined_shape(shape, context_shape), output)
        if zero_start:
            start_at_zero(self.network, backbone.name)

    def start(self, x: Tensor, context: Tensor | None) -> None:
        """Shows the network its first input."""
        self.network.start(join(x, context))

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The parameters, in the input's precision, with shape :math:`(B, P, *target)`."""
        flat = self.network(join(x, context)).to(x.dtype)
        return flat.view(len(x), *self.split)


def start_at_zero(network: Backbone, name: str) -> None:
    """Sets the weights and biases of a network's output layer to zero.

    Raises:
        ValueError: It names none.
    """
    if network.output_layer is None:
        raise ValueError(
            f"backbone {name} names no output layer that could start at zero; set zero_start: false, or use mlp, cnn "
            "or gated_cnn"
        )
    for parameter in network.output_layer.parameters():
        nn.init.zeros_(parameter)


class LogScale(nn.Module):
    r"""Keeps log-scales within learned bounds, :math:`f \tanh(s / f)` with :math:`f` for each channel; or leaves them.

    A log-scale without bounds can overflow on data that training has not seen.

    Args:
        shape: The shape of one example.
        bounded: Whether there are bounds; they start at 1.
    """

    def __init__(self, shape: Shape, *, bounded: bool) -> None:
        super().__init__()
        self.log_bound = nn.Parameter(torch.zeros(channel_shape(shape))) if bounded else None

    def forward(self, s: Tensor) -> Tensor:
        """The log-scales, with the shape of ``s``."""
        if self.log_bound is None:
            return s
        bound = self.log_bound.exp()
        return bound * torch.tanh(s / bound)


class Numbers(nn.Module):
    """Numbers that are learned, or that are a linear map of a context.

    Args:
        start: Where they start, whatever the context is, with shape :math:`(size,)`.
        context_shape: The shape of the context, if there is one.
    """

    def __init__(self, start: Tensor, context_shape: Shape | None) -> None:
        super().__init__()
        self.linear: nn.Linear | None = None
        if context_shape is None:
            self.numbers = nn.Parameter(start)
        else:
            self.linear = nn.Linear(math.prod(context_shape), len(start))
            nn.init.zeros_(self.linear.weight)
            with torch.no_grad():
                self.linear.bias.copy_(start)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The numbers of each example of :math:`x`, with shape :math:`(B, size)`."""
        if self.linear is None:
            return self.numbers.expand(len(x), -1)
        assert context is not None
        return self.linear(context.flatten(1)).to(x.dtype)


class MaskedLinear(nn.Linear):
    """A linear map some of whose weights are zero and stay so.

    Args:
        mask: Which weights are there, bool, with shape :math:`(out, in)`.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The map with what is left of its weights."""
        return nn.functional.linear(x, self.weight * self.mask, self.bias)


class MADE(nn.Module):
    r"""A masked autoencoder: parameters of each element that depend only on the elements before it.

    .. math:: \theta_i = \theta_i(x_1, \dots, x_{i-1}, c)

    The degrees of hidden units are spread evenly. Layers of fewer than :math:`D - 1` units leave out some of the
    elements right before each: give a long vector wide layers.

    Args:
        size: Elements, :math:`D`.
        context_shape: The shape of the context :math:`c`, which everything depends on, if there is one.
        num_parameters: Parameters of each element, :math:`P`.
        hidden_dims: Widths of the hidden layers.
        flip: Whether the order is from the last element to the first.
        zero_start: Whether all parameters start at zero.

    References:
        Germain et al.: MADE: Masked Autoencoder for Distribution Estimation, ICML 2015, arXiv 1502.03509, section 4.
    """

    def __init__(
        self,
        size: int,
        context_shape: Shape | None,
        num_parameters: int,
        *,
        hidden_dims: Sequence[int],
        flip: bool,
        zero_start: bool,
    ) -> None:
        super().__init__()
        order = torch.arange(1, size + 1).flip(0) if flip else torch.arange(1, size + 1)
        # a hidden unit of degree d sees elements 1 to d; degree 0 sees the context alone, which the first element needs
        lowest = 0 if context_shape is not None else min(size - 1, 1)
        degrees = [order, *(torch.linspace(lowest, size - 1, width).round() for width in hidden_dims)]
        masks = [after[:, None] >= before for before, after in itertools.pairwise(degrees)]
        masks.append((order[:, None] > degrees[-1]).repeat(num_parameters, 1))
        self.num_parameters = num_parameters
        self.layers = nn.ModuleList(MaskedLinear(mask) for mask in masks)
        width = self.layers[0].out_features
        self.context = None if context_shape is None else nn.Linear(math.prod(context_shape), width, bias=False)
        if zero_start:
            into_output = [self.layers[-1], *([] if hidden_dims or self.context is None else [self.context])]
            for parameter in (parameter for layer in into_output for parameter in layer.parameters()):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        """The parameters of a vector's elements, with shape :math:`(B, P, D)`, in the input's precision."""
        first, *others = self.layers
        hidden = first(x)
        if self.context is not None:
            assert context is not None
            hidden = hidden + self.context(context.flatten(1))
        for layer in others:
            hidden = layer(nn.functional.elu(hidden))
        return hidden.to(x.dtype).unflatten(1, (self.num_parameters, -1))
