"""Generative models, and the small abstract classes that say what a model can do.

Objectives, samplers and evaluators ask for these capabilities, never for a family of models.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.distributions import Distribution

from genkit.component import Component
from genkit.dataset import DataSpec, Shape


class GenerativeModel(Component, nn.Module, kind="model", check="genkit.testing:check_model"):
    """Abstract model of the distribution that data comes from.

    Implementing a model:

    1. ``def __init__(self, spec: DataSpec, /, *, ...)``: call ``super().__init__(spec)`` first.
    2. Inherit the capabilities it has (:class:`Decodes`, :class:`HasLogProb`, ...) beside this class, and
       implement their methods. What is not inherited is not there: nothing is sniffed.
    3. Declare networks as ``encoder: Factory[Backbone] = use("mlp")`` and build them with the shapes that
       only the model knows.
    4. Take and return data in the spec's range (images in :math:`[0, 1]`); convert inside.

    Args:
        spec: What the data looks like.
    """

    def __init__(self, spec: DataSpec, /) -> None:
        super().__init__()
        self.spec = spec

    def start(self, x: Tensor) -> None:
        """Sees the first batch of training data once, before anything is judged or trained.

        For models whose start depends on data, such as activation normalization.
        """

    @property
    def withheld(self) -> Mapping[type[Capability], str]:
        """Capabilities of the class that this very model has not, each with the reason; none, unless overridden.

        For models whose options decide what they can do. Who needs one of them is refused with the reason.
        """
        return {}


class Capability(ABC):
    """Abstract base of what a model can do."""


class KeepsWatch(ABC):
    """What a module of a model or of an objective can do that sees where a computation goes wrong.

    It must notice without making the device wait for the host; asked is it only when a run has ended.
    """

    @abstractmethod
    def close(self, sound: Tensor) -> None:
        """Told after each step whether all its figures were finite, bool with shape :math:`()`.

        Once they were not, whatever is computed later is a consequence: nothing more must be noticed.
        """

    @abstractmethod
    def complaint(self) -> str:
        """What went wrong first, as the end of a sentence; empty if nothing did."""


def watchers(*owners: nn.Module) -> list[KeepsWatch]:
    """All modules of some owners that keep watch."""
    return [module for owner in owners for module in owner.modules() if isinstance(module, KeepsWatch)]


def complaints(*owners: nn.Module) -> list[str]:
    """What the modules of some owners saw go wrong; one that is made of others leaves the word to them."""
    every = [(name, module) for owner in owners for name, module in owner.named_modules()]
    found = {name: module.complaint() for name, module in every if isinstance(module, KeepsWatch)}
    bad = {name: complaint for name, complaint in found.items() if complaint}
    return [f"{bad[name]} in {name}" for name in bad if not any(other.startswith(f"{name}.") for other in bad)]


class SamplesDifferentiably(Capability):
    """Draws samples through which gradients flow: what an adversary needs."""

    @abstractmethod
    def sampling_parameters(self) -> Sequence[nn.Parameter]:
        """The parameters that samples depend on: what a player who is judged by samples moves."""

    @abstractmethod
    def rsample(self, num_samples: int, context: Tensor | None = None) -> Tensor:
        """Draws samples with shape :math:`(N, *S)`, differentiable in the model's parameters."""


