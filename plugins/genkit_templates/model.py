"""A mixture of Bernoulli distributions."""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from genkit import DataSpec, Decodes, GenerativeModel, HasLogProb, LogProb, Shape


class Template(GenerativeModel, Decodes, HasLogProb):
    r"""A mixture of independent bits: each component is a picture of how likely each pixel is to be set.

    .. math:: p(x) = \sum_{k=1}^K \pi_k \prod_d \mu_{kd}^{x_d} (1 - \mu_{kd})^{1 - x_d}

    Its likelihood is exact, which makes it the model to begin with and to compare with. It says what it can do by what
    it inherits: it :class:`~genkit.HasLogProb` and it :class:`~genkit.Decodes`. The latent of an example is the noise
    that chooses its component: with :math:`z_k` from a Gumbel distribution, :math:`\arg\max_k (\log \pi_k + z_k)` is
    :math:`k` with probability :math:`\pi_k`.

    Args:
        components: How many, :math:`K`.

    References:
        Bishop: Pattern Recognition and Machine Learning, Springer 2006, section 9.3.3.

    Example:
        >>> model = Template(DataSpec((1, 4, 4), levels=2), components=3)
        >>> model.log_prob(torch.zeros(2, 1, 4, 4)).nats.shape
        torch.Size([2])
    """

    examples = ({}, {"components": 3})

    def __init__(self, spec: DataSpec, /, *, components: PositiveInt = 50) -> None:
        super().__init__(spec)
        if spec.levels != 2:
            raise ValueError(
                f"models bits, but the data has {spec.describe_values()}; data with 2 levels would do, "
                "such as mnist with binarize: threshold"
            )
        self.weights = nn.Parameter(torch.zeros(components))  # logits of π
        self.pixels = nn.Parameter(0.1 * torch.randn(components, spec.num_dims))  # logits of μ

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Begins each component near an example of the first batch: components that are alike would stay alike."""
        chosen = torch.arange(len(self.pixels), device=x.device) % len(x)
        self.pixels.add_(2 * x.flatten(1)[chosen] - 1)

    @property
    def latent_shape(self) -> Shape:
        """A number for each component."""
        return tuple(self.weights.shape)

    def sample_latent(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws Gumbel noise; without it, at temperature 0, the most probable component is the only one."""
        noise = torch.rand(num_samples, *self.latent_shape, device=self.weights.device)
        return temperature * -torch.log(-torch.log(noise.clamp(1e-6, 1 - 1e-6)))

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The means of the components that latents choose, with shape :math:`(N, *S)`."""
        chosen = (self.weights + z).argmax(1)  # (N,)
        return torch.sigmoid(self.pixels[chosen]).unflatten(1, self.spec.shape)

    def log_prob(self, x: Tensor, context: Tensor | None = None, num_samples: int = 1) -> LogProb:
        """The exact log-probability of each example, by summing over all components."""
        bits = x.flatten(1)  # (B, D)
        log_on, log_off = functional.logsigmoid(self.pixels), functional.logsigmoid(-self.pixels)  # (K, D)
        log_each = bits @ log_on.T + (1 - bits) @ log_off.T  # (B, K)
        nats = torch.logsumexp(self.weights.log_softmax(0) + log_each, dim=1)
        return LogProb(nats, "exact", "probability")
