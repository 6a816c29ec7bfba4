"""The contract of datasets."""

from __future__ import annotations

import torch
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import Batch, Dataset, DataSpec, SplitName
from genkit.engine.feed import Feed
from genkit.testing.common import CPU

NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


def check_dataset(build: Factory[Dataset]) -> None:
    """Checks a dataset whose files are there.

    The spec tells the truth, the same options give the same splits, values lie in the spec's range and on its
    levels, labels below the number of classes.
    """
    dataset, other = build(), build()
    spec = dataset.spec
    assert dataset.split("train") is not None, f"{build.name}: there is no training data"
    for name in NAMES:
        split, again = dataset.split(name), other.split(name)
        assert (split is None) == (again is None), f"{build.name}: split {name} comes and goes"
        if split is None or again is None:
            continue
        first, second = Feed(split, CPU), Feed(again, CPU)
        assert len(first) == len(second) > 0, f"{build.name}: split {name} has {len(first)} and {len(second)} examples"
        batch, same = _first(first), _first(second)
        assert torch.equal(batch.x, same.x), f"{build.name}: split {name} is not the same the second time"
        _check_values(batch.x, spec, f"{build.name}, {name}")
        _check_labels(batch.labels, spec, f"{build.name}, {name}")


def _first(feed: Feed) -> Batch:
    torch.manual_seed(5)
    return next(feed.batches(min(16, len(feed))))


def _check_values(x: Tensor, spec: DataSpec, what: str) -> None:
    assert x.shape[1:] == spec.shape, f"{what}: examples have shape {tuple(x.shape[1:])}, the spec says {spec.shape}"
    assert x.dtype == torch.float32, f"{what}: examples are {x.dtype}"
    assert torch.isfinite(x).all(), f"{what}: values are not finite"
    if spec.is_image:
        assert 0 <= x.min() <= x.max() <= 1, f"{what}: values leave [0, 1]"
    if spec.levels is not None:
        steps = x * (spec.levels - 1)
        assert torch.allclose(steps, steps.round(), atol=1e-3), f"{what}: values are not on {spec.levels} levels"


def _check_labels(labels: Tensor | None, spec: DataSpec, what: str) -> None:
    assert (labels is None) == (spec.num_classes is None), f"{what}: the spec and the batches disagree about labels"
    if labels is not None and spec.num_classes is not None:
        assert labels.dtype == torch.int64, f"{what}: labels are {labels.dtype}"
        assert 0 <= labels.min() <= labels.max() < spec.num_classes, f"{what}: labels leave the classes"
