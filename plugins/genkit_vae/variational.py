"""What variational objectives have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from genkit import Batch, GenerativeModel, GenkitError, LatentVariable, Loss, Objective, Progress, Turn
from genkit.objective import MODEL


class Variational(Objective):
    """Abstract objective of one player, who moves a model with latents as a whole.

    Implementing one:

    1. Compute the loss of a batch in :meth:`loss`, from the model's ``prior``, ``posterior`` and ``likelihood`` alone:
       then it serves models of one and of several levels alike.
    2. Name the units of its terms in :attr:`units`.
    3. What it asks of a posterior beyond draws and their densities, it looks for in :meth:`check`.

    Attributes:
        units: Units of the logged terms.
        needs_density: Whether it asks for the prior's density where the posterior draws.
    """

    requires = (LatentVariable,)
    units: ClassVar[Mapping[str, str]] = {}
    needs_density: ClassVar[bool] = True

    def start(self, model: GenerativeModel, x: Tensor) -> None:
        """Looks whether prior and posterior are such that there is a loss.

        Raises:
            GenkitError: They are not.
        """
        assert isinstance(model, LatentVariable)
        if self.needs_density and torch.isneginf(model.prior().log_prob(model.posterior(x).sample())).any():
            raise GenkitError(
                "the prior has no density at latents that the posterior draws, so that their divergence is infinite; "
                "a prior without bounds, such as standard_normal, would do, or the objective mmd"
            )
        self.check(model, x)

    def check(self, model: LatentVariable, x: Tensor) -> None:
        """Looks at a first batch of data with shape :math:`(B, *S)`.

        Raises:
            GenkitError: The posterior cannot serve the objective.
        """

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