class SamplesWithLogProb(SamplesDifferentiably):
    """Draws samples and says how likely each of them is, exactly and differentiably."""

    @abstractmethod
    def rsample_with_log_prob(self, num_samples: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draws samples with shape :math:`(N, *S)`, and their log-densities in nats with shape :math:`(N,)`."""


class Encodes(Capability):
    """Maps data to one latent each."""

    @abstractmethod
    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The latent that stands for each example, with shape :math:`(B, *Z)`."""


class Decodes(Capability):
    """Maps latents to data, and knows where latents come from."""

    @property
    @abstractmethod
    def latent_shape(self) -> Shape:
        """The shape of one latent, :math:`Z`."""

    @abstractmethod
    def sample_latent(self, num_samples: int, context: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """Draws latents from the model's prior.

        Args:
            num_samples: How many, :math:`N`.
            context: What they are conditioned on.
            temperature: Scales the prior's spread; 1 is the prior itself, 0 its centre.

        Returns:
            Latents with shape :math:`(N, *Z)`.
        """

    @abstractmethod
    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """The data that latents stand for, its mean where it is random, with shape :math:`(N, *S)`."""


class LatentVariable(Capability):
    r"""Has a joint density :math:`p(x, z) = p(x \mid z) p(z)` and an approximate posterior :math:`q(z \mid x)`.

    Distributions are those of :mod:`torch.distributions`; their batch shape is :math:`(B,)` and their event
    shape is :math:`Z` or :math:`S`, so that ``log_prob`` has shape :math:`(B,)`, in nats.
    """

    @abstractmethod
    def prior(self, context: Tensor | None = None) -> Distribution:
        r""":math:`p(z)`, with an empty batch shape where there is no context."""

    @abstractmethod
    def posterior(self, x: Tensor, context: Tensor | None = None) -> Distribution:
        r""":math:`q(z \mid x)`, which can be sampled with gradients."""

    @abstractmethod
    def likelihood(self, z: Tensor, context: Tensor | None = None) -> Distribution:
        r""":math:`p(x \mid z)`."""


class HasLevels(LatentVariable):
    """Has latents of several levels, side by side in one vector, the one that data depend on first.

    What treats a latent as a single distribution, such as a mixture fitted to posteriors, cannot serve it.
    """

    @property
    @abstractmethod
    def levels(self) -> Sequence[int]:
        """The dimensions of each level, in the latent's order."""


Tightness = Literal["exact", "lower bound", "estimate"]
Measure = Literal["probability", "density"]


@dataclass(frozen=True)
class LogProb:
    r"""A log-likelihood that says what it is.

    Attributes:
        nats: :math:`\log p(x)` or what stands for it, with shape :math:`(B,)`.
        tightness: Whether it is exact, a lower bound, or an importance-weighted estimate (itself a lower
            bound in expectation, tighter with more samples).
        measure: ``probability`` of a discrete value, or ``density`` at a continuous one. Densities may
            exceed 1; the two are not comparable.
        num_samples: Importance samples behind an estimate.
        under: What else it was taken under, such as a dequantization.
    """

    nats: Tensor
    tightness: Tightness
    measure: Measure
    num_samples: int = 1
    under: str = ""

    def tag(self, spec: DataSpec) -> str:
        """What a reader must know before comparing two figures.

        Example:
            >>> import torch
            >>> spec = DataSpec((4,), 2, protocol="binarized at 0.5")
            >>> LogProb(torch.zeros(1), "lower bound", "probability").tag(spec)
            'lower bound; 2 levels, binarized at 0.5'
        """
        tightness = self.tightness
        if tightness == "estimate":
            tightness = f"estimate ({self.num_samples} samples)"
        density = "density of " if self.measure == "density" else ""
        return "; ".join(part for part in (tightness, f"{density}{spec.describe_values()}", self.under) if part)


class HasLogProb(Capability):
    """Can say how likely data is: exactly, by a bound, or by an estimate."""

    @abstractmethod
    def log_prob(self, x: Tensor, context: Tensor | None = None, num_samples: int = 1) -> LogProb:
        """The log-likelihood of each example.

        Args:
            x: Data with shape :math:`(B, *S)`, in the spec's range.
            context: What it is conditioned on.
            num_samples: Importance samples, for models that can use them to tighten a bound.
        """


def lacking(model: type | object, requires: tuple[type[Capability], ...]) -> list[str]:
    """The names of the required capabilities that a model, or a class of models, does not have."""
    cls = model if isinstance(model, type) else type(model)
    withheld = model.withheld if isinstance(model, GenerativeModel) else {}
    return [capability.__name__ for capability in requires if not issubclass(cls, capability) or capability in withheld]
