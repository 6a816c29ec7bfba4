"""The Laplace likelihood."""

from __future__ import annotations

import math

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Laplace

from genkit import DataSpec
from genkit.model import Measure
from genkit_vae.likelihood import Likelihood


class Template(Likelihood):
    r"""Values around the decoder's output whose absolute errors count, not their squares.

    .. math:: p(x \mid z) = \prod_d \frac{1}{2 b} e^{-|x_d - \mu_d(z)| / b}

    A few large errors cost less than under a Gaussian, so that edges may stay sharp. It is a density, also of discrete
    data, and its figures are tagged so.

    Args:
        scale: The scale :math:`b` in units of the data (images lie in [0, 1]); where it is learned, its first value.
        learn_scale: Whether one :math:`b` for all elements is learned.
    """

    needs = "grey or continuous values"
    examples = ({}, {"scale": 0.2, "learn_scale": True})

    def __init__(self, spec: DataSpec, /, *, scale: PositiveFloat = 0.1, learn_scale: bool = False) -> None:
        super().__init__(spec)
        start = torch.tensor(math.log(scale))
        self.log_scale = nn.Parameter(start) if learn_scale else nn.Buffer(start)

    @classmethod
    def fits(cls, spec: DataSpec) -> bool:
        """As :attr:`needs` says."""
        return spec.levels != 2

    @property
    def measure(self) -> Measure:
        """Densities."""
        return "density"

    def distribution(self, parameters: Tensor) -> Distribution:
        """The distribution of data, from locations with shape :math:`(B, *S)`."""
        values = Laplace(parameters, self.log_scale.exp(), validate_args=False)
        return Independent(values, parameters.dim() - 1, validate_args=False)
