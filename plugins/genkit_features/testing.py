"""The contract of feature extractors: what each must keep, whoever wrote it.

Example:
    .. code-block:: python

        from genkit.testing import factory
        from genkit_features.testing import check_feature_extractor

        def test_my_extractor_keeps_the_contract():
            check_feature_extractor(factory("feature_extractor", {"use": "my_extractor"}))
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator

import torch

from genkit import DataSpec, Factory
from genkit.testing import (
    NotChecked,
    contract,
    data_like,
    nothing_drawn,
    refusal,
    unchanged,
    unseeded,
    untouched,
    views_of,
)
from genkit.testing.common import SPECS
from genkit_features.extractor import Classifies, FeatureExtractor

NUM = 6


@contract
def check_feature_extractor(build: Factory[FeatureExtractor]) -> None:
    """Checks a feature extractor on every kind of data that it serves.

    Features are finite vectors in single precision, one for each example, the same whenever they are asked for,
    whatever the global seed and the rest of the batch, under a label; learning draws nothing from the global
    generators; classes, where it knows them, are those of the data. Nothing is written into the user's cache.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
        NotChecked: It refuses all data, as one does whose weights are not there; with its reason.
    """
    reasons = {name: refusal(lambda spec=spec: build(spec)) for name, spec in SPECS.items()}
    served = [name for name, reason in reasons.items() if reason is None]
    if not served:
        raise NotChecked("; ".join(f"of {name}: {reason}" for name, reason in reasons.items()))
    for name in served:
        what = f"{build.name} of {name}"
        with _cache_of_its_own(), torch.no_grad(), untouched(what):
            _check_on(build, SPECS[name], what)


@contextlib.contextmanager
def _cache_of_its_own() -> Iterator[None]:
    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = place
        try:
            yield
        finally:
            if before is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = before


def _fitted(build: Factory[FeatureExtractor], spec: DataSpec, number: int, what: str) -> FeatureExtractor:
    """An instance that has met made-up data, under one of the checks' seeds."""
    views = views_of(spec)
    with unseeded(what, number):
        extractor = build(spec)
        with nothing_drawn(f"{what}: fit"):
            extractor.fit(views["train"], views["test"])
    return extractor


def _check_on(build: Factory[FeatureExtractor], spec: DataSpec, what: str) -> None:
    extractor, x = _fitted(build, spec, 0, what), data_like(spec, NUM)
    with unchanged({"x": x}, what), nothing_drawn(f"{what}: features"):
        features = extractor.features(x)
    shape = tuple(features.shape)
    assert shape == (NUM, shape[-1]), f"{what}: features have shape {shape}, not (B, D)"
    assert features.dtype == torch.float32, f"{what}: features are {features.dtype}, not float32"
    assert torch.isfinite(features).all(), f"{what}: features are not finite"
    assert torch.equal(features, extractor.features(x)), f"{what}: a second call gives other features"
    assert not torch.equal(features[0], features[1]), f"{what}: all examples have the same features"
    alone = torch.allclose(extractor.features(x[:1])[0], features[0], atol=1e-4)
    assert alone, f"{what}: an example's features depend on the rest of the batch"
    other = _fitted(build, spec, 1, what)
    assert torch.equal(features, other.features(x)), f"{what}: under another global seed the features are others"
    assert extractor.label, f"{what}: its label is empty; figures in different features cannot be compared"
    assert extractor.label == other.label, (
        f"{what}: labels {extractor.label!r} and {other.label!r} of the same features"
    )
    if isinstance(extractor, Classifies):
        classes = extractor.classify(x)
        assert classes.shape == (NUM,), f"{what}: classes have shape {tuple(classes.shape)}, not (B,)"
        assert classes.dtype == torch.int64, f"{what}: classes are {classes.dtype}, not int64"
        known = classes.min() >= 0 and classes.max() < (spec.num_classes or 0)
        assert known, f"{what}: classes leave those of the data, of which there are {spec.num_classes or 0}"
