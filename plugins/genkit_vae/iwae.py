"""The importance-weighted bound."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from genkit import Batch, GenerativeModel, GenkitError, LatentVariable, Loss, Progress
from genkit_vae.variational import Variational
from genkit_vae.weights import Draws, along_path, draw, effective_samples, log_mean_exp

Estimator = Literal["standard", "dreg", "stl"]


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
    units = {"negative_bound": "nats", "negative_elbo": "nats"}  # noqa: RUF012  (a class's constant)

    def __init__(self, model: GenerativeModel, /, *, k: PositiveInt = 5, estimator: Estimator = "standard") -> None:
        super().__init__()
        self.k = k
        self.estimator: Estimator = estimator

    def start(self, model: GenerativeModel, x: Tensor) -> None:
        """Looks whether the posterior's density is known where the estimator asks for it.

        Raises:
            GenkitError: It is not.
        """
        assert isinstance(model, LatentVariable)
        if self.estimator == "standard":
            return
        q = model.posterior(x[:1])
        try:
            along_path(q, q.rsample(torch.Size([1])))
        except NotImplementedError as error:
            raise GenkitError(
                f"iwae: the estimator {self.estimator!r} needs a posterior whose density is known everywhere, "
                "and of this one it is known of its own draws alone; estimator: standard would do"
            ) from error

    def loss(self, model: LatentVariable, batch: Batch, progress: Progress) -> Loss:
        """The loss on one batch, nats per example."""
        draws = draw(model, batch.x, self.k)
        log_weights = draws.log_weights
        bound = log_mean_exp(log_weights)  # (B,)
        total = bound if self.estimator == "standard" else with_gradient(bound, self._surrogate(draws))
        terms = {
            "negative_bound": -bound.mean(),
            "negative_elbo": -log_weights.mean(),
            "effective_samples": effective_samples(log_weights.detach()).mean(),
        }
        return Loss(-total.mean(), terms)

    def _surrogate(self, draws: Draws) -> Tensor:
        """What has the estimator's gradient, with shape :math:`(B,)`."""
        shares = draws.log_weights.detach().softmax(0)  # (k, B)
        if self.estimator == "dreg":
            on_path = shares.view(*shares.shape, *(1 for _ in draws.z.shape[2:]))
            draws.z.register_hook(lambda slope: slope * on_path)  # once more, for what comes through the latent
        return (shares * (draws.log_joint - along_path(draws.posterior, draws.z))).sum(0)


def with_gradient(value: Tensor, other: Tensor) -> Tensor:
    """A value with the gradient of another."""
    return value.detach() + (other - other.detach())
