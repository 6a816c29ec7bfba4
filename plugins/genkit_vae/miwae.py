"""Several importance-weighted bounds at once."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor

from genkit import Batch, GenerativeModel, LatentVariable, Loss, Progress
from genkit_vae.bounds import Estimator, WeightedBound
from genkit_vae.variational import Variational


class MIWAE(Variational):
    r"""The mean of several negative importance-weighted bounds: tight, with a gradient that averages out.

    .. math:: \mathcal{L}_{m,k} = -\frac{1}{m} \sum_{j=1}^m \log \frac{1}{k} \sum_{i=1}^k
        \frac{p(x \mid z_{ij})\, p(z_{ij})}{q(z_{ij} \mid x)}, \quad z_{ij} \sim q(z \mid x)

    More latents behind one bound make it tighter, and drown the encoder's gradient in noise; more bounds average
    that noise away. With :math:`m = 1` it is ``iwae``, with :math:`k = 1` the evidence lower bound with :math:`m`
    latents. In expectation it is the bound of :math:`k` latents, whatever :math:`m`.

    The terms: ``negative_bound`` is the loss, ``negative_elbo`` the same latents' evidence lower bound, and
    ``effective_samples`` how many equally weighted latents the :math:`k` of one bound are worth.

    Args:
        m: Bounds for each example.
        k: Latents behind each of them.
        estimator: How the encoder's gradient is estimated, as in ``iwae``.

    References:
        Rainforth et al.: Tighter Variational Bounds are Not Necessarily Better, ICML 2018, arXiv 1802.04537.
    """

    examples = ({"m": 2, "k": 3}, {"m": 2, "k": 3, "estimator": "dreg"})
    units = WeightedBound.units

    def __init__(
        self, model: GenerativeModel, /, *, m: PositiveInt = 8, k: PositiveInt = 8, estimator: Estimator = "standard"
    ) -> None:
        super().__init__()
        self.bound = WeightedBound(k, m, estimator)

    def check(self, model: LatentVariable, x: Tensor) -> None:
        """Looks whether the posterior's density is known where the estimator asks for it."""
        self.bound.check(model, x)

    def loss(self, model: LatentVariable, batch: Batch, progress: Progress) -> Loss:
        """The loss on one batch, nats per example."""
        return self.bound.loss(model, batch.x)
