"""Objectives: what is minimized, by whom, in which order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from genkit.component import Component
from genkit.dataset import Batch, Dataset
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
        log_grad_norm: Whether the norm of the player's gradient is logged, for games, whose balance shows in it.
            It is logged in any case where gradients are clipped.
    """

    name: str
    player: str
    loss: Callable[[Batch, Progress], Loss]
    repeats: int = 1
    units: Mapping[str, str] = field(default_factory=dict)
    log_grad_norm: bool = False


class Objective(Component, nn.Module, kind="objective", check="genkit.testing:check_objective"):
    """Abstract objective: it owns the extra networks that training needs and says who moves.

    Implementing an objective:

    1. List in :attr:`requires` the capabilities that a model must have.
    2. ``def __init__(self, model: GenerativeModel, /, *, ...)``: read shapes off the model to build networks
       of your own (a critic belongs here, not to the generator). Do not keep the model: it has its own
       place in a checkpoint.
    3. Name the :meth:`players` and the parameters that each of them moves.
    4. Return the :meth:`turns` of one training step, in order. Reduce a loss by the mean over the batch and
       the sum over dimensions; log its terms apart.
    5. What depends on the dataset, and not only on what an example looks like, is taken or refused in
       :meth:`prepare`.

    Attributes:
        requires: Capabilities that the model must have.
    """

    requires: ClassVar[tuple[type[Capability], ...]] = ()

    @property
    def batch_multiple(self) -> int:
        """What the number of examples in a batch must be a multiple of, for objectives that group them."""
        return 1

    def prepare(self, dataset: Dataset) -> None:
        """Meets the dataset once, right after the objective was built; reads no data.

        Raises:
            ValueError: It cannot train on such data; the message says on which it can.
        """

    def start(self, model: GenerativeModel, x: Tensor) -> None:
        """Sees the first batch of training data once, after the model did and before anything is trained.

        For objectives with networks whose start depends on data.
        """

    @abstractmethod
    def players(self, model: GenerativeModel) -> Mapping[str, Sequence[nn.Parameter]]:
        """The parameters that each player's optimizer steps."""

    @abstractmethod
    def turns(self, model: GenerativeModel) -> Sequence[Turn]:
        """The turns of one training step, in order."""


class Scores(ABC):
    """What an objective can do that keeps a critic: score examples, higher for what looks like data."""

    @property
    @abstractmethod
    def log_ratio(self) -> bool:
        r"""Whether the best score of an example is :math:`\log p_{data}(x) / p_{model}(x)`, up to a constant."""

    @abstractmethod
    def score(self, x: Tensor) -> Tensor:
        """The scores of examples with shape :math:`(B, *S)`, with shape :math:`(B,)` if they are judged one by one."""


def critics_of(objective: Objective) -> list[Scores]:
    """An objective and those that it is made of, as far as they score examples.

    Raises:
        ValueError: None of them does.
    """
    found: list[Scores] = [module for module in objective.modules() if isinstance(module, Scores)]
    if not found:
        raise ValueError(f"needs an objective that keeps a critic, which {type(objective).__name__} does not")
    return found
