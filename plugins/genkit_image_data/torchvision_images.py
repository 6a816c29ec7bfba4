"""Torchvision's image datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torchvision.datasets
from PIL import Image
from pydantic import NonNegativeInt, PositiveInt
from torch.utils.data import Dataset as TorchDataset

from genkit import DataError, Dataset, DataSpec, Shape, Split, SplitName
from genkit.cache import cache_folder
from genkit.errors import closest
from genkit_image_data.catalogue import CATALOGUE, Source
from genkit_image_data.images import (
    NO_LABEL,
    Binarize,
    Example,
    image_spec,
    preparation,
    reason,
    to_bytes,
)


class TorchvisionImages(Dataset):
    """MNIST and its kin, CIFAR, SVHN, STL10, CelebA, Flowers102 and others, downloaded by torchvision.

    The names are torchvision's; EMNIST's six splits go by ``EMNIST-letters`` and the like, and
    ``STL10-unlabeled`` trains on STL10's 100000 unlabelled images. EMNIST's images, which lie on their side,
    are turned upright.

    Training images are the first of torchvision's training split and validation images come right after
    them, also where torchvision has a validation split of its own, which is left alone. Datasets that come
    sorted by class are first put into a random order, always the same one.

    Images are decoded when they are first needed, and stay in memory where there is room (``train.cache``).

    Args:
        name: Which dataset; torchvision's name for it.
        root: Where its files are or go; by default the folder ``genkit/data`` in the user's cache folder.
        download: Whether to download files that are not there.
        size: Height and width in pixels: resizes the images (bicubic, antialiased) so that they just cover
            the square, and centre-crops them. Needed where images differ in size.
        train: Number of training images; by default all that validation leaves.
        validation: Number of validation images, taken from the training split.
        test: Number of test images, the first of the test split; by default all.
        binarize: ``threshold`` makes every value above 0.5 one and the others zero.

    Raises:
        ValueError: There is no such dataset, or it needs a ``size``.
        DataError: Its files cannot be found, downloaded or read, or hold fewer images than asked for. Raised
            when the data are read.

    Example:
        >>> TorchvisionImages(name="CIFAR10").spec.shape
        (3, 32, 32)
        >>> TorchvisionImages(name="CelebA", size=64).spec.describe_values()
        '256 levels, resized to 64 x 64'
    """

    examples: ClassVar[Sequence[Mapping[str, Any]]] = ({"name": "FashionMNIST"},)

    def __init__(
        self,
        *,
        name: str,
        root: str | None = None,
        download: bool = True,
        size: PositiveInt | None = None,
        train: PositiveInt | None = None,
        validation: NonNegativeInt = 5000,
        test: PositiveInt | None = None,
        binarize: Binarize = "none",
    ) -> None:
        if name not in CATALOGUE:
            raise ValueError(f"no dataset of torchvision's is known as {name!r}{closest(name, CATALOGUE)}")
        self.name = name
        self.source = CATALOGUE[name]
        if size is None and len(self.source.shape) == 1:
            raise ValueError(f"the images of {name} differ in size; give size, the height and width to make of them")
        self.root = cache_folder("data") if root is None else Path(root).expanduser()
        self.download = download
        self.shape: Shape = self.source.shape if size is None else (self.source.shape[0], size, size)
        self.train = train
        self.validation = validation
        self.test = test
        self.binarize: Binarize = binarize

    @property
    def spec(self) -> DataSpec:
        """Known for every dataset without its files."""
        resized = self.shape != self.source.shape
        return image_spec(self.shape, self.source.num_classes, resized=resized, binarize=self.binarize)

    def split(self, name: SplitName) -> Split | None:
        """The images of a split."""
        if name == "validation" and not self.validation:
            return None
        opened = self._open(self.source.test if name == "test" else self.source.train)
        images = TorchvisionSplit(opened, self._indices(name, len(opened)), self.source, self.shape)
        return Split(images, preparation(self.binarize))

    def _open(self, options: Mapping[str, Any]) -> Any:
        """Opens a split of torchvision's; turns to the network only if the files are not there."""
        cls = getattr(torchvision.datasets, self.source.cls)
        try:
            return cls(str(self.root), **options)
        except Exception as error:
            problem = f"cannot be opened ({reason(error)})"
            if not self.download:
                raise DataError(self._message(f"{problem}, and download is off")) from error
        try:
            return cls(str(self.root), **options, download=True)
        except Exception as error:
            problem = f"{problem}; the network was tried without success ({reason(error)})"
            raise DataError(self._message(problem)) from error

    def _message(self, problem: str) -> str:
        return (
            f"torchvision's {self.name} in {self.root.absolute()}: {problem}. To put the files there by "
            "hand, copy them from a machine that has them or unpack what the dataset's own site offers. "
            f"Wanted in that folder: {self.source.files}. Delete files that are incomplete"
        )

    def _indices(self, name: SplitName, count: int) -> Sequence[int]:
        """Which images of torchvision's split, ``count`` in number, are ours."""
        order = fixed_order(count) if self.source.by_class else range(count)
        if name == "test":
            test = self.test or count
            self._check(f"test: {test}", test, count)
            return order[:test]
        train = self.train or max(count - self.validation, 1)
        self._check(f"train: {train} and validation: {self.validation}", train + self.validation, count)
        return order[:train] if name == "train" else order[train : train + self.validation]

    def _check(self, asked: str, wanted: int, count: int) -> None:
        if wanted > count:
            raise DataError(f"{asked}: this split of torchvision's {self.name} has only {count} images")


class TorchvisionSplit(TorchDataset[Example]):
    """Some images of a torchvision dataset as a map-style torch dataset of ``(image, label)``.

    Args:
        opened: Torchvision's dataset, of PIL images and labels.
        indices: Which of its images.
        source: What is known of it.
        shape: What every image becomes, ``(channels, height, width)``.
    """

    def __init__(self, opened: Any, indices: Sequence[int], source: Source, shape: Shape) -> None:
        self.opened = opened
        self.indices = indices
        self.source = source
        self.shape = shape

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        """Decodes one image.

        Raises:
            DataError: It cannot be read.
        """
        try:
            return self.read(self.indices[index])
        except Exception as error:
            raise DataError(
                f"torchvision's {self.source.cls}: image {self.indices[index]} of a split cannot be read "
                f"({reason(error)}); delete its files and have them downloaded again"
            ) from error

    def read(self, place: int) -> Example:
        """Decodes the image at a place of torchvision's split; raises whatever that does."""
        image, label = self.opened[place]
        if self.source.transposed:
            image = image.transpose(Image.Transpose.TRANSPOSE)
        size = None if self.shape == self.source.shape else self.shape[1:]
        kept = NO_LABEL if self.source.num_classes is None else int(label) - self.source.first_label
        return to_bytes(image, self.shape[0], size), kept


def fixed_order(count: int) -> list[int]:
    """The numbers below ``count`` in a random order, always the same one.

    Example:
        >>> sorted(fixed_order(4)), fixed_order(1000) == fixed_order(1000)
        ([0, 1, 2, 3], True)
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
