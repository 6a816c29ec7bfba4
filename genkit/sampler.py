"""Samplers: how a trained model is drawn from."""

from __future__ import annotations

from abc import abstractmethod
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


class Sampler(Component, kind="sampler", check="genkit.testing:check_sampler"):
    """Abstract way of drawing from a trained model.

    Implementing a sampler:

    1. List in :attr:`requires` the capabilities that a model must have.
    2. ``def __init__(self, model: GenerativeModel, objective: Objective, /, *, ...)``: keep what
       :meth:`sample` needs of them. The objective is there for samplers that use what it trained beside the
       model, such as a critic.
    3. Draw in :meth:`sample` with torch's global generator; the caller seeds it.
    4. A sampler that must see data first sets :attr:`fitted` and learns in :meth:`fit`, which is called with the
       model as it is, under a seed of its own, before anything is drawn.

    Attributes:
        requires: Capabilities that the model must have.
        fitted: Whether :meth:`fit` must come before :meth:`sample`.
    """

    requires: ClassVar[tuple[type[Capability], ...]] = ()
    fitted: ClassVar[bool] = False

    @abstractmethod
    def sample(self, num_samples: int, context: Tensor | None = None) -> Samples:
        """Draws samples."""

    def fit(self, data: Views) -> None:
        """Learns from the splits that are not empty, for samplers that must."""
