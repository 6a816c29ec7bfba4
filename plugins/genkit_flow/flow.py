"""Normalizing flows."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from genkit import (
    Capability,
    DataSpec,
    Decodes,
    Encodes,
    Factory,
    GenerativeModel,
    HasLogProb,
    LogProb,
    SamplesDifferentiably,
    SamplesWithLogProb,
    Shape,
    refuse_context,
    use,
)
from genkit_flow.bijections.multiscale import Bijections
from genkit_flow.chain import Chain
from genkit_flow.dequantizer import Dequantizer, straight_through
from genkit_priors.prior import Prior, without_posterior

NEEDS_FORWARD = (HasLogProb, Encodes)
NEEDS_INVERSE = (Decodes, SamplesDifferentiably, SamplesWithLogProb)


class Invertible(Capability):
    """Maps continuous data to latents and back, one to one."""

    @abstractmethod
    def continuous(self, x: Tensor) -> Tensor:
        """What stands for data, with shape :math:`(B, *S)`, in the space where the map is one to one."""

    @abstractmethod
    def to_latent(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Latents, and the log-determinants of the map in nats with shape :math:`(B,)`."""

    @abstractmethod
    def from_latent(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The way back, and its log-determinants."""


class Flow(GenerativeModel, Encodes, Decodes, HasLogProb, SamplesWithLogProb, Invertible):
    r"""A normalizing flow: bijections between data and latents from a base distribution.

    .. math:: \log p(x) = \log p_0(f(x)) + \log \left| \det \frac{\partial f}{\partial x} \right|

    The likelihood is exact for continuous data. Discrete data is dequantized first: what is reported then is a lower
    bound on the log-probability, or with several draws of the noise an estimate that tightens it.

    Samples are mapped back to the data's levels; gradients through that rounding are those of what was rounded.

    Args:
        bijections: The bijections, from data to latents.
        base: The distribution of latents, any prior.
        dequantizer: From discrete to continuous values; "uniform" for discrete and "none" for continuous data, where
            nothing is said.

    References:
        Papamakarios et al.: Normalizing Flows for Probabilistic Modeling and Inference, JMLR 2021, arXiv 1912.02762.
        Ho et al.: Flow++, ICML 2019, arXiv 1902.00275, section 3.1 (the bound of dequantization).

    Example:
        >>> import genkit
        >>> coupling = {"use": "affine_coupling", "conditioner": {"use": "mlp", "hidden_dims": [16]}}
        >>> bijections = [{"use": "repeat", "times": 3, "bijections": [coupling, {**coupling, "flip": True}]}]
        >>> flow = genkit.build("model", {"use": "flow", "bijections": bijections}, genkit.DataSpec((2,)))
        >>> flow.log_prob(flow.rsample(4)).tightness
        'exact'
    """

    examples = (
        {"bijections": ["affine_coupling", {"use": "affine_coupling", "flip": True}]},
        {"bijections": ["logit", "actnorm", "spline_coupling"], "dequantizer": "uniform"},
        {"bijections": ["actnorm", "radial"], "base": {"use": "normal", "learned": True}},
        {"bijections": [{"use": "planar", "solve": False}]},
    )

    def __init__(
        self,
        spec: DataSpec,
        /,
        *,
        bijections: Bijections,
        base: Factory[Prior] = use("standard_normal"),
        dequantizer: Factory[Dequantizer] | None = None,
    ) -> None:
        super().__init__(spec)
        self.chain = Chain(bijections, spec.shape)
        self.base = without_posterior(base, self.chain.out_shape, "a flow")
        self.dequantizer = self._dequantizer(dequantizer, spec)

    @staticmethod
    def _dequantizer(chosen: Factory[Dequantizer] | None, spec: DataSpec) -> Dequantizer:
        if chosen is not None:
            return chosen(spec)
        from genkit_flow.dequantizers.none import NoDequantizer  # noqa: PLC0415
        from genkit_flow.dequantizers.uniform import UniformDequantizer  # noqa: PLC0415

        return NoDequantizer(spec) if spec.levels is None else UniformDequantizer(spec)

    def start(self, x: Tensor) -> None:
        """Shows each bijection the first batch, for those that start from data."""
        if self.chain.one_way != "inverse":
            self.chain.start(self.dequantizer.dequantize(x)[0])

    @property
    def withheld(self) -> Mapping[type[Capability], str]:
        """What a bijection that goes only one way leaves out, and what discrete data does."""
        closed: tuple[type[Capability], ...] = ()
        if self.chain.one_way is not None:
            closed = (*(NEEDS_FORWARD if self.chain.one_way == "inverse" else NEEDS_INVERSE), Invertible)
        why = f"in this flow {self.chain.why_one_way()}" if closed else ""
        withheld: dict[type[Capability], str] = dict.fromkeys(closed, why)
        if self.spec.levels is not None:
            withheld[SamplesWithLogProb] = "a flow's density of discrete samples is only known up to a bound"
        return withheld

    @property
    def latent_shape(self) -> Shape:
        """As the last bijection leaves it."""
        return self.chain.out_shape

    # ---- from data to latents --------------------------------------------------------------------------------------

    def continuous(self, x: Tensor) -> Tensor:
        """The middle of each discrete value's cell; continuous data itself."""
        return self.dequantizer.centre(x)

    def to_latent(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Through the bijections; a context is refused, since they were built without."""
        refuse_context(self, context)
        return self.chain(y)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The latent of the middle of each value's cell."""
        return self.to_latent(self.continuous(x), context)[0]

    def log_prob(self, x: Tensor, context: Tensor | None = None, num_samples: int = 1) -> LogProb:
        r"""The log-likelihood of each example.

        For discrete data with :math:`k` draws of the dequantizer's noise:

        .. math:: \log \frac{1}{k} \sum_{j=1}^k \frac{p(y_j)}{L^D q(u_j \mid x)}

        One draw is made at a time, so that memory does not grow with :math:`k`.

        References:
            Burda, Grosse and Salakhutdinov: Importance Weighted Autoencoders, ICLR 2016, arXiv 1509.00519.
        """
        if self.spec.levels is None:
            return LogProb(self._log_density(x, context), "exact", "density")
        log_sum = x.new_full(x.shape[:1], -math.inf)
        for _ in range(num_samples):
            y, log_weight = self.dequantizer.dequantize(x)
            log_sum = torch.logaddexp(log_sum, self._log_density(y, context) + log_weight)
        tightness = "lower bound" if num_samples == 1 else "estimate"
        nats = log_sum - math.log(num_samples)
        return LogProb(nats, tightness, "probability", num_samples, self.dequantizer.label)

    def _log_density(self, y: Tensor, context: Tensor | None) -> Tensor:
        z, log_det = self.to_latent(y, context)
        return self.base.distribution(context).log_prob(z) + log_det

    # ---- from latents to data --------------------------------------------------------------------------------------

    def sample_latent(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from the base."""
        return self.base.sample(num_samples, context, temperature)

    def from_latent(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Back through the bijections; a context is refused, since they were built without."""
        refuse_context(self, context)
        return self.chain.inverse(z)

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The data that latents stand for, on its levels where it is discrete."""
        y = self.from_latent(z, context)[0]
        return straight_through(y, self.dequantizer.quantize(y))

    def sampling_parameters(self) -> Sequence[nn.Parameter]:
        """The base's and the bijections'; the dequantizer's noise is not sampled."""
        return [*self.base.parameters(), *self.chain.parameters()]

    def rsample(self, num_samples: int, context: Tensor | None = None) -> Tensor:
        """Decodes latents from the base."""
        return self.decode(self._rsample_latent(num_samples, context), context)

    def rsample_with_log_prob(self, num_samples: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Decodes latents from the base; the densities need no way back."""
        z = self._rsample_latent(num_samples, context)
        x, log_det = self.from_latent(z, context)
        return x, self.base.distribution(context).log_prob(z) - log_det

    def _rsample_latent(self, num_samples: int, context: Tensor | None) -> Tensor:
        p = self.base.distribution(context)
        return p.rsample(torch.Size([num_samples])) if p.has_rsample else self.sample_latent(num_samples, context)
