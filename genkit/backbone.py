"""Backbones: networks from one shape to another."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from genkit.component import Component


class Backbone(Component, nn.Module, kind="backbone", check="genkit.testing:check_backbone"):
    """Abstract network from ``in_shape`` to ``out_shape``: an encoder, a decoder, a generator or a critic.

    Implementing a backbone:

    1. ``def __init__(self, in_shape: Shape, out_shape: Shape, /, *, ...)``: the owner supplies both shapes,
       a recipe the rest. Call ``super().__init__()``.
    2. Raise :class:`ValueError` in the constructor for shapes it cannot serve, saying which it can.
    3. Map :math:`(B, *in)` to :math:`(B, *out)` in :meth:`forward`, with no activation at the end: outputs
       are parameters, logits or features, and their owner knows which.
    4. Name the :attr:`output_layer`, if there is one, for owners that have the network start at zero.

    Example:
        >>> class Linear(Backbone):
        ...     def __init__(self, in_shape: Shape, out_shape: Shape, /, *, bias: bool = True):
        ...         super().__init__()
        ...         self.linear = nn.Linear(in_shape[0], out_shape[0], bias=bias)
        ...
        ...     def forward(self, x, context=None):
        ...         return self.linear(x)
    """

    def start(self, x: Tensor) -> None:
        """Sees a first batch of inputs once, before anything is trained, for networks whose start depends on data.

        Args:
            x: Inputs with shape :math:`(B, *in)`.
        """

    @property
    def output_layer(self) -> nn.Module | None:
        """The layer whose weights and biases, all zero, make the output zero; ``None`` if there is no such layer."""
        return None

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Applies the network.

        Args:
            x: The input, with shape :math:`(B, *in)`.
            context: What the output is conditioned on, with shape :math:`(B, C)`. A backbone that cannot use
                it must refuse it (see :func:`refuse_context`), never ignore it.

        Returns:
            The output, with shape :math:`(B, *out)`.
        """


def refuse_context(module: nn.Module, context: Tensor | None) -> None:
    """Raises ``ValueError`` if a network that cannot be conditioned is given a context."""
    if context is not None:
        raise ValueError(f"{type(module).__name__} cannot be conditioned on a context")
