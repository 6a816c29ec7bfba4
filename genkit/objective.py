"""Objectives: what is minimized, by whom, in which order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from genkit.component import Component
from genkit.dataset import Batch
from genkit.model import Capability, GenerativeModel

#: The player that moves the whole model. Objectives that do name it so, and a sum of them can merge their turns.
MODEL = "model"


@dataclass(frozen=True)
class Progress:
    """How far training has come, as tensors on the device, so that schedules need no host.

    Attributes:
        step: Steps taken before this one, float32, with shape :math:`()`.
        epoch: The same in epochs, a fraction.
    """

    step: Tensor
    epoch: Tensor


@dataclass(frozen=True)
class Loss:
    """What one turn minimizes.

    Attributes:
        total: The loss, with shape :math:`()`.
        terms: Figures to log, each with shape :math:`()`, under the same names at every step. Their
            gradients are not used.
    """

    total: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """One player's move in a training step.

    Attributes:
        name: The turn's name in logs.
        player: Whose optimizer steps.
        loss: Computes the player's loss on a batch of real data.
        repeats: How often the turn is taken in one step, each time on the next batch. Turns of one step
            share its batches: the k-th repeat of every turn sees the k-th.
        units: Units of the logged terms, ``nats`` among them: a term in nats per example is also logged
            in bits per dimension.
    """

    name: str
    player: str
    loss: Callable[[Batch, Progress], Loss]
    repeats: int = 1
    units: Mapping[str, str] = field(default_factory=dict)


class Objective(Component, nn.Module, kind="objective"):
    """Abstract objective: it owns the extra networks that training needs and says who moves.

    Implementing an objective:

    1. List in :attr:`requires` the capabilities that a model must have.
    2. ``def __init__(self, model: GenerativeModel, /, *, ...)``: read shapes off the model to build networks
       of your own (a critic belongs here, not to the generator). Do not keep the model: it has its own
       place in a checkpoint.
    3. Name the :meth:`players` and the parameters that each of them moves.
    4. Return the :meth:`turns` of one training step, in order. Reduce a loss by the mean over the batch and
       the sum over dimensions; log its terms apart.

    Attributes:
        requires: Capabilities that the model must have.
    """

    requires: ClassVar[tuple[type[Capability], ...]] = ()

    @abstractmethod
    def players(self, model: GenerativeModel) -> Mapping[str, Sequence[nn.Parameter]]:
        """The parameters that each player's optimizer steps."""

    @abstractmethod
    def turns(self, model: GenerativeModel) -> Sequence[Turn]:
        """The turns of one training step, in order."""
