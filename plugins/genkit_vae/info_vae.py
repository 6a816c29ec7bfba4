"""InfoVAE: a divergence of each posterior from the prior, and one of all posteriors together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat

from genkit import Batch, Decodes, GenerativeModel, LatentVariable, Loss, Progress
from genkit_vae.discrepancy import KERNELS, Kernel, mmd_from_prior
from genkit_vae.divergence import kl_per_group
from genkit_vae.variational import Variational


class InfoVAE(Variational):
    r"""The negative InfoVAE objective, with the maximum mean discrepancy between all latents and the prior.

    .. math:: \mathcal{L} = \mathbb{E}_{q(z \mid x)}[-\log p(x \mid z)]
        + (1 - \alpha)\, \mathrm{KL}(q(z \mid x) \,\|\, p(z))
        + (\alpha + \lambda - 1)\, \mathrm{MMD}(q(z) \,\|\, p(z))

    The evidence lower bound wants each posterior near the prior, and so forbids latents to say much of the data. A
    larger :math:`\alpha` lets go of the single posteriors, and the discrepancy holds their mixture :math:`q(z)`.
    With :math:`\alpha = 0` and :math:`\lambda = 1` it is the evidence lower bound; with :math:`\alpha = 1` the
    divergence is gone, and ``mmd`` is left.

    The discrepancy is that of the batch, estimated without bias by one latent of each example and as many draws from
    the prior: the larger the batch, the less noisy.

    Args:
        alpha: :math:`\alpha`, at most 1: how much of the divergence of the single posteriors is let go.
        lam: :math:`\lambda`, at least :math:`1 - \alpha`.
        kernel: "gaussian", the paper's, or "inverse_multiquadratics", whose heavier tails reach latents that are far
            from the prior.

    References:
        Zhao, Song and Ermon: InfoVAE: Balancing Learning and Inference in Variational Autoencoders, AAAI 2019,
        arXiv 1706.02262. Tolstikhin et al.: Wasserstein Auto-Encoders, ICLR 2018,
        arXiv 1711.01558, algorithm 2 (the estimate without bias, and the second kernel).
    """

    requires = (LatentVariable, Decodes)
    examples = ({}, {"alpha": -1.0, "lam": 2.5, "kernel": "inverse_multiquadratics"})
    units = {"reconstruction": "nats", "kl": "nats", "negative_elbo": "nats"}  # noqa: RUF012  (a class's constant)

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        alpha: Annotated[float, Field(le=1, allow_inf_nan=False)] = 0.0,
        lam: NonNegativeFloat = 1000.0,
        kernel: Kernel = "gaussian",
    ) -> None:
        super().__init__()
        if alpha + lam < 1 - 1e-9:  # sums that round
            raise ValueError(
                f"alpha + lam - 1 weighs the discrepancy, and {alpha} + {lam} - 1 is below 0; "
                f"lam: {1 - alpha} or more would do"
            )
        self.alpha = alpha
        self.lam = lam
        self.kernel = KERNELS[kernel]

    def loss(self, model: LatentVariable, batch: Batch, progress: Progress) -> Loss:
        """The loss on one batch, nats per example."""
        q = model.posterior(batch.x)
        z = q.rsample()
        reconstruction = -model.likelihood(z).log_prob(batch.x).mean()
        kl = kl_per_group(q, model.prior(), z).sum(1).mean()
        discrepancy = mmd_from_prior(z, model, self.kernel)
        total = reconstruction + (1 - self.alpha) * kl + (self.alpha + self.lam - 1) * discrepancy
        terms = {"reconstruction": reconstruction, "kl": kl, "mmd": discrepancy, "negative_elbo": reconstruction + kl}
        return Loss(total, terms)
