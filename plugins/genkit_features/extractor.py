"""What turns examples into features."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genkit import Component, DataSpec, DataView, spread


class FeatureExtractor(Component, kind="feature_extractor", check="genkit_features.testing:check_feature_extractor"):
    """Abstract map from examples to vectors, in which distances mean more than between pixels.

    Implementing an extractor:

    1. ``def __init__(self, spec: DataSpec, /, *, ...)``: raise :class:`ValueError` for data that it cannot serve and
       for weights that are not there, saying what would do: this is before anything is trained.
    2. Learn in :meth:`fit`, if it must. It is called before the first features are asked for, under gradients turned
       off; what it draws must not depend on the global generator, so that every run has the same features.
    3. Return features from :meth:`features`, and say in :attr:`label` whose they are: figures in different features
       cannot be compared.
    """

    def fit(self, train: DataView, test: DataView | None) -> str:
        """Learns from data.

        Args:
            train: The training split.
            test: The test split, for saying how well it learnt.

        Returns:
            What a reader of the run's log should know, if anything.
        """
        return ""

    @property
    @abstractmethod
    def label(self) -> str:
        """Name and version, ``"classifier 3f2a90c1"``."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """The features of examples in the data's range, float32, with shape :math:`(B, D)`."""


class Classifies(ABC):
    """What an extractor can do that knows the data's classes."""

    @abstractmethod
    def classify(self, x: Tensor) -> Tensor:
        """The class of each example, int64, with shape :math:`(B,)`."""


def features_of(extractor: FeatureExtractor, view: DataView, count: int, batch_size: int) -> Tensor:
    """The features of so many examples from all over a split, with shape :math:`(N, D)`."""
    return torch.cat([extractor.features(batch.x) for batch in spread(view, min(count, len(view)), batch_size)])


def check_images(spec: DataSpec, what: str) -> None:
    """Refuses data that are no images."""
    if not spec.is_image:
        raise ValueError(f"{what} is for images, but the data has shape {spec.shape}; extractor: values would do")
