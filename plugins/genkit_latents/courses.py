"""How estimates of a likelihood change with the number of draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from genkit import rendered
from genkit_latents.estimator import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEAN = r"mean of $-\log p(x)$"
Courses = Mapping[str, Sequence[Estimate]]
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def draw_courses(courses: Courses) -> Tensor:
    r"""Draws what each estimator says against the number of draws, and what its draws are worth.

    On the left are the means of :math:`-\log p(x)` over the examples, above the lowest of all: up to 1 nat the scale is
    even, and beyond it is logarithmic, so that estimators that are far off do not hide what tells good ones apart. Bars
    are two standard errors of one example's estimate on either side, the root of the mean square over the examples. On
    the right are the effective samples, in the mean over the examples. What is infinite is left out.

    Args:
        courses: By the estimators' names, the estimates with more and more draws.

    Returns:
        Values in [0, 1] with shape :math:`(3, H, W)`.
    """
    drawing = Drawing(figsize=(9.6, 4.8), dpi=100, layout="constrained")
    heights, worths = drawing.subplots(1, 2)
    _prepare(heights, worths, max(course[-1].draws for course in courses.values()))
    lowest = min(filter(math.isfinite, (_height(last) for course in courses.values() for last in course)), default=0.0)
    for name, course in courses.items():
        _draw_heights(heights, course, lowest, f"{name}, {course[-1].draws} draws: {_height(course[-1]):.2f} nats")
        worths.plot([each.draws for each in course], [each.effective.mean().item() for each in course], marker="o")
    count = len(next(iter(courses.values()))[-1].nats)
    heights.set_title(f"{MEAN} over {count} examples\nbars: two standard errors of one example's estimate", fontsize=10)
    heights.set_ylabel(f"nats above the lowest, {lowest:.2f}")
    worths.set_title(f"effective samples\nmean over {count} examples", fontsize=10)
    drawing.legend(loc="outside lower center", ncols=min(len(courses), 2))
    return rendered(drawing)


def _height(estimate: Estimate) -> float:
    return -estimate.nats.mean().item()


def _draw_heights(axes: Axes, course: Sequence[Estimate], lowest: float, label: str) -> None:
    """A line, with bars where errors are known."""
    heights = [_height(each) - lowest if math.isfinite(_height(each)) else math.nan for each in course]
    widths = [2 * each.errors.square().mean().sqrt().item() for each in course]
    bars = [width if math.isfinite(width) else math.nan for width in widths]
    axes.errorbar([each.draws for each in course], heights, bars, marker="o", capsize=4, label=label)


def _prepare(heights: Axes, worths: Axes, most: int) -> None:
    """Scales and labels; limits are set first, since there may be nothing that a logarithmic scale can show."""
    for axes in (heights, worths):
        axes.set(xlim=(0.8, 1.3 * most), xscale="log", xlabel="draws for each example")
        axes.grid(alpha=0.3)
    heights.set_yscale("symlog", linthresh=1.0)
    heights.yaxis.set_major_formatter(PLAIN)
    worths.set(ylim=(0.8, 1.3 * most), yscale="log", ylabel="equally weighted draws")
    worths.plot([1, most], [1, most], color="grey", linestyle="dotted")
    worths.text(most**0.5, 1.25 * most**0.5, "as many as there are", color="grey", ha="right", va="bottom")
