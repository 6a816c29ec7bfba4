"""Sets of samples beside sets of data, in the features of an extractor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from genkit import DataSpec, Factory, Figure, GenkitError, Note, SplitName, Subject
from genkit.events import Better
from genkit_features.extractor import FeatureExtractor, features_of

Splits = Annotated[Sequence[SplitName], Field(min_length=1)]
SEED = 0  # of what a floor draws
Measure = Callable[[Tensor, Tensor], Mapping[str, float]]


class Comparison:
    """Compares samples with a split, and training data with held-out data in the same way: the floor.

    The floor is what a model would get that draws from the data's own distribution. It stands beside every figure,
    since without it none of them can be read.

    Args:
        extractor: Whose features to use.
        spec: What the data looks like.
        num_samples: Examples on either side, fewer where a split has fewer.
        measure: Gives figures by name for features of data and features of samples, each with shape :math:`(N, D)`.
        readings: Those figures, the principal one under an empty name, each with the way that is better.
    """

    def __init__(
        self,
        extractor: Factory[FeatureExtractor],
        spec: DataSpec,
        num_samples: int,
        measure: Measure,
        readings: Mapping[str, Better | None],
    ) -> None:
        self.extractor = extractor(spec)
        self.num_samples = num_samples
        self.measure = measure
        self.readings = readings
        self._floors: dict[int, tuple[Mapping[str, float], str]] = {}

    def __call__(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Note]:
        """Compares; gives each figure with its floor."""
        said = self.extractor.fit(subject.data["train"], subject.data.get("test"))
        if said:
            yield Note(said, "note")
        view = subject.view(split)
        count = min(self.num_samples, len(view))
        _check_count(count, split)
        data = features_of(self.extractor, view, count, subject.batch_size)
        samples = torch.cat([self.extractor.features(x) for x in drawn(subject, count)])
        values = self.measure(data.cpu(), samples.cpu())
        if count not in self._floors:
            with torch.random.fork_rng([]):  # it is found only once, and is to be the same whenever that is
                torch.manual_seed(SEED)
                self._floors[count] = self._find_floor(subject, count)
        floors, words = self._floors[count]
        tag = f"{self.extractor.label}; {count} samples against {count} of {split}; floor: {words}"
        for name, better in self.readings.items():
            yield Figure(values[name], name, tag=tag, better=better, floor=floors[name])

    def _find_floor(self, subject: Subject, count: int) -> tuple[Mapping[str, float], str]:
        """Training data in the place of the samples; half against half where nothing is held out."""
        train, size = subject.data["train"], subject.batch_size
        other = held_out(subject)
        if other is None:
            both = features_of(self.extractor, train, 2 * count, size)
            both = both[torch.randperm(len(both))]  # neighbours may be of two kinds, as MNIST's are
            first, second = both[: len(both) // 2 * 2 : 2], both[1::2]
        else:
            count = min(count, len(train), len(subject.data[other]))
            _check_count(count, other if len(subject.data[other]) == count else "train")
            second = features_of(self.extractor, train, count, size)
            first = features_of(self.extractor, subject.data[other], count, size)
        words = f"{len(second)} of train against {len(first)} of {other or 'train'}"
        return self.measure(first.cpu(), second.cpu()), words


def _check_count(count: int, split: str | None) -> None:
    if count < 2:
        raise GenkitError(f"{count} example of {split} cannot be compared with anything; it takes at least 2")


def held_out(subject: Subject) -> SplitName | None:
    """The split that is as new to the model as its samples should be."""
    return next((name for name in ("test", "validation") if name in subject.data), None)


def drawn(subject: Subject, count: int) -> Iterable[Tensor]:
    """So many samples, in batches."""
    for start in range(0, count, subject.batch_size):
        yield subject.sampler.sample(min(subject.batch_size, count - start)).x
