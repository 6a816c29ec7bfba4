"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
from torch import nn

from genkit.component import Component


class Optimizer(Component, kind="optimizer", check="genkit.testing:check_optimizer"):
    """Abstract choice of an optimizer and its constants.

    Implementing an optimizer: take the constants keyword-only and build a :class:`torch.optim.Optimizer`
    in :meth:`build`, its fused form where there is one.
    """

    @abstractmethod
    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters."""


class Schedule(Component, kind="schedule", check="genkit.testing:check_schedule"):
    """Abstract course of the learning rate.

    Implementing a schedule: return from :meth:`factor` what the optimizer's learning rate is multiplied by.
    It is called before every step, so keep it a line of arithmetic.
    """

    @abstractmethod
    def factor(self, epoch: float, total_epochs: int) -> float:
        """The factor on the learning rate.

        Args:
            epoch: How far training has come, in epochs, a fraction within an epoch.
            total_epochs: Where it ends.
        """
