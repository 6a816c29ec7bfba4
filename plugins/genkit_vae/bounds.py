"""Importance-weighted bounds, and three ways to estimate their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from genkit import GenerativeModel, GenkitError, LatentVariable, Loss
from genkit_vae.weights import Draws, along_path, draw, effective_samples, log_mean_exp

Estimator = Literal["standard", "dreg", "stl"]


@dataclass(frozen=True)
class WeightedBound:
    r"""The mean of :math:`m` importance-weighted bounds of :math:`k` latents each.

    .. math:: \frac{1}{m} \sum_{j=1}^m \log \frac{1}{k} \sum_{i=1}^k w_{ij}, \qquad
        w_{ij} = \frac{p(x \mid z_{ij})\, p(z_{ij})}{q(z_{ij} \mid x)}

    Attributes:
        k: Latents behind one bound.
        m: Bounds.
        estimator: How the encoder's gradient is estimated; ``iwae`` says what the names mean.

    References:
        Rainforth et al.: Tighter Variational Bounds are Not Necessarily Better, ICML 2018, arXiv 1802.04537.
        Tucker et al.: Doubly Reparameterized Gradient Estimators, ICLR 2019, arXiv 1810.04152, equation 8.
        Roeder, Wu and Duvenaud: Sticking the Landing, NeurIPS 2017, arXiv 1703.09194, section 5.
    """

    k: int
    m: int
    estimator: Estimator

    units: ClassVar = {"negative_bound": "nats", "negative_elbo": "nats"}

    def check(self, model: GenerativeModel, x: Tensor) -> None:
        """Looks at an example whether the posterior's density is known where the estimator asks for it.

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
                f"objective: the estimator {self.estimator!r} needs a posterior whose density is known everywhere, "
                "and of this one it is known of its own draws alone; estimator: standard would do"
            ) from error

    def loss(self, model: LatentVariable, x: Tensor) -> Loss:
        """Minus the bound, nats per example; its terms are named in ``iwae``."""
        draws = draw(model, x, self.k * self.m)
        log_weights = draws.log_weights.unflatten(0, (self.k, self.m))  # (k, m, B)
        bound = log_mean_exp(log_weights).mean()
        total = bound if self.estimator == "standard" else _with_gradient(bound, self._surrogate(draws))
        terms = {
            "negative_bound": -bound,
            "negative_elbo": -log_weights.mean(),
            "effective_samples": effective_samples(log_weights.detach()).mean(),
        }
        return Loss(-total, terms)

    def _surrogate(self, draws: Draws) -> Tensor:
        """What has the estimator's gradient, with shape :math:`()`."""
        log_weights = draws.log_weights.detach().unflatten(0, (self.k, self.m))
        shares = log_weights.softmax(0).flatten(0, 1)  # (k m, B), summing to m
        if self.estimator == "dreg" and draws.z.requires_grad:  # nothing comes through latents of a fixed posterior
            on_path = shares.view(*shares.shape, *(1 for _ in draws.z.shape[2:]))
            draws.z.register_hook(lambda slope: slope * on_path)  # once more, for what comes through the latent
        each = shares * (draws.log_joint - along_path(draws.posterior, draws.z))
        return each.sum(0).mean() / self.m


def _with_gradient(value: Tensor, other: Tensor) -> Tensor:
    """A value with the gradient of another."""
    return value.detach() + (other - other.detach())
