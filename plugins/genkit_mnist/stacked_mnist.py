"""Stacked MNIST: three digits as the colours of one image, a thousand modes."""

from __future__ import annotations

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from genkit import Dataset, DataSpec, Split, SplitName, StacksImages, bytes_to_unit
from genkit_mnist.mnist import NUM_TEST, NUM_TRAIN, read_idx

CHANNELS, DIGITS = 3, 10


class StackedMNIST(Dataset, StacksImages):
    """Three random digits as red, green and blue, 28 x 28: a thousand classes, for counting modes.

    Which digits go together is drawn once for each split, from ``data_seed``; they are put together on the device when
    they are read. Training and validation images come from the 60,000 training digits, test images from the others.

    Args:
        train: Training images.
        validation: Validation images.
        test: Test images.
        data_seed: Where the choice of digits is drawn from.

    References:
        Metz et al.: Unrolled Generative Adversarial Networks, ICLR 2017, arXiv 1611.02163, section 3.3.1. The number
        of training images is that of Srivastava et al.: VEEGAN, NeurIPS 2017, arXiv 1705.07761.
    """

    def __init__(
        self,
        *,
        train: PositiveInt = 128_000,
        validation: NonNegativeInt = 0,
        test: NonNegativeInt = 26_000,
        data_seed: NonNegativeInt = 0,
    ) -> None:
        self.sizes: dict[SplitName, int] = {"train": train, "validation": validation, "test": test}
        self.data_seed = data_seed

    @property
    def spec(self) -> DataSpec:
        """A colour image with the number that its digits make, red first."""
        return DataSpec((CHANNELS, 28, 28), levels=256, num_classes=DIGITS**CHANNELS, protocol="8-bit, stacked digits")

    @property
    def channel_classes(self) -> int:
        """The digits."""
        return DIGITS

    def split(self, name: SplitName) -> Split | None:
        """Which digits go together; the digits themselves are gathered batch by batch."""
        count = self.sizes[name]
        if not count:
            return None
        files, digits = ("t10k", NUM_TEST) if name == "test" else ("train", NUM_TRAIN)
        generator = torch.Generator().manual_seed(3 * self.data_seed + list(self.sizes).index(name))
        chosen = torch.randint(digits, (count, CHANNELS), generator=generator)
        classes = read_idx(f"{files}-labels-idx1-ubyte").long()[chosen]  # (N, 3)
        numbers = (classes * torch.tensor([DIGITS**2, DIGITS, 1])).sum(1)
        return Split(chosen, Stack(read_idx(f"{files}-images-idx3-ubyte")), numbers)


class Stack:
    """Puts digits together, on the device where their numbers are.

    Args:
        images: All digits, bytes with shape :math:`(N, 28, 28)`.
    """

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __call__(self, chosen: Tensor) -> Tensor:
        """The images for numbers with shape :math:`(B, 3)`, with shape :math:`(B, 3, 28, 28)`."""
        self.images = self.images.to(chosen.device)
        return bytes_to_unit(self.images[chosen])
