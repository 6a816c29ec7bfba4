"""Rate and distortion: what latents say of an example, and what they leave open."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from matplotlib.figure import Figure as Drawing
from pydantic import PositiveInt
from torch import Tensor

from genkit import (
    Figure,
    GenerativeModel,
    HasLogProb,
    LatentVariable,
    LogProb,
    Picture,
    Record,
    SplitName,
    Subject,
    first_batch,
    rendered,
)
from genkit_latents.latent_evaluator import LatentEvaluator, Splits, part_of
from genkit_vae.divergence import kl_per_group
from genkit_vae.weights import log_likelihoods

Point = tuple[float, float, float]  # epoch, rate, distortion


class RateDistortion(LatentEvaluator):
    r"""The two terms of the evidence lower bound apart: rate and distortion.

    .. math:: R = \mathbb{E}_x[\mathrm{KL}(q(z \mid x) \,\|\, p(z))], \qquad
        D = \mathbb{E}_x \mathbb{E}_{q(z \mid x)}[-\log p(x \mid z)]

    ``rate`` is what the latents say of an example, ``distortion`` what they leave open, and the principal figure is
    their sum, the negative bound; all three are in nats per example. Models of one bound may differ much in the two: at
    :math:`R = 0` latents say nothing, however good the bound. The picture shows the run's course in the plane of the
    two, from the second time on that it is measured on a split and as far back as an evaluator can look, with lines of
    equal bounds; the untrained model is no part of it.

    Args:
        k: Latents for each example, from which the distortion is estimated, and the rate where it has no closed form.
        examples: How many examples, from all over the split; all of them, where nothing is said.
        splits: The splits to judge; test comes once, at the end.

    References:
        Alemi et al.: Fixing a Broken ELBO, ICML 2018, arXiv 1711.00464, section 2.
    """

    requires = (LatentVariable, HasLogProb)
    examples = ({}, {"examples": 7, "k": 3, "splits": ["train"]})

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        k: PositiveInt = 1,
        examples: PositiveInt | None = None,
        splits: Splits = ("validation", "test"),
    ) -> None:
        super().__init__(examples, splits)
        self.k = k

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Picture]:
        """Averages over the split."""
        model = subject.model
        assert isinstance(model, LatentVariable)
        assert isinstance(model, HasLogProb)
        parts = [rate_and_distortion(model, x, self.k) for x in self.batches(subject, split)]
        rate, distortion = torch.cat(parts, dim=1).cpu().double().mean(1).tolist()  # not every device has float64
        known = model.log_prob(first_batch(subject.view(split), 1).x)
        count, total = sum(part.shape[1] for part in parts), len(subject.view(split))
        taken = f"{self.k} {'draw' if self.k == 1 else 'draws'} for each example{part_of(count, total)}"
        bound = LogProb(known.nats, "lower bound", known.measure, under=known.under).tag(subject.spec)
        apart = bound.partition("; ")[2]  # neither of the two is a bound by itself
        yield Figure(rate + distortion, unit="nats", tag=f"{bound}; {taken}", better="lower")
        yield Figure(rate, "rate", "nats", f"{apart}; {taken}")
        yield Figure(distortion, "distortion", "nats", f"{apart}; {taken}")
        course = course_of(subject.history, (subject.epoch, rate, distortion))
        if len(course) > 1:
            yield Picture(draw_course(course), split or "")


def rate_and_distortion(model: LatentVariable, x: Tensor, k: int) -> Tensor:
    """Both terms for each example, in nats, with shape :math:`(2, B)`."""
    q = model.posterior(x)
    z = q.rsample(torch.Size([k]))  # (k, B, *Z)
    rate = kl_per_group(q, model.prior(), z).sum(-1).view(-1, len(x)).mean(0)
    return torch.stack([rate, -log_likelihoods(model, x, z).mean(0)])


def course_of(history: Sequence[Record], now: Point) -> list[Point]:
    """What was measured before and now, oldest first; the untrained model is left out."""
    found = {name: {r.step: r for r in history if r.name.endswith(f"/{name}")} for name in ("rate", "distortion")}
    both = found["rate"].keys() & found["distortion"].keys()
    rates, distortions = found["rate"], found["distortion"]
    before = [(rates[step].epoch, rates[step].value, distortions[step].value) for step in sorted(both)]
    return [point for point in [*before, now] if point[0] > 0]


def draw_course(course: Sequence[Point]) -> Tensor:
    """Draws a run's course in the plane of rate and distortion.

    Args:
        course: Epochs, rates and distortions in nats, oldest first, at least one.

    Returns:
        Values in [0, 1] with shape :math:`(3, H, W)`.
    """
    epochs, rates, distortions = zip(*course, strict=True)
    drawing = Drawing(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    axes = drawing.subplots()
    across, up = (torch.linspace(*_limits(values), 50) for values in (rates, distortions))
    lines = axes.contour(
        across, up, across + up[:, None], levels=8, colors="tab:gray", linewidths=0.7, linestyles="dashed"
    )
    axes.clabel(lines, fmt="%g", fontsize=8)
    axes.plot(rates, distortions, marker="o", markersize=4, color="tab:blue")
    axes.plot(rates[-1], distortions[-1], marker="o", markersize=9, color="tab:red")
    for place, height in {0: 9, len(epochs) - 1: -18}.items():  # beside a course that leads down
        point = rates[place], distortions[place]
        axes.annotate(f"epoch {epochs[place]:g}", point, (0, height), textcoords="offset points", ha="center")
    axes.set(
        title="dashed: equal negative ELBO, nats",
        xlabel="rate: KL(q(z | x) \N{DOUBLE VERTICAL LINE} p(z)), nats",
        ylabel="distortion: \N{MINUS SIGN}log p(x | z), nats",
    )
    return rendered(drawing)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis: a margin on either side, also where all values are one."""
    low, high = min(values), max(values)
    margin = 0.15 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
