"""Importance sampling."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor

from genkit import LatentVariable
from genkit_latents.averaging import Averaging, Weigher
from genkit_vae.weights import draw_from


class Importance(Averaging):
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

    examples = ({"k": 20}, {"k": 7, "chunk": 100})

    def __init__(self, *, k: PositiveInt = 5000, chunk: PositiveInt = 2000) -> None:
        super().__init__(k, chunk)

    @property
    def label(self) -> str:
        """What the draws are."""
        return "importance sampling from the posterior"

    def weigher(self, model: LatentVariable, x: Tensor) -> Weigher:
        """Draws from the posterior; a weight is how much likelier a latent is with the example than it says."""
        q, p = model.posterior(x), model.prior()
        return lambda count: draw_from(q, p, model, x, count).log_weights
