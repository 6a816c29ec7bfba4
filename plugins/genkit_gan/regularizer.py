"""What keeps an adversarial game in balance: one kind, and an abstract class for each place where it acts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor, nn

from genkit import Component, GenerativeModel, Progress, Shape

Scores = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Scored:
    """Examples with the critic's scores of them.

    Attributes:
        x: Examples with shape :math:`(B, *S)`, in the range that the critic sees; gradients of the scores are tracked
            where the critic has a penalty.
        scores: With shape :math:`(B / m,)`, where :math:`m` examples are judged together.
    """

    x: Tensor
    scores: Tensor

    @cached_property
    def squared_gradients(self) -> Tensor:
        r""":math:`\|\nabla_x D(x)\|^2` of each score, with shape :math:`(B / m,)`, differentiable."""
        (gradient,) = torch.autograd.grad(self.scores.sum(), self.x, create_graph=True)
        return gradient.reshape(len(self.scores), -1).square().sum(1)


class Regularizer(Component, kind="regularizer", check="genkit_gan.testing:check_regularizer"):
    """Abstract part of an adversarial game beside its loss; any number of different ones at once.

    Implementing a regularizer: inherit the class of the place where it acts, one of :class:`CriticPenalty`,
    :class:`ModelPenalty`, :class:`CriticInput`, :class:`CriticWeights` and :class:`CriticLabels`, and take its
    constants keyword-only.
    """


class CriticPenalty(Regularizer):
    """Abstract term of the critic's loss."""

    @abstractmethod
    def penalty(self, critic: Scores, real: Scored, fake: Scored) -> Tensor:
        """What is added to the critic's loss, weight included, with shape :math:`()`."""


class ModelPenalty(Regularizer):
    """Abstract term of the model's loss; it may list what it ``requires`` of the model."""

    @abstractmethod
    def penalty(self, model: GenerativeModel, num_samples: int) -> Tensor:
        """What is added to the model's loss, weight included, with shape :math:`()`."""


class CriticInput(Regularizer):
    """Abstract change of what the critic sees, of real data as of samples.

    Attributes:
        joint: Whether a score then depends on more than one example.
    """

    joint: ClassVar[bool] = False

    @property
    def group(self) -> int:
        """Examples that go into one score; batches must be a multiple of it."""
        return 1

    def shape(self, shape: Shape) -> Shape:
        """The shape of what the critic sees, from that of an example."""
        return shape

    @abstractmethod
    def apply(self, x: Tensor, progress: Progress | None) -> Tensor:
        """Changes a batch.

        Args:
            x: What the critic would see, with shape :math:`(B, *S)`.
            progress: How far training has come; ``None`` when nothing is trained.
        """


class CriticWeights(Regularizer):
    """Abstract change of the critic's network, made once when it is built."""

    @abstractmethod
    def apply(self, network: nn.Module) -> None:
        """Changes the network in place."""


class CriticLabels(Regularizer):
    """Abstract change of the labels that the critic is taught."""

    @property
    @abstractmethod
    def real_label(self) -> float:
        """The label of real data."""
