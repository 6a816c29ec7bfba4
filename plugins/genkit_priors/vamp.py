"""The mixture of a model's own posteriors."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from genkit import DataSpec, Shape
from genkit_priors.prior import PosteriorOf, Prior

ELEMENTS = 2**25
"""Numbers that a density holds at a time, unless one value's are more: 128 MiB in float32."""
MARGIN = 0.01
"""How far from the bounds examples start, where clamping leaves them no gradient."""


class Vamp(Prior):
    r"""A mixture of the model's own posteriors at pseudo-inputs, which are learned: the VampPrior.

    .. math:: p(z) = \sum_{k=1}^K \pi_k\, q(z \mid u_k)

    The average of the posteriors of all data would be the best prior for a bound; few pseudo-inputs :math:`u` stand for
    all data. Those of data in :math:`[0, 1]` are held there by clamping. The weights :math:`\pi` are equal, unless they
    are learned; then densities carry gradients to them, and draws do not.

    A batch of densities takes one pass of the :math:`K` pseudo-inputs through the encoder; each draw takes one of its
    own. All that the prior is made of is trained through it: pseudo-inputs and encoder. A temperature shrinks the
    mixture around its mean, :math:`\sum_k \pi_k\, \mathrm{E}[q(z \mid u_k)]`, as that of normals.

    Args:
        pseudo_inputs: How many, :math:`K`.
        start: Where they start: "random" draws them from a normal; "data" takes the first batch, from its beginning
            again, with noise, where there are too few examples, all at least 0.01 within the bounds.
        mean: Of a random start; 0.05 for data in :math:`[0, 1]`, else 0, where nothing is said.
        std: The standard deviation of a random start, 0.01 for data in :math:`[0, 1]`, else 1, where nothing is said;
            or that of the noise on examples that are taken again, 0.01 where nothing is said.
        learned_weights: Whether the weights are trained.

    References:
        Tomczak and Welling: VAE with a VampPrior, AISTATS 2018, arXiv 1705.07120, equation 9. The random start is that
        of the authors' code for handwritten digits.
    """

    needs_posterior = True
    examples = ({"pseudo_inputs": 20}, {"pseudo_inputs": 8, "start": "data", "learned_weights": True})

    def __init__(
        self,
        latent_shape: Shape,
        /,
        *,
        pseudo_inputs: PositiveInt = 500,
        start: Literal["random", "data"] = "random",
        mean: float | None = None,
        std: PositiveFloat | None = None,
        learned_weights: bool = False,
    ) -> None:
        super().__init__()
        if start == "data" and mean is not None:
            raise ValueError("mean is of a random start; with start: data, leave it out")
        self.origin, self.mean, self.std = start, mean, std
        logits = torch.zeros(pseudo_inputs)
        self.logits = nn.Parameter(logits) if learned_weights else nn.Buffer(logits, persistent=False)
        self.inputs: nn.Parameter | None = None
        self.bounded = False
        self._posterior: PosteriorOf | None = None

    def meet(self, posterior: PosteriorOf, spec: DataSpec) -> None:
        """Makes pseudo-inputs of the data's shape."""
        self._posterior = posterior
        self.bounded = spec.is_image or spec.levels is not None
        mean, std = (0.05, 0.01) if self.bounded else (0.0, 1.0)
        noise = torch.randn(len(self.logits), *spec.shape)  # (K, *S)
        self.inputs = nn.Parameter((mean if self.mean is None else self.mean) + (self.std or std) * noise)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Takes examples for pseudo-inputs, if they are to start there."""
        if self.origin != "data":
            return
        copies = x[torch.arange(len(self.logits), device=x.device) % len(x)]  # (K, *S)
        copies[len(x) :] += (self.std or 0.01) * torch.randn_like(copies[len(x) :])
        self._met()[0].copy_(self._held(copies, MARGIN))

    def distribution(self, context: Tensor | None = None) -> Distribution:
        """The mixture."""
        inputs, posterior = self._met()
        return PosteriorMixture(self._weights(), posterior(self._held(inputs)), validate_args=False)

    def sample(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws from the mixture, shrunk around its mean; differentiable in pseudo-inputs and encoder."""
        inputs, posterior = self._met()
        weights = self._weights()
        k = weights.sample(torch.Size([num_samples]))  # (N,)
        z = posterior(self._held(inputs[k])).rsample()  # (N, *Z)
        if temperature == 1:
            return z
        mean = torch.tensordot(weights.probs.detach(), posterior(self._held(inputs)).mean, dims=1)  # (*Z,)
        return temperature * z + (1 - temperature) * mean

    def _met(self) -> tuple[Tensor, PosteriorOf]:
        if self.inputs is None or self._posterior is None:
            raise RuntimeError("vamp has met no posterior: its owner calls meet(posterior, spec) when it is built")
        return self.inputs, self._posterior

    def _held(self, u: Tensor, margin: float = 0.0) -> Tensor:
        return u.clamp(margin, 1 - margin) if self.bounded else u

    def _weights(self) -> Categorical:
        return Categorical(logits=self.logits, validate_args=False)


class PosteriorMixture(MixtureSameFamily):
    r"""A mixture of posteriors, whose densities are computed in as little memory and time as its components allow.

    Of independent normals, the usual posteriors, the squares in the exponent are expanded, so that all values in all
    components are three matrix products; in double precision, since they cancel (0.03 nats are lost where a posterior's
    width is a millionth of the distances):

    .. math:: \sum_d \frac{(z_d - \mu_{kd})^2}{\sigma_{kd}^2}
        = \sum_d z_d^2 \frac{1}{\sigma_{kd}^2} - 2 \sum_d z_d \frac{\mu_{kd}}{\sigma_{kd}^2}
        + \sum_d \frac{\mu_{kd}^2}{\sigma_{kd}^2}

    Of others, some values are taken at a time: of all, each in each component, would fill memory.

    Example:
        >>> from torch.distributions import Normal
        >>> mixture = PosteriorMixture(Categorical(torch.ones(2)), Normal(torch.zeros(2), torch.ones(2)))
        >>> mixture.log_prob(torch.zeros(4, 3)).shape
        torch.Size([4, 3])
    """

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density in nats, with the values' shape before the event's."""
        outer = x.shape[: x.dim() - len(self.event_shape)]
        values = x.reshape(math.prod(outer), *self.event_shape)
        components = self.component_distribution
        normals = components.base_dist if isinstance(components, Independent) else components
        if isinstance(normals, Normal) and x.device.type != "mps":  # which has no double precision
            return self._of_normals(normals, values).view(outer)
        at_once = max(1, ELEMENTS // (components.batch_shape[-1] * max(1, math.prod(self.event_shape))))
        log_prob = super().log_prob
        return torch.cat([log_prob(part) for part in values.split(at_once)]).view(outer)

    def _of_normals(self, normals: Normal, values: Tensor) -> Tensor:
        mean, scale = (part.reshape(part.shape[0], -1).double() for part in (normals.loc, normals.scale))  # (K, D)
        centre = mean.detach().mean(0)  # (D,), around which squares are smaller
        z, mean = values.reshape(len(values), -1).double() - centre, mean - centre  # (N, D)
        precision = scale.square().reciprocal()
        constant = (mean.square() * precision + 2 * scale.log() + math.log(2 * math.pi)).sum(1)  # (K,)
        exponent = torch.addmm(constant, z.square(), precision.T) - 2 * z @ (mean * precision).T  # (N, K)
        log_shares = self.mixture_distribution.logits.log_softmax(-1)
        return (log_shares - exponent / 2).logsumexp(1).to(values.dtype)
