"""Pictures: what evaluators draw, and images side by side.

Torchvision has functions for both, which these are equal to; its import takes longer than all else before a first step.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

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


def rendered(drawing: Drawing) -> Tensor:
    """A figure of matplotlib's as the image of a :class:`Picture`, with shape :math:`(3, H, W)`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  (only who draws waits for it)

    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
    width, height = canvas.get_width_height()
    return pixels.view(height, width, 4)[..., :3].permute(2, 0, 1).float() / 255


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
    images = images.expand(-1, 3, -1, -1)
    count = len(images)
    if count == 1:
        return images[0]
    columns = min(columns, count)
    rows = -(-count // columns)
    cells = pad(images, (gap, 0, gap, 0), value=PAPER)  # to the left of each and above it
    cells = pad(cells, (0, 0) * 3 + (0, rows * columns - count), value=PAPER)
    grid = cells.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    return pad(grid, (0, gap, 0, gap), value=PAPER)


def save_png(image: Tensor, path: Path) -> None:
    """Writes an image with shape :math:`(3, H, W)` or :math:`(1, H, W)` and values in [0, 1].

    Raises:
        OSError: The file cannot be written.
    """
    pixels = image.detach().cpu().expand(3, -1, -1).mul(255).add(0.5).clamp(0, 255).byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
