"""Drawing the plane: two panels of one extent, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from torch import Tensor

from genkit import rendered

MARGIN = 0.1  # of the data's extent, on every side
Panel = tuple[str, Callable[[Axes], object]]  # a title, and what draws below it


def extent_of(data: Tensor) -> Tensor:
    """Lower and upper corner of the data, with a margin, with shape :math:`(2, 2)`.

    Example:
        >>> extent_of(torch.tensor([[0.0, 0.0], [10.0, 20.0]])).tolist()
        [[-1.0, -2.0], [11.0, 22.0]]
    """
    low, high = data.amin(0), data.amax(0)
    margin = MARGIN * (high - low).clamp(min=1e-6)
    return torch.stack([low - margin, high + margin])


def side_by_side(panels: Sequence[Panel], extent: Tensor, size: int) -> Tensor:
    """Draws panels of the same part of the plane.

    Args:
        panels: From left to right.
        extent: Lower and upper corner, with shape :math:`(2, 2)`.
        size: Height in pixels; each panel is as wide.

    Returns:
        Values in [0, 1] with shape :math:`(3, size, n size)` for :math:`n` panels.
    """
    drawing = Drawing(figsize=(len(panels) * size / 100, size / 100), dpi=100, layout="compressed")
    every = drawing.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, plot) in zip(every, panels, strict=True):
        plot(axes)
        axes.set(title=title, xlim=extent[:, 0].tolist(), ylim=extent[:, 1].tolist(), aspect="equal")
    return rendered(drawing)


def draw_points(axes: Axes, points: Tensor) -> None:
    """Draws points so that many on one spot are darker than few."""
    axes.scatter(*points.T.numpy(), s=4, alpha=0.4, linewidths=0, color="tab:blue")


def share_outside(points: Tensor, extent: Tensor) -> float:
    """The share of points that lie outside an extent."""
    return ((points < extent[0]) | (points > extent[1])).any(1).float().mean().item()


def compare_points(
    data: Tensor, samples: Tensor, extent: Tensor, size: int, draw: Callable[[Axes, Tensor], object] = draw_points
) -> Tensor:
    """Draws data beside samples, and says how many of them lie outside what is shown.

    Args:
        data: With shape :math:`(N, 2)`.
        samples: With shape :math:`(M, 2)`.
        extent: Lower and upper corner of what is shown, with shape :math:`(2, 2)`.
        size: Height in pixels.
        draw: Draws points.
    """
    data_outside, outside = share_outside(data, extent), share_outside(samples, extent)
    left = f"data, {len(data):,}" + (f", {data_outside:.1%} outside" if data_outside else "")
    right = f"samples, {len(samples):,}, {outside:.1%} outside"
    return side_by_side(
        [(left, lambda axes: draw(axes, data)), (right, lambda axes: draw(axes, samples))], extent, size
    )
