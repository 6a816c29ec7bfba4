"""Sampling from a normal distribution that is fitted to the latents of the data."""

from __future__ import annotations

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor

from genkit import (
    Decodes,
    Encodes,
    GenerativeModel,
    GenkitError,
    LatentVariable,
    Objective,
    Sampler,
    Samples,
    Views,
    spread,
)

JITTER = 1e-3  # added to each variance: fewer examples than dimensions leave some directions without any


class Template(Sampler):
    r"""Fits a normal distribution to the latents of the training data, and decodes draws from it.

    .. math:: z \sim \mathcal{N}(m, C), \qquad m, C = \text{mean and covariance of } \mathrm{encode}(x)

    Training rarely brings the latents of data all the way to the prior. Drawing where they really are makes samples
    that look more like the data; the price is that they are no longer samples of the model as it was defined.

    Args:
        temperature: Scales the spread around the mean: less than 1 trades variety for quality.
        examples_read: Training examples that it is fitted to, or as many as there are.

    References:
        Ghosh et al.: From Variational to Deterministic Autoencoders, ICLR 2020, arXiv 1903.12436, section 4 (ex-post
        density estimation).
    """

    requires = (Encodes, Decodes)
    fitted = True
    examples = ({}, {"temperature": 0.7})

    def __init__(
        self,
        model: GenerativeModel,
        objective: Objective,
        /,
        *,
        temperature: NonNegativeFloat = 1.0,
        examples_read: PositiveInt = 5000,
    ) -> None:
        self.model = model
        self.temperature = temperature
        self.examples_read = examples_read
        self.mean: Tensor | None = None
        self.root: Tensor | None = None

    def fit(self, data: Views) -> None:
        """Measures mean and covariance; is called before the first samples are drawn, with the model as it is then."""
        assert isinstance(self.model, Encodes)
        view = data["train"]
        read = spread(view, min(self.examples_read, len(view)), batch_size=500)
        z = torch.cat([self.model.encode(batch.x).flatten(1) for batch in read]).double()  # (N, D)
        self.mean = z.mean(0)
        centred = z - self.mean
        covariance = centred.T @ centred / len(z) + JITTER * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        self.root = torch.linalg.cholesky(covariance)

    def sample(self, num_samples: int, context: Tensor | None = None) -> Samples:
        """Draws samples in the data's range, with shape :math:`(N, *S)`.

        Raises:
            GenkitError: It was not fitted.
        """
        assert isinstance(self.model, Decodes)
        if self.mean is None or self.root is None:
            raise GenkitError("fit comes before sample: there is no distribution of latents yet")
        noise = torch.randn(num_samples, len(self.mean), dtype=self.mean.dtype, device=self.mean.device)
        flat = (self.mean + self.temperature * noise @ self.root.T).float()
        z = flat.unflatten(1, self.model.latent_shape)
        if not isinstance(self.model, LatentVariable):
            return Samples(self.model.decode(z, context))
        likelihood = self.model.likelihood(z, context)
        return Samples(likelihood.sample(), likelihood.mean)
