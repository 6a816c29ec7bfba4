"""Data: what it looks like, its three splits, and how it is read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from genkit.component import Component

Shape = tuple[int, ...]
SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of the data it is made for.

    Attributes:
        shape: One example: ``(channels, height, width)`` for images, ``(dims,)`` for vectors.
        levels: Number of discrete values of an element: 2, 256, or ``None`` for continuous data. A discrete
            element takes the values ``i / (levels - 1)``.
        num_classes: Number of labels; ``None`` for unlabelled data.
        protocol: How the values were made from the raw ones ("binarized at 0.5"); part of every likelihood's
            tag, since likelihoods under different protocols cannot be compared.

    Example:
        >>> DataSpec((1, 28, 28), levels=2).num_dims
        784
    """

    shape: Shape
    levels: int | None = None
    num_classes: int | None = None
    protocol: str = ""

    @property
    def num_dims(self) -> int:
        """Number of elements of one example."""
        return math.prod(self.shape)

    @property
    def is_image(self) -> bool:
        """Whether an example is an image."""
        return len(self.shape) == 3

    def need_images(self, what: str) -> None:
        """Raises ``ValueError``, naming ``what`` shows images, if an example is none."""
        if not self.is_image:
            raise ValueError(f"{what} shows images, but the data has shape {self.shape}")

    def describe_values(self) -> str:
        """The value set in words, ``"2 levels, binarized at 0.5"``."""
        levels = "continuous" if self.levels is None else f"{self.levels} levels"
        return f"{levels}, {self.protocol}" if self.protocol else levels


@dataclass(frozen=True)
class Batch:
    """Some examples on the device.

    Attributes:
        x: The examples, float32, with shape :math:`(B, *S)` where :math:`S` is the spec's shape; images in
            :math:`[0, 1]`.
        labels: Their classes, int64, with shape :math:`(B,)`; ``None`` for unlabelled data.
        weight: What its loss counts for among the parts of one batch that several processes have; 1 where they
            are equal, or where there is one process.
    """

    x: Tensor
    labels: Tensor | None = None
    weight: float = 1.0


def bytes_to_unit(raw: Tensor) -> Tensor:
    """Maps ``uint8`` to float32 in :math:`[0, 1]`."""
    return raw.float().div_(255)


@dataclass(frozen=True)
class Split:
    """One split as a dataset hands it to the engine.

    Attributes:
        source: All examples as one tensor with shape :math:`(N, *S)` (``uint8`` where it can be), which the
            engine keeps on the device; or a map-style torch dataset of ``(example, label)`` pairs, which workers
            read (label ``-1`` where there is none). Examples that are ``uint8`` tensors of one shape are read once
            and kept, if there is room for them; others are read in every pass.
        prepare: Turns a gathered batch of raw examples into float32 in the spec's range, on the device. It
            may draw random numbers: dynamic binarization and augmentation live here.
        labels: Classes of a tensor source, int64, with shape :math:`(N,)`.
        fixed: Whether a map-style source gives the same example whenever it is asked. One that draws random numbers
            must deny it: then nothing is kept, and each example is read under a seed of its own in every epoch.
    """

    source: Tensor | TorchDataset
    prepare: Callable[[Tensor], Tensor] = bytes_to_unit
    labels: Tensor | None = None
    fixed: bool = True

    def __len__(self) -> int:
        return len(self.source)  # pyright: ignore[reportArgumentType]


class Dataset(Component, kind="dataset", check="genkit.testing:check_dataset"):
    """Abstract dataset.

    Implementing a dataset:

    1. Take every choice keyword-only in the constructor, which reads no data, so that recipes can be checked
       in an instant.
    2. Say in :attr:`spec` what an example looks like.
    3. Return each of the three splits from :meth:`split`; one that the recipe asked to be empty is ``None``.
       The same options give the same splits, always.

    Raise :class:`genkit.DataError` for files that are missing or damaged.
    """

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """What an example looks like."""

    @abstractmethod
    def split(self, name: SplitName) -> Split | None:
        """One of the three splits; ``None`` if it is empty."""


class HasModes(ABC):
    """What a dataset can do whose modes are known: an equal mixture of normals of one spread."""

    @property
    @abstractmethod
    def centres(self) -> Tensor:
        """The modes' centres, with shape :math:`(K, D)`; an example's label is its mode."""

    @property
    @abstractmethod
    def std(self) -> float:
        """The standard deviation of each mode, the same in every direction."""


class HasEnergy(ABC):
    r"""What a dataset can do whose density is known, perhaps only up to a constant.

    .. math:: p(x) = e^{-U(x)} / Z

    Attributes:
        finite_energy: Whether the energy is finite everywhere, so that it can teach a model whose samples go anywhere.
    """

    finite_energy: ClassVar[bool] = True

    @abstractmethod
    def energy(self, x: Tensor) -> Tensor:
        r""":math:`U(x)` in nats, for examples with shape :math:`(B, *S)`, with shape :math:`(B,)`; differentiable."""

    @property
    @abstractmethod
    def log_partition(self) -> float | None:
        r""":math:`\ln Z` in nats, 0 for an energy that is normalized; ``None`` where it is not known."""

    @property
    @abstractmethod
    def entropy(self) -> float | None:
        """The differential entropy in nats, which no model's mean negative log-likelihood can be below."""


class StacksImages(ABC):
    """What a dataset can do whose channels are images of another dataset, each with a label of its own.

    An example's label counts all combinations, the first channel's class being the most significant digit.
    """

    @property
    @abstractmethod
    def channel_classes(self) -> int:
        """Classes of one channel."""


class DataView(Protocol):
    """One split, ready on the device, as evaluators and samplers see it."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """The examples in their fixed order."""
        ...


def first_batch(view: DataView, size: int) -> Batch:
    """The first examples of a split, fewer than ``size`` if it has fewer."""
    return next(view.batches(min(size, len(view))))


def spread(view: DataView, count: int, batch_size: int) -> Iterator[Batch]:
    """Examples from all over a split, always the same ones, in batches of at most a size.

    The first ones may be of another kind than the rest (the first half of MNIST's test images is cleaner), and so may
    every second one (MNIST's training images alternate between two sources): these are drawn at random.

    Args:
        view: The split.
        count: How many, at most as many as there are.
        batch_size: Examples to be read at a time.
    """
    total, start = len(view), 0
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(0))[:count].sort().values
    for batch in view.batches(batch_size):
        stop = start + len(batch.x)
        here = (chosen[(chosen >= start) & (chosen < stop)] - start).to(batch.x.device)
        start = stop
        if len(here):
            yield Batch(batch.x[here], None if batch.labels is None else batch.labels[here])


Views = Mapping[SplitName, DataView]
