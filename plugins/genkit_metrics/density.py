"""Densities in the plane: the model's beside the target's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from matplotlib.axes import Axes
from pydantic import Field, PositiveInt
from torch import Tensor

from genkit import (
    Evaluator,
    Figure,
    GenerativeModel,
    HasEnergy,
    HasLogProb,
    Picture,
    SplitName,
    Subject,
    first_batch,
)
from genkit_metrics.comparison import drawn
from genkit_metrics.plane import Panel, compare_points, extent_of, side_by_side

LEVELS = 50  # shades of a picture
PER_BIN = 10  # examples in a bin of a histogram, were they spread evenly


class Density(Evaluator):
    r"""The density of a model of the plane, beside that of the target.

    .. math:: \exp(\log p(x)) \quad \text{beside} \quad e^{-U(x)} / Z

    The picture ``density`` shows both as filled contours with the same shades, from 0 to the target's maximum: the
    model is darkest wherever it exceeds that. Where the data's energy and its :math:`\ln Z` are not known, the target
    is a histogram of the data. The picture ``samples`` shows data beside samples, as ``scatter`` does.

    The figure ``mass`` is the integral of the model's density over what is shown, by the trapezoidal rule on the grid.
    It is near 1 for a density that is what it claims to be, as long as no feature is narrower than the distance of two
    points; of a lower bound, it falls short.

    Args:
        grid: Points along each side at which densities are taken.
        extent: Half a side :math:`e` of the square :math:`[-e, e]^2` to be shown; the data's own extent with a margin,
            where nothing is said.
        num_samples: Points on either side of the picture of samples; histogram and extent take ten times as many
            examples.
        size: Height of the pictures in pixels.
    """

    requires = (HasLogProb,)

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        grid: Annotated[int, Field(ge=2)] = 100,
        extent: Annotated[float, Field(gt=0, le=1e6)] | None = None,
        num_samples: PositiveInt = 2000,
        size: PositiveInt = 480,
    ) -> None:
        spec = model.spec
        if spec.shape != (2,) or spec.levels is not None:
            raise ValueError(
                "density shows densities in the plane: it takes continuous data of shape (2,), but the data has "
                f"shape {spec.shape}, {spec.describe_values()}"
            )
        self.grid = grid
        self.extent = extent
        self.num_samples = num_samples
        self.size = size

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Picture]:
        """Integrates the model's density and draws both pictures."""
        data = first_batch(subject.view(None), 10 * self.num_samples).x
        mesh = Mesh(self._shown(data.cpu()), self.grid)
        density, label, tag = model_density(subject, mesh.points.to(data.device))
        mass = mesh.integral(density)
        yield Figure(mass, "mass", tag=f"integral of the density over {mesh.describe()}; {tag}")
        target, top = target_panel(subject, mesh, data)
        panel = (f"{label}, {mass:.1%} of its mass shown", partial(mesh.draw, values=density, top=top))
        yield Picture(side_by_side([target, panel], mesh.extent, self.size), "density")
        samples = torch.cat([x.cpu() for x in drawn(subject, self.num_samples)])
        points = data[: self.num_samples].cpu()
        yield Picture(compare_points(points, samples, mesh.extent, self.size), "samples")

    def _shown(self, data: Tensor) -> Tensor:
        if self.extent is None:
            return extent_of(data)
        return self.extent * torch.tensor([[-1.0, -1.0], [1.0, 1.0]])


