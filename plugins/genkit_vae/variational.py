"""What variational objectives have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import nn

from genkit import Batch, GenerativeModel, LatentVariable, Loss, Objective, Progress, Turn
from genkit.objective import MODEL


class Variational(Objective):
    """Abstract objective of one player, who moves a model with latents as a whole.

    Implementing one:

    1. Compute the loss of a batch in :meth:`loss`, from the model's ``prior``, ``posterior`` and ``likelihood`` alone:
       then it serves models of one and of several levels alike.
    2. Name the units of its terms in :attr:`units`.

    Attributes:
        units: Units of the logged terms.
    """

    requires = (LatentVariable,)
    units: ClassVar[Mapping[str, str]] = {}

    def players(self, model: GenerativeModel) -> Mapping[str, Sequence[nn.Parameter]]:
        """One player, who moves the whole model."""
        return {MODEL: list(model.parameters())}

    def turns(self, model: GenerativeModel) -> Sequence[Turn]:
        """One turn."""
        assert isinstance(model, LatentVariable)
        return [Turn(MODEL, MODEL, lambda batch, progress: self.loss(model, batch, progress), units=self.units)]

    @abstractmethod
    def loss(self, model: LatentVariable, batch: Batch, progress: Progress) -> Loss:
        """The loss on one batch, nats per example."""
