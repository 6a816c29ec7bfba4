"""Points of the plane: data beside samples."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from pydantic import PositiveInt
from torch import Tensor

from genkit import Evaluator, GenerativeModel, Picture, SplitName, Subject, first_batch
from genkit_metrics.comparison import drawn
from genkit_metrics.plane import compare_points, extent_of

BINS = 100


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
        extent, few = extent_of(data), self.num_samples
        yield Picture(compare_points(data[:few], samples[:few], extent, self.size), "scatter")
        count = partial(_draw_counts, extent=extent)
        yield Picture(compare_points(data, samples, extent, self.size, count), "density")


def _draw_counts(axes: Axes, points: Tensor, extent: Tensor) -> None:
    (left, low), (right, high) = extent.tolist()
    shades = LogNorm(0.5, max(len(points), 2))  # so that a bin with a single stray is seen
    axes.hist2d(*points.T.numpy(), bins=BINS, range=[[left, right], [low, high]], norm=shades, cmap="Blues")
