"""How estimates of a likelihood change with the number of draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as Drawing
from torch import Tensor

from genkit import rendered
from genkit_latents.estimator import Estimate


def draw_courses(courses: Mapping[str, Sequence[Estimate]]) -> Tensor:
    """Draws each estimator's mean over the examples against the number of draws.

    Args:
        courses: By the estimators' names, the estimates with more and more draws. The band around a line is two
            standard deviations of one example's estimate on either side, the root of the mean square over the examples.

    Returns:
        Values in [0, 1] with shape :math:`(3, H, W)`.
    """
    drawing = Drawing(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    axes = drawing.subplots()
    for name, course in courses.items():
        draws = [estimate.draws for estimate in course]
        means = [-estimate.nats.mean().item() for estimate in course]
        line = axes.plot(draws, means, marker="o", label=name)[0]
        known = [i for i, estimate in enumerate(course) if estimate.draws > 1]
        widths = {i: 2 * course[i].errors.square().mean().sqrt().item() for i in known}
        axes.fill_between(
            [draws[i] for i in known],
            [means[i] - widths[i] for i in known],
            [means[i] + widths[i] for i in known],
            alpha=0.2,
            color=line.get_color(),
        )
    axes.set(xscale="log", xlabel="draws for each example", ylabel=r"$-\log p(x)$, nats")
    axes.grid(alpha=0.3)
    axes.legend()
    return rendered(drawing)
