"""What the checks have in common: small data, and small models of every installed kind."""

from __future__ import annotations

import math
import unittest
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from genkit.component import Factory
from genkit.dataset import Batch, Dataset, DataSpec, HasEnergy, Split, SplitName, Views
from genkit.engine.assembly import SPLITS
from genkit.engine.feed import Feed
from genkit.model import GenerativeModel, lacking
from genkit.recipe.check import requirements, resolve
from genkit.registry import OWN_DISTRIBUTION, Registration, installed
from genkit.testing.component import refused
from genkit.testing.keeping import CPU, seed
from genkit.testing.module import shake

T = TypeVar("T")

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


class Bystanders:
    """Components of others that a check is carried out with: one that does not work fails no check but its own.

    Attributes:
        broken: What does not work, each with the reason.
    """

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}

    def of(self, kind: str) -> Iterator[Factory[Any]]:
        """Each example of the installed components of a kind that load and resolve; genkit's own come first."""
        every = installed().components(kind)
        for registration in sorted(every, key=lambda r: r.plugin.distribution != OWN_DISTRIBUTION):
            yield from self.ask(_label(registration), lambda r=registration: _examples_of(r)) or ()

    def ask(self, name: str, make: Callable[[], T]) -> T | None:
        """What a function makes; ``None`` where it raises, which is kept."""
        try:
            return make()
        except (Exception, SystemExit) as error:  # whatever it is, it is no fault of the component that is checked
            self.broken.setdefault(name, " ".join(f"{type(error).__name__}: {error}".split()))
        return None

    def tell(self) -> None:
        """Names in one warning all that does not work."""
        if self.broken:
            found = "\n  ".join(f"{name}: {reason}" for name, reason in self.broken.items())
            warnings.warn(f"left out of the check, since they do not work:\n  {found}", stacklevel=3)


def _examples_of(registration: Registration) -> list[Factory[Any]]:
    return examples(registration.kind, installed().written(registration))


def _label(registration: Registration) -> str:
    return f"{registration.kind} {registration.qualified}"


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
    """A small instance of every installed model with what a component requires, on every spec that it serves.

    A model that does not load, or whose constructor fails, is left out, with one warning at the end.
    """
    bystanders, requires = Bystanders(), requirements(asker)
    for build in bystanders.of("model"):
        if lacking(build.resolved, requires):
            continue
        for name, spec in SPECS.items():
            made = bystanders.ask(f"{build} on {name}", lambda build=build, spec=spec: small_model(build, spec))
            if made is not None and not lacking(made, requires):  # options may withhold what the class has
                yield f"{build} on {name}", made
    bystanders.tell()


def small_model(build: Factory[Any], spec: DataSpec) -> GenerativeModel | None:
    """A model for a spec, a little way from its start, where gradients may vanish; ``None`` if it refuses it."""
    seed()
    if refused(lambda: build(spec)):
        return None
    seed()
    model = build(spec)
    shake(model)
    return model
