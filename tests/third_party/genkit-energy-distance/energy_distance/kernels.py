"""The kernels: minus a distance, and exponentials of distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat
from torch import Tensor

from energy_distance.kernel import Kernel

Scales = Annotated[Sequence[PositiveFloat], Field(min_length=1)]


class Euclidean(Kernel):
    r"""Minus the Euclidean distance, the kernel of the energy distance proper: it has no scale to choose.

    .. math:: k(x, y) = -\lVert x - y \rVert^\beta

    Args:
        exponent: The distance's exponent, :math:`\beta`, below 2, where only the means would count.

    References:
        Székely and Rizzo: Energy Statistics: A Class of Statistics Based on Distances, Journal of Statistical Planning
        and Inference 143 (2013), definition 2 and proposition 2. Sejdinovic et al.: Equivalence of Distance-Based and
        RKHS-Based Statistics in Hypothesis Testing, Annals of Statistics 41 (2013), arXiv 1207.6076.
    """

    examples = ({}, {"exponent": 1.5})

    def __init__(self, *, exponent: Annotated[float, Field(ge=1, lt=2)] = 1.0) -> None:
        self.exponent = exponent

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Minus the distances."""
        return -torch.cdist(x, y).pow(self.exponent)


class Gaussian(Kernel):
    r"""A mean of Gaussians of several widths.

    .. math:: k(x, y) = \frac{1}{S} \sum_{s} \exp\left(-\frac{\lVert x - y \rVert^2}{2\, D s^2}\right)

    Distances are taken per root of the number of dimensions :math:`D`, so that a scale means the same for a point in
    the plane and for an image.

    Args:
        scales: The widths :math:`s`, in the data's units. What lies much farther apart than all of them is not felt.

    References:
        Gretton et al.: A Kernel Two-Sample Test, JMLR 13 (2012). Li, Swersky and Zemel: Generative Moment Matching
        Networks, ICML 2015, arXiv 1502.02761, section 3 (several widths).
    """

    examples = ({}, {"scales": [0.5]})

    def __init__(self, *, scales: Scales = (0.1, 0.2, 0.4, 0.8)) -> None:
        self.scales = tuple(scales)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean over all widths."""
        squared = torch.cdist(x, y).square() / x.shape[1]
        return torch.stack([torch.exp(-squared / (2 * scale**2)) for scale in self.scales]).mean(0)


class Laplacian(Kernel):
    r"""A mean of exponentials of the distance: sharper than a Gaussian nearby, with a longer reach.

    .. math:: k(x, y) = \frac{1}{S} \sum_{s} \exp\left(-\frac{\lVert x - y \rVert}{\sqrt{D}\, s}\right)

    Args:
        scales: The widths :math:`s`, in the data's units, for distances per root of the number of dimensions :math:`D`.

    References:
        Sriperumbudur et al.: Hilbert Space Embeddings and Metrics on Probability Measures, JMLR 11 (2010), arXiv
        0907.5309, section 3 (which kernels tell all distributions apart).
    """

    examples = ({}, {"scales": [0.5]})

    def __init__(self, *, scales: Scales = (0.1, 0.2, 0.4, 0.8)) -> None:
        self.scales = tuple(scales)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The mean over all widths."""
        distance = torch.cdist(x, y) / math.sqrt(x.shape[1])
        return torch.stack([torch.exp(-distance / scale) for scale in self.scales]).mean(0)
