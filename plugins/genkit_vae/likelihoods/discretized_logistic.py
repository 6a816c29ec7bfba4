"""The discretized logistic likelihood of 8-bit images."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional

from genkit import DataSpec, Shape
from genkit.model import Measure
from genkit_vae.likelihood import Likelihood

SMALLEST_LOG_SCALE = -7.0  # in units of [0, 1]: far below one 8-bit level, and exp stays finite


class LevelLogistic(Distribution):
    r"""A logistic distribution whose mass is gathered into levels :math:`i / (L - 1)`.

    .. math:: P(x) = \sigma\left(\frac{x + h - \mu}{s}\right) - \sigma\left(\frac{x - h - \mu}{s}\right),
        \quad h = \frac{1}{2 (L - 1)},

    where the lowest level takes all the mass below it and the highest all above.
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own protocol)
    support = constraints.unit_interval

    def __init__(self, location: Tensor, log_scale: Tensor, levels: int) -> None:
        super().__init__(location.shape[:1], location.shape[1:], validate_args=False)
        self.location = location
        self.log_scale = log_scale
        self.levels = levels
        self.half = 0.5 / (levels - 1)

    @property
    def mean(self) -> Tensor:
        """The location, which is the mean but for the mass gathered at the ends."""
        return self.location.clamp(0, 1)

    def log_prob(self, value: Tensor) -> Tensor:
        r"""Log-probability of each example, nats.

        With :math:`a > b` the arguments of the two sigmoids, the difference is
        :math:`\sigma(a)\,\sigma(-b)\,(1 - e^{b - a})`, whose logarithm stays finite where both are close to 0 or 1.
        """
        inverse_scale = torch.exp(-self.log_scale)
        upper = (value + self.half - self.location) * inverse_scale
        lower = (value - self.half - self.location) * inverse_scale
        width = 2 * self.half * inverse_scale
        inside = functional.logsigmoid(upper) + functional.logsigmoid(-lower) + torch.log(-torch.expm1(-width))
        lowest = functional.logsigmoid(upper)
        highest = functional.logsigmoid(-lower)
        log_prob = torch.where(value < self.half, lowest, torch.where(value > 1 - self.half, highest, inside))
        return log_prob.flatten(1).sum(1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (torch's own signature)
        """Draws values in [0, 1]."""
        shape = torch.Size(sample_shape) + self.location.shape
        u = torch.rand(shape, device=self.location.device).clamp(1e-6, 1 - 1e-6)
        x = (self.location + self.log_scale.exp() * torch.logit(u)).detach()
        return (x.clamp(0, 1) * (self.levels - 1)).round() / (self.levels - 1)


class DiscretizedLogistic(Likelihood):
    r"""A logistic distribution gathered into the levels of an image, with a learned location and scale each.

    Neighbouring levels get similar probabilities, with two numbers for an element where ``categorical`` needs
    one for each level.

    References:
        Kingma et al.: Improving Variational Inference with Inverse Autoregressive Flow, NeurIPS 2016,
        arXiv 1606.04934, section 5.2. Salimans et al.: PixelCNN++, ICLR 2017, arXiv 1701.05517, equation 2.
    """

    needs = "discrete data with more than 2 levels"

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__(spec)
        self.levels = spec.levels

    @classmethod
    def fits(cls, spec: DataSpec) -> bool:
        """As :attr:`needs` says."""
        return spec.levels is not None and spec.levels > 2

    @property
    def parameter_shape(self) -> Shape:
        """A location and a log scale for each channel."""
        return (2 * self.spec.shape[0], *self.spec.shape[1:])

    @property
    def measure(self) -> Measure:
        """Probabilities."""
        return "probability"

    def distribution(self, parameters: Tensor) -> Distribution:
        """The levels' distribution; an output of zero is the centre of the range with a scale of a tenth."""
        location, log_scale = parameters.chunk(2, dim=1)
        log_scale = (log_scale + math.log(0.1)).clamp(min=SMALLEST_LOG_SCALE)
        return LevelLogistic(location + 0.5, log_scale, self.levels)
