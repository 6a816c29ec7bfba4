"""Reconstruction and the maximum mean discrepancy."""

from __future__ import annotations

from pydantic import NonNegativeFloat

from genkit import Batch, Decodes, GenerativeModel, LatentVariable, Loss, Progress
from genkit_vae.discrepancy import KERNELS, Kernel, mmd_from_prior
from genkit_vae.variational import Variational


class MMD(Variational):
    r"""Reconstruction, and the maximum mean discrepancy between all latents and the prior.

    .. math:: \mathcal{L} = \mathbb{E}_{q(z \mid x)}[-\log p(x \mid z)] + w\, \mathrm{MMD}(q(z) \,\|\, p(z))

    No single posterior is drawn to the prior, only their mixture :math:`q(z)`: latents may say all that there is of
    the data, and samples from the prior still decode to it. It is no bound on the likelihood, and posteriors may grow
    so narrow that a bound with them says little: hold such models to their samples and reconstructions.

    The discrepancy is that of the batch, estimated without bias by one latent of each example and as many draws from
    the prior: the larger the batch, the less noisy. Draws do not learn which component of a mixture they come from.

    Args:
        weight: The weight :math:`w` of the discrepancy.
        kernel: "gaussian", the MMD-VAE's, or "inverse_multiquadratics", that of Wasserstein autoencoders.

    References:
        Zhao, Song and Ermon: InfoVAE: Balancing Learning and Inference in Variational Autoencoders, AAAI 2019,
        arXiv 1706.02262 (MMD-VAE). Tolstikhin et al.: Wasserstein Auto-Encoders, ICLR 2018,
        arXiv 1711.01558, algorithm 2.
    """

    requires = (LatentVariable, Decodes)
    examples = ({}, {"weight": 10.0, "kernel": "inverse_multiquadratics"})
    needs_density = False
    units = {"reconstruction": "nats"}  # noqa: RUF012  (a class's constant)

    def __init__(
        self, model: GenerativeModel, /, *, weight: NonNegativeFloat = 1000.0, kernel: Kernel = "gaussian"
    ) -> None:
        super().__init__()
        self.weight = weight
        self.kernel = KERNELS[kernel]

    def loss(self, model: LatentVariable, batch: Batch, progress: Progress) -> Loss:
        """The loss on one batch, nats per example."""
        z = model.posterior(batch.x).rsample()
        reconstruction = -model.likelihood(z).log_prob(batch.x).mean()
        discrepancy = mmd_from_prior(z, model, self.kernel)
        return Loss(reconstruction + self.weight * discrepancy, {"reconstruction": reconstruction, "mmd": discrepancy})
