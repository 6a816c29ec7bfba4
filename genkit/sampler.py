"""Samplers: how a trained model is drawn from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from genkit.component import Component
from genkit.dataset import Views
from genkit.model import Capability


@dataclass(frozen=True)
class Samples:
    """What a sampler drew.

    Attributes:
        x: The samples, in the data's range, with shape :math:`(N, *S)`.
        mean: The mean of the distribution that each was drawn from, with the same shape, for models that
            have one; ``None`` otherwise.
    """

    x: Tensor
    mean: Tensor | None = None


class Sampler(Component, kind="sampler"):
    """Abstract way of drawing from a trained model.

    Implementing a sampler:

    1. List in :attr:`requires` the capabilities that a model must have.
    2. ``def __init__(self, model: GenerativeModel, objective: Objective, /, *, ...)``: keep what
       :meth:`sample` needs of them. The objective is there for samplers that use what it trained beside the
       model, such as a critic.
    3. Draw in :meth:`sample` with torch's global generator; the caller seeds it.
    4. A sampler that must see data first does so in :meth:`fit`, and keeps what it found in
       :meth:`state_dict`.

    Attributes:
        requires: Capabilities that the model must have.
    """

    requires: ClassVar[tuple[type[Capability], ...]] = ()

    @abstractmethod
    def sample(self, num_samples: int, context: Tensor | None = None) -> Samples:
        """Draws samples."""

    def fit(self, data: Views) -> None:
        """Learns from data after training, for samplers that do."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """What :meth:`fit` learned."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what :meth:`state_dict` returned."""
