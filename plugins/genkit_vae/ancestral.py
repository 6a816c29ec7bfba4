"""Latents of several levels as one distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution

Conditional = Callable[[Tensor], Distribution]
Part = tuple[Distribution, Tensor]


class Ancestral(Distribution):
    r"""The joint distribution of levels that are drawn one after the other, each given the one before it.

    .. math:: p(z) = p(z_1) \prod_{l=2}^L p(z_l \mid z_{l-1})

    Its event is one vector, the levels side by side: those of a prior, which is drawn from the top to the level next
    to the data, lie in it in the opposite order of drawing. What was drawn last is remembered with the distributions
    that it came from, so that its density costs no network twice.

    Args:
        first: The distribution of the level that is drawn first, with the joint distribution's batch shape.
        conditionals: What is drawn next, given a level with shape :math:`(N, D_{l-1})`, with batch shape :math:`(N,)`.
        sizes: The dimensions :math:`D_l` of the levels in the order of drawing.
        backward: Whether the event has the levels in the opposite order.

    References:
        Rezende, Mohamed and Wierstra: Stochastic Backpropagation, ICML 2014, arXiv 1401.4082, section 2.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> first = Independent(Normal(torch.zeros(5, 2), torch.ones(5, 2)), 1)
        >>> q = Ancestral(first, [lambda z: Independent(Normal(z[:, :1], 1.0), 1)], sizes=[2, 1])
        >>> q.rsample((3,)).shape, q.log_prob(q.rsample()).shape
        (torch.Size([3, 5, 3]), torch.Size([5]))
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own way)
    has_rsample = True

    def __init__(
        self, first: Distribution, conditionals: Sequence[Conditional], sizes: Sequence[int], *, backward: bool = False
    ) -> None:
        super().__init__(first.batch_shape, torch.Size([sum(sizes)]), validate_args=False)
        self.first = first
        self.conditionals = tuple(conditionals)
        self.sizes = tuple(sizes)
        self.backward = backward
        self._drawn: Tensor | None = None
        self._drawn_with_gradients = False
        self._parts_of_drawn: list[Part] = []

    @property
    def mean(self) -> Tensor:
        """Where means lead from level to level: a point that stands for the distribution, not its expectation."""
        return self._joined(self._walk(self.first.mean, lambda q: q.mean), self.batch_shape)

    def rsample(self, sample_shape: torch.Size | Sequence[int] = torch.Size()) -> Tensor:  # noqa: B008
        """Draws with gradients, with shape ``sample_shape + batch_shape + event_shape``."""
        shape = torch.Size(sample_shape)
        return self._remembered(self._walk(self.first.rsample(shape), lambda q: q.rsample()), shape)

    def sample(self, sample_shape: torch.Size | Sequence[int] = torch.Size()) -> Tensor:  # noqa: B008
        """Draws without gradients, from levels too that have none to give, such as mixtures."""
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            return self._remembered(self._walk(self.first.sample(shape), lambda q: q.sample()), shape)

    def _remembered(self, parts: list[Part], shape: torch.Size) -> Tensor:
        self._drawn, self._parts_of_drawn = self._joined(parts, shape + self.batch_shape), parts
        self._drawn_with_gradients = torch.is_grad_enabled()
        return self._drawn

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density in nats, with shape ``sample_shape + batch_shape``; values broadcast against the batch."""
        shape = self._outer(value)
        return torch.stack([q.log_prob(z).reshape(shape) for q, z in self.parts(value)]).sum(0)

    def parts(self, value: Tensor) -> list[Part]:
        """Each level's distribution and its part of a value, in the order of the event.

        The distribution of the level that is drawn first has its own batch shape; that of each other level, and its
        values, have all dimensions before the event's as one.
        """
        # distributions that a draw without gradients came from have none to give
        if value is self._drawn and (self._drawn_with_gradients or not torch.is_grad_enabled()):
            parts = self._parts_of_drawn
        else:
            first, *rest = self._split(value.expand(*self._outer(value), -1))
            later = iter(rest)
            parts = self._walk(first, lambda q: next(later).reshape(-1, q.event_shape[0]))
        return parts[::-1] if self.backward else parts

    def _outer(self, value: Tensor) -> torch.Size:
        """The shape of a value's density: it broadcasts against the batch."""
        return torch.broadcast_shapes(value.shape[:-1], self.batch_shape)

    def _walk(self, first: Tensor, take: Callable[[Distribution], Tensor]) -> list[Part]:
        """All levels in the order of drawing: each distribution, and what is taken from it."""
        parts: list[Part] = [(self.first, first)]
        for conditional in self.conditionals:
            q = conditional(parts[-1][1].reshape(-1, parts[-1][1].shape[-1]))
            parts.append((q, take(q)))
        return parts

    def _joined(self, parts: Sequence[Part], shape: torch.Size) -> Tensor:
        levels = [z.reshape(*shape, z.shape[-1]) for _, z in parts]
        return torch.cat(levels[::-1] if self.backward else levels, dim=-1)

    def _split(self, value: Tensor) -> list[Tensor]:
        """The levels of a value in the order of drawing."""
        if self.backward:
            return list(value.split(self.sizes[::-1], dim=-1))[::-1]
        return list(value.split(self.sizes, dim=-1))
