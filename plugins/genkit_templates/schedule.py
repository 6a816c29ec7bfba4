"""Warm-up, plateau, decay."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from genkit import Schedule

Share = Annotated[float, Field(ge=0, le=1)]


class Template(Schedule):
    """A trapezoid: up over the first epochs, level for most of training, down to a fraction over the last.

    Unlike a cosine, the level part can be made longer without changing what went before.

    Args:
        warmup: Share of the epochs over which the rate rises linearly from 0.
        decay: Share of the epochs over which it falls linearly at the end.
        final: Fraction of the learning rate at the end.

    References:
        Hu et al.: MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training Strategies, 2024,
        arXiv 2404.06395, section 4 (warmup-stable-decay).

    Example:
        >>> schedule = Template(warmup=0.1, decay=0.5)
        >>> [round(schedule.factor(epoch, 10), 3) for epoch in (0, 0.5, 1, 5, 7.5, 10)]
        [0.0, 0.5, 1.0, 1.0, 0.5, 0.0]
    """

    examples = ({}, {"warmup": 0.0, "decay": 1.0, "final": 0.1})

    def __init__(self, *, warmup: Share = 0.05, decay: Share = 0.3, final: Share = 0.0) -> None:
        if warmup + decay > 1:
            raise ValueError(f"warmup + decay is {warmup + decay:g}; together they can take at most 1, all of training")
        self.warmup = warmup
        self.decay = decay
        self.final = final

    def factor(self, epoch: float, total_epochs: int) -> float:
        """The factor on the learning rate after so many epochs, a fraction within an epoch."""
        course = min(1.0, epoch / total_epochs)
        if course < self.warmup:
            return course / self.warmup
        if course <= 1 - self.decay:
            return 1.0
        return self.final + (1 - self.final) * (1 - course) / self.decay
