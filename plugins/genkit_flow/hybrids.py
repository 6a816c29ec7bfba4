"""Flows as the prior and as the posterior of other models."""

from __future__ import annotations

from pydantic import NonNegativeInt
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from genkit import Factory, Shape, use
from genkit_flow.bijections.multiscale import Bijections
from genkit_flow.chain import Chain
from genkit_flow.distribution import FlowDistribution
from genkit_priors.prior import Prior, without_posterior
from genkit_vae.posterior import Posterior


class FlowPrior(Prior):
    r"""A prior that is learned: a base distribution seen through bijections.

    .. math:: z = f^{-1}(\epsilon), \qquad \epsilon \sim p_0

    Bijections whose densities are cheap from data to latents (``masked_autoregressive``, couplings) suit it: that way
    each training step goes.

    Args:
        bijections: The bijections, from the prior's latents to those of the base.
        base: The distribution behind them.

    References:
        Chen et al.: Variational Lossy Autoencoder, ICLR 2017, arXiv 1611.02731, section 3.2.
    """

    examples = ({"bijections": ["masked_autoregressive", {"use": "masked_autoregressive", "flip": True}]},)

    def __init__(
        self, latent_shape: Shape, /, *, bijections: Bijections, base: Factory[Prior] = use("standard_normal")
    ) -> None:
        super().__init__()
        self.chain = Chain(bijections, latent_shape)
        if self.chain.one_way is not None:
            raise ValueError(f"a prior needs both ways, but {self.chain.why_one_way()}")
        self.base = without_posterior(base, self.chain.out_shape, "what lies behind a flow")

    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The base seen through the bijections."""
        return FlowDistribution(self.base.distribution(context), self.chain)

    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from the base, whose spread the temperature scales, and maps."""
        return self.chain.inverse(self.base.sample(num_samples, context, temperature))[0]


class FlowPosterior(Posterior):
    r"""A posterior that is no longer normal: a diagonal normal sent through bijections.

    .. math:: z_0 \sim \mathcal{N}(\mu(x), \mathrm{diag}\,\sigma^2(x)), \qquad z = f^{-1}(z_0; h(x))

    The encoder puts out :math:`\mu`, :math:`\log \sigma` and a context :math:`h` that the bijections depend on. They
    are applied from latents to data, the last of the list first: the way in which ``planar``, ``radial`` and
    ``inverse_autoregressive`` are in closed form. The density of a draw is known from drawing it, so that a
    bijection need not go back.

    Args:
        bijections: The bijections.
        context_dim: Dimensions of :math:`h`; with 0 the bijections are the same for all examples.

    References:
        Rezende and Mohamed: Variational Inference with Normalizing Flows, ICML 2015, arXiv 1505.05770, algorithm 1.
        Kingma et al.: Improving Variational Inference with Inverse Autoregressive Flow, NeurIPS 2016, arXiv
        1606.04934, algorithm 1.
    """

    examples = (
        {"bijections": ["planar", "planar"]},
        {"bijections": ["inverse_autoregressive", {"use": "planar", "solve": False}], "context_dim": 0},
    )

    def __init__(self, latent_shape: Shape, /, *, bijections: Bijections, context_dim: NonNegativeInt = 64) -> None:
        super().__init__()
        if len(latent_shape) != 1:
            raise ValueError(f"makes vectors, not latents of shape {tuple(latent_shape)}")
        self.size = latent_shape[0]
        self.context_dim = context_dim
        self.chain = Chain(bijections, latent_shape, (context_dim,) if context_dim else None)
        if self.chain.one_way == "forward":
            raise ValueError(f"a posterior is drawn from latents to data, but {self.chain.why_one_way()}")
        if self.chain.out_shape != tuple(latent_shape):
            raise ValueError(f"the bijections change the latent's shape to {self.chain.out_shape}")

    @property
    def parameter_shape(self) -> Shape:
        """A mean and a log standard deviation for each latent dimension, and the context."""
        return (2 * self.size + self.context_dim,)

    @property
    def own_draws_only(self) -> bool:
        """Where a bijection does not go back."""
        return self.chain.one_way is not None

    def distribution(self, parameters: Tensor, context: Tensor | None = None) -> Distribution:
        """The flow of each example."""
        mean, log_std, h = parameters.split([self.size, self.size, self.context_dim], dim=1)
        base = Independent(Normal(mean, log_std.exp(), validate_args=False), 1, validate_args=False)
        return FlowDistribution(base, self.chain, h if self.context_dim else None)
