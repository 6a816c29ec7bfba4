"""The importance-weighted bound."""

from __future__ import annotations

from pydantic import PositiveInt
from torch import Tensor

from genkit import Batch, GenerativeModel, LatentVariable, Loss, Progress
from genkit_vae.bounds import Estimator, WeightedBound
from genkit_vae.variational import Variational


class IWAE(Variational):
    r"""The negative importance-weighted bound, tighter than the evidence lower bound with more samples.

    .. math:: \mathcal{L}_k = -\mathbb{E}_{z_1 \ldots z_k \sim q(z \mid x)} \log \frac{1}{k} \sum_{i=1}^k
        \frac{p(x \mid z_i)\, p(z_i)}{q(z_i \mid x)}

    With :math:`k = 1` it is the evidence lower bound, its divergence estimated by the same latent. More samples make
    the bound tighter, and the gradient that reaches the encoder noisier; two other estimators of that gradient do not
    suffer so. The bound and what reaches the decoder and the prior are the same with all three.

    The terms: ``negative_bound`` is the loss, ``negative_elbo`` the same latents' evidence lower bound, and
    ``effective_samples`` how many equally weighted latents the :math:`k` are worth.

    Args:
        k: Latents for each example.
        estimator: How the encoder's gradient is estimated. "standard" differentiates the bound; "dreg" weighs the path
            of each latent with its squared weight, which is the same in expectation; "stl" with the weight itself,
            the least noisy and, above one latent, biased. The last two need a posterior whose density is known
            everywhere.

    References:
        Burda, Grosse and Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016, arXiv 1509.00519, equation 8.
        Tucker et al.: Doubly Reparameterized Gradient Estimators, ICLR 2019, arXiv 1810.04152, equation 8 ("dreg").
        Roeder, Wu and Duvenaud: Sticking the Landing, NeurIPS 2017, arXiv 1703.09194, section 5 ("stl").
    """

    examples = ({}, {"k": 3, "estimator": "dreg"}, {"k": 3, "estimator": "stl"})
    units = WeightedBound.units

    def __init__(self, model: GenerativeModel, /, *, k: PositiveInt = 5, estimator: Estimator = "standard") -> None:
        super().__init__()
        self.bound = WeightedBound(k, 1, estimator)

    def check(self, model: LatentVariable, x: Tensor) -> None:
        """Looks whether the posterior's density is known where the estimator asks for it."""
        self.bound.check(model, x)

    def loss(self, model: LatentVariable, batch: Batch, progress: Progress) -> Loss:
        """The loss on one batch, nats per example."""
        return self.bound.loss(model, batch.x)
