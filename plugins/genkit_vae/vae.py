"""The variational autoencoder."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from genkit import Backbone, DataSpec, Factory, Shape, use
from genkit_priors.prior import Prior
from genkit_vae.latent_model import LatentModel, full_precision
from genkit_vae.likelihood import Likelihood
from genkit_vae.posterior import Posterior, introduce


class VAE(LatentModel):
    r"""A variational autoencoder: a prior of latents, a decoder's likelihood and an encoder's posterior.

    .. math:: p(x, z) = p(x \mid z)\, p(z), \qquad q(z \mid x) \approx p(z \mid x)

    Args:
        latent_dim: Dimensions of the latent.
        encoder: The network from data to the posterior's parameters.
        decoder: The network from a latent to the likelihood's parameters.
        prior: The distribution of latents.
        posterior: The family of approximate posteriors.
        likelihood: The distribution of data given a latent; it must fit the data's values.

    References:
        Kingma and Welling: Auto-Encoding Variational Bayes, ICLR 2014, arXiv 1312.6114.
        Rezende, Mohamed and Wierstra: Stochastic Backpropagation, ICML 2014, arXiv 1401.4082.

    Example:
        >>> import genkit
        >>> spec = genkit.DataSpec((1, 28, 28), levels=2)
        >>> vae = genkit.build("model", {"use": "vae", "latent_dim": 20, "likelihood": "bernoulli"}, spec)
        >>> vae.decode(vae.sample_latent(4)).shape
        torch.Size([4, 1, 28, 28])
    """

    examples = (
        {"latent_dim": 20},
        {"latent_dim": 2, "likelihood": {"use": "discretized_logistic"}},
        {"latent_dim": 2, "likelihood": {"use": "gaussian", "learn_scale": True}},
    )

    def __init__(
        self,
        spec: DataSpec,
        /,
        *,
        latent_dim: PositiveInt = 20,
        encoder: Factory[Backbone] = use("mlp"),
        decoder: Factory[Backbone] = use("mlp"),
        prior: Factory[Prior] = use("standard_normal"),
        posterior: Factory[Posterior] = use("diagonal"),
        likelihood: Factory[Likelihood] = use("bernoulli"),
    ) -> None:
        super().__init__(spec, likelihood)
        self._latent_shape = (latent_dim,)
        self.posterior_family = posterior(self._latent_shape)
        self.latent_prior = prior(self._latent_shape)
        self.encoder = encoder(spec.shape, self.posterior_family.parameter_shape)
        self.decoder = decoder(self._latent_shape, self.likelihood_family.parameter_shape)
        introduce(self.latent_prior, self.posterior_family, self.posterior, spec)

    def start(self, x: Tensor) -> None:
        """Shows encoder, prior and decoder their first inputs."""
        self.encoder.start(x)
        self.latent_prior.start(x)
        self.decoder.start(self.sample_latent(len(x)))

    @property
    def latent_shape(self) -> Shape:
        """One vector of ``latent_dim`` numbers."""
        return self._latent_shape

    def prior(self, context: Tensor | None = None) -> Distribution:
        """The distribution of latents."""
        return self.latent_prior.distribution(context)

    def posterior(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """The distribution of the latent behind each example."""
        return self.posterior_family.distribution(full_precision(self.encoder(x, context)), context)

    def likelihood(self, z: Tensor, context: Tensor | None = None) -> Distribution:
        """The distribution of data that each latent stands for."""
        return self.likelihood_family.distribution(full_precision(self.decoder(z, context)))

    def sample_latent(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from the prior."""
        return self.latent_prior.sample(num_samples, context, temperature)

    def sampling_parameters(self) -> Sequence[nn.Parameter]:
        """The decoder's and the prior's; a likelihood's own scale does not move its mean.

        A prior that is made of posteriors draws by way of the encoder, whose weights belong to it then.
        """
        inference = [self.posterior_family, self.encoder] if self.latent_prior.needs_posterior else []
        moved = [self.latent_prior, *inference, self.decoder]
        return [parameter for part in moved for parameter in part.parameters()]
