"""How well a flow can be inverted in its own precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import torch
from pydantic import Field, PositiveInt

from genkit import Evaluator, Figure, GenerativeModel, SplitName, Subject, first_batch
from genkit_flow.flow import Invertible


class RoundTrip(Evaluator):
    r"""How far data is from where it comes back to, :math:`\max |x - f^{-1}(f(x))|`.

    Also the largest mismatch of the log-determinants of both ways, which should cancel. Both are measured in the
    precision of the model's weights, on the first examples of a split, in the space where the flow is one to one:
    discrete values stand for the middles of their cells. An error that is not small against the distance between two
    levels means that samples are not what the density says.

    Args:
        num_examples: Examples to send back and forth, at most as many as there are.
        splits: The splits to take them from; test comes once, at the end.
    """

    requires = (Invertible,)

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        num_examples: PositiveInt = 500,
        splits: Annotated[Sequence[SplitName], Field(min_length=1)] = ("validation", "test"),
    ) -> None:
        self.num_examples = num_examples
        self._splits = tuple(splits)

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """As the recipe says."""
        return self._splits

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure]:
        """Sends the examples to latents and back."""
        model = subject.model
        assert isinstance(model, Invertible)
        x = first_batch(subject.view(split), self.num_examples).x
        errors, mismatches = [], []
        for part in x.split(subject.batch_size):
            y = model.continuous(part)
            z, log_det = model.to_latent(y)
            back, log_det_back = model.from_latent(z)
            errors.append((y - back).abs().max())
            mismatches.append((log_det + log_det_back).abs().max())
        tag = f"largest of {len(x)} examples, {str(x.dtype).removeprefix('torch.')}"
        return [
            Figure(torch.stack(errors).max().item(), "error", tag=tag, better="lower"),
            Figure(torch.stack(mismatches).max().item(), "log_det", unit="nats", tag=tag, better="lower"),
        ]
