"""Evaluators: figures and pictures that judge a model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from genkit.component import Component
from genkit.dataset import Dataset, DataSpec, DataView, SplitName, Views
from genkit.events import Better, Record
from genkit.model import Capability, GenerativeModel
from genkit.objective import Objective
from genkit.picture import Picture
from genkit.sampler import Sampler

MEMORY = 16
"""Earlier verdicts that an evaluator can look back upon."""


@dataclass(frozen=True)
class Figure:
    """One number.

    Attributes:
        value: The number.
        name: What it is; empty for an evaluator's principal figure, which goes by the recipe's own key.
        unit: Its unit, ``nats`` or ``bits/dim``.
        tag: What a reader must know to compare it.
        better: Which way is better. The principal figure with a direction can choose the best checkpoint.
        floor: What real data get in the samples' place, for figures that mean little without it; or the entropy of
            the data, below which no likelihood can be but by chance.
    """

    value: float
    name: str = ""
    unit: str = ""
    tag: str = ""
    better: Better | None = None
    floor: float | None = None

    def __post_init__(self) -> None:
        for name, number in (("value", self.value), ("floor", self.floor or 0.0)):
            if not isinstance(number, int | float):
                raise TypeError(f"Figure({name}=...): a number is wanted, {type(number).__name__} given; try .item()")
        if self.better not in (None, "lower", "higher"):
            raise ValueError(f"Figure(better={self.better!r}): lower, higher or None is wanted")


@dataclass(frozen=True)
class Note:
    """Something to be said aloud.

    Attributes:
        text: One sentence.
        level: ``warning`` for what should worry the reader, such as a collapse.
    """

    text: str
    level: Literal["note", "warning"] = "warning"


@dataclass(frozen=True)
class Subject:
    """What an evaluator judges: a trained model with all that belongs to it, in evaluation mode.

    Attributes:
        model: The model (its moving average, where the recipe keeps one).
        objective: The objective it is trained by, with the networks that it owns.
        sampler: How it is drawn from.
        dataset: Where the data comes from.
        data: The splits that are not empty.
        epoch: Epochs completed.
        batch_size: A batch size that fits the device.
        history: What the same evaluator measured on the same split before, the last :data:`MEMORY` times, oldest
            first.
    """

    model: GenerativeModel
    objective: Objective
    sampler: Sampler
    dataset: Dataset
    data: Views
    epoch: int
    batch_size: int
    history: Sequence[Record] = ()

    @property
    def spec(self) -> DataSpec:
        """What the data looks like."""
        return self.model.spec

    def view(self, split: SplitName | None) -> DataView:
        """A split's data; the validation data (or, without one, the training data) where none is named."""
        if split is not None:
            return self.data[split]
        return self.data.get("validation", self.data["train"])


class Evaluator(Component, kind="evaluator", check="genkit.testing:check_evaluator"):
    """Abstract judge of a model.

    Implementing an evaluator:

    1. List in :attr:`requires` the capabilities that a model must have.
    2. ``def __init__(self, model: GenerativeModel, /, *, ...)``: raise :class:`ValueError` for a model (or
       for data, see ``model.spec``) that it cannot judge, saying which it can. Do not keep the model.
       Networks of its own start from a stream of their own; move them to the data's device when they are used.
    3. What depends on the dataset, and not only on what an example looks like, is built and refused in
       :meth:`prepare`.
    4. Return figures, pictures and notes from :meth:`evaluate`. No gradients are recorded, and random numbers are
       drawn from torch's global generator: it is seeded the same at every epoch and restored afterwards,
       so an evaluator can never change what is trained.
    5. An evaluator of data names its :attr:`splits`. It is called once for each that is not empty: for
       ``train`` and ``validation`` at the cadence of its recipe entry, for ``test`` once, at the end, with
       the best weights.

    Attributes:
        requires: Capabilities that the model must have.
    """

    requires: ClassVar[tuple[type[Capability], ...]] = ()

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """The splits it judges; empty if it needs no particular data."""
        return ()

    def prepare(self, dataset: Dataset) -> None:
        """Meets the dataset once, right after it was built; reads no data.

        Raises:
            ValueError: It cannot judge models of such data; the message says which it can.
        """

    def state(self) -> Mapping[str, Tensor]:
        """What it remembers from one call to the next and its figures depend on; nothing, unless overridden.

        Tensors under the same names at every time. They go into every checkpoint, so that a resumed run measures
        what one that never stopped does. What earlier calls measured is in the subject's history.
        """
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what :meth:`state` returned."""

    @abstractmethod
    def evaluate(self, subject: Subject, split: SplitName | None) -> Iterable[Figure | Picture | Note]:
        """Judges the model.

        Args:
            subject: The model and all that belongs to it.
            split: The split to use, one of :attr:`splits`; ``None`` if that is empty.
        """
