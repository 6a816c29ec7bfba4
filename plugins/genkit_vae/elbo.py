"""The evidence lower bound."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from genkit import Batch, GenerativeModel, LatentVariable, Loss, Progress
from genkit_vae.divergence import kl_per_group, sampled_kl_per_group
from genkit_vae.variational import Variational
from genkit_vae.weights import log_likelihoods


class ELBO(Variational):
    r"""The negative evidence lower bound, the loss of a variational autoencoder.

    .. math:: \mathcal{L} = \mathbb{E}_{q(z \mid x)}[-\log p(x \mid z)] + \beta\, \mathrm{KL}(q(z \mid x) \,\|\, p(z))

    The reconstruction term is summed over dimensions and estimated with ``k`` latents; the divergence is in closed
    form where there is one; both are averaged over the batch and logged apart. What is logged as
    ``negative_elbo`` always has weight 1 on the divergence, so that it remains a bound whatever the loss is.

    Args:
        beta: Weight of the divergence; 1 gives the bound itself.
        warmup_epochs: Epochs over which that weight rises linearly from 0.
        free_bits: Nats of divergence, for each latent dimension and averaged over the batch, that cost
            nothing. A posterior that does not factorize has them on all its dimensions together.
        k: Latents for each example, over which the loss is averaged.
        closed_form: Whether the divergence is computed in closed form where there is one; else the latents estimate
            it, as they do the reconstruction.

    References:
        Kingma and Welling: Auto-Encoding Variational Bayes, ICLR 2014, arXiv 1312.6114, equation 3.
        Higgins et al.: beta-VAE, ICLR 2017. Sonderby et al.: Ladder Variational Autoencoders (warm-up), NeurIPS
        2016, arXiv 1602.02282. Kingma et al.: Improving Variational Inference with Inverse Autoregressive Flow
        (free bits), NeurIPS 2016, arXiv 1606.04934, appendix C.8.
    """

    examples = ({}, {"k": 3, "closed_form": False})
    units = {"reconstruction": "nats", "kl": "nats", "negative_elbo": "nats"}  # noqa: RUF012  (a class's constant)

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        beta: NonNegativeFloat = 1.0,
        warmup_epochs: NonNegativeFloat = 0.0,
        free_bits: NonNegativeFloat = 0.0,
        k: PositiveInt = 1,
        closed_form: bool = True,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.warmup_epochs = warmup_epochs
        self.free_bits = free_bits
        self.k = k
        self.divergence = kl_per_group if closed_form else sampled_kl_per_group

    def loss(self, model: LatentVariable, batch: Batch, progress: Progress) -> Loss:
        """The loss on one batch, nats per example."""
        q = model.posterior(batch.x)
        z = q.rsample(torch.Size([self.k]))  # (k, B, *Z)
        reconstruction = -log_likelihoods(model, batch.x, z).mean()
        groups = self.divergence(q, model.prior(), z).flatten(0, -2).mean(0)  # (G,)
        kl = groups.sum()
        total = reconstruction + self.weight(progress) * self._above_free_bits(groups, z)
        return Loss(total, {"reconstruction": reconstruction, "kl": kl, "negative_elbo": reconstruction + kl})

    def weight(self, progress: Progress) -> Tensor | float:
        """The weight of the divergence at this point of training."""
        if not self.warmup_epochs:
            return self.beta
        return self.beta * (progress.epoch / self.warmup_epochs).clamp(max=1)

    def _above_free_bits(self, groups: Tensor, z: Tensor) -> Tensor:
        if not self.free_bits:
            return groups.sum()
        dimensions_per_group = z[0, 0].numel() / groups.numel()
        return groups.clamp(min=self.free_bits * dimensions_per_group).sum()
