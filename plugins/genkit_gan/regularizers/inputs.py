"""What changes the critic's view of an example."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from genkit import Progress, Shape
from genkit_gan.regularizer import CriticInput


class InstanceNoise(CriticInput):
    r"""Blurs real data and samples alike, so that their distributions overlap.

    .. math:: \tilde x = x + \sigma(t)\, \epsilon, \qquad \sigma(t) = \sigma \max(0, 1 - t / T), \quad
        \epsilon \sim \mathcal{N}(0, I)

    Args:
        std: The noise at the start, :math:`\sigma`, for inputs in the range that the critic sees.
        decay_epochs: Epochs after which it is gone, :math:`T`; it stays where nothing is said.

    References:
        Sonderby et al.: Amortised MAP Inference for Image Super-resolution, ICLR 2017, arXiv 1610.04490, section 3.
        Arjovsky and Bottou: Towards Principled Methods for Training GANs, ICLR 2017, arXiv 1701.04862.
    """

    def __init__(self, *, std: PositiveFloat = 0.1, decay_epochs: PositiveFloat | None = None) -> None:
        self.std = std
        self.decay_epochs = decay_epochs

    def apply(self, x: Tensor, progress: Progress | None) -> Tensor:
        """Adds noise in training."""
        if progress is None:
            return x
        return x + self.level(progress) * torch.randn_like(x)

    def level(self, progress: Progress) -> Tensor | float:
        """The noise at this point of training."""
        if self.decay_epochs is None:
            return self.std
        return self.std * (1 - progress.epoch / self.decay_epochs).clamp(min=0)


class Packing(CriticInput):
    """Has the critic judge several examples together, so that it sees when samples are too alike.

    Images are stacked as channels, vectors one behind the other.

    Args:
        size: Examples that are judged together; batches must be a multiple of it.

    References:
        Lin et al.: PacGAN: The power of two samples in generative adversarial networks, NeurIPS 2018,
        arXiv 1712.04086, section 2.
    """

    joint = True

    def __init__(self, *, size: Annotated[int, Field(ge=2)] = 2) -> None:
        self.size = size

    @property
    def group(self) -> int:
        """The size."""
        return self.size

    def shape(self, shape: Shape) -> Shape:
        """As many times the channels, or dimensions."""
        return (self.size * shape[0], *shape[1:])

    def apply(self, x: Tensor, progress: Progress | None) -> Tensor:
        """Puts neighbours in the batch together."""
        return x.reshape(len(x) // self.size, self.size * x.shape[1], *x.shape[2:])


class MinibatchStddev(CriticInput):
    """Shows the critic how much the examples of a batch differ, as one more channel (or dimension).

    The standard deviation over the batch, averaged over all elements, in every example the same. In the paper it
    comes near the critic's end; at its beginning it works with any backbone.

    References:
        Karras et al.: Progressive Growing of GANs, ICLR 2018, arXiv 1710.10196, section 3.
    """

    joint = True

    def __init__(self) -> None:
        pass

    def shape(self, shape: Shape) -> Shape:
        """One channel, or dimension, more."""
        return (shape[0] + 1, *shape[1:])

    def apply(self, x: Tensor, progress: Progress | None) -> Tensor:
        """Appends the mean standard deviation."""
        variance = x.var(dim=0, unbiased=False)
        spread = (variance + 1e-8).sqrt().mean()  # sqrt has no gradient at 0
        return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], dim=1)