@dataclass(frozen=True)
class Mesh:
    """A grid of points over a rectangle, those on its edges included.

    Attributes:
        extent: Lower and upper corner, with shape :math:`(2, 2)`.
        side: Points along each side, :math:`G`.
    """

    extent: Tensor
    side: int

    @property
    def ticks(self) -> tuple[Tensor, Tensor]:
        """The places along both sides, each with shape :math:`(G,)`."""
        (left, low), (right, high) = self.extent.tolist()
        return torch.linspace(left, right, self.side), torch.linspace(low, high, self.side)

    @property
    def points(self) -> Tensor:
        """All points, row by row from the bottom, with shape :math:`(G^2, 2)`."""
        return torch.stack(torch.meshgrid(*self.ticks, indexing="xy"), dim=-1).flatten(0, 1)

    def integral(self, values: Tensor) -> float:
        """The integral of a function with given values at the points, by the trapezoidal rule.

        Example:
            >>> mesh = Mesh(torch.tensor([[0.0, 0.0], [2.0, 3.0]]), 5)
            >>> mesh.integral(mesh.points[:, 1])  # of y over [0, 2] x [0, 3]
            9.0
        """
        x, y = self.ticks
        rows = torch.trapezoid(values.view(self.side, self.side), x.to(values), dim=1)
        return torch.trapezoid(rows, y.to(values), dim=0).item()

    def draw(self, axes: Axes, values: Tensor, top: float) -> None:
        """Draws a function as filled contours, with the same shade for all that exceeds ``top``."""
        x, y = (ticks.numpy() for ticks in self.ticks)
        shades = torch.linspace(0, top, LEVELS + 1).tolist()
        grid = values.view(self.side, self.side).numpy()
        axes.contourf(x, y, grid, levels=shades, cmap="Blues", extend="max")

    def describe(self) -> str:
        """The rectangle and its points in words."""
        (left, low), (right, high) = self.extent.tolist()
        return f"[{left:.3g}, {right:.3g}] x [{low:.3g}, {high:.3g}], {self.side} x {self.side} points"


def model_density(subject: Subject, points: Tensor) -> tuple[Tensor, str, str]:
    """The model's density at some points, what a picture calls it, and its tag.

    Args:
        subject: The model.
        points: With shape :math:`(N, 2)`, on the model's device.
    """
    model = subject.model
    assert isinstance(model, HasLogProb)
    parts = [model.log_prob(part) for part in points.split(subject.batch_size)]
    density = torch.cat([part.nats for part in parts]).cpu().double().exp()  # not every device has float64
    tightness = parts[0].tightness
    label = "model" if tightness == "exact" else f"model ({tightness})"
    return density, label, parts[0].tag(subject.spec)


def target_panel(subject: Subject, mesh: Mesh, data: Tensor) -> tuple[Panel, float]:
    """The panel of what the model should be, and the largest density in it.

    Args:
        subject: The dataset, whose density may be known.
        mesh: Where it is taken.
        data: Examples, for a histogram where it is not.
    """
    dataset = subject.dataset
    if not isinstance(dataset, HasEnergy) or dataset.log_partition is None:
        return histogram_panel(mesh.extent, mesh.side, data.cpu())
    points = mesh.points.to(data.device)
    energy = torch.cat([dataset.energy(part) for part in points.split(subject.batch_size)])
    density = (-energy.cpu().double() - dataset.log_partition).exp()
    top = _positive(density)
    title = f"target, {mesh.integral(density):.1%} of its mass shown"
    return (title, partial(mesh.draw, values=density, top=top)), top


def histogram_panel(extent: Tensor, most: int, data: Tensor) -> tuple[Panel, float]:
    """The panel of a histogram of the data as a density, and the largest value in it.

    Args:
        extent: Lower and upper corner, with shape :math:`(2, 2)`.
        most: Bins along each side, fewer for few data.
        data: With shape :math:`(N, 2)`.
    """
    bins = max(min(most, round((len(data) / PER_BIN) ** 0.5)), 1)
    counts, _ = torch.histogramdd(data.double(), [bins, bins], range=extent.T.flatten().tolist())
    density = counts / len(data) / ((extent[1] - extent[0]).prod().item() / bins**2)
    top = _positive(density)
    (left, low), (right, high) = extent.tolist()

    def draw(axes: Axes) -> None:
        image = density.T.numpy()
        axes.imshow(image, extent=(left, right, low, high), origin="lower", cmap="Blues", vmin=0, vmax=top)

    return (f"data, a histogram of {len(data):,}", draw), top


def _positive(density: Tensor) -> float:
    """The largest density; 1 where there is none at all."""
    return density.max().item() or 1.0
