"""Random Fourier features."""

from __future__ import annotations

import math

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from genkit import DataSpec
from genkit_features.extractor import FeatureExtractor


class Template(FeatureExtractor):
    r"""Cosines of random projections, whose inner products approximate a Gaussian kernel.

    .. math:: \phi(x) = \sqrt{2 / F} \cos(W x / s + b), \qquad
        \mathbb{E}\, \phi(x)^\top \phi(y) = e^{-\|x - y\|^2 / (2 s^2)}

    with :math:`W_{ij} \sim \mathcal{N}(0, 1)` and :math:`b_i \sim U(0, 2 \pi)`. Nothing is learned, and the projections
    come from a seed of their own: every run has the same features.

    Args:
        num_features: How many, :math:`F`.
        scale: The kernel's scale :math:`s`; the root of the number of elements where nothing is said.
        projection_seed: Where the projections are drawn from.

    References:
        Rahimi and Recht: Random Features for Large-Scale Kernel Machines, NeurIPS 2007.

    Example:
        >>> extractor = Template(DataSpec((1, 28, 28)), num_features=16)
        >>> extractor.features(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 16])
    """

    examples = ({}, {"num_features": 8, "scale": 1.0})

    def __init__(
        self,
        spec: DataSpec,
        /,
        *,
        num_features: PositiveInt = 128,
        scale: PositiveFloat | None = None,
        projection_seed: NonNegativeInt = 0,
    ) -> None:
        self.scale = scale or math.sqrt(spec.num_dims)
        self.size = (spec.num_dims, num_features)
        self.projection_seed = projection_seed

    @property
    def label(self) -> str:
        """Part of every figure's tag: figures in other features are other figures."""
        return f"random features {self.size[1]}, scale {self.scale:.3g}, seed {self.projection_seed}"

    def features(self, x: Tensor) -> Tensor:
        """The features of examples with shape :math:`(B, *S)`, with shape :math:`(B, F)`."""
        generator = torch.Generator().manual_seed(self.projection_seed)
        projections = torch.randn(self.size, generator=generator, device="cpu").to(x)
        phases = (2 * math.pi * torch.rand(self.size[1], generator=generator, device="cpu")).to(x)
        return math.sqrt(2 / self.size[1]) * torch.cos(x.flatten(1) @ projections / self.scale + phases)
