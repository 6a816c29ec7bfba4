"""The generator: a latent pushed through a network, and no likelihood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from genkit import Backbone, DataSpec, Decodes, Factory, GenerativeModel, SamplesDifferentiably, Shape, use
from genkit_priors.prior import Prior, without_posterior

GENERATOR = use("mlp", hidden_dims=[128, 256, 512], activation="leaky_relu")


class Generator(GenerativeModel, Decodes, SamplesDifferentiably):
    r"""Pushes a latent from the prior through a network; it can be sampled, but says no likelihood.

    .. math:: z \sim p(z), \qquad x = g(z)

    For images, :math:`g` ends in :math:`(\tanh + 1) / 2`, the range of the data; vectors are the network's output
    as it is.

    Args:
        latent_dim: Dimensions of the latent.
        network: The network from a latent to an example.
        prior: The distribution of latents.

    References:
        Goodfellow et al.: Generative Adversarial Nets, NeurIPS 2014, arXiv 1406.2661, section 3.

    Example:
        >>> import genkit
        >>> generator = genkit.build("model", "generator", genkit.DataSpec((1, 28, 28), levels=256))
        >>> generator.rsample(4).shape
        torch.Size([4, 1, 28, 28])
    """

    examples = ({}, {"latent_dim": 4, "prior": "uniform", "network": {"use": "mlp", "hidden_dims": [16]}})

    def __init__(
        self,
        spec: DataSpec,
        /,
        *,
        latent_dim: PositiveInt = 32,
        network: Factory[Backbone] = GENERATOR,
        prior: Factory[Prior] = use("standard_normal"),
    ) -> None:
        super().__init__(spec)
        self._latent_shape = (latent_dim,)
        self.prior = without_posterior(prior, self._latent_shape, "a generator")
        self.network = network(self._latent_shape, spec.shape)

    def start(self, x: Tensor) -> None:
        """Shows the network its first latents."""
        self.network.start(self.sample_latent(len(x)))

    @property
    def latent_shape(self) -> Shape:
        """One vector of ``latent_dim`` numbers."""
        return self._latent_shape

    def sample_latent(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from the prior."""
        return self.prior.sample(num_samples, context, temperature)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The example that each latent stands for."""
        x = self.network(z, context).float()  # images are float32, whatever the network computes in
        return (torch.tanh(x) + 1) / 2 if self.spec.is_image else x

    def sampling_parameters(self) -> Sequence[nn.Parameter]:
        """All: the network's and the prior's."""
        return list(self.parameters())

    def rsample(self, num_samples: int, context: Tensor | None = None) -> Tensor:
        """Decodes latents from the prior."""
        return self.decode(self.sample_latent(num_samples, context), context)
