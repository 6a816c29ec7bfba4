"""What estimators that average weights over draws have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genkit import LatentVariable
from genkit_latents.estimator import Estimate, Estimator, RunningMean, joined

Weigher = Callable[[int], Tensor]
"""Draws so many latents for each of some examples, and gives their weights' logarithms with shape :math:`(k, B)`."""


class Averaging(Estimator):
    r"""Abstract estimator that averages the weights of independent draws.

    .. math:: \log p(x) \approx \log \frac{1}{k} \sum_{i=1}^k w_i, \quad \mathbb{E}\, w_i = p(x)

    The mean is right in expectation, and by Jensen's inequality its logarithm is below :math:`\log p(x)`. Examples and
    draws are taken in parts, so that no more than a chunk of latents is decoded at a time, however many there are of
    either.

    Implementing one:

    1. ``super().__init__(k, chunk)`` with what the recipe says of them.
    2. Give in :meth:`weigher` what draws latents for some examples and weighs them; what all draws share, such as the
       posterior, is made there once.

    Args:
        k: Draws for each example.
        chunk: Latents at a time.
    """

    def __init__(self, k: int, chunk: int, /) -> None:
        self.k = k
        self.chunk = chunk

    @abstractmethod
    def weigher(self, model: LatentVariable, x: Tensor) -> Weigher:
        """Gets ready to draw latents for some examples, no more of them than a chunk; no gradients are recorded."""

    @torch.no_grad()
    def estimate(self, model: LatentVariable, x: Tensor) -> Sequence[Estimate]:
        """Draws and weighs in parts."""
        parts = [self._course(model, part) for part in x.split(self.chunk)]
        return [joined(same) for same in zip(*parts, strict=True)]

    def _course(self, model: LatentVariable, x: Tensor) -> list[Estimate]:
        weigh, mean = self.weigher(model, x), RunningMean(x.flatten(1)[:, 0])
        for count in shares(self.k, self.chunk // len(x)):
            mean.add(weigh(count))
        return mean.course()


def shares(total: int, most: int) -> list[int]:
    """A number in parts of at most so many.

    Example:
        >>> shares(7, 3)
        [3, 3, 1]
    """
    return [min(most, total - start) for start in range(0, total, most)]
