"""How couplings part an input into what stays and what changes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from genkit import Shape

Mask = Literal["alternating", "channel", "checkerboard"]


class Partition(nn.Module, ABC):
    """Abstract way of parting an input.

    Attributes:
        kept_shape: The shape of what stays, for one example.
        changed_shape: The shape of what changes.
    """

    kept_shape: Shape
    changed_shape: Shape

    @abstractmethod
    def part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What stays and what changes, with shapes :math:`(B, *kept)` and :math:`(B, *changed)`."""

    @abstractmethod
    def join(self, x: Tensor, kept: Tensor, changed: Tensor) -> Tensor:
        """Puts what was changed back to what stayed of the input ``x``."""

    def of_changed(self, values: Tensor) -> Tensor:
        """Zero where an element of ``values``, with shape :math:`(B, ..., *changed)`, belongs to one that stays."""
        return values


class Alternating(Partition):
    """Every second element of an input that is read as a vector.

    Args:
        shape: The shape of one example.
        flip: Whether the first element changes, rather than stays.
    """

    back: Tensor

    def __init__(self, shape: Shape, *, flip: bool) -> None:
        super().__init__()
        size = math.prod(shape)
        if size < 2:
            raise ValueError("a coupling parts at least two elements, and there is one")
        self.shape = tuple(shape)
        self.kept, self.changed = (slice(1, None, 2), slice(0, None, 2))[:: 1 if flip else -1]
        places = torch.arange(size, device="cpu")
        self.kept_shape = (len(places[self.kept]),)
        self.changed_shape = (len(places[self.changed]),)
        back = torch.cat([places[self.kept], places[self.changed]]).argsort()
        self.register_buffer("back", back, persistent=False)

    def part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Two vectors."""
        flat = x.flatten(1)
        return flat[:, self.kept], flat[:, self.changed]

    def join(self, x: Tensor, kept: Tensor, changed: Tensor) -> Tensor:
        """The elements in their old order."""
        return torch.cat([kept, changed], dim=1)[:, self.back].view_as(x)


class Channels(Partition):
    """The first half of the channels stays, or of a vector's elements.

    Args:
        shape: The shape of one example.
        flip: Whether the first half changes, rather than stays.
    """

    def __init__(self, shape: Shape, *, flip: bool) -> None:
        super().__init__()
        if shape[0] % 2:
            what, other = ("channels", "checkerboard") if len(shape) == 3 else ("elements", "alternating")
            raise ValueError(
                f"mask: channel parts an even number of {what}, and there are {shape[0]}; mask: {other} would do"
                + (", or a squeeze before it" if len(shape) == 3 else "")
            )
        self.flip = flip
        self.kept_shape = self.changed_shape = (shape[0] // 2, *shape[1:])

    def part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Two halves."""
        first, second = x.chunk(2, dim=1)
        return (second, first) if self.flip else (first, second)

    def join(self, x: Tensor, kept: Tensor, changed: Tensor) -> Tensor:
        """Both halves in their order."""
        return torch.cat([changed, kept] if self.flip else [kept, changed], dim=1)


class Checkerboard(Partition):
    """Every second pixel of an image, as the white squares of a chess board.

    Both parts keep the size of the image, with zeros for what belongs to the other.

    Args:
        shape: The shape of one example.
        flip: Whether the white squares change, rather than stay.
    """

    stays: Tensor

    def __init__(self, shape: Shape, *, flip: bool) -> None:
        super().__init__()
        if len(shape) != 3 or shape[1] * shape[2] < 2:
            raise ValueError(f"mask: checkerboard is for images, not for data of shape {tuple(shape)}")
        rows, columns = torch.arange(shape[1])[:, None], torch.arange(shape[2])
        self.register_buffer("stays", (rows + columns) % 2 == (0 if flip else 1), persistent=False)
        self.kept_shape = self.changed_shape = tuple(shape)

    def part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image without the pixels that change, and the image."""
        return x * self.stays, x

    def join(self, x: Tensor, kept: Tensor, changed: Tensor) -> Tensor:
        """Takes each pixel from where it belongs."""
        return torch.where(self.stays, x, changed)

    def of_changed(self, values: Tensor) -> Tensor:
        """Zero at the pixels that stay."""
        return values.masked_fill(self.stays, 0)


_PARTITIONS = {"alternating": Alternating, "channel": Channels, "checkerboard": Checkerboard}


def partition(mask: Mask, shape: Shape, *, flip: bool) -> Partition:
    """The partition of a name.

    Raises:
        ValueError: It cannot part such a shape.
    """
    return _PARTITIONS[mask](shape, flip=flip)
