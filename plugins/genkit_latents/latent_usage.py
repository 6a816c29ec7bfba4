"""Latent usage: what each latent dimension says of an example."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from genkit import Figure, GenerativeModel, LatentVariable, Note, Picture, SplitName, Subject, rendered
from genkit_latents.latent_evaluator import LatentEvaluator, Splits
from genkit_latents.usage import Level, Usage, usage_of


class LatentUsage(LatentEvaluator):
    r"""What latents say of an example: the divergence of the posterior from the prior, dimension by dimension.

    .. math:: \mathbb{E}_x\left[\mathrm{KL}(q(z_i \mid x) \,\|\, p(z_i))\right]

    The principal figure is the divergence of all dimensions, in nats; ``used`` is how many of them have more than the
    threshold. The picture shows them all, sorted by size. Latents of several levels have both figures for each level,
    ``level_1`` next to the data; there a dimension's part is the mean of
    :math:`\log q(z_{l,i} \mid z_{l-1}) - \log p(z_{l,i} \mid z_{l+1})`, which below the topmost level may be negative,
    where the level above knows a dimension better than the posterior does.

    Where prior or posterior does not factorize, as a flow, a mixture or a normal of any covariance, the divergence of a
    single dimension is not defined: there is the total, and a note that says so.

    Args:
        threshold: The nats above which a dimension is in use.
        k: Latents for each example, where the divergence has no closed form.
        examples: How many examples, from all over the split; all of them, where nothing is said.
        splits: The splits to judge; test comes once, at the end.

    References:
        Kingma and Welling: Auto-Encoding Variational Bayes, ICLR 2014, arXiv 1312.6114, appendix B (the divergence).
        Sonderby et al.: Ladder Variational Autoencoders, NeurIPS 2016, arXiv 1602.02282, section 3 (of several levels).
    """

    examples = ({}, {"examples": 7, "k": 3, "splits": ["train"]})

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        threshold: PositiveFloat = 0.01,
        k: PositiveInt = 10,
        examples: PositiveInt | None = None,
        splits: Splits = ("validation", "test"),
    ) -> None:
        super().__init__(examples, splits)
        self.threshold = threshold
        self.k = k

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Note | Picture]:
        """Averages over the split."""
        assert isinstance(subject.model, LatentVariable)
        usage = usage_of(subject.model, self.batches(subject, split), self.k)
        yield from self._figures(usage.levels, "", usage)
        for level in usage.parts:
            yield from self._figures([level], level.name, usage)
        apart = [level for level in usage.levels if level.factorizes]
        if apart:
            yield Picture(draw_usage(apart, self.threshold), split or "")
        if len(apart) < len(usage.levels) and not subject.history:
            yield Note(_undefined(usage), "note")

    def _figures(self, levels: Sequence[Level], name: str, usage: Usage) -> Iterator[Figure]:
        yield Figure(sum(level.kl.sum().item() for level in levels), name, "nats", usage.tag)
        if all(level.factorizes for level in levels):
            size = sum(level.size for level in levels)
            used = size - sum(level.silent(self.threshold) for level in levels)
            tag = f"of {size} dimensions; above {self.threshold:g} nats; {usage.tag}"
            yield Figure(used, f"{name}/used" if name else "used", tag=tag)


def _undefined(usage: Usage) -> str:
    """Why there are no figures of dimensions."""
    names = [level.name for level in usage.parts if not level.factorizes]
    where = f" of {' and '.join(names)}" if names else ""
    return (
        f"prior or posterior{where} does not factorize, so that the divergence of a single dimension is not defined: "
        "all have one figure together"
    )


def draw_usage(levels: Sequence[Level], threshold: float) -> Tensor:
    """Draws for each level its dimensions as bars, sorted by what they say.

    Args:
        levels: Levels that factorize.
        threshold: The nats above which a dimension is in use.

    Returns:
        Values in [0, 1] with shape :math:`(3, H, W)`.
    """
    drawing = Drawing(figsize=(1.6 + 4.8 * len(levels), 4.8), dpi=100, layout="constrained")
    for axes, level in zip(drawing.subplots(1, len(levels), squeeze=False)[0], levels, strict=True):
        _draw_level(axes, level, level.size - level.silent(threshold), threshold)
    return rendered(drawing)


def _draw_level(axes: Axes, level: Level, used: int, threshold: float) -> None:
    kl = level.kl.sort(descending=True).values.tolist()
    axes.stairs(kl, torch.arange(level.size + 1) + 0.5, fill=True)
    name = f"{level.name.replace('_', ' ')}: " if level.name else ""
    axes.set(
        title=f"{name}{sum(kl):.2f} nats, {used} of {level.size} dimensions above {threshold:g}",
        xlabel="latent dimensions, by size",
        ylabel="part of KL(q(z | x) \N{DOUBLE VERTICAL LINE} p(z)), nats",
        xlim=(0.5, level.size + 0.5),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
