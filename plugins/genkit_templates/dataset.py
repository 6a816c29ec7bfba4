"""Bars and stripes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor

from genkit import Dataset, DataSpec, Split, SplitName


class Template(Dataset):
    r"""Bars and stripes: square binary images whose rows, or whose columns, are each of one colour.

    An image is drawn by choosing rows or columns with equal probability, which is its label, and then the colour of
    each of the :math:`n` lines. Only the image that is all black and the one that is all white can be had both ways, so
    that the entropy is :math:`(n + 1 - 2^{1 - n}) \ln 2` nats: no model can need fewer.

    Nothing is read or downloaded: a split is drawn from a seed when it is asked for. A dataset of files would read them
    there, and raise :class:`genkit.DataError` where one is missing.

    Args:
        size: Lines of an image, :math:`n`.
        train: Training images.
        validation: Validation images.
        test: Test images.
        data_seed: Where the images are drawn from.

    References:
        MacKay: Information Theory, Inference, and Learning Algorithms, Cambridge University Press 2003, chapter 43.

    Example:
        >>> Template(size=4).split("train").source.shape
        torch.Size([10000, 1, 4, 4])
    """

    examples = ({}, {"size": 4, "train": 64, "validation": 0, "test": 16})

    def __init__(
        self,
        *,
        size: Annotated[int, Field(ge=2)] = 8,
        train: PositiveInt = 10_000,
        validation: NonNegativeInt = 1000,
        test: NonNegativeInt = 1000,
        data_seed: NonNegativeInt = 0,
    ) -> None:
        self.size = size
        self.sizes: dict[SplitName, int] = {"train": train, "validation": validation, "test": test}
        self.data_seed = data_seed

    @property
    def spec(self) -> DataSpec:
        """A binary image with one of two labels: 0 for rows, 1 for columns."""
        return DataSpec((1, self.size, self.size), levels=2, num_classes=2, protocol="bars and stripes")

    def split(self, name: SplitName) -> Split | None:
        """Draws a split from random numbers of its own; the same ones whenever it is asked for."""
        count = self.sizes[name]
        if not count:
            return None
        generator = torch.Generator().manual_seed(3 * self.data_seed + list(self.sizes).index(name))
        labels = torch.randint(2, (count,), generator=generator)
        lines = torch.randint(2, (count, 1, self.size, 1), generator=generator, dtype=torch.uint8)
        rows = lines.expand(-1, -1, -1, self.size)
        images = torch.where(labels.bool()[:, None, None, None], rows.mT, rows)
        return Split(images, Tensor.float, labels)  # bytes 0 and 1 become numbers 0.0 and 1.0 on the device
