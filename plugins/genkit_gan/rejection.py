"""Discriminator rejection sampling (DRS)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from genkit import GenerativeModel, GenkitError, Objective, Sampler, Samples, SamplesDifferentiably, Views, critics_of

ROUNDS = 1000  # batches of candidates before it is given up
BATCH = 500
EPSILON = 1e-6


class Rejection(Sampler):
    r"""Keeps the samples that the critic finds likely enough: discriminator rejection sampling (DRS).

    With a critic whose score :math:`D(x)` is :math:`\log p_{data}(x) / p_{model}(x)` up to a constant, samples that
    are accepted with probability :math:`e^{D(x) - M}`, :math:`M` being the highest score, follow the data's
    distribution. The best critic's score is that; penalties, noise and a moving average of the model make it an
    approximation. Hardly any sample would be accepted; so the probability is raised, as in the paper, to

    .. math:: \sigma(\hat F(x)), \qquad \hat F(x) = D(x) - M - \log(1 - e^{D(x) - M - \epsilon}) - \gamma

    where :math:`\gamma` is a percentile of the uncorrected :math:`\hat F` over a burn-in of samples. :math:`M` is
    estimated from the same burn-in, and raised when a batch of candidates scores higher.

    Args:
        percentile: The percentile that :math:`\gamma` is; at 0 most samples are kept, near 100 few. ``null`` makes
            :math:`\gamma` 0, which follows the formula exactly.
        burn_in: Samples, rounded up to a multiple of 500, to estimate :math:`M` and :math:`\gamma` from.

    References:
        Azadi et al.: Discriminator Rejection Sampling, ICLR 2019, arXiv 1810.06758, section 3.2.
    """

    requires = (SamplesDifferentiably,)
    fitted = True

    def __init__(
        self,
        model: GenerativeModel,
        objective: Objective,
        /,
        *,
        percentile: Annotated[float, Field(ge=0, lt=100)] | None = 80.0,
        burn_in: PositiveInt = 10_000,
    ) -> None:
        self.model = model
        critics = [critic for critic in critics_of(objective) if critic.log_ratio]
        if not critics:
            raise ValueError(
                "rejection needs a critic whose score of each example is a log density ratio: one trained under the "
                "loss minimax, non_saturating or relativistic, without label_smoothing, packing or minibatch_stddev"
            )
        self.critic = critics[0]
        self.percentile = percentile
        self.burn_in = burn_in
        self.highest: Tensor | None = None
        self.gamma: Tensor | None = None

    def fit(self, data: Views) -> None:
        """Estimates the highest score and the percentile."""
        scores = torch.cat([self.critic.score(self._candidates(BATCH)) for _ in range(-(-self.burn_in // BATCH))])
        self.highest = scores.max()
        excess = correction(scores, self.highest)
        self.gamma = excess.new_zeros(()) if self.percentile is None else excess.quantile(self.percentile / 100)

    def sample(self, num_samples: int, context: Tensor | None = None) -> Samples:
        """Draws candidates until enough are accepted.

        Raises:
            ValueError: A context is given, whose critic could not know it.
            GenkitError: Next to none is accepted.
        """
        if context is not None:
            raise ValueError("rejection cannot be conditioned on a context")
        assert self.highest is not None, "fit comes first"
        assert self.gamma is not None
        kept: list[Tensor] = []
        highest = self.highest
        for _ in range(ROUNDS):
            x = self._candidates(BATCH)
            scores = self.critic.score(x)
            highest = torch.maximum(highest, scores.max())
            probability = torch.sigmoid(correction(scores, highest) - self.gamma)
            kept.append(x[torch.rand_like(probability) < probability])
            if sum(map(len, kept)) >= num_samples:
                return Samples(torch.cat(kept)[:num_samples])
        raise GenkitError(f"of {ROUNDS * BATCH} samples, the critic accepted only {sum(map(len, kept))}")

    def _candidates(self, count: int) -> Tensor:
        assert isinstance(self.model, SamplesDifferentiably)
        return self.model.rsample(count)


def correction(scores: Tensor, highest: Tensor) -> Tensor:
    r""":math:`\hat F` without :math:`\gamma`: the logit of :math:`e^{D(x) - M}`, kept finite.

    Example:
        >>> import math
        >>> correction(torch.tensor([math.log(0.25)]), torch.tensor(0.0)).sigmoid().round(decimals=4).item()
        0.25
    """
    ratio = scores - highest
    return ratio - torch.log(-torch.expm1(ratio - EPSILON))
