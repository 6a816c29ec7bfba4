"""Autoregressive flows: each element is scaled and shifted as the elements before it say."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pydantic import PositiveInt
from torch import Tensor

from genkit import Shape
from genkit_flow.bijection import Bijection
from genkit_flow.conditioner import MADE, LogScale

Map = Callable[[Tensor, Tensor, Tensor], Tensor]


def to_data(z: Tensor, log_scale: Tensor, shift: Tensor) -> Tensor:
    """Scales, then shifts."""
    return z * log_scale.exp() + shift


def to_latents(x: Tensor, log_scale: Tensor, shift: Tensor) -> Tensor:
    """Undoes the shift, then the scale."""
    return (x - shift) * (-log_scale).exp()


class Autoregressive(Bijection):
    r"""Abstract affine autoregressive map :math:`x_i = z_i\, e^{s_i} + t_i`, whose parameters depend on what is before.

    From the side that they depend on, all elements are mapped at once; back they come one after the other, in as many
    passes as there are.

    Args:
        hidden_dims: Widths of the hidden layers of the masked network.
        flip: Whether the order is from the last element to the first; layers one after the other take turns.
        bounded: Whether :math:`s` is kept within learned bounds, :math:`f \tanh(s / f)`.
        zero_start: Whether the layer starts as the identity.
    """

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        *,
        hidden_dims: Sequence[PositiveInt],
        flip: bool,
        bounded: bool,
        zero_start: bool,
    ) -> None:
        super().__init__(shape, context_shape)
        self.size = math.prod(shape)
        self.made = MADE(self.size, context_shape, 2, hidden_dims=hidden_dims, flip=flip, zero_start=zero_start)
        self.log_scale = LogScale((self.size,), bounded=bounded)

    def _at_once(self, given: Tensor, context: Tensor | None, apply: Map) -> tuple[Tensor, Tensor]:
        """What comes out, and the sum of the log-scales."""
        log_scale, shift = self._theta(given.flatten(1), context)
        return apply(given.flatten(1), log_scale, shift).view_as(given), log_scale.sum(1)

    def _one_by_one(self, given: Tensor, context: Tensor | None, apply: Map) -> tuple[Tensor, Tensor]:
        """After :math:`i` passes the first :math:`i` elements are right, so that the next one's parameters are."""
        flat = given.flatten(1)
        found, log_scale = flat, flat
        for _ in range(self.size):
            log_scale, shift = self._theta(found, context)
            found = apply(flat, log_scale, shift)
        return found.view_as(given), log_scale.sum(1)

    def _theta(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        log_scale, shift = self.made(x, context).unbind(1)
        return self.log_scale(log_scale), shift


class MaskedAutoregressive(Autoregressive):
    r"""A masked autoregressive flow: densities at once, samples element by element.

    .. math:: x_i = z_i\, e^{s_i(x_{<i}, c)} + t_i(x_{<i}, c)

    Args:
        hidden_dims: Widths of the hidden layers of the masked network.
        flip: Whether the order is from the last element to the first; layers one after the other take turns.
        bounded: Whether :math:`s` is kept within learned bounds, :math:`f \tanh(s / f)`.
        zero_start: Whether the layer starts as the identity.

    References:
        Papamakarios, Pavlakou and Murray: Masked Autoregressive Flow for Density Estimation, NeurIPS 2017, arXiv
        1705.07057, equations 3 and 4.
    """

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        *,
        hidden_dims: Sequence[PositiveInt] = (64, 64),
        flip: bool = False,
        bounded: bool = True,
        zero_start: bool = True,
    ) -> None:
        super().__init__(
            shape, context_shape, hidden_dims=hidden_dims, flip=flip, bounded=bounded, zero_start=zero_start
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All elements at once."""
        z, log_det = self._at_once(x, context, to_latents)
        return z, -log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One element after the other."""
        return self._one_by_one(z, context, to_data)


class InverseAutoregressive(Autoregressive):
    r"""An inverse autoregressive flow: samples and their densities at once, densities of data element by element.

    .. math:: x_i = z_i\, e^{s_i(z_{<i}, c)} + t_i(z_{<i}, c)

    Args:
        hidden_dims: Widths of the hidden layers of the masked network.
        flip: Whether the order is from the last element to the first; layers one after the other take turns.
        bounded: Whether :math:`s` is kept within learned bounds, :math:`f \tanh(s / f)`.
        zero_start: Whether the layer starts as the identity.

    References:
        Kingma et al.: Improving Variational Inference with Inverse Autoregressive Flow, NeurIPS 2016, arXiv
        1606.04934, equation 10 (with log-scales for scales).
    """

    def __init__(
        self,
        shape: Shape,
        context_shape: Shape | None,
        /,
        *,
        hidden_dims: Sequence[PositiveInt] = (64, 64),
        flip: bool = False,
        bounded: bool = True,
        zero_start: bool = True,
    ) -> None:
        super().__init__(
            shape, context_shape, hidden_dims=hidden_dims, flip=flip, bounded=bounded, zero_start=zero_start
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One element after the other."""
        z, log_det = self._one_by_one(x, context, to_latents)
        return z, -log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All elements at once."""
        return self._at_once(z, context, to_data)
