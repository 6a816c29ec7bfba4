"""Bijections: maps that can be undone, and how much they stretch space."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from genkit import Component, Shape

Way = Literal["forward", "inverse"]


class Bijection(Component, nn.Module, kind="bijection", check="genkit_flow.testing:check_bijection"):
    r"""Abstract bijection :math:`f` from data to latents, differentiable both ways.

    .. math:: z = f(x), \qquad \log p(x) = \log p(z) + \log \left| \det \frac{\partial f}{\partial x} \right|

    Implementing a bijection:

    1. ``def __init__(self, shape: Shape, context_shape: Shape | None, /, *, ...)``: the owner supplies both shapes,
       a recipe the rest. Call ``super().__init__(shape, context_shape)`` first, and raise :class:`ValueError` for
       shapes that it cannot serve, saying which it can.
    2. Override :attr:`out_shape` if :math:`z` has another shape than :math:`x`.
    3. Map data to latents in :meth:`forward` and latents to data in :meth:`inverse`, each with the log-determinant
       of its own Jacobian in nats. Every example is mapped by itself, and the caller's tensor stays as it is.
    4. One that goes only one way names it in :attr:`one_way`, and raises :class:`NotImplementedError` in the other.
    5. One whose start depends on data sees the first batch in :meth:`start`.

    What a conditioner is to see of a context is joined to its input by :func:`join`. A bijection without parameters
    that could depend on a context lets it pass.

    Args:
        shape: The shape of :math:`x` for one example.
        context_shape: The shape of the context for one example, if there is one.

    References:
        Papamakarios et al.: Normalizing Flows for Probabilistic Modeling and Inference, JMLR 2021, arXiv 1912.02762.

    Example:
        >>> class Double(Bijection):
        ...     def __init__(self, shape, context_shape, /):
        ...         super().__init__(shape, context_shape)
        ...
        ...     def forward(self, x, context=None):
        ...         return 2 * x, x.new_full(x.shape[:1], math.log(2) * x[0].numel())
        ...
        ...     def inverse(self, z, context=None):
        ...         return z / 2, z.new_full(z.shape[:1], -math.log(2) * z[0].numel())
    """

    def __init__(self, shape: Shape, context_shape: Shape | None, /) -> None:
        super().__init__()
        self.in_shape = tuple(shape)
        self.context_shape = None if context_shape is None else tuple(context_shape)

    @property
    def out_shape(self) -> Shape:
        """The shape of :math:`z` for one example."""
        return self.in_shape

    @property
    def one_way(self) -> Way | None:
        """The only way that it goes; ``None`` if it goes both."""
        return None

    def why_one_way(self) -> str:
        """What within it goes only one way; empty if that is itself, or nothing."""
        return ""

    def start(self, x: Tensor, context: Tensor | None = None) -> None:
        """Sees the first batch of its inputs once, before anything is trained."""

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""From data to latents.

        Args:
            x: Data with shape :math:`(B, *in)`.
            context: What the map depends on, with shape :math:`(B, *context)`.

        Returns:
            Latents with shape :math:`(B, *out)`, and :math:`\log |\det \partial z / \partial x|` in nats with shape
            :math:`(B,)`.
        """

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""From latents to data, with :math:`\log |\det \partial x / \partial z|`."""


def joined_shape(shape: Shape, context_shape: Shape | None) -> Shape:
    """The shape of an input that a context is joined to.

    Raises:
        ValueError: Input and context are images of different sizes.

    Example:
        >>> joined_shape((1, 8, 8), (3,)), joined_shape((1, 8, 8), (2, 8, 8)), joined_shape((4,), (2, 3))
        ((4, 8, 8), (3, 8, 8), (10,))
    """
    if context_shape is None:
        return tuple(shape)
    if len(shape) != 3:
        return (math.prod(shape) + math.prod(context_shape),)
    if len(context_shape) == 3 and context_shape[1:] != shape[1:]:
        raise ValueError(
            f"an image of {shape[1]} x {shape[2]} cannot be conditioned on one of "
            f"{context_shape[1]} x {context_shape[2]}: both must have one size, so leave out squeeze"
        )
    return (shape[0] + context_shape[0], *shape[1:])


def join(x: Tensor, context: Tensor | None) -> Tensor:
    """An input with a context beside it: as further channels of an image, or as further elements of a vector.

    Args:
        x: The input, with shape :math:`(B, *S)`.
        context: With shape :math:`(B, *C)`; a vector becomes constant channels of an image.
    """
    if context is None:
        return x
    if x.dim() != 4:
        return torch.cat([x.flatten(1), context.flatten(1)], dim=1)
    if context.dim() == 2:
        context = context[:, :, None, None].expand(-1, -1, *x.shape[2:])
    return torch.cat([x, context], dim=1)


def channel_shape(shape: Shape) -> Shape:
    """The shape of numbers for each channel of an image, or for each element of a vector, ready to broadcast.

    Example:
        >>> channel_shape((3, 8, 8)), channel_shape((5,))
        ((3, 1, 1), (5,))
    """
    return (shape[0], *(1 for _ in shape[1:]))


def constant_log_det(x: Tensor, log_slopes: Tensor) -> Tensor:
    """The log-determinant of a map that stretches each element alike for all examples.

    Args:
        x: The input, with shape :math:`(B, *S)`.
        log_slopes: Log-slopes that broadcast to :math:`S`, nats.
    """
    return log_slopes.expand(x.shape[1:]).sum().expand(len(x))
