"""The exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from functools import cached_property

import torch
from torch import Tensor

from genkit.engine.shards import part
from genkit.model import GenerativeModel


class MovingAverage:
    r"""A second model whose weights follow the first one's: :math:`\bar w \leftarrow d\, \bar w + (1 - d)\, w`.

    The first update copies, so that the random start is forgotten. Buffers are copied at each.

    Args:
        model: The model that is trained.
        decay: :math:`d`, close to 1.

    Attributes:
        model: The average, which takes no gradients.
        started: Whether there has been an update.
    """

    def __init__(self, model: GenerativeModel, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.started = False
        self._followed = model

    @cached_property
    def _averages(self) -> list[Tensor]:
        return [part(parameter) for parameter in self.model.parameters()]

    @cached_property
    def _weights(self) -> list[Tensor]:
        return [part(parameter) for parameter in self._followed.parameters()]

    @cached_property
    def _buffers(self) -> list[tuple[Tensor, Tensor]]:
        return list(zip(self.model.buffers(), self._followed.buffers(), strict=True))

    @torch.no_grad()
    def update(self, sound: Tensor | None = None) -> None:
        """Follows the model one step; nothing here waits for the device, but the first time.

        Args:
            sound: Whether the step was made, bool with shape :math:`()`; it was, where nothing is said.
        """
        if not self.started:
            self.copy()
            self.started = sound is None or bool(sound)
            return
        if sound is None:
            torch._foreach_lerp_(self._averages, self._weights, 1 - self.decay)  # pyright: ignore[reportPrivateImportUsage]
        else:
            for average, weight in zip(self._averages, self._weights, strict=True):
                average.lerp_(weight, (1 - self.decay) * sound.to(weight.dtype))
        for average, buffer in self._buffers:
            average.copy_(buffer)

    @torch.no_grad()
    def copy(self) -> None:
        """Takes the model's weights and buffers as they are."""
        torch._foreach_copy_(self._averages, self._weights)  # pyright: ignore[reportPrivateImportUsage]
        for average, buffer in self._buffers:
            average.copy_(buffer)
