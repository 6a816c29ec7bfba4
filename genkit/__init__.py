"""Generative models of images that people can trust, take apart and extend.

``import genkit`` is instant: what needs torch is loaded when it is first named.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from genkit.component import Component, Factory, Section, use
from genkit.errors import (
    CheckpointError,
    DataError,
    GenkitError,
    MissingPlugin,
    PluginError,
    RecipeError,
    TrainingDiverged,
    UsageError,
)
from genkit.hookspecs import hookimpl
from genkit.plugin import PLUGIN_API
from genkit.units import bits_per_dim

if TYPE_CHECKING:
    __version__: str
    from genkit.backbone import Backbone, refuse_context
    from genkit.dataset import (
        Batch,
        Dataset,
        DataSpec,
        DataView,
        HasEnergy,
        HasModes,
        Shape,
        Split,
        SplitName,
        StacksImages,
        Views,
        bytes_to_unit,
        first_batch,
        spread,
    )
    from genkit.evaluator import Evaluator, Figure, Note, Subject
    from genkit.events import (
        CheckpointWritten,
        EpochEnd,
        EvaluationEnd,
        Record,
        RunEnd,
        RunStart,
        StepReport,
        read_records,
    )
    from genkit.launcher import Job, Launcher
    from genkit.model import (
        Capability,
        Decodes,
        Encodes,
        GenerativeModel,
        HasLevels,
        HasLogProb,
        KeepsWatch,
        LatentVariable,
        LogProb,
        SamplesDifferentiably,
        SamplesWithLogProb,
    )
    from genkit.objective import MODEL, Loss, Objective, Progress, Scores, Turn, critics_of
    from genkit.optimizer import Optimizer, Schedule
    from genkit.picture import Picture, image_grid, rendered
    from genkit.recipe import Recipe
    from genkit.runs import Run, build, load, run
    from genkit.sampler import Sampler, Samples

_HOMES = {
    "genkit.backbone": ("Backbone", "refuse_context"),
    "genkit.dataset": (
        "Batch",
        "DataSpec",
        "DataView",
        "Dataset",
        "HasEnergy",
        "HasModes",
        "Shape",
        "Split",
        "SplitName",
        "StacksImages",
        "Views",
        "bytes_to_unit",
        "first_batch",
        "spread",
    ),
    "genkit.evaluator": ("Evaluator", "Figure", "Note", "Subject"),
    "genkit.events": (
        "CheckpointWritten",
        "EpochEnd",
        "EvaluationEnd",
        "Record",
        "RunEnd",
        "RunStart",
        "StepReport",
        "read_records",
    ),
    "genkit.launcher": ("Job", "Launcher"),
    "genkit.model": (
        "Capability",
        "Decodes",
        "Encodes",
        "GenerativeModel",
        "HasLevels",
        "HasLogProb",
        "KeepsWatch",
        "LatentVariable",
        "LogProb",
        "SamplesDifferentiably",
        "SamplesWithLogProb",
    ),
    "genkit.objective": ("MODEL", "Loss", "Objective", "Progress", "Scores", "Turn", "critics_of"),
    "genkit.optimizer": ("Optimizer", "Schedule"),
    "genkit.picture": ("Picture", "image_grid", "rendered"),
    "genkit.recipe": ("Recipe",),
    "genkit.runs": ("Run", "build", "load", "run"),
    "genkit.sampler": ("Sampler", "Samples"),
}
_LAZY = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "PLUGIN_API",
    "CheckpointError",
    "Component",
    "DataError",
    "Factory",
    "GenkitError",
    "MissingPlugin",
    "PluginError",
    "RecipeError",
    "Section",
    "TrainingDiverged",
    "UsageError",
    "bits_per_dim",
    "hookimpl",
    "use",
    *_LAZY,
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("genkit-torch")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'genkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
