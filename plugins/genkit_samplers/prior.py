"""Ancestral sampling: a latent from the prior, data from the latent."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor

from genkit import Decodes, GenerativeModel, GenkitError, LatentVariable, Objective, Sampler, Samples

ROUNDS = 10_000  # of drawing again what lies outside


class Prior(Sampler):
    r"""Draws a latent from the prior and decodes it.

    .. math:: z \sim p(z), \qquad x \sim p(x \mid z)

    Args:
        temperature: Scales the prior's spread: 1 is the prior itself, less trades variety for quality.
        truncation: Elements of the latent further than this from 0 are drawn again: less trades variety for quality.
            Meant for priors whose elements are independent.
        output: "draw" for draws from the likelihood, noise included; "mean" for its mean, the smoother
            picture that is commonly shown. A model without a likelihood has one output for both.

    References:
        Brock, Donahue and Simonyan: Large Scale GAN Training for High Fidelity Natural Image Synthesis, ICLR 2019,
        arXiv 1809.11096, section 3.1 (truncation).
    """

    requires = (Decodes,)

    def __init__(
        self,
        model: GenerativeModel,
        objective: Objective,
        /,
        *,
        temperature: NonNegativeFloat = 1.0,
        truncation: PositiveFloat | None = None,
        output: Literal["draw", "mean"] = "draw",
    ) -> None:
        self.model = model
        self.temperature = temperature
        self.truncation = truncation
        self.output = output

    def sample(self, num_samples: int, context: Tensor | None = None) -> Samples:
        """Draws samples.

        Raises:
            GenkitError: The prior has next to nothing within the truncation.
        """
        assert isinstance(self.model, Decodes)
        z = self._latents(num_samples, context)
        if self.output == "mean" or not isinstance(self.model, LatentVariable):
            return Samples(self.model.decode(z, context))
        likelihood = self.model.likelihood(z, context)
        return Samples(likelihood.sample(), likelihood.mean)

    def _latents(self, num_samples: int, context: Tensor | None) -> Tensor:
        assert isinstance(self.model, Decodes)
        z = self.model.sample_latent(num_samples, context, self.temperature)
        if self.truncation is None:
            return z
        for _ in range(ROUNDS):
            outside = z.abs() > self.truncation
            if not outside.any():
                return z
            z = z.where(~outside, self.model.sample_latent(num_samples, context, self.temperature))
        raise GenkitError(f"the prior has next to nothing within {self.truncation} of 0; use a larger truncation")
