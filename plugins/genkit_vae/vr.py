"""The variational Renyi bound."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from genkit import Batch, GenerativeModel, LatentVariable, Loss, Progress
from genkit_vae.variational import Variational
from genkit_vae.weights import draw, effective_samples, log_mean_exp


class VR(Variational):
    r"""The negative variational Renyi bound, a family from the evidence lower bound to the likeliest latent.

    .. math:: \mathcal{L}_{\alpha, k} = -\frac{1}{1 - \alpha} \log \frac{1}{k} \sum_{i=1}^k w_i^{1 - \alpha}, \qquad
        w_i = \frac{p(x \mid z_i)\, p(z_i)}{q(z_i \mid x)}, \quad z_i \sim q(z \mid x)

    With :math:`\alpha = 1`, where this is a limit, it is the evidence lower bound of :math:`k` latents; with
    :math:`\alpha = 0` the importance-weighted bound, ``iwae``; with a very negative :math:`\alpha`, such as -1e6, the
    largest weight alone counts: VR-max. From 0 upwards it bounds the likelihood from below in expectation; a negative
    one may lie above it.

    The terms: ``negative_renyi`` is the loss, ``negative_bound`` the same latents' importance-weighted bound and
    ``negative_elbo`` their evidence lower bound, both with whatever :math:`\alpha`; ``effective_samples`` is how many
    equally weighted latents the :math:`k` are worth.

    Args:
        alpha: The order :math:`\alpha` of the divergence.
        k: Latents for each example.

    References:
        Li and Turner: Renyi Divergence Variational Inference, NeurIPS 2016, arXiv 1602.02311, section 4.
    """

    examples = ({}, {"alpha": 1.0}, {"alpha": -1e6, "k": 3})
    units = {"negative_renyi": "nats", "negative_bound": "nats", "negative_elbo": "nats"}  # noqa: RUF012  (a constant)

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        alpha: Annotated[float, Field(allow_inf_nan=False)] = 0.5,
        k: PositiveInt = 5,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.k = k

    def loss(self, model: LatentVariable, batch: Batch, progress: Progress) -> Loss:
        """The loss on one batch, nats per example."""
        log_weights = draw(model, batch.x, self.k).log_weights  # (k, B)
        renyi = renyi_bound(log_weights, self.alpha).mean()
        terms = {
            "negative_renyi": -renyi,
            "negative_bound": -log_mean_exp(log_weights).mean(),
            "negative_elbo": -log_weights.mean(),
            "effective_samples": effective_samples(log_weights.detach()).mean(),
        }
        return Loss(-renyi, terms)


def renyi_bound(log_weights: Tensor, alpha: float) -> Tensor:
    r""":math:`\frac{1}{1 - \alpha} \log \frac{1}{k} \sum_i w_i^{1 - \alpha}`, and its limit where alpha is 1.

    The largest summand is taken out and what is left kept as its distance from 1, so that neither a large order
    overflows nor one near 1 divides what was rounded away.

    Args:
        log_weights: With shape :math:`(k, B)`, in nats.
        alpha: The order.

    Returns:
        Nats, with shape :math:`(B,)`.

    Example:
        >>> weights = torch.tensor([[1.0], [3.0]])
        >>> [round(renyi_bound(weights.log(), alpha).exp().item(), 4) for alpha in (1.0, 0.0, -1e6)]
        [1.7321, 2.0, 3.0]
    """
    order = 1 - alpha
    if order == 0:
        return log_weights.mean(0)
    best = log_weights.detach().amax(0) if order > 0 else log_weights.detach().amin(0)
    rest = torch.expm1(order * (log_weights - best)).mean(0)  # between 1/k - 1 and 0
    return best + torch.log1p(rest) / order
