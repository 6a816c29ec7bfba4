"""Pictures: what evaluators draw, and images side by side."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torchvision.utils import make_grid

GAP = 2
PAPER = 0.3  # between the images: neither black, nor white, nor the grey of an untrained mean


@dataclass(frozen=True)
class Picture:
    """One image to look at.

    Attributes:
        image: Values in :math:`[0, 1]` with shape :math:`(3, H, W)` or :math:`(1, H, W)`, on the CPU.
        name: What it shows; empty for an evaluator's only picture.
    """

    image: Tensor
    name: str = ""


def image_grid(images: Tensor, columns: int, *, zoom: int = 1, gap: int = GAP) -> Tensor:
    """Lays images out row by row.

    Args:
        images: Values in [0, 1] with shape :math:`(N, C, H, W)`; more than three channels show their first.
        columns: Images in a row.
        zoom: Screen pixels for one pixel.
        gap: Screen pixels between images.

    Returns:
        One image with shape :math:`(3, H', W')` on the CPU.

    Example:
        >>> import torch
        >>> image_grid(torch.zeros(4, 1, 3, 3), columns=2, gap=1).shape
        torch.Size([3, 9, 9])
    """
    images = images.detach().float().cpu().clamp(0, 1)
    if images.shape[1] not in (1, 3):
        images = images[:, :1]
    images = images.repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    return make_grid(images, nrow=columns, padding=gap, pad_value=PAPER)
