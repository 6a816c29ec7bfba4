"""The categorical likelihood of discrete data."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional

from genkit import DataSpec, Shape
from genkit.model import Measure
from genkit_vae.likelihood import Likelihood, to_index

MOST_LEVELS = 256


class LevelCategorical(Distribution):
    r"""Independent categorical levels :math:`i / (L - 1)`, from logits with shape :math:`(B, L, *S)`."""

    arg_constraints = {}  # noqa: RUF012  (torch's own protocol)

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.shape[:1], logits.shape[:1] + logits.shape[2:], validate_args=False)
        self.log_probs = functional.log_softmax(logits, dim=1)
        self.levels = logits.shape[1]

    support = constraints.unit_interval

    @property
    def mean(self) -> Tensor:
        """The expected value."""
        values = torch.linspace(0, 1, self.levels, device=self.log_probs.device)
        return torch.tensordot(self.log_probs.exp(), values, dims=([1], [0]))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of each example, nats."""
        index = to_index(value, self.levels).unsqueeze(1)
        return self.log_probs.gather(1, index).flatten(1).sum(1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008  (torch's own signature)
        """Draws values in [0, 1]."""
        categorical = torch.distributions.Categorical(logits=self.log_probs.movedim(1, -1), validate_args=False)
        return categorical.sample(sample_shape).float() / (self.levels - 1)


class Categorical(Likelihood):
    r"""Each element one of its levels, with a probability of its own for each level.

    The most general likelihood of independent discrete elements; the decoder puts out a logit for each level
    of each element.
    """

    needs = "discrete data with at most 256 levels"

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__(spec)
        self.levels = spec.levels

    @classmethod
    def fits(cls, spec: DataSpec) -> bool:
        """As :attr:`needs` says."""
        return spec.levels is not None and spec.levels <= MOST_LEVELS

    @property
    def parameter_shape(self) -> Shape:
        """A channel for each level of each channel."""
        return (self.levels * self.spec.shape[0], *self.spec.shape[1:])

    @property
    def measure(self) -> Measure:
        """Probabilities."""
        return "probability"

    def distribution(self, parameters: Tensor) -> Distribution:
        """The levels' distribution, from logits."""
        return LevelCategorical(parameters.unflatten(1, (self.levels, self.spec.shape[0])))
