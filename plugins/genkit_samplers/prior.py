"""Ancestral sampling: a latent from the prior, data from the latent."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat
from torch import Tensor

from genkit import Decodes, GenerativeModel, LatentVariable, Objective, Sampler, Samples


class Prior(Sampler):
    r"""Draws a latent from the prior and decodes it.

    .. math:: z \sim p(z), \qquad x \sim p(x \mid z)

    Args:
        temperature: Scales the prior's spread: 1 is the prior itself, less trades variety for quality.
        output: "draw" for draws from the likelihood, noise included; "mean" for its mean, the smoother
            picture that is commonly shown. A model without a likelihood has one output for both.
    """

    requires = (Decodes,)

    def __init__(
        self,
        model: GenerativeModel,
        objective: Objective,
        /,
        *,
        temperature: NonNegativeFloat = 1.0,
        output: Literal["draw", "mean"] = "draw",
    ) -> None:
        self.model = model
        self.temperature = temperature
        self.output = output

    def sample(self, num_samples: int, context: Tensor | None = None) -> Samples:
        """Draws samples."""
        assert isinstance(self.model, Decodes)
        z = self.model.sample_latent(num_samples, context, self.temperature)
        if self.output == "mean" or not isinstance(self.model, LatentVariable):
            return Samples(self.model.decode(z, context))
        likelihood = self.model.likelihood(z, context)
        return Samples(likelihood.sample(), likelihood.mean)
