"""The variational autoencoder of several stochastic layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.distributions import Distribution

from genkit import Backbone, DataSpec, Factory, HasLevels, Section, Shape, refuse_context, use
from genkit_priors.prior import Prior
from genkit_vae.ancestral import Ancestral
from genkit_vae.latent_model import LatentModel, full_precision
from genkit_vae.likelihood import Likelihood
from genkit_vae.posterior import Diagonal, Posterior, introduce

TANH = {"use": "mlp", "hidden_dims": [16], "activation": "tanh"}  # of an example whose levels' spreads stay bounded


@dataclass(frozen=True, kw_only=True)
class Level(Section):
    """One stochastic layer.

    Attributes:
        latent_dim: Dimensions of its latent.
        encoder: The network from the level below (data, for the lowest) to the parameters of this level's posterior.
        decoder: The network from this level's latent to the parameters of the level below.
        posterior: The family of approximate posteriors.
    """

    latent_dim: PositiveInt = 20
    encoder: Factory[Backbone] = use("mlp")
    decoder: Factory[Backbone] = use("mlp")
    posterior: Factory[Posterior] = use("diagonal")


class HierarchicalVAE(LatentModel, HasLevels):
    r"""A variational autoencoder of several stochastic layers, each the prior of the one below.

    .. math:: p(x, z) = p(x \mid z_1) \prod_{l=1}^{L-1} p(z_l \mid z_{l+1})\, p(z_L), \qquad
        q(z \mid x) = q(z_1 \mid x) \prod_{l=2}^L q(z_l \mid z_{l-1})

    Between two layers the prior is a normal with diagonal covariance, whose mean and log standard deviation the decoder
    puts out. To objectives, samplers and evaluators all layers are one latent, side by side in one vector, the layer
    next to the data first. Its divergences have no closed form; they are estimated with the latents at hand, apart for
    each dimension.

    Args:
        levels: The stochastic layers, that next to the data first.
        prior: The distribution of the topmost latents.
        likelihood: The distribution of data given the lowest latent; it must fit the data's values.

    References:
        Rezende, Mohamed and Wierstra: Stochastic Backpropagation, ICML 2014, arXiv 1401.4082, section 2.
        Burda, Grosse and Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016, arXiv 1509.00519, section 2.

    Example:
        >>> import genkit
        >>> levels = [{"latent_dim": 100}, {"latent_dim": 50}]
        >>> node = {"use": "hierarchical_vae", "levels": levels}
        >>> vae = genkit.build("model", node, genkit.DataSpec((1, 28, 28), levels=2))
        >>> vae.decode(vae.sample_latent(4)).shape
        torch.Size([4, 1, 28, 28])
    """

    examples = (
        {"levels": [{"latent_dim": 3}, {"latent_dim": 2}]},
        {"levels": [{"latent_dim": 2}, {"latent_dim": 2}], "prior": {"use": "vamp", "pseudo_inputs": 3}},
        {"levels": [{"latent_dim": size, "decoder": TANH} for size in (2, 2, 1)], "likelihood": "gaussian"},
    )

    def __init__(
        self,
        spec: DataSpec,
        /,
        *,
        levels: Annotated[Sequence[Level], Field(min_length=1)],
        prior: Factory[Prior] = use("standard_normal"),
        likelihood: Factory[Likelihood] = use("bernoulli"),
    ) -> None:
        super().__init__(spec, likelihood)
        self._sizes = tuple(level.latent_dim for level in levels)
        self.posterior_families = nn.ModuleList(level.posterior((level.latent_dim,)) for level in levels)
        self.conditional_priors = nn.ModuleList(Diagonal((size,)) for size in self._sizes[:-1])
        self.latent_prior = prior((self._sizes[-1],))
        self.encoders = nn.ModuleList(self._encoders(spec, levels))
        self.decoders = nn.ModuleList(self._decoders(levels))
        below = spec if len(levels) == 1 else DataSpec((self._sizes[-2],))
        introduce(self.latent_prior, self.posterior_families[-1], self.top_posterior, below)

    def _encoders(self, spec: DataSpec, levels: Sequence[Level]) -> Iterator[nn.Module]:
        shapes: list[Shape] = [spec.shape, *((size,) for size in self._sizes)]
        for level, below, family in zip(levels, shapes, self.posterior_families, strict=False):
            yield level.encoder(below, family.parameter_shape)

    def _decoders(self, levels: Sequence[Level]) -> Iterator[nn.Module]:
        for level, below in zip(levels, [self.likelihood_family, *self.conditional_priors], strict=True):
            yield level.decoder((level.latent_dim,), below.parameter_shape)

    def start(self, x: Tensor) -> None:
        """Shows encoders, prior and decoders their first inputs: each what those before it make once they started."""
        seen = x
        for level, encoder in enumerate(self.encoders):
            encoder.start(seen)
            if level == len(self._sizes) - 1:
                self.latent_prior.start(seen)
            seen = self._posterior_of(level, seen).sample()
        z = self.latent_prior.sample(len(x))
        for level in reversed(range(len(self._sizes))):
            self.decoders[level].start(z)
            z = self._prior_below(level, z).sample() if level else z

    @property
    def levels(self) -> Sequence[int]:
        """The dimensions of each stochastic layer."""
        return self._sizes

    @property
    def latent_shape(self) -> Shape:
        """All layers in one vector."""
        return (sum(self._sizes),)

    def prior(self, context: Tensor | None = None) -> Distribution:
        """The distribution of latents, drawn from the topmost layer down."""
        downward = [partial(self._prior_below, level) for level in reversed(range(1, len(self._sizes)))]
        return Ancestral(self.latent_prior.distribution(context), downward, self._sizes[::-1], backward=True)

    def _prior_below(self, level: int, z: Tensor) -> Distribution:
        """The prior of the layer below one, given that one's latents."""
        family, decoder = self.conditional_priors[level - 1], self.decoders[level]
        return family.distribution(full_precision(decoder(z)))

    def posterior(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        """The distribution of the latents behind each example, drawn from the lowest layer up."""
        refuse_context(self, context)
        upward = [partial(self._posterior_of, level) for level in range(1, len(self._sizes))]
        return Ancestral(self._posterior_of(0, x), upward, self._sizes)

    def _posterior_of(self, level: int, below: Tensor) -> Distribution:
        """The posterior of a layer, given the one below it, or data."""
        family, encoder = self.posterior_families[level], self.encoders[level]
        return family.distribution(full_precision(encoder(below)))

    def top_posterior(self, below: Tensor) -> Distribution:
        """The posterior of the topmost layer, given the one below it, or data where it is the only one."""
        return self._posterior_of(len(self._sizes) - 1, below)

    def likelihood(self, z: Tensor, context: Tensor | None = None) -> Distribution:
        """The distribution of data that each latent stands for, by its lowest layer."""
        refuse_context(self, context)
        return self.likelihood_family.distribution(full_precision(self.decoders[0](z[:, : self._sizes[0]])))

    def sample_latent(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from the prior; the temperature scales the spread of every layer."""
        levels = [self.latent_prior.sample(num_samples, context, temperature)]
        for level in reversed(range(1, len(self._sizes))):
            p = self._prior_below(level, levels[-1])
            levels.append(p.mean + temperature * (p.rsample() - p.mean))
        return torch.cat(levels[::-1], dim=-1)

    def sampling_parameters(self) -> Sequence[nn.Parameter]:
        """The decoders' and the prior's; a likelihood's own scale does not move its mean.

        A prior that is made of posteriors draws by way of the topmost encoder, whose weights belong to it then.
        """
        top = [self.posterior_families[-1], self.encoders[-1]] if self.latent_prior.needs_posterior else []
        return [parameter for part in (self.latent_prior, *top, *self.decoders) for parameter in part.parameters()]
