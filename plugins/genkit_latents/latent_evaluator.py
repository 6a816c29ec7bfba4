"""What evaluators of latents have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor

from genkit import Evaluator, LatentVariable, SplitName, Subject, spread

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
