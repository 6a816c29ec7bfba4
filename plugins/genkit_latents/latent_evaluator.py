"""What evaluators of latents have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from genkit import Evaluator, GenkitError, LatentVariable, SplitName, Subject, spread

Splits = Annotated[Sequence[SplitName], Field(min_length=1)]


class LatentEvaluator(Evaluator):
    """Abstract evaluator of the latents behind the examples of a split.

    Args:
        examples: How many examples, from all over the split; all of them for ``None``.
        splits: The splits to judge.
    """

    requires = (LatentVariable,)

    def __init__(self, examples: int | None, splits: Sequence[SplitName], /) -> None:
        self.num_examples = examples
        self._splits = tuple(splits)

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """As the recipe says."""
        return self._splits

    def batches(self, subject: Subject, split: SplitName | None) -> Iterator[Tensor]:
        """The examples to be judged, in batches."""
        view, size = subject.view(split), subject.batch_size
        if self.num_examples is None or self.num_examples >= len(view):
            return (batch.x for batch in view.batches(size))
        return (batch.x for batch in spread(view, self.num_examples, size))


def need_finite(values: Tensor, what: str) -> None:
    """Refuses figures of a model that has diverged: of what is no number, nothing is active, and nothing collapsed.

    Raises:
        GenkitError: Some values are not finite.
    """
    if not torch.isfinite(values).all():
        raise GenkitError(
            f"{what} are not finite, and its latents cannot be judged: the model has diverged, or its prior has no "
            "density where its posteriors draw"
        )


def part_of(count: int, total: int) -> str:
    """What a tag says of figures that are not of a whole split: they are not to be ranked with such as are.

    Example:
        >>> part_of(20, 10_000), part_of(20, 20)
        ('; 20 of 10,000 examples', '')
    """
    return "" if count == total else f"; {count:,} of {total:,} examples"
