"""A flow as a distribution of torch's."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution

from genkit_flow.chain import Chain


class FlowDistribution(Distribution):
    r"""The distribution of :math:`x = f^{-1}(z)` for a :math:`z` from a base distribution.

    The density of the last draw is known from drawing it, so that ``log_prob`` of that very tensor inverts nothing: a
    posterior asks for nothing else.

    Args:
        base: The distribution of :math:`z`.
        chain: The bijections :math:`f`.
        context: What they depend on, with the base's batch shape before its own.
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own way)

    def __init__(self, base: Distribution, chain: Chain, context: Tensor | None = None) -> None:
        super().__init__(base.batch_shape, torch.Size(chain.in_shape), validate_args=False)
        self.base = base
        self.chain = chain
        self.context = context
        self._drawn: Tensor | None = None
        self._log_prob_of_drawn: Tensor | None = None

    @property
    def has_rsample(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the base."""
        return self.base.has_rsample

    @property
    def mean(self) -> Tensor:
        """Where the base's mean is mapped to: a point that stands for the distribution, not its expectation."""
        z = self.base.mean
        return self._through(z, inverse=True)[0]

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = torch.Size()) -> Tensor:  # noqa: B008
        """Draws with gradients, with shape ``sample_shape + batch_shape + event_shape``."""
        z = self.base.rsample(torch.Size(sample_shape))
        x, log_det = self._through(z, inverse=True)
        self._drawn, self._log_prob_of_drawn = x, self.base.log_prob(z) - log_det
        return x

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = torch.Size()) -> Tensor:  # noqa: B008
        """Draws without gradients."""
        with torch.no_grad():
            z = self.base.sample(torch.Size(sample_shape))
            return self._through(z, inverse=True)[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density in nats, with shape ``sample_shape + batch_shape``; values broadcast against the latter.

        Raises:
            NotImplementedError: The bijections go only from latents to data, and this is not the last draw.
        """
        if value is self._drawn:
            assert self._log_prob_of_drawn is not None
            return self._log_prob_of_drawn
        z, log_det = self._through(value, inverse=False)
        return self.base.log_prob(z) + log_det

    def _through(self, x: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
        """Through the chain with all dimensions before the event's as one.

        Without a context a value goes through once, whatever the batch shape: the base broadcasts what comes out.
        """
        event = self.base.event_shape if inverse else self.event_shape
        outer = x.shape[: x.dim() - len(event)]
        context = self.context
        if context is not None:
            outer = torch.broadcast_shapes(outer, self.batch_shape)
            x = x.expand(*outer, *event)
            context = context.expand(*outer, *context.shape[len(self.batch_shape) :])
            context = context.reshape(math.prod(outer), *context.shape[len(outer) :])
        way = self.chain.inverse if inverse else self.chain
        y, log_det = way(x.reshape(math.prod(outer), *event), context)
        return y.view(*outer, *y.shape[1:]), log_det.view(outer)
