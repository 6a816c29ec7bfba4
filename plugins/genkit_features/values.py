"""The values themselves."""

from __future__ import annotations

from torch import Tensor

from genkit import DataSpec
from genkit_features.extractor import FeatureExtractor


class Values(FeatureExtractor):
    """The examples' own values as features: right for points in the plane, poor for images."""

    def __init__(self, spec: DataSpec, /) -> None:
        pass

    @property
    def label(self) -> str:
        """No version: there is nothing to learn."""
        return "values"

    def features(self, x: Tensor) -> Tensor:
        """The values of each example in a row."""
        return x.flatten(1)
