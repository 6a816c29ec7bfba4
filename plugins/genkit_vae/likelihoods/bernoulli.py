"""Bernoulli likelihoods: of bits, and their continuous relative on the unit interval."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from genkit import DataSpec
from genkit.model import Measure
from genkit_vae.likelihood import Likelihood


class Bernoulli(Likelihood):
    r"""Independent bits, for binary images.

    .. math:: p(x \mid z) = \prod_d \pi_d^{x_d} (1 - \pi_d)^{1 - x_d}

    Only for binary data: on grey values the formula is no likelihood (see ``continuous_bernoulli``).

    References:
        Kingma and Welling: Auto-Encoding Variational Bayes, ICLR 2014, arXiv 1312.6114, appendix C.1.
    """

    needs = "binary data"

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__(spec)

    @classmethod
    def fits(cls, spec: DataSpec) -> bool:
        """As :attr:`needs` says."""
        return spec.levels == 2

    @property
    def measure(self) -> Measure:
        """Probabilities."""
        return "probability"

    def distribution(self, parameters: Tensor) -> Distribution:
        """The bits' distribution, from logits."""
        bits = torch.distributions.Bernoulli(logits=parameters, validate_args=False)
        return Independent(bits, parameters.dim() - 1, validate_args=False)


class ContinuousBernoulli(Likelihood):
    r"""A density of grey values between 0 and 1, the continuous relative of a Bernoulli.

    .. math:: p(x \mid \lambda) = C(\lambda)\, \lambda^x (1 - \lambda)^{1 - x}

    What grey images need in the place of a Bernoulli, whose formula has no normalizing constant there.

    References:
        Loaiza-Ganem and Cunningham: The continuous Bernoulli, NeurIPS 2019, arXiv 1907.06845, equation 2.
    """

    needs = "images with grey values"

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__(spec)

    @classmethod
    def fits(cls, spec: DataSpec) -> bool:
        """As :attr:`needs` says."""
        return spec.levels != 2 and spec.is_image

    @property
    def measure(self) -> Measure:
        """Densities."""
        return "density"

    def distribution(self, parameters: Tensor) -> Distribution:
        """The values' distribution, from logits."""
        values = torch.distributions.ContinuousBernoulli(logits=parameters, validate_args=False)
        return Independent(values, parameters.dim() - 1, validate_args=False)
