"""Bits per dimension."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from pydantic import PositiveInt

from genkit import Evaluator, Figure, GenerativeModel, HasLogProb, SplitName, Subject, bits_per_dim


class BitsPerDim(Evaluator):
    r"""Mean negative log-likelihood of a split, in bits per dimension and in nats.

    Every figure is tagged with what it is (exact, a lower bound on the likelihood, or an estimate from so many
    samples) and with the data's levels and how they were made. A bound on the likelihood makes the figure an
    upper bound on the true one.

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
        splits: Sequence[SplitName] = ("validation", "test"),
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
        bits = bits_per_dim(nats, subject.spec.num_dims)
        return [
            Figure(bits, unit="bits/dim", tag=tag, better="lower"),
            Figure(nats, "nats", unit="nats", tag=tag, better="lower"),
        ]
