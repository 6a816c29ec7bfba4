"""What critic and model make of a critic's scores."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from genkit import Component


class AdversarialLoss(Component, kind="adversarial_loss", check="genkit_gan.testing:check_adversarial_loss"):
    r"""Abstract loss of the game between a critic :math:`D` and a model that draws samples.

    Implementing a loss:

    1. Minimize :meth:`critic_loss` and :meth:`model_loss` over scores, the critic's raw outputs with no activation:
       what is good for the critic makes scores of real data high and those of samples low. Return means over the batch.
    2. Say in the attributes below what kind of game it is.

    Attributes:
        compares: Whether the model's loss looks at the scores of real data too.
        labels: Whether the critic is taught labels, 1 for real data, which can be smoothed.
        log_ratio: Whether the best critic's score is :math:`\log p_{data}(x) / p_{model}(x)`, up to a constant.
        boundary: The score above which the critic takes an example for real; ``None`` where only differences between
            the scores of real data and of samples mean anything.
    """

    compares: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    log_ratio: ClassVar[bool] = False
    boundary: ClassVar[float | None] = 0.0

    @abstractmethod
    def critic_loss(self, real: Tensor, fake: Tensor, real_label: float = 1.0) -> Tensor:
        """What the critic minimizes, with shape :math:`()`.

        Args:
            real: Scores of real data, with shape :math:`(B,)`.
            fake: Scores of samples, with shape :math:`(B,)`.
            real_label: The label of real data; less than 1 under one-sided label smoothing, which only losses
                with :attr:`labels` are given.
        """

    @abstractmethod
    def model_loss(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """What the model minimizes, with shape :math:`()`.

        Args:
            fake: Scores of samples, with shape :math:`(B,)`.
            real: Scores of real data, for losses that :attr:`compares`.
        """

    def accuracy(self, real: Tensor, fake: Tensor) -> Tensor:
        """The share of decisions that the critic gets right, with shape :math:`()`: 1/2 when it is fooled."""
        if self.boundary is None:
            return (real > fake).float().mean()
        return ((real > self.boundary).float().mean() + (fake <= self.boundary).float().mean()) / 2
