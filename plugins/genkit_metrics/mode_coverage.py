"""How many modes samples reach, and how evenly."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from genkit import (
    Batch,
    Dataset,
    DataSpec,
    DataView,
    Evaluator,
    Factory,
    Figure,
    GenerativeModel,
    HasModes,
    Note,
    SplitName,
    StacksImages,
    Subject,
    spread,
    use,
)
from genkit.evaluator import MEMORY
from genkit.events import Better
from genkit_features.extractor import Classifies, FeatureExtractor
from genkit_metrics.comparison import drawn, held_out

Share = Annotated[float, Field(gt=0, lt=1)]
READINGS: dict[str, Better | None] = {
    "": "higher",
    "kl": "lower",
    "largest": "lower",
    "smallest": "higher",
    "high_quality": "higher",
}


class ModeCoverage(Evaluator):
    r"""How many modes of the data samples reach, and how evenly they are spread over them.

    For a mixture of normals in space, a sample belongs to the nearest mode, and reaches it if it lies within
    ``within`` standard deviations from it; a perfect sampler in the plane has :math:`1 - e^{-4.5} = 98.89\%` of its
    samples within 3. For labelled images, a classifier says which class a sample belongs to; for stacked images, it
    is asked for each channel. The figures are the number of modes that at least one sample reaches, the divergence
    ``kl`` of the histogram from the uniform one (nats), and the shares of the ``largest`` and the ``smallest`` mode;
    for mixtures also the share of samples that reach theirs, ``high_quality``. Held-out data, as many as samples or
    as there are, give each figure's floor.

    A collapse is said aloud: one mode with nearly all samples, several times in a row.

    Args:
        num_samples: Samples to draw.
        within: Standard deviations up to which a sample belongs to a mode of a mixture.
        extractor: The classifier of images.
        collapse: The share of one mode that means a collapse.
        patience: Evaluations in a row before it is said.

    References:
        Srivastava et al.: VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning, NeurIPS 2017,
        arXiv 1705.07761, section 4 (modes, high quality). Lin et al.: PacGAN, NeurIPS 2018, arXiv 1712.04086,
        section 4.1 (reverse divergence).
    """

    def __init__(
        self,
        model: GenerativeModel,
        /,
        *,
        num_samples: PositiveInt = 10_000,
        within: PositiveFloat = 3.0,
        extractor: Factory[FeatureExtractor] = use("classifier"),
        collapse: Share = 0.9,
        patience: Annotated[int, Field(ge=1, le=MEMORY)] = 5,
    ) -> None:
        if model.spec.num_classes is None:
            raise ValueError(
                "mode coverage needs labelled data or a mixture whose modes are known; these have no labels "
                "(an image_folder has them with its images in one folder a class)"
            )
        self.spec = model.spec
        self.num_samples = num_samples
        self.within = within
        self.build = extractor
        self.collapse = collapse
        self.patience = patience
        self.modes: Modes | None = None

    def prepare(self, dataset: Dataset) -> None:
        """Finds out how to tell the modes of these data apart."""
        if isinstance(dataset, HasModes):
            self.modes = MixtureModes(dataset.centres, self.within * dataset.std)
            return
        channels = self.spec.shape[0] if isinstance(dataset, StacksImages) else 1
        spec = self.spec
        if isinstance(dataset, StacksImages):
            spec = DataSpec((1, *spec.shape[1:]), spec.levels, dataset.channel_classes, spec.protocol)
        extractor = self.build(spec)
        if not isinstance(extractor, Classifies):
            raise ValueError(f"mode coverage needs an extractor that classifies, which {self.build.name} does not")
        self.modes = ImageModes(extractor, channels, spec.num_classes or 1)

    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Note]:
        """Counts."""
        assert self.modes is not None, "prepare comes first"
        said = self.modes.fit(subject)
        if said:
            yield Note(said, "note")
        values = self._count(drawn(subject, self.num_samples))
        name = held_out(subject) or "train"
        count = min(self.num_samples, len(subject.data[name]))
        floors = self._count(batch.x for batch in spread(subject.data[name], count, subject.batch_size))
        tag = f"{self.modes.label}{self.num_samples} samples, {self.modes.count} modes; floor: {count} of {name}"
        for name, better in READINGS.items():
            if name in values:
                unit = "nats" if name == "kl" else ""
                yield Figure(values[name], name, unit, tag, better, floors[name])
        yield from self._warn(subject, values["largest"])

    def _count(self, batches: Iterable[Tensor]) -> dict[str, float]:
        assert self.modes is not None
        found = [self.modes.assign(x) for x in batches]
        nearest, inside = (torch.cat(part).cpu() for part in zip(*found, strict=True))
        counts = torch.bincount(nearest, minlength=self.modes.count)
        reached = torch.bincount(nearest[inside], minlength=self.modes.count) > 0
        values = {
            "": int(reached.sum()),
            "kl": divergence_from_uniform(counts),
            "largest": counts.max().item() / len(nearest),
            "smallest": counts.min().item() / len(nearest),
        }
        return values | ({"high_quality": inside.float().mean().item()} if self.modes.bounded else {})

    def _warn(self, subject: Subject, largest: float) -> Iterator[Note]:
        if not subject.epoch:
            return  # nothing is trained yet
        before = [each.value for each in subject.history if each.epoch and each.name.endswith("/largest")]
        streak = [*before, largest][-self.patience :]
        if len(streak) == self.patience and min(streak) > self.collapse:
            times = f"{self.patience} evaluations in a row" if self.patience > 1 else "this evaluation"
            yield Note(f"collapsed: one mode has had more than {self.collapse:.0%} of all samples for {times}")


class Modes(ABC):
    """Abstract way of telling modes apart.

    Attributes:
        bounded: Whether an example can lie out of its mode's reach.
        count: How many there are.
    """

    bounded: ClassVar[bool]
    count: int

    @property
    @abstractmethod
    def label(self) -> str:
        """What figures depend on, for their tags; empty or with a separator at its end."""

    @abstractmethod
    def fit(self, subject: Subject) -> str:
        """Learns from data, if need be; returns what is to be noted."""

    @abstractmethod
    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mode of each example, int64, and whether it reaches it, bool, both with shape :math:`(B,)`."""


