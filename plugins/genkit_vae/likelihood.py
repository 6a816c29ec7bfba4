"""What a decoder's output says about data."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn
from torch.distributions import Distribution

from genkit import Component, DataSpec, Shape
from genkit.model import Measure

#: Which likelihoods fit which data; the messages of those that do not fit name these.
FITTING = {
    "2 levels": "bernoulli, categorical",
    "8-bit levels": "categorical, discretized_logistic, continuous_bernoulli, gaussian",
    "continuous values": "gaussian, continuous_bernoulli (images only)",
}


class Likelihood(Component, nn.Module, kind="likelihood"):
    r"""Abstract likelihood :math:`p(x \mid z)`, made from a decoder's output.

    Implementing a likelihood:

    1. ``def __init__(self, spec: DataSpec, /, *, ...)``: call ``super().__init__(spec)``, then
       :func:`refuse` data that it does not fit.
    2. Say in :attr:`parameter_shape` what the decoder must put out, and in :attr:`measure` whether it gives
       probabilities or densities.
    3. Return the distribution of data in the spec's range from :meth:`distribution`, with ``log_prob`` (nats,
       shape :math:`(B,)`), ``sample`` and ``mean``, and ``validate_args=False``.
    """

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__()
        self.spec = spec

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


def refuse(likelihood: str, needs: str, spec: DataSpec) -> ValueError:
    """The error of a likelihood that does not fit the data, naming those that do."""
    values = {None: "continuous values", 2: "2 levels"}.get(spec.levels, "8-bit levels")
    return ValueError(
        f"the {likelihood} likelihood needs {needs}, but the data has {spec.describe_values()}; "
        f"likelihoods that fit it: {FITTING[values]}"
    )


def to_index(x: Tensor, levels: int) -> Tensor:
    r"""The level of each value in :math:`[0, 1]`, int64.

    Example:
        >>> import torch
        >>> to_index(torch.tensor([0.0, 0.5, 1.0]), 3).tolist()
        [0, 1, 2]
    """
    return (x * (levels - 1)).round().long()
