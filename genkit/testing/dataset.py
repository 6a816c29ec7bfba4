"""The contract of datasets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import Batch, Dataset, DataSpec, HasEnergy, HasModes, Split, SplitName
from genkit.engine.feed import Feed
from genkit.errors import DataError
from genkit.testing.common import NotChecked
from genkit.testing.component import contract
from genkit.testing.keeping import CPU, seed, unchanged, unseeded, untouched

MANY, BATCH = 4096, 64
"""Examples of a split that are looked at, and those of a batch."""
Examples = list[bytes]
NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


@contract
def check_dataset(build: Factory[Dataset]) -> None:
    """Checks a dataset whose files are there.

    The spec tells the truth, the same options give the same splits whatever the global seed, values lie in the spec's
    range and on its levels, labels below the number of classes, no two splits are the same examples, the stored
    examples and torch's settings stay as they are; energies and modes, where it has them, are what they say. The first
    4096 examples of each split are looked at.

    Raises:
        AssertionError: It breaks the contract; the message says where, and what is asked for.
        NotChecked: Its files are not there.
    """
    what = build.name
    try:
        with untouched(what), unseeded(what):
            dataset = build()
            first = {name: dataset.split(name) for name in NAMES}
        seed(1)  # no other data under another seed
        other = build()
        second = {name: other.split(name) for name in NAMES}
    except DataError as error:
        raise NotChecked(str(error)) from error
    _check_spec(dataset.spec, what)
    assert first["train"] is not None, f"{what}: there is no training data"
    seen: dict[SplitName, Examples] = {}
    for name in NAMES:
        split, again = first[name], second[name]
        assert (split is None) == (again is None), f"{what}: split {name} comes and goes"
        if split is not None and again is not None:
            seen[name] = _check_split(split, again, dataset.spec, what, name)
    for name, other_name in itertools.combinations(seen, 2):
        same = _same(seen[name], seen[other_name], dataset.spec)
        assert not same, f"{what}: splits {name} and {other_name} are the same examples"
    x = next(_batches(Feed(first["train"], CPU))).x
    if isinstance(dataset, HasEnergy):
        _check_energy(dataset, x, what)
    if isinstance(dataset, HasModes):
        _check_modes(dataset, dataset.spec, what)


def _check_spec(spec: DataSpec, what: str) -> None:
    sound = len(spec.shape) in (1, 3) and all(size > 0 for size in spec.shape)
    assert sound, f"{what}: the spec's shape is {spec.shape}; (C, H, W) or (D,) is wanted, each at least 1"
    assert spec.levels is None or spec.levels >= 2, f"{what}: {spec.levels} levels; 2 at least, or None for continuous"
    assert spec.num_classes is None or spec.num_classes >= 1, f"{what}: {spec.num_classes} classes; None for no labels"


def _check_split(split: Split, again: Split, spec: DataSpec, what: str, name: str) -> Examples:
    """Goes through a split twice; returns its examples."""
    first, second = Feed(split, CPU), Feed(again, CPU)
    assert len(first) == len(second) > 0, f"{what}: split {name} has {len(first)} and {len(second)} examples"
    stored = {"source": split.source[:MANY]} if isinstance(split.source, Tensor) else {}
    found: Examples = []
    with untouched(what), unchanged(stored, what, f"reading split {name} changes the stored examples"):
        for batch, same in zip(_batches(first), _batches(second), strict=True):
            _check_values(batch.x, spec, f"{what}, {name}")
            _check_labels(batch.labels, spec, f"{what}, {name}")
            alike = torch.equal(batch.x, same.x) and _alike(batch.labels, same.labels)
            assert alike, f"{what}: split {name} is not the same the second time"
            found += _bytes(batch.x)
    return _bytes(split.source[:MANY]) if isinstance(split.source, Tensor) else found


def _batches(feed: Feed) -> Iterator[Batch]:
    """The first batches of a split, as many as have :data:`MANY` examples, each under a seed of its own."""
    batches = feed.batches(BATCH)
    for number in range(min(feed.steps(BATCH, drop_last=False), MANY // BATCH)):
        with unseeded("preparing a batch", 5 + number):
            batch = next(batches)
        yield batch


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other is None or (one is not None and other is not None and torch.equal(one, other))


def _bytes(x: Tensor) -> Examples:
    """Each example as it lies in memory."""
    return [example.contiguous().numpy().tobytes() for example in x.detach().cpu()]


def _same(one: Examples, other: Examples, spec: DataSpec) -> bool:
    """Whether a split has the examples of another: in their order, or, where chance cannot do it, in any.

    Discrete data of few dimensions may well have all there is in each split.
    """
    few, many = sorted((one, other), key=len)
    if len(set(few)) < 2:
        return False
    return few == many[: len(few)] or (spec.levels is None and set(few) <= set(many))


def _check_energy(dataset: HasEnergy, x: Tensor, what: str) -> None:
    x = x.clone().requires_grad_()
    energy = dataset.energy(x)
    assert energy.shape == (len(x),), f"{what}: energies have shape {tuple(energy.shape)}, not (B,)"
    assert torch.isfinite(energy).all(), f"{what}: the energy of its own data is not finite"
    if energy.requires_grad:  # it may be flat
        energy.sum().backward()


def _check_modes(dataset: HasModes, spec: DataSpec, what: str) -> None:
    centres = dataset.centres
    assert centres.shape[1:] == (spec.num_dims,), f"{what}: centres have shape {tuple(centres.shape)}, not (K, D)"
    assert spec.num_classes == len(centres), f"{what}: {len(centres)} modes, and {spec.num_classes} classes in the spec"
    assert dataset.std > 0, f"{what}: the modes' standard deviation is {dataset.std}"


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
