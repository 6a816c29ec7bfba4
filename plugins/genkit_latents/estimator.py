"""Estimators of the likelihood of models with latents."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genkit import Component, LatentVariable


@dataclass(frozen=True)
class Estimate:
    r"""What so many draws found out about some examples.

    Attributes:
        draws: How many draws for each example.
        nats: The estimates of :math:`\log p(x)`, with shape :math:`(B,)`.
        errors: Their standard errors, of the draws alone, in nats with the same shape; not a number for one draw,
            infinite where no draw has any weight.
        effective: How many equally weighted draws those behind each estimate are worth, with the same shape; none where
            no draw has any weight.
    """

    draws: int
    nats: Tensor
    errors: Tensor
    effective: Tensor


class Estimator(Component, kind="estimator", check="genkit_latents.testing:check_estimator"):
    r"""Abstract estimator of :math:`\log p(x)`, for models with a prior, a posterior and a likelihood.

    Implementing an estimator:

    1. ``def __init__(self, *, k: ..., ...)``: every choice keyword-only.
    2. Where it averages weights over draws, inherit :class:`~genkit_latents.averaging.Averaging`, which cares for
       memory and errors. What does not, implements :meth:`estimate`.
    3. Say in :attr:`label` what the draws are: it becomes part of each figure's tag.
    4. Name in :attr:`requires` what a model must have beside the three; who uses an estimator asks for those.
    5. Draw from torch's global generator, and leave the model, its gradients and its modes as they are.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """What the draws are, for tags: "importance sampling from the posterior"."""

    @abstractmethod
    def estimate(self, model: LatentVariable, x: Tensor) -> Sequence[Estimate]:
        r"""Estimates :math:`\log p(x)`.

        Args:
            model: Whose likelihood.
            x: Examples with shape :math:`(B, *S)`.

        Returns:
            The estimates from the first 1, 10, 100, ... draws alone, and at last from all of them, without gradients.
        """


def joined(parts: Sequence[Estimate]) -> Estimate:
    """The estimates of several batches, from as many draws each, as those of one."""
    nats, errors, effective = (
        torch.cat([getattr(part, key) for part in parts]) for key in ("nats", "errors", "effective")
    )
    return Estimate(parts[0].draws, nats, errors, effective)


class RunningMean:
    r"""The logarithm of the mean of weights that come in parts, and how it came about.

    The error is that of the mean, carried through the logarithm:

    .. math:: \mathrm{se}(\log \hat p) \approx \mathrm{se}(\hat p) / \hat p = \sqrt{(k / \mathrm{ESS} - 1) / (k - 1)}

    Weights are added up relative to the largest so far. Logarithms of sums would not do: at thousands of nats float32
    has three digits behind the point, and the thousandth weight, which adds a thousandth, would be lost.

    Args:
        like: A tensor with shape :math:`(B,)`, whose device and type the sums have.

    Example:
        >>> mean = RunningMean(torch.zeros(1))
        >>> mean.add(torch.tensor([[1.0]]).log())
        >>> mean.add(torch.tensor([[3.0], [5.0]]).log())
        >>> [(estimate.draws, round(estimate.nats.exp().item(), 5)) for estimate in mean.course()]
        [(1, 1.0), (3, 3.0)]
    """

    def __init__(self, like: Tensor) -> None:
        self._draws = 0
        self._largest = torch.full_like(like, -torch.inf)  # logarithm of the largest weight
        self._sum, self._sum_of_squares = torch.zeros_like(like), torch.zeros_like(like)  # relative to it
        self._course: list[Estimate] = []

    def add(self, log_weights: Tensor) -> None:
        """Adds weights by their logarithms, with shape :math:`(k, B)`."""
        while len(log_weights):
            missing = 10 ** len(self._course) - self._draws  # to the next power of ten
            self._add(log_weights[:missing])
            log_weights = log_weights[missing:]
            if self._draws == 10 ** len(self._course):
                self._course.append(self._estimate())

    def course(self) -> list[Estimate]:
        """The estimates after 1, 10, 100, ... weights, and at last after all of them."""
        complete = self._course and self._course[-1].draws == self._draws
        return self._course if complete else [*self._course, self._estimate()]

    def _add(self, log_weights: Tensor) -> None:
        largest = torch.maximum(self._largest, log_weights.amax(0))
        unit = largest.clamp(min=torch.finfo(largest.dtype).min)  # a number even where no draw has any weight
        weights, shrunk = (log_weights - unit).exp(), (self._largest - unit).exp()
        self._draws += len(log_weights)
        self._largest = largest
        self._sum = self._sum * shrunk + weights.sum(0)
        self._sum_of_squares = self._sum_of_squares * shrunk.square() + weights.square().sum(0)

    def _estimate(self) -> Estimate:
        draws = self._draws
        effective = (self._sum.square() / self._sum_of_squares).clamp(1, draws)
        effective = effective.where(self._largest != -torch.inf, 0)
        spread = torch.full_like(effective, math.nan) if draws == 1 else (draws / effective - 1) / (draws - 1)
        return Estimate(draws, self._largest + (self._sum / draws).log(), spread.sqrt(), effective)
