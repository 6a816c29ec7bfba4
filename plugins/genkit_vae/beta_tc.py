"""The evidence lower bound with its divergence in three parts, each with a weight."""

from __future__ import annotations

from pydantic import NonNegativeFloat
from torch import Tensor

from genkit import Batch, GenerativeModel, GenkitError, LatentVariable, Loss, Progress
from genkit_vae.pairs import log_densities_of_pairs, log_marginals_of_pairs
from genkit_vae.variational import Variational
from genkit_vae.weights import log_mean_exp


class BetaTC(Variational):
    r"""The negative beta-TCVAE objective: the divergence in three parts, of which dependence of latents can cost more.

    .. math:: \mathcal{L} = \mathbb{E}[-\log p(x \mid z)]
        + \alpha\, \underbrace{\mathrm{KL}(q(z, x) \,\|\, q(z)\, p(x))}_{\text{index-code mutual information}}
        + \beta\, \underbrace{\mathrm{KL}(q(z) \,\|\, \textstyle\prod_d q(z_d))}_{\text{total correlation}}
        + \gamma\, \underbrace{\mathbb{E}\Big[\log \frac{\prod_d q(z_d)}{p(z)}\Big]}_{\text{dimension-wise divergence}}

    Here :math:`q(z)` is the mixture of all posteriors. With weights of 1 the three add up to the sampled divergence of
    the evidence lower bound, exactly, in each batch. The last is the sum of the dimensions' divergences wherever the
    prior factorizes.

    **What is logged.** The mixtures are those of the batch, :math:`q(z) \approx \frac{1}{B} \sum_j q(z \mid x_j)`, so
    that the three terms are estimates for a data set that is this batch: the mutual information is at most
    :math:`\log B`, and figures compare only at one batch size. The paper weighs by :math:`1 / N B` for a data set of
    :math:`N` examples: its mutual information is larger by :math:`\log N`, its total correlation by
    :math:`(D - 1) \log N` and its third term smaller by :math:`D \log N`. These are constants, without a gradient:
    training is the same.

    **Several levels.** The density of a whole latent is exact. That of one dimension of a level above the first is not
    known, and is taken given each example's own draw of the level below: an estimate within an estimate. Levels depend
    on each other, which is part of their total correlation.

    The terms: ``mutual_information``, ``total_correlation`` and ``dimension_kl`` without their weights, and
    ``negative_elbo``, in which all weights are 1.

    Args:
        alpha: Weight of the mutual information between examples and latents.
        beta: Weight of the total correlation.
        gamma: Weight of the dimension-wise divergence.

    References:
        Chen et al.: Isolating Sources of Disentanglement in Variational Autoencoders, NeurIPS 2018, arXiv 1802.04942,
        equation 2 and appendix C.1 (minibatch-weighted sampling).
    """

    examples = ({}, {"alpha": 0.5, "beta": 2.0, "gamma": 1.5})
    units = {  # noqa: RUF012  (a class's constant)
        "reconstruction": "nats",
        "mutual_information": "nats",
        "total_correlation": "nats",
        "dimension_kl": "nats",
        "negative_elbo": "nats",
    }

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        alpha: NonNegativeFloat = 1.0,
        beta: NonNegativeFloat = 6.0,
        gamma: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma

    def check(self, model: LatentVariable, x: Tensor) -> None:
        """Looks whether the posterior's density is known for each dimension alone.

        Raises:
            GenkitError: It is not.
        """
        q = model.posterior(x[:1])
        try:
            log_marginals_of_pairs(q, q.rsample())
        except NotImplementedError as error:
            raise GenkitError(
                "objective: beta_tc needs a posterior whose density is known for each latent dimension alone, and of "
                "this one it is not; posterior: diagonal or full_covariance would do"
            ) from error

    def loss(self, model: LatentVariable, batch: Batch, progress: Progress) -> Loss:
        """The loss on one batch, nats per example."""
        q = model.posterior(batch.x)
        z = q.rsample()  # (B, *Z)
        reconstruction = -model.likelihood(z).log_prob(batch.x).mean()
        pairs = log_densities_of_pairs(q, z)  # (B, B)
        log_given, log_prior = pairs.diagonal(), model.prior().log_prob(z)  # (B,)
        log_joint = log_mean_exp(pairs.T)  # (B,)
        log_product = log_mean_exp(log_marginals_of_pairs(q, z).transpose(0, 1)).sum(-1)  # (B,)
        information = (log_given - log_joint).mean()
        correlation = (log_joint - log_product).mean()
        dimensions = (log_product - log_prior).mean()
        total = reconstruction + self.alpha * information + self.beta * correlation + self.gamma * dimensions
        terms = {
            "reconstruction": reconstruction,
            "mutual_information": information,
            "total_correlation": correlation,
            "dimension_kl": dimensions,
            "negative_elbo": reconstruction + (log_given - log_prior).mean(),
        }
        return Loss(total, terms)
