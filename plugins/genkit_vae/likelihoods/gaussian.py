"""The Gaussian likelihood."""

from __future__ import annotations

import math

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from genkit import DataSpec
from genkit.model import Measure
from genkit_vae.likelihood import Likelihood


class Gaussian(Likelihood):
    r"""Normal values around the decoder's output, with a fixed or learned scale.

    .. math:: p(x \mid z) = \mathcal{N}(\mu(z), \sigma^2 I)

    Gives a density, also of discrete data, where it is no probability and is tagged so.

    Args:
        scale: Standard deviation :math:`\sigma` in units of the data (images lie in [0, 1]); where it is
            learned, its first value.
        learn_scale: Whether one :math:`\sigma` for all elements is learned.

    References:
        Rybkin, Daniilidis and Levine: Simple and Effective VAE Training with Calibrated Decoders, ICML 2021,
        arXiv 2006.13202.
    """

    needs = "grey or continuous values"

    def __init__(self, spec: DataSpec, /, *, scale: PositiveFloat = 0.1, learn_scale: bool = False) -> None:
        super().__init__(spec)
        log_scale = torch.tensor(math.log(scale))
        if learn_scale:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    @classmethod
    def fits(cls, spec: DataSpec) -> bool:
        """As :attr:`needs` says."""
        return spec.levels != 2

    @property
    def measure(self) -> Measure:
        """Densities."""
        return "density"

    def distribution(self, parameters: Tensor) -> Distribution:
        """The values' distribution, from means."""
        values = Normal(parameters, self.log_scale.exp(), validate_args=False)
        return Independent(values, parameters.dim() - 1, validate_args=False)
