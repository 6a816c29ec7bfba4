"""The aggregate posterior: latents of training examples."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor

from genkit import GenerativeModel, GenkitError, LatentVariable, Objective, Views
from genkit_latents.latent_sampler import LatentSampler, Output


class AggregatePosterior(LatentSampler):
    r"""Draws a training example, a latent from its posterior, and decodes that.

    .. math:: z \sim \frac{1}{N} \sum_{n=1}^N q(z \mid x_n), \qquad x \sim p(x \mid z)

    This is no generative model of its own: each sample is a reconstruction, perhaps of an example learned by heart. It
    shows what the prior misses. Where these samples look better than the prior's, the prior has holes, places that no
    example's latent comes near and that the decoder was never taught; ``gaussian_mixture`` or a learned prior would
    close them.

    Args:
        examples: Training examples to draw from at most, which are kept in memory, on the model's device; ``null`` for
            all.
        output: "draw" for draws from the likelihood, noise included; "mean" for its mean.

    References:
        Tomczak and Welling: VAE with a VampPrior, AISTATS 2018, arXiv 1705.07120, section 2 (the aggregate posterior as
        the prior that is best for the bound).
    """

    examples = ({}, {"examples": 7, "output": "mean"})

    def __init__(
        self,
        model: GenerativeModel,
        objective: Objective,
        /,
        *,
        examples: PositiveInt | None = 10_000,
        output: Output = "draw",
    ) -> None:
        super().__init__(model, examples, output)
        self.kept: Tensor | None = None

    def fit(self, data: Views) -> None:
        """Keeps training examples."""
        self.kept = torch.cat(list(self.training_examples(data)))  # (N, *S)

    def draw_latents(self, num_samples: int) -> Tensor:
        """Draws examples, and a latent for each.

        Raises:
            GenkitError: There are no examples yet.
        """
        if self.kept is None:
            raise GenkitError("aggregate_posterior has seen no training data; fit comes before sample")
        assert isinstance(self.model, LatentVariable)
        chosen = torch.randint(len(self.kept), (num_samples,), device=self.kept.device)
        return self.model.posterior(self.kept[chosen]).rsample()
