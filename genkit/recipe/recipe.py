"""A checked recipe: what to train, on what, how, and how to judge it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_core import PydanticCustomError

from genkit.component import Factory, Section, use
from genkit.dataset import Dataset
from genkit.evaluator import Evaluator
from genkit.model import GenerativeModel
from genkit.objective import Objective
from genkit.optimizer import Optimizer, Schedule
from genkit.recipe.source import Source
from genkit.sampler import Sampler

Precision = Literal["fp32", "tf32", "bf16"]
Switch = Literal["auto", "on", "off"]
CADENCE = ("every", "at")
EntryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")]  # it becomes a folder
Decay = Annotated[float, Field(gt=0, lt=1)]
Scalar = bool | int | float | str | None


def _undivided(value: Any) -> Any:
    if isinstance(value, Mapping):
        raise PydanticCustomError("divided", "should be one value or a list: each value has a dotted key of its own")
    return value


Told = Annotated[Scalar | Sequence[Scalar], BeforeValidator(_undivided)]


@dataclass(frozen=True, kw_only=True)
class Keep(Section):
    """Which checkpoints stay on disk.

    Attributes:
        last: The last so many.
        best: The best so many.
        every: Those of each so many epochs, for ever.
    """

    last: PositiveInt = 1
    best: PositiveInt = 1
    every: PositiveInt | None = None


@dataclass(frozen=True, kw_only=True)
class Train(Section):
    """How a recipe is trained.

    Attributes:
        epochs: Passes over the training data.
        batch_size: Examples in one batch.
        optimizer: The optimizer of every player that :attr:`optimizers` does not name.
        optimizers: Optimizers of single players.
        schedule: Course of the learning rate.
        clip_norm: Largest gradient norm of a turn: one number for all turns, or one by turn.
        accumulate: Batches whose gradients are averaged into one optimizer step.
        ema: Decay of the moving average of the model's weights that is judged and sampled in the model's
            place, 0.999 for example. It remembers about 1 / (1 - decay) steps: train for many times as many.
        strategy: What several processes share: batches alone (ddp), or weights, gradients and optimizer states as well
            (fsdp), for models that outgrow one device.
        precision: Arithmetic of the training steps: fp32, tf32 (matrix products on tensor cores) or bf16
            (automatic mixed precision; weights stay fp32).
        cuda_graph: Record whole steps on a CUDA device and replay them: where it can be done, always or never.
        channels_last: Keep images and convolutions with their channels innermost, as tensor cores want them: on CUDA
            devices, always or never.
        compile: Let torch.compile make one kernel of several in the losses; the first steps take long for it.
        drop_last: Leave out the last, smaller batch of an epoch.
        log_every: Steps between two reports of the training figures.
        checkpoint_every: Epochs between two checkpoints; the best epochs are kept in any case.
        keep: Which checkpoints stay on disk.
        best: The evaluator entry whose principal figure on the validation data chooses the best checkpoint;
            "auto" takes the first that has such a figure, "none" keeps only the last checkpoint.
        on_nan: What a loss or gradient that is not finite does: it stops the run, or the step is skipped and counted.
        eval_batch_size: Examples in one batch of an evaluation.
        workers: Processes that read data which is no tensor; null starts one for each core, at most 8.
        cache: Where examples stay that are decoded to bytes: on the device, or on the host; none decodes them in every
            epoch. "auto" takes the first of the three that has room.
    """

    epochs: PositiveInt = 1
    batch_size: PositiveInt = 128
    optimizer: Factory[Optimizer] = use("adam")
    optimizers: Mapping[str, Factory[Optimizer]] = field(default_factory=dict)
    schedule: Factory[Schedule] = use("constant")
    clip_norm: PositiveFloat | Mapping[str, PositiveFloat] | None = None
    accumulate: PositiveInt = 1
    ema: Decay | None = None
    precision: Precision = "fp32"
    strategy: Literal["ddp", "fsdp"] = "ddp"
    cuda_graph: Switch = "auto"
    channels_last: Switch = "auto"
    compile: bool = False
    drop_last: bool = False
    log_every: PositiveInt = 50
    checkpoint_every: PositiveInt = 1
    keep: Keep = Keep()
    best: str = "auto"
    on_nan: Literal["stop", "skip"] = "stop"
    eval_batch_size: PositiveInt = 500
    workers: NonNegativeInt | None = None
    cache: Literal["auto", "device", "host", "none"] = "auto"


@dataclass(frozen=True, kw_only=True)
class Entry(Section):
    """One evaluator of a recipe and when it is called.

    Attributes:
        evaluator: The evaluator.
        every: Call it each time so many epochs are over; epoch 0 is before training.
        at: Call it after these epochs; those that lie beyond the last are called after the last.
    """

    inline: ClassVar[str] = "evaluator"

    evaluator: Factory[Evaluator]
    every: PositiveInt | None = None
    at: Sequence[NonNegativeInt] | None = None

    def to_plain(self) -> dict[str, Any]:
        """The entry as a recipe writes it: without the cadence that it does not use."""
        return {key: value for key, value in super().to_plain().items() if key not in CADENCE or value is not None}

    def due(self, epoch: int, total_epochs: int) -> bool:
        """Whether it is called when ``epoch`` epochs are over; without a cadence, after the last."""
        if self.every is None and self.at is None:
            return epoch == total_epochs
        at = {min(moment, total_epochs) for moment in self.at or ()}
        return (self.every is not None and epoch % self.every == 0) or epoch in at


@dataclass(frozen=True, kw_only=True)
class Served(Section):
    """What a distribution gave to a recipe.

    Attributes:
        version: The distribution's version.
        components: The components by the distribution's plugins, each with its kind and name.
    """

    version: str
    components: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Published(Section):
    """A published figure that the recipe is to reach. It changes nothing of the training: reports are made with it.

    Attributes:
        paper: Whose figure it is: authors, title, venue, year.
        table: Where it stands in the paper.
        figure: Which figure is compared on the test data: an entry of :attr:`Recipe.evaluate`, or ``entry/name`` for
            one of the others that its evaluator gives.
        value: The figure.
        unit: Its unit, ``nats`` or ``bits/dim``.
        protocol: What it was taken under: dotted keys of the recipe with the values that the paper has there.
        note: What else a reader must know to compare it.
    """

    paper: str
    table: str
    figure: str
    value: float
    unit: str | None = None
    protocol: Mapping[str, Told] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe(Section):
    """A recipe whose every key has been checked and every name resolved. Nothing is built yet.

    Attributes:
        seed: Where all random numbers come from.
        data: The dataset.
        model: The generative model.
        objective: What is minimized.
        sampler: How the model is drawn from.
        train: How it is trained.
        evaluate: The evaluators, by the names that figures and pictures go under.
        published: The published figure that it is to reach, if there is one.
        served_by: Which distributions the components come from, by their names. Genkit writes it into resolved recipes,
            and refuses one whose component is served by another distribution now, or by none.
        source: What it was read from.
    """

    seed: NonNegativeInt = 0
    data: Factory[Dataset]
    model: Factory[GenerativeModel]
    objective: Factory[Objective]
    sampler: Factory[Sampler] = use("prior")
    train: Train = Train()
    evaluate: Mapping[EntryName, Entry] = field(default_factory=dict)
    published: Published | None = None
    served_by: Mapping[str, Served] = field(default_factory=dict)
    source: Source | None = field(default=None, init=False, repr=False, compare=False)

    def to_plain(self) -> dict[str, Any]:
        """The recipe as it is written: without the figure that it is not compared with."""
        plain = super().to_plain()
        return plain if self.published else {key: value for key, value in plain.items() if key != "published"}

    def place(self, key: str) -> str:
        """File and line of a key, for problems that only show when something is built; empty if not known."""
        return self.source.place(tuple(key.split("."))) if self.source else ""
