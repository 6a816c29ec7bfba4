"""The MNIST dataset."""

from __future__ import annotations

import hashlib
import importlib.resources
import lzma
from functools import lru_cache
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from genkit import DataError, Dataset, DataSpec, Split, SplitName, bytes_to_unit

MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
NUM_TRAIN, NUM_TEST = 60_000, 10_000
PROTOCOLS = {"none": "8-bit grey", "threshold": "binarized at 0.5", "dynamic": "dynamically binarized"}
THRESHOLD = 127  # a byte above 127 is a grey value above 0.5

Binarize = Literal["none", "threshold", "dynamic"]


class MNIST(Dataset):
    """Handwritten digits, 28 x 28, grey or binarized; the files come with genkit and are checked by hash.

    The training split is the first ``train`` of the 60,000 training images, validation the next ``validation``.

    Args:
        binarize: "none" keeps 256 grey levels; "threshold" makes a pixel 1 above 0.5; "dynamic" draws each pixel
            with its grey value as probability, afresh at every access in training and once, from
            ``binarize_seed``, for validation and test. Likelihoods under different choices are not comparable.
        train: Training images.
        validation: Validation images.
        test: Test images, the first of 10,000.
        binarize_seed: Seed of the validation and test data's dynamic binarization.

    References:
        LeCun et al.: Gradient-based learning applied to document recognition, Proceedings of the IEEE 86(11), 1998.
        Salakhutdinov and Murray: On the quantitative analysis of deep belief networks, ICML 2008 (dynamic
        binarization).
    """

    def __init__(
        self,
        *,
        binarize: Binarize = "none",
        train: PositiveInt = 50_000,
        validation: NonNegativeInt = 10_000,
        test: NonNegativeInt = NUM_TEST,
        binarize_seed: NonNegativeInt = 777,
    ) -> None:
        if train + validation > NUM_TRAIN:
            raise ValueError(f"train + validation is {train + validation}, but MNIST has {NUM_TRAIN} training images")
        if test > NUM_TEST:
            raise ValueError(f"test is {test}, but MNIST has {NUM_TEST} test images")
        self.binarize: Binarize = binarize
        self.binarize_seed = binarize_seed
        self.ranges = {
            "train": ("train", range(train)),
            "validation": ("train", range(train, train + validation)),
            "test": ("t10k", range(test)),
        }

    @property
    def spec(self) -> DataSpec:
        """One grey or binary image with its digit."""
        levels = 256 if self.binarize == "none" else 2
        return DataSpec((1, 28, 28), levels=levels, num_classes=10, protocol=PROTOCOLS[self.binarize])

    def split(self, name: SplitName) -> Split | None:
        """The images as bytes: grey, or already binarized wherever that is done once."""
        files, chosen = self.ranges[name]
        if not chosen:
            return None
        images = read_idx(f"{files}-images-idx3-ubyte")[chosen.start : chosen.stop].unsqueeze(1)
        labels = read_idx(f"{files}-labels-idx1-ubyte")[chosen.start : chosen.stop].long()
        if self.binarize == "threshold":
            return Split((images > THRESHOLD).byte(), Tensor.float, labels)
        if self.binarize == "dynamic" and name == "train":
            return Split(images, draw_bits, labels)
        if self.binarize == "dynamic":
            return Split(self._draw_once(images, name), Tensor.float, labels)
        return Split(images, bytes_to_unit, labels)

    def _draw_once(self, images: Tensor, name: str) -> Tensor:
        generator = torch.Generator().manual_seed(self.binarize_seed + (name == "test"))
        return torch.bernoulli(bytes_to_unit(images), generator=generator).byte()


def draw_bits(images: Tensor) -> Tensor:
    """Draws each pixel as 0 or 1 with its grey value as probability."""
    return torch.bernoulli(bytes_to_unit(images))


@lru_cache(maxsize=4)
def read_idx(name: str) -> Tensor:
    """Reads one of the four files.

    Raises:
        DataError: The file is missing or is not the published one.
    """
    file = importlib.resources.files("genkit_mnist") / "data" / f"{name}.xz"
    try:
        data = lzma.decompress(file.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise DataError(f"MNIST file {name}.xz cannot be read: {error}; install genkit-torch again") from error
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != MD5[name]:
        raise DataError(f"MNIST file {name}.xz is not the published one (MD5 differs); install genkit-torch again")
    return parse_idx(data)


def parse_idx(data: bytes) -> Tensor:
    """Reads the IDX format: two zero bytes, the type, the number of dimensions, their sizes, the values.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9])).tolist()
        [7, 8, 9]
    """
    num_dims = data[3]
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(num_dims)]
    return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=4 + 4 * num_dims).view(shape)
