"""MNIST as Larochelle and Murray binarized it, once and for all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import AfterValidator, PositiveInt
from torch import Tensor

from genkit import DataError, Dataset, DataSpec, Split, SplitName

FILES = {"train": "train", "validation": "valid", "test": "test"}
SHAPE = (1, 28, 28)
PIXELS = 28 * 28


def absolute(path: str) -> str:
    """The path from the root, so that a resolved recipe runs from anywhere."""
    return str(Path(path).expanduser().absolute())


class StaticMNIST(Dataset):
    """Handwritten digits, 28 x 28, whose bits were drawn once with the grey values as probabilities: "static" MNIST.

    The published files are three texts, ``binarized_mnist_train.amat``, ``..._valid.amat`` and ``..._test.amat``, of
    50,000, 10,000 and 10,000 lines; each line is an image, 784 digits 0 or 1 with spaces between them. genkit does not
    carry them. Likelihoods cannot be compared with those of ``mnist`` with any ``binarize``: a model overfits these
    bits.

    Args:
        path: The folder of the three files.
        train: Training images, the first of them; all, where nothing is said.
        validation: Validation images, likewise.
        test: Test images, likewise.

    Raises:
        DataError: A file is missing, is not of this format, or has fewer images. Raised when the data are read.

    References:
        Larochelle and Murray: The Neural Autoregressive Distribution Estimator, AISTATS 2011.
        Salakhutdinov and Murray: On the quantitative analysis of deep belief networks, ICML 2008.
    """

    examples = ({"path": "static_mnist"},)

    def __init__(
        self,
        *,
        path: Annotated[str, AfterValidator(absolute)],
        train: PositiveInt | None = None,
        validation: PositiveInt | None = None,
        test: PositiveInt | None = None,
    ) -> None:
        self.root = Path(absolute(path))
        self.counts = {"train": train, "validation": validation, "test": test}

    @property
    def spec(self) -> DataSpec:
        """One binary image; the files have no labels."""
        return DataSpec(SHAPE, levels=2, protocol="statically binarized")

    def split(self, name: SplitName) -> Split | None:
        """The images as bytes 0 and 1."""
        images, count = read_amat(self.root / f"binarized_mnist_{FILES[name]}.amat"), self.counts[name]
        if count is not None and count > len(images):
            raise DataError(f"{self.root}: {name} is to have {count} images, but there are {len(images)}")
        return Split(images[:count], Tensor.float)


def read_amat(path: Path) -> Tensor:
    """Reads images from a text of zeros and ones.

    Returns:
        Bytes 0 and 1 with shape :math:`(N, 1, 28, 28)`.

    Raises:
        DataError: The file is missing, or is not of this format.
    """
    try:
        text = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; it is one of the three files binarized_mnist_train.amat, "
            "binarized_mnist_valid.amat and binarized_mnist_test.amat of statically binarized MNIST"
        ) from error
    digits = text[(text != ord(" ")) & (text != ord("\n")) & (text != ord("\r"))] - ord("0")
    lines = int((text == ord("\n")).sum()) + bool(len(text) and text[-1] != ord("\n"))
    if not len(digits) or digits.max() > 1 or len(digits) != PIXELS * lines:
        raise DataError(f"{path} is no text of images: {PIXELS} zeros and ones on each line are wanted")
    return torch.from_numpy(digits.copy()).view(-1, *SHAPE)
