"""Losses whose gradients are averaged over the processes that train together."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genkit.dataset import Batch
from genkit.objective import Loss, Progress, Turn


class TurnLoss(nn.Module):
    """One turn's loss as a module that holds the parameters of the turn's player and nothing else.

    What belongs to others is left alone, buffers too: a module whose buffers are written before each call could not be
    called twice in one loss, as critics are.
    """

    def __init__(self, turn: Turn, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.turn = turn
        self.parameters_of_player = nn.ParameterList(parameters)

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What is descended upon, the loss itself, and its terms."""
        loss = self.turn.loss(batch, progress)
        return loss.total * batch.weight, loss.total.detach(), {k: v.detach() for k, v in loss.terms.items()}


class SharedLoss:
    """A turn's loss on this process's part of a batch; gradients become those of the whole batch.

    Args:
        turn: The turn.
        parameters: What its player moves.

    Attributes:
        inputs: What the loss is to be differentiated by.
    """

    def __init__(self, turn: Turn, parameters: Sequence[nn.Parameter]) -> None:
        self.inputs = parameters
        warnings.filterwarnings("ignore", message="Grad strides do not match")  # nothing that a user could mend
        self.module = DistributedDataParallel(TurnLoss(turn, parameters), find_unused_parameters=True)

    def __call__(self, batch: Batch, progress: Progress) -> tuple[Tensor, Loss]:
        """What is descended upon, and the loss to be logged."""
        descended, total, terms = self.module(batch, progress)
        return descended, Loss(total, terms)

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """For all but the last of several batches whose gradients are added: they are not averaged yet."""
        return self.module.no_sync()
