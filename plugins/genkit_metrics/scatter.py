"""Points of the plane: data beside samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Drawing
from pydantic import PositiveInt
from torch import Tensor

from genkit import Evaluator, GenerativeModel, Picture, SplitName, Subject, first_batch
from genkit_metrics.comparison import drawn

MARGIN = 0.1  # of the data's extent, on every side
BINS = 100
Plot = Callable[[Axes, Tensor, Tensor], None]


class Scatter(Evaluator):
    """Data beside samples in the plane: as points, and as densities counted on a grid.

    Both sides have the extent of the data; samples outside it are not shown, and how many there are is said.

    Args:
        num_samples: Points on either side; as densities, ten times as many.
        size: Height of the picture in pixels.
    """

    def __init__(self, model: GenerativeModel, /, *, num_samples: PositiveInt = 2500, size: PositiveInt = 480) -> None:
        if model.spec.shape != (2,):
            raise ValueError(f"scatter shows points in the plane, but the data has shape {model.spec.shape}")
        self.num_samples = num_samples
        self.size = size

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Picture]:
        """Draws both pictures."""
        data = first_batch(subject.view(None), 10 * self.num_samples).x.cpu()
        samples = torch.cat([x.cpu() for x in drawn(subject, 10 * self.num_samples)])
        extent = _extent(data)
        yield Picture(self._draw(data[: self.num_samples], samples[: self.num_samples], extent, _points), "scatter")
        yield Picture(self._draw(data, samples, extent, _density), "density")

    def _draw(
        self, data: Tensor, samples: Tensor, extent: Tensor, plot: Callable[[Axes, Tensor, Tensor], None]
    ) -> Tensor:
        drawing = Drawing(figsize=(2 * self.size / 100, self.size / 100), dpi=100, layout="compressed")
        canvas = FigureCanvasAgg(drawing)
        outside = ((samples < extent[0]) | (samples > extent[1])).any(1).float().mean().item()
        titles = (f"data, {len(data):,}", f"samples, {len(samples):,}, {outside:.1%} outside")
        for axes, points, title in zip(drawing.subplots(1, 2), (data, samples), titles, strict=True):
            plot(axes, points, extent)
            axes.set(title=title, xlim=extent[:, 0].tolist(), ylim=extent[:, 1].tolist(), aspect="equal")
        canvas.draw()
        pixels = torch.frombuffer(bytearray(canvas.buffer_rgba()), dtype=torch.uint8)
        width, height = canvas.get_width_height()
        return pixels.view(height, width, 4)[..., :3].permute(2, 0, 1).float() / 255


def _extent(data: Tensor) -> Tensor:
    """Lower and upper corner, with shape :math:`(2, 2)`."""
    low, high = data.amin(0), data.amax(0)
    margin = MARGIN * (high - low).clamp(min=1e-6)
    return torch.stack([low - margin, high + margin])


def _points(axes: Axes, points: Tensor, extent: Tensor) -> None:
    axes.scatter(*points.T.numpy(), s=4, alpha=0.4, linewidths=0, color="tab:blue")


def _density(axes: Axes, points: Tensor, extent: Tensor) -> None:
    (left, low), (right, high) = extent.tolist()
    shades = LogNorm(0.5, max(len(points), 2))  # so that a bin with a single stray is seen
    axes.hist2d(*points.T.numpy(), bins=BINS, range=[[left, right], [low, high]], norm=shades, cmap="Blues")
