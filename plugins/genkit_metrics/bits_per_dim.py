"""Bits per dimension."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from genkit import (
    Evaluator,
    Figure,
    GenerativeModel,
    HasEnergy,
    HasLogProb,
    LogProb,
    SplitName,
    Subject,
    bits_per_dim,
)


class BitsPerDim(Evaluator):
    r"""Mean negative log-likelihood of a split, in bits per dimension and in nats.

    Every figure is tagged with what it is (exact, a lower bound on the likelihood, or an estimate from so many
    samples) and with the data's levels and how they were made. A bound on the likelihood makes the figure an
    upper bound on the true one.

    Where the data's entropy is known and the likelihood is exact, the entropy is the figures' floor: no model's
    expectation is below it, though the mean over a finite split may be, by chance. How much chance there is says
    ``standard_error``, in bits per dimension: the standard deviation over the :math:`N` examples over
    :math:`\sqrt N`.

    Args:
        num_samples: Importance samples, for models that can tighten a bound with them.
        splits: The splits to measure; test comes once, at the end.
    """

    requires = (HasLogProb,)

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        num_samples: PositiveInt = 1,
        splits: Annotated[Sequence[SplitName], Field(min_length=1)] = ("validation", "test"),
    ) -> None:
        self.num_samples = num_samples
        self._splits = tuple(splits)

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """As the recipe says."""
        return self._splits

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure]:
        """Averages over the whole split."""
        model, view = subject.model, subject.view(split)
        assert isinstance(model, HasLogProb)
        parts = [model.log_prob(batch.x, num_samples=self.num_samples) for batch in view.batches(subject.batch_size)]
        every = torch.cat([part.nats for part in parts]).cpu().double()  # in this order: not every device has float64
        nats, tag = -every.mean().item(), parts[0].tag(subject.spec)
        dims, floor = subject.spec.num_dims, entropy_of(subject, parts[0])
        bits, least = bits_per_dim(nats, dims), None if floor is None else bits_per_dim(floor, dims)
        yield Figure(bits, unit="bits/dim", tag=tag, better="lower", floor=least)
        yield Figure(nats, "nats", unit="nats", tag=tag, better="lower", floor=floor)
        if floor is not None and len(every) > 1:
            yield Figure(bits_per_dim(standard_error(every), dims), "standard_error", unit="bits/dim", tag=tag)


def entropy_of(subject: Subject, log_prob: LogProb) -> float | None:
    """The data's entropy in nats, where it is known and a log-likelihood can be held against it."""
    dataset = subject.dataset
    return dataset.entropy if isinstance(dataset, HasEnergy) and log_prob.tightness == "exact" else None


def standard_error(values: Tensor) -> float:
    """The standard error of the mean of some values, at least two.

    Example:
        >>> round(standard_error(torch.tensor([1.0, 3.0])), 6)
        1.0
    """
    return values.std().item() / len(values) ** 0.5
