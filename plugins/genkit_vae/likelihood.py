"""What a decoder's output says about data."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, cast

from torch import Tensor, nn
from torch.distributions import Distribution

from genkit import Component, DataSpec, Shape
from genkit.model import Measure
from genkit.registry import installed


class Likelihood(Component, nn.Module, kind="likelihood", check="genkit_vae.testing:check_likelihood"):
    r"""Abstract likelihood :math:`p(x \mid z)`, made from a decoder's output.

    Implementing a likelihood:

    1. Say in :attr:`needs` and in :meth:`fits` what data it is for: all other data is refused, with the names of
       the likelihoods that fit it.
    2. ``def __init__(self, spec: DataSpec, /, *, ...)``: call ``super().__init__(spec)``.
    3. Say in :attr:`parameter_shape` what the decoder must put out, and in :attr:`measure` whether it gives
       probabilities or densities.
    4. Return the distribution of data in the spec's range from :meth:`distribution`, with ``log_prob`` (nats,
       shape :math:`(B,)`), ``sample`` and ``mean``, and ``validate_args=False``.
    """

    needs: ClassVar[str]

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__()
        if not self.fits(spec):
            raise ValueError(
                f"this likelihood needs {self.needs}, but the data has {spec.describe_values()}; "
                f"likelihoods that fit it: {', '.join(fitting(spec)) or 'none that is installed'}"
            )
        self.spec = spec

    @classmethod
    @abstractmethod
    def fits(cls, spec: DataSpec) -> bool:
        """Whether it is a likelihood of such data."""

    @property
    def parameter_shape(self) -> Shape:
        """The shape of the decoder's output for one example; the data's own, unless overridden."""
        return self.spec.shape

    @property
    @abstractmethod
    def measure(self) -> Measure:
        """Whether ``log_prob`` is that of a probability or of a density."""

    @abstractmethod
    def distribution(self, parameters: Tensor) -> Distribution:
        """The distribution of each example, from the decoder's output :math:`(B, *parameter_shape)`."""


def fitting(spec: DataSpec) -> list[str]:
    """The names of the installed likelihoods that fit some data."""
    return [r.name for r in installed().components("likelihood") if cast(type[Likelihood], r.load()).fits(spec)]


def to_index(x: Tensor, levels: int) -> Tensor:
    r"""The level of each value in :math:`[0, 1]`, int64.

    Example:
        >>> import torch
        >>> to_index(torch.tensor([0.0, 0.5, 1.0]), 3).tolist()
        [0, 1, 2]
    """
    return (x * (levels - 1)).round().long()