class MixtureModes(Modes):
    """The nearest centre.

    Args:
        centres: With shape :math:`(K, D)`.
        reach: The distance up to which an example belongs to it.
    """

    bounded = True

    def __init__(self, centres: Tensor, reach: float) -> None:
        self.centres = centres
        self.reach = reach
        self.count = len(centres)

    @property
    def label(self) -> str:
        """Nothing: the centres are the data's."""
        return ""

    def fit(self, subject: Subject) -> str:
        """There is nothing to learn."""
        return ""

    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """By the Euclidean distance."""
        exact = "donot_use_mm_for_euclid_dist"  # products lose the digits that tell near from far
        distance, nearest = torch.cdist(x, self.centres.to(x), compute_mode=exact).min(1)
        return nearest, distance <= self.reach


class ImageModes(Modes):
    """The class, or the combination of the channels' classes.

    Args:
        extractor: Classifies images, or single channels.
        channels: Channels to be classified apart.
        classes: Classes of each.
    """

    bounded = False

    def __init__(self, extractor: FeatureExtractor, channels: int, classes: int) -> None:
        self.extractor = extractor
        self.channels = channels
        self.classes = classes
        self.count = classes**channels

    @property
    def label(self) -> str:
        """The classifier's."""
        return f"{self.extractor.label}; "

    def fit(self, subject: Subject) -> str:
        """Has the classifier learn from the training split, channel by channel."""
        train, test = subject.data["train"], subject.data.get("test")
        if self.channels == 1:
            return self.extractor.fit(train, test)
        return self.extractor.fit(self._apart(train), None if test is None else self._apart(test))

    def _apart(self, view: DataView) -> ChannelView:
        return ChannelView(view, self.channels, self.classes)

    def assign(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """By the classifier; the first channel is the most significant digit."""
        assert isinstance(self.extractor, Classifies)
        digits = self.extractor.classify(x.reshape(len(x) * self.channels, -1, *x.shape[2:])).view(
            len(x), self.channels
        )
        weights = self.classes ** torch.arange(self.channels - 1, -1, -1, device=x.device)
        return (digits * weights).sum(1), torch.ones(len(x), dtype=torch.bool, device=x.device)


class ChannelView:
    """Stacked images as single channels with their own labels, at most as many as there are stacked images.

    Args:
        view: Stacked images, labelled by the combination of their channels' classes.
        channels: Channels of each.
        classes: Classes of each channel.
    """

    def __init__(self, view: DataView, channels: int, classes: int) -> None:
        self.view = view
        self.channels = channels
        self.classes = classes

    def __len__(self) -> int:
        return len(self.view) // self.channels * self.channels

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """The channels in their order."""
        stacks = max(batch_size // self.channels, 1)
        for batch in spread(self.view, len(self) // self.channels, stacks):
            assert batch.labels is not None
            weights = self.classes ** torch.arange(self.channels - 1, -1, -1, device=batch.x.device)
            labels = batch.labels[:, None] // weights % self.classes
            yield Batch(batch.x.flatten(0, 1).unsqueeze(1), labels.flatten())


def divergence_from_uniform(counts: Tensor) -> float:
    r"""The Kullback-Leibler divergence of a histogram from the uniform one, in nats.

    .. math:: \sum_k p_k \log (K p_k)

    Example:
        >>> divergence_from_uniform(torch.tensor([5, 5]))
        0.0
        >>> round(divergence_from_uniform(torch.tensor([7, 0])), 4)  # ln 2
        0.6931
    """
    shares = counts.double() / counts.sum()
    return (torch.special.xlogy(shares, shares).sum() + math.log(len(counts))).item()
