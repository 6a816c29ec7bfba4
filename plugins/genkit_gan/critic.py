"""The critic: a backbone with one output, and what changes its view of an example."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genkit import Backbone, DataSpec, Factory, Progress
from genkit_gan.regularizer import CriticInput, CriticWeights


class Critic(nn.Module):
    r"""Scores examples: high for what it takes for real data.

    Images are moved from :math:`[0, 1]` to :math:`[-1, 1]`, vectors are taken as they are; then come the changes of
    the input, in their order.

    Args:
        spec: What the data looks like.
        backbone: The network, which is to give one number.
        inputs: Changes of the input.
        weights: Changes of the network.

    Raises:
        ValueError: The network gives anything else.
    """

    def __init__(
        self,
        spec: DataSpec,
        backbone: Factory[Backbone],
        inputs: Sequence[CriticInput] = (),
        weights: Sequence[CriticWeights] = (),
    ) -> None:
        super().__init__()
        self.is_image = spec.is_image
        self.inputs = tuple(inputs)
        shape = spec.shape
        for change in self.inputs:
            shape = change.shape(shape)
        self.network = backbone(shape, (1,))
        self._check_output(torch.zeros(2, *shape), backbone.name)
        for change in weights:
            change.apply(self.network)

    @property
    def group(self) -> int:
        """Examples that go into one score."""
        return math.prod(change.group for change in self.inputs)

    @property
    def joint(self) -> bool:
        """Whether a score depends on more than one example."""
        return any(change.joint for change in self.inputs)

    def forward(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """The scores.

        Args:
            x: Examples in the data's range, with shape :math:`(B, *S)`.
            progress: How far training has come; ``None`` when nothing is trained.

        Returns:
            With shape :math:`(B / m,)`, where :math:`m` examples go into one score.
        """
        return self.judge(self.rescale(x), progress)

    def rescale(self, x: Tensor) -> Tensor:
        """Examples in the range that the critic sees."""
        return 2 * x - 1 if self.is_image else x

    def judge(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """The scores of examples that are rescaled already; float32, since losses take small differences."""
        return self.network(self.view(x, progress)).squeeze(1).float()

    def view(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        """What the network sees of rescaled examples."""
        for change in self.inputs:
            x = change.apply(x, progress)
        return x

    def _check_output(self, x: Tensor, name: str) -> None:
        self.network.eval()
        with torch.no_grad():
            shape = tuple(self.network(x).shape[1:])
        self.network.train()
        if shape != (1,):
            raise ValueError(f"a critic gives one score for an example; {name} gives shape {shape}")
