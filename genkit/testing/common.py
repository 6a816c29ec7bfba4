"""What the checks have in common: small data, and small models of every installed kind."""

from __future__ import annotations

import itertools
import math
import unittest
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import Batch, Dataset, DataSpec, HasEnergy, Split, SplitName, Views
from genkit.engine.assembly import SPLITS
from genkit.engine.feed import Feed
from genkit.model import GenerativeModel, lacking
from genkit.recipe.check import requirements, resolve
from genkit.registry import installed
from genkit.testing.component import refused
from genkit.testing.keeping import CPU, seed

SPECS = {
    "binary images": DataSpec((1, 12, 12), levels=2, num_classes=3, protocol="binarized at 0.5"),
    "8-bit colour images": DataSpec((3, 8, 10), levels=256),
    "vectors": DataSpec((2,)),
}


def factory(kind: str, node: str | Mapping[str, Any]) -> Factory[Any]:
    """Resolves an installed component as a recipe would.

    Args:
        kind: Its kind.
        node: Its name, or a mapping with ``use`` and its options.
    """
    return resolve(kind, node, installed())


def examples(kind: str, name: str) -> list[Factory[Any]]:
    """An installed component with the options of each of its own ``examples``."""
    component = installed().get(kind, name).load()
    return [factory(kind, {"use": name, **options}) for options in component.examples]


class NotChecked(unittest.SkipTest):
    """What a check needs is not on this machine, such as a dataset's files; pytest takes it for a skipped test."""


def data_like(spec: DataSpec, size: int, seed: int = 0) -> Tensor:
    """Examples that fit a spec, with shape :math:`(N, *S)`."""
    generator = torch.Generator().manual_seed(seed)
    if spec.levels is None:
        return torch.randn(size, *spec.shape, generator=generator)
    return torch.randint(0, spec.levels, (size, *spec.shape), generator=generator).float() / (spec.levels - 1)


def batch_like(spec: DataSpec, size: int) -> Batch:
    """A batch that fits a spec."""
    labels = torch.arange(size) % spec.num_classes if spec.num_classes else None
    return Batch(data_like(spec, size), labels)


class MadeUp(Dataset):
    """Random data that fits a spec.

    Args:
        spec: What it looks like.
    """

    def __init__(self, spec: DataSpec, /) -> None:
        self._spec = spec

    @property
    def spec(self) -> DataSpec:
        """As it was asked for."""
        return self._spec

    def split(self, name: SplitName) -> Split:
        """Two dozen examples, other ones for each split."""
        values = data_like(self.spec, 24, seed=len(name))
        labels = torch.arange(24) % self.spec.num_classes if self.spec.num_classes else None
        return Split(values, Tensor.float, labels)


class MadeUpNormal(MadeUp, HasEnergy):
    """The same for continuous data, which is drawn from a standard normal."""

    def energy(self, x: Tensor) -> Tensor:
        """Minus its log-density."""
        return 0.5 * (x.square().flatten(1).sum(1) + self.spec.num_dims * math.log(2 * math.pi))

    @property
    def log_partition(self) -> float:
        """It is normalized."""
        return 0.0

    @property
    def entropy(self) -> float:
        """In closed form."""
        return 0.5 * self.spec.num_dims * math.log(2 * math.pi * math.e)


def made_up(spec: DataSpec) -> MadeUp:
    """A dataset that fits a spec; one with an energy where there can be one."""
    return MadeUpNormal(spec) if spec.levels is None else MadeUp(spec)


def views_of(spec: DataSpec) -> Views:
    """Made-up splits that fit a spec."""
    dataset = made_up(spec)
    return {split: Feed(dataset.split(split), CPU) for split in SPLITS}


def views_for(model: GenerativeModel) -> Views:
    """Made-up splits that fit a model."""
    return views_of(model.spec)


def models_for(asker: Factory[Any]) -> Iterator[tuple[str, GenerativeModel]]:
    """A small instance of every installed model with what a component requires, on every spec that it serves."""
    for registration in installed().components("model"):
        if lacking(registration.load(), requirements(asker)):
            continue
        builds = examples("model", installed().written(registration))
        for build, (name, spec) in itertools.product(builds, SPECS.items()):
            made = small_model(build, spec)
            if made is not None and not lacking(made, requirements(asker)):  # options may withhold what the class has
                yield f"{build} on {name}", made


def small_model(build: Factory[Any], spec: DataSpec) -> GenerativeModel | None:
    """A model for a spec, a little way from its start, where gradients may vanish; ``None`` if it refuses it."""
    seed()
    if refused(lambda: build(spec)):
        return None
    seed()
    model = build(spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model
