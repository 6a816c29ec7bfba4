"""How much the latents of a model say of an example, dimension by dimension."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genkit import HasLevels, LatentVariable
from genkit_latents.latent_evaluator import need_finite
from genkit_vae.divergence import kl_per_level


@dataclass(frozen=True)
class Level:
    r"""What the latents of one level say.

    Attributes:
        name: ``level_1`` next to the data, ``level_2``, ...; empty where there is one level.
        size: Its dimensions :math:`D`.
        kl: What each dimension adds to :math:`\mathrm{KL}(q(z \mid x) \,\|\, p(z))`, averaged over the examples, in
            nats, with shape :math:`(D,)`; with shape :math:`(1,)` that of all together, where the prior or the
            posterior does not factorize.
    """

    name: str
    size: int
    kl: Tensor

    @property
    def factorizes(self) -> bool:
        """Whether each dimension has a figure of its own."""
        return len(self.kl) == self.size

    def silent(self, threshold: float) -> int:
        """How many dimensions say less than so many nats; all or none of them where there is one figure for all.

        Below the topmost level a dimension's part may be negative: the level above then knows it better than the
        posterior. Such a dimension is in use.
        """
        below = int((self.kl.abs() < threshold).sum())
        return below * (self.size // len(self.kl))


@dataclass(frozen=True)
class Usage:
    """What the latents of a model say.

    Attributes:
        levels: Level by level, the one next to the data first.
        tag: What a reader must know of the figures.
    """

    levels: Sequence[Level]
    tag: str

    @property
    def size(self) -> int:
        """The dimensions of all levels together."""
        return sum(level.size for level in self.levels)

    @property
    def parts(self) -> Sequence[Level]:
        """The levels, where there are several."""
        return self.levels if len(self.levels) > 1 else ()


def usage_of(model: LatentVariable, batches: Iterable[Tensor], k: int) -> Usage:
    r"""Averages :math:`\mathrm{KL}(q(z \mid x) \,\|\, p(z))` over examples, apart for each dimension.

    For latents of several levels, what a dimension adds is the mean of
    :math:`\log q(z_{l,i} \mid z_{l-1}) - \log p(z_{l,i} \mid z_{l+1})`.

    Args:
        model: Whose prior and posterior.
        batches: Examples, each with shape :math:`(B, *S)`.
        k: Latents for each example, where there is no closed form.

    Raises:
        GenkitError: A divergence is not finite.
    """
    sums, count, closed_form, sizes = [], 0, True, [0]
    for x in batches:
        q = model.posterior(x)
        z = q.rsample(torch.Size([k]))  # (k, B, *Z)
        sizes = list(model.levels) if isinstance(model, HasLevels) else [z[0, 0].numel()]
        levels = _apart(kl_per_level(q, model.prior(), z), sizes)
        closed_form = levels[0].dim() == 2  # (B, G), and (k, B, G) otherwise
        means = [kl.flatten(0, -2).mean(0) for kl in levels]
        sums.append([len(x) * mean.cpu().double() for mean in means])  # in this order: not every device has float64
        count += len(x)
    every = [torch.stack(level).sum(0) / count for level in zip(*sums, strict=True)]
    need_finite(torch.cat(every), "the model's divergences")
    how = "in closed form" if closed_form else f"estimated with {k} {'draw' if k == 1 else 'draws'} each"
    return Usage(_named(every, sizes), f"divergence {how}; {count} examples")


def _apart(levels: list[Tensor], sizes: Sequence[int]) -> list[Tensor]:
    """The levels of a distribution that does not tell them apart, if its dimensions can be told apart."""
    if len(levels) == 1 and levels[0].shape[-1] == sum(sizes):
        return list(levels[0].split(list(sizes), dim=-1))
    return levels


def _named(means: Sequence[Tensor], sizes: Sequence[int]) -> list[Level]:
    if len(means) == 1:
        return [Level("", sum(sizes), means[0])]
    return [Level(f"level_{i}", size, kl) for i, (size, kl) in enumerate(zip(sizes, means, strict=True), 1)]
