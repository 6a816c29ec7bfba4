"""Plain Monte Carlo."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from genkit import LatentVariable
from genkit_latents.averaging import Averaging, Weigher
from genkit_vae.weights import log_likelihoods


class MonteCarlo(Averaging):
    r"""Plain Monte Carlo from the prior: what not to do, to stand beside what is done.

    .. math:: \log p(x) \approx \log \frac{1}{k} \sum_{i=1}^k p(x \mid z_i), \quad z_i \sim p(z)

    The mean is right in expectation and useless at any number of draws that a machine can make. Hardly a latent of the
    prior could have made a given example: of a posterior :math:`\mathrm{KL}` nats away from the prior it takes some
    :math:`e^{\mathrm{KL}}` draws to meet one that could, and these nats grow with the dimensions of the latent. With
    fewer, one draw has all the weight, the logarithm is far below :math:`\log p(x)`, and how far the estimate varies
    does not show in the draws at hand: both its bias and its variance are those of the best of :math:`k` bad draws.
    Latents of two dimensions it can still serve.

    Each example has draws of its own, so that the errors of different examples are independent of each other.

    Args:
        k: Draws for each example.
        chunk: Latents that are decoded at a time; memory grows with them, and not with ``k``.

    References:
        Kingma and Welling: Auto-Encoding Variational Bayes, ICLR 2014, arXiv 1312.6114, section 2.1.
        Chatterjee and Diaconis: The Sample Size Required in Importance Sampling, Annals of Applied Probability 28,
        2018, arXiv 1511.01437, theorem 1.1 (how many draws).
        Wu et al.: On the Quantitative Analysis of Decoder-Based Generative Models, ICLR 2017, arXiv 1611.04273.
    """

    examples = ({"k": 20}, {"k": 7, "chunk": 100})

    def __init__(self, *, k: PositiveInt = 5000, chunk: PositiveInt = 2000) -> None:
        super().__init__(k, chunk)

    @property
    def label(self) -> str:
        """What the draws are."""
        return "plain Monte Carlo from the prior"

    def weigher(self, model: LatentVariable, x: Tensor) -> Weigher:
        """Draws from the prior; a weight is the likelihood."""
        p = model.prior()
        return lambda count: log_likelihoods(model, x, p.sample(torch.Size([count, len(x)])))
