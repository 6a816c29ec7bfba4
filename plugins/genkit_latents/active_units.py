"""Active units: latent dimensions that differ from example to example."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from genkit import Figure, GenerativeModel, GenkitError, HasLevels, LatentVariable, SplitName, Subject
from genkit_latents.latent_evaluator import LatentEvaluator, Splits, need_finite
from genkit_vae.ancestral import Ancestral


class ActiveUnits(LatentEvaluator):
    r"""How many latent dimensions are active: those whose posterior mean varies from example to example.

    .. math:: A_i = \mathrm{Var}_x\left(\mathbb{E}_{q(z \mid x)}[z_i]\right) > \delta

    The figure depends on the examples and on the threshold, and both are in its tag. Latents of several levels have one
    more for each, ``level_1`` next to the data, ``level_2``, ...

    The mean is exact for normal posteriors of one level, and of the level next to the data. Others, as those of flows
    and of levels further up, have their means estimated from draws, in two halves :math:`\hat m` and :math:`\hat m'`
    that are independent: the variance of noisy means would be too large by the noise's, their covariance over the
    examples is not.

    .. math:: \hat A_i = \frac{1}{N - 1} \sum_n (\hat m_{n,i} - \bar m_i) (\hat m'_{n,i} - \bar m'_i)

    Args:
        threshold: The variance :math:`\delta` above which a dimension is active.
        draws: Latents for each example, where the mean is estimated.
        examples: How many examples, from all over the split; all of them, where nothing is said.
        splits: The splits to judge; test comes once, at the end.

    References:
        Burda, Grosse and Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016, arXiv 1509.00519, section 5.2.
    """

    examples = ({}, {"examples": 7, "draws": 2, "splits": ["train"]})

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        threshold: PositiveFloat = 0.01,
        draws: Annotated[int, Field(ge=2)] = 20,
        examples: Annotated[int, Field(ge=2)] | None = None,
        splits: Splits = ("validation", "test"),
    ) -> None:
        super().__init__(examples, splits)
        self.threshold = threshold
        self.draws = draws

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure]:
        """Counts.

        Raises:
            GenkitError: There is only one example, which cannot differ from another; or the model has diverged.
        """
        model = subject.model
        assert isinstance(model, LatentVariable)
        pairs = [two_means(model.posterior(x), self.draws) for x in self.batches(subject, split)]
        first, second = (torch.cat(half).cpu().double() for half in zip(*pairs, strict=True))
        if len(first) < 2:
            raise GenkitError(f"active_units: {len(first)} example of {split} has no variance; it takes at least 2")
        variance = covariance(first, second)
        need_finite(variance, "the means of its posteriors")
        active = variance > self.threshold  # (D,)
        exact = (first == second).all(0)
        yield self._figure("", active, exact, len(first))
        if isinstance(model, HasLevels) and len(model.levels) > 1:
            levels = zip(active.split(list(model.levels)), exact.split(list(model.levels)), strict=True)
            for number, (part, known) in enumerate(levels, 1):
                yield self._figure(f"level_{number}", part, known, len(first))

    def _figure(self, name: str, active: Tensor, exact: Tensor, count: int) -> Figure:
        words = "exact" if exact.all() else f"from {self.draws} draws"
        if exact.any() and not exact.all():
            words = f"exact for {int(exact.sum())} dimensions, for the others {words}"
        tag = f"of {len(active)} dimensions; variance above {self.threshold:g} over {count} examples"
        return Figure(int(active.sum()), name, tag=f"{tag}; means {words}")


def two_means(q: Distribution, draws: int) -> tuple[Tensor, Tensor]:
    """Two estimates of posteriors' means, independent of each other; the same mean twice where it is known.

    Args:
        q: The posteriors, with batch shape :math:`(B,)`.
        draws: Latents for each, of which either estimate has half.

    Returns:
        Two tensors with shape :math:`(B, D)`.
    """
    known = known_means(q)
    if known is not None and known.shape[1] == q.event_shape.numel():
        return known, known
    z = q.rsample(torch.Size([draws])).flatten(2)  # (draws, B, D)
    halves = z[: draws // 2].mean(0), z[draws // 2 :].mean(0)
    if known is None:
        return halves
    first, second = (torch.cat([known, half[:, known.shape[1] :]], dim=1) for half in halves)
    return first, second


def known_means(q: Distribution) -> Tensor | None:
    """The exact means of posteriors in their first dimensions, with shape :math:`(B, D')`, if they are known in any."""
    if isinstance(q, Ancestral):
        return None if q.backward else known_means(q.first)
    normal = isinstance(q, MultivariateNormal) or (isinstance(q, Independent) and isinstance(q.base_dist, Normal))
    return q.mean.flatten(1) if normal else None


def covariance(first: Tensor, second: Tensor) -> Tensor:
    """The covariance of two quantities over examples, unbiased, apart for each dimension.

    Args:
        first: With shape :math:`(N, D)`.
        second: With the same shape.

    Returns:
        With shape :math:`(D,)`.

    Example:
        >>> covariance(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [2.0]])).tolist()
        [2.0]
    """
    return ((first - first.mean(0)) * (second - second.mean(0))).sum(0) / (len(first) - 1)
