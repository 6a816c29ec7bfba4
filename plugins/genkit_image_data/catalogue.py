"""Which of torchvision's datasets can be used, and what must be known of each without its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TRAIN = {"train": True}
_TEST = {"train": False}


@dataclass(frozen=True)
class Source:
    """One dataset of torchvision's.

    Attributes:
        cls: The class in ``torchvision.datasets``.
        shape: Channels, height and width; the channels alone where images differ in size.
        num_classes: Number of labels; ``None`` if it has no single label an image.
        files: What torchvision wants to find in the data folder.
        train: What asks the class for its training split.
        test: What asks it for its test split.
        first_label: The label that becomes 0.
        by_class: Whether its images come sorted by class, so that the last of them are no fair sample.
        transposed: Whether its images lie on their side.
    """

    cls: str
    shape: tuple[int, ...]
    num_classes: int | None
    files: str
    train: Mapping[str, Any]
    test: Mapping[str, Any]
    first_label: int = 0
    by_class: bool = False
    transposed: bool = False


def _mnist(cls: str) -> Source:
    files = f"{cls}/raw/{{train,t10k}}-{{images-idx3,labels-idx1}}-ubyte, unpacked"
    return Source(cls, (1, 28, 28), 10, files, _TRAIN, _TEST)


def _emnist(split: str, num_classes: int, first_label: int = 0) -> Source:
    files = f"EMNIST/raw/emnist-{split}-{{train,test}}-{{images-idx3,labels-idx1}}-ubyte, unpacked"
    train, test = {"split": split, **_TRAIN}, {"split": split, **_TEST}
    return Source("EMNIST", (1, 28, 28), num_classes, files, train, test, first_label, transposed=True)


def _splits(cls: str, shape: tuple[int, ...], num_classes: int | None, files: str, *, train: str = "train") -> Source:
    return Source(cls, shape, num_classes, files, {"split": train}, {"split": "test"})


def _by_class(
    cls: str,
    num_classes: int,
    files: str,
    *,
    size: tuple[int, ...] = (),
    train: str = "train",
    test: str = "test",
) -> Source:
    return Source(cls, (3, *size), num_classes, files, {"split": train}, {"split": test}, by_class=True)


CATALOGUE: Mapping[str, Source] = {
    "MNIST": _mnist("MNIST"),
    "FashionMNIST": _mnist("FashionMNIST"),
    "KMNIST": _mnist("KMNIST"),
    "QMNIST": Source(
        "QMNIST",
        (1, 28, 28),
        10,
        "QMNIST/raw/qmnist-{train,test}-{images-idx3-ubyte,labels-idx2-int}, unpacked",
        _TRAIN,
        _TEST,
    ),
    "EMNIST-balanced": _emnist("balanced", 47),
    "EMNIST-byclass": _emnist("byclass", 62),
    "EMNIST-bymerge": _emnist("bymerge", 47),
    "EMNIST-digits": _emnist("digits", 10),
    "EMNIST-letters": _emnist("letters", 26, first_label=1),
    "EMNIST-mnist": _emnist("mnist", 10),
    "USPS": Source("USPS", (1, 16, 16), 10, "usps.bz2 and usps.t.bz2", _TRAIN, _TEST),
    "CIFAR10": Source("CIFAR10", (3, 32, 32), 10, "cifar-10-batches-py/", _TRAIN, _TEST),
    "CIFAR100": Source("CIFAR100", (3, 32, 32), 100, "cifar-100-python/", _TRAIN, _TEST),
    "SVHN": _splits("SVHN", (3, 32, 32), 10, "train_32x32.mat and test_32x32.mat"),
    "STL10": _splits("STL10", (3, 96, 96), 10, "stl10_binary/"),
    "STL10-unlabeled": _splits("STL10", (3, 96, 96), None, "stl10_binary/", train="unlabeled"),
    "CelebA": _splits(
        "CelebA",
        (3, 218, 178),
        None,
        "celeba/img_align_celeba/ with the images, and in celeba/ list_attr_celeba.txt, identity_CelebA.txt, "
        "list_bbox_celeba.txt, list_landmarks_align_celeba.txt and list_eval_partition.txt",
    ),
    "PCAM": _splits("PCAM", (3, 96, 96), 2, "pcam/camelyonpatch_level_2_split_{train,test}_{x,y}.h5"),
    "Country211": _by_class("Country211", 211, "country211/{train,test}/"),
    "DTD": _by_class("DTD", 47, "dtd/dtd/{images,labels}/"),
    "FGVCAircraft": _by_class("FGVCAircraft", 100, "fgvc-aircraft-2013b/", train="trainval"),
    "Flowers102": _by_class("Flowers102", 102, "flowers-102/jpg/, flowers-102/imagelabels.mat, flowers-102/setid.mat"),
    "Food101": _by_class("Food101", 101, "food-101/{images,meta}/"),
    "GTSRB": _by_class("GTSRB", 43, "gtsrb/GTSRB/Training/, gtsrb/GTSRB/Final_Test/Images/, gtsrb/GT-final_test.csv"),
    "Imagenette": _by_class("Imagenette", 10, "imagenette2/{train,val}/", test="val"),
    "OxfordIIITPet": _by_class("OxfordIIITPet", 37, "oxford-iiit-pet/{images,annotations}/", train="trainval"),
    "RenderedSST2": _by_class("RenderedSST2", 2, "rendered-sst2/{train,test}/", size=(448, 448)),
}
"""The datasets with a training and a test split that torchvision can still download, by name."""
