"""What all toy datasets have in common: they are drawn, not read."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Generator, Tensor

from genkit import Dataset, HasEnergy, Split, SplitName


class Synthetic(Dataset):
    """Abstract dataset that is drawn from a seed, every split from random numbers of its own.

    Implementing one:

    1. Take ``train``, ``validation``, ``test`` and ``data_seed`` beside your own options, and hand them on to this
       constructor, which draws nothing.
    2. Say in :attr:`spec` what an example looks like; the protocol names the density with its parameters.
    3. Draw examples in :meth:`draw`.

    Args:
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        data_seed: Where the examples are drawn from.
    """

    def __init__(self, *, train: int, validation: int, test: int, data_seed: int) -> None:
        self.sizes: dict[SplitName, int] = {"train": train, "validation": validation, "test": test}
        self.data_seed = data_seed

    @abstractmethod
    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor | None]:
        """Draws independent examples.

        Args:
            count: How many, :math:`N`.
            generator: Where all random numbers come from.

        Returns:
            The examples, float32, with shape :math:`(N, D)`, and their labels, int64, with shape :math:`(N,)`;
            ``None`` for unlabelled data.
        """

    def split(self, name: SplitName) -> Split | None:
        """Draws a split."""
        count = self.sizes[name]
        if not count:
            return None
        generator = torch.Generator().manual_seed(3 * self.data_seed + list(self.sizes).index(name))
        x, labels = self.draw(count, generator)
        return Split(x, Tensor.float, labels)


class KnownDensity(Synthetic, HasEnergy):
    r"""Abstract dataset whose density is known, constant and all: :math:`U(x) = -\log p(x)`.

    Implementing one: as :class:`Synthetic` says, with :meth:`energy` and :attr:`entropy` besides. The energy is taken
    in the precision and on the device of its argument; an entropy that takes a while is best a ``cached_property``.
    """

    @property
    def log_partition(self) -> float:
        """0: the energy is normalized."""
        return 0.0
