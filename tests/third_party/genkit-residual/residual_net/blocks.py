"""Residual blocks for vectors and for images, in the order that has a clear path for gradients."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Activation = Literal["relu", "gelu", "silu", "elu"]
Size = tuple[int, int]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU}


class Block(nn.Module):
    r"""A branch beside a shortcut: :math:`y = s(x) + f(x)`.

    Args:
        shortcut: :math:`s`, the identity where shapes stay as they are.
        branch: :math:`f`, the part that is learned.
    """

    def __init__(self, shortcut: nn.Module, branch: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """Adds both."""
        return self.shortcut(x) + self.branch(x)


def normalized(features: int, activation: Activation) -> list[nn.Module]:
    """What comes before each linear map: each example's features at one scale, then the activation.

    One group of all features is layer normalization, for vectors and for images: no example sees another.
    """
    return [nn.GroupNorm(1, features), _ACTIVATIONS[activation]()]


def vector_block(width: int, activation: Activation, dropout: float) -> Block:
    """A block between vectors of one width."""
    branch = nn.Sequential(
        *normalized(width, activation),
        nn.Linear(width, width),
        *normalized(width, activation),
        nn.Dropout(dropout),
        nn.Linear(width, width),
    )
    return Block(nn.Identity(), branch)


def image_block(channels: int, activation: Activation, dropout: float) -> Block:
    """A block between images of one size and so many channels."""
    return Block(nn.Identity(), _convolutions(channels, channels, activation, dropout))


def halving_block(before: int, after: int, activation: Activation, dropout: float) -> Block:
    """A block that halves an image, rounding up: its shortcut takes means over 2 x 2 pixels."""
    shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(before, after, 1))
    return Block(shortcut, _convolutions(before, after, activation, dropout, stride=2))


def growing_block(before: int, after: int, size: Size, activation: Activation, dropout: float) -> Block:
    """A block that takes an image to a larger size, by its nearest pixels: no checkerboard is left behind."""
    shortcut = nn.Sequential(nn.Upsample(size), nn.Conv2d(before, after, 1))
    return Block(shortcut, _convolutions(before, after, activation, dropout, size=size))


def _convolutions(
    before: int, after: int, activation: Activation, dropout: float, stride: int = 1, size: Size | None = None
) -> nn.Sequential:
    """The branch of a block of images: two convolutions, the first of which may change the size."""
    return nn.Sequential(
        *normalized(before, activation),
        nn.Identity() if size is None else nn.Upsample(size),
        nn.Conv2d(before, after, 3, stride=stride, padding=1),
        *normalized(after, activation),
        nn.Dropout2d(dropout),
        nn.Conv2d(after, after, 3, padding=1),
    )
