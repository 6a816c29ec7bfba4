"""Courses of the learning rate, all with an optional linear warm-up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from genkit import Schedule

Fraction = Annotated[float, Field(ge=0, le=1)]


def warmup(epoch: float, warmup_epochs: float) -> float:
    """The factor of a linear warm-up from 0 to 1.

    Example:
        >>> warmup(1, 4), warmup(9, 4), warmup(0, 0)
        (0.25, 1.0, 1.0)
    """
    return min(1.0, epoch / warmup_epochs) if warmup_epochs else 1.0


class Constant(Schedule):
    """The same learning rate throughout.

    Args:
        warmup_epochs: Epochs over which it rises linearly from 0.
    """

    def __init__(self, *, warmup_epochs: NonNegativeFloat = 0.0) -> None:
        self.warmup_epochs = warmup_epochs

    def factor(self, epoch: float, total_epochs: int) -> float:
        """The warm-up's factor."""
        return warmup(epoch, self.warmup_epochs)


class Cosine(Schedule):
    """A half cosine from the full learning rate to a fraction of it.

    Args:
        warmup_epochs: Epochs over which it first rises linearly from 0.
        final: Fraction of the learning rate at the end.

    References:
        Loshchilov and Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017, arXiv 1608.03983.
    """

    def __init__(self, *, warmup_epochs: NonNegativeFloat = 0.0, final: Fraction = 0.0) -> None:
        self.warmup_epochs = warmup_epochs
        self.final = final

    def factor(self, epoch: float, total_epochs: int) -> float:
        """Rises over the warm-up, then follows the cosine to the end."""
        if epoch < self.warmup_epochs:
            return warmup(epoch, self.warmup_epochs)
        course = min(1.0, (epoch - self.warmup_epochs) / max(total_epochs - self.warmup_epochs, 1e-9))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * course)) / 2


class Step(Schedule):
    """Multiplies the learning rate by gamma each time so many epochs are over.

    Args:
        epochs: Epochs between two drops.
        gamma: What each drop multiplies by.
        warmup_epochs: Epochs over which it first rises linearly from 0.
    """

    def __init__(
        self, *, epochs: PositiveInt = 30, gamma: PositiveFloat = 0.1, warmup_epochs: NonNegativeFloat = 0.0
    ) -> None:
        self.epochs = epochs
        self.gamma = gamma
        self.warmup_epochs = warmup_epochs

    def factor(self, epoch: float, total_epochs: int) -> float:
        """One power of gamma for each drop that is past."""
        return self.gamma ** (int(epoch) // self.epochs) * warmup(epoch, self.warmup_epochs)


class Exponential(Schedule):
    """Multiplies the learning rate by gamma after each epoch.

    Args:
        gamma: What each epoch multiplies by.
        warmup_epochs: Epochs over which it first rises linearly from 0.
    """

    def __init__(self, *, gamma: PositiveFloat = 0.99, warmup_epochs: NonNegativeFloat = 0.0) -> None:
        self.gamma = gamma
        self.warmup_epochs = warmup_epochs

    def factor(self, epoch: float, total_epochs: int) -> float:
        """One power of gamma for each epoch that is over."""
        return self.gamma ** int(epoch) * warmup(epoch, self.warmup_epochs)


class Stages(Schedule):
    """Multiplies the learning rate by gamma from each stage to the next, the stages being of any lengths.

    Args:
        epochs: The length of each stage in epochs; the last one goes on.
        gamma: What each new stage multiplies by.
        warmup_epochs: Epochs over which it first rises linearly from 0.

    References:
        Burda, Grosse and Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016, arXiv 1509.00519, section 5.
    """

    examples = ({"epochs": [1, 3, 9], "gamma": 0.5},)

    def __init__(
        self,
        *,
        epochs: Annotated[Sequence[PositiveInt], Field(min_length=1)],
        gamma: PositiveFloat = 0.1,
        warmup_epochs: NonNegativeFloat = 0.0,
    ) -> None:
        self.ends = tuple(itertools.accumulate(epochs))[:-1]
        self.gamma = gamma
        self.warmup_epochs = warmup_epochs

    def factor(self, epoch: float, total_epochs: int) -> float:
        """One power of gamma for each stage that is over."""
        return self.gamma ** sum(epoch >= end for end in self.ends) * warmup(epoch, self.warmup_epochs)
