"""Importance sampling."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor

from genkit import LatentVariable
from genkit_latents.estimator import Estimate, Estimator, RunningMean
from genkit_vae.weights import draw_from


class Importance(Estimator):
    r"""Importance sampling from the posterior, the estimator of published likelihoods.

    .. math:: \log p(x) \approx \log \frac{1}{k} \sum_{i=1}^k \frac{p(x \mid z_i)\, p(z_i)}{q(z_i \mid x)},
        \quad z_i \sim q(z \mid x)

    In expectation it is below :math:`\log p(x)`, by less with more draws. Where the posterior misses what the true one
    has, it is far below, and its error and its effective samples look better than they are: a few draws more may then
    raise it.

    Args:
        k: Draws for each example.
        chunk: Latents that are decoded at a time; memory grows with them, and not with ``k``.

    References:
        Burda, Grosse and Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016, arXiv 1509.00519, section 5.
        Wu et al.: On the Quantitative Analysis of Decoder-Based Generative Models, ICLR 2017, arXiv 1611.04273.
    """

    def __init__(self, *, k: PositiveInt = 5000, chunk: PositiveInt = 2000) -> None:
        self.k = k
        self.chunk = chunk

    @property
    def label(self) -> str:
        """What the draws are."""
        return "importance sampling from the posterior"

    def estimate(self, model: LatentVariable, x: Tensor) -> Sequence[Estimate]:
        """Draws and weighs, so many latents at a time that a chunk is full."""
        q, p, mean = model.posterior(x), model.prior(), RunningMean(x.flatten(1)[:, 0])
        for count in shares(self.k, self.chunk // len(x)):
            mean.add(draw_from(q, p, model, x, count).log_weights)
        return mean.course()


def shares(total: int, most: int) -> list[int]:
    """A number in parts of at most so many, at least one at a time.

    Example:
        >>> shares(7, 3), shares(2, 0)
        ([3, 3, 1], [1, 1])
    """
    size = max(most, 1)
    return [min(size, total - start) for start in range(0, total, size)]
