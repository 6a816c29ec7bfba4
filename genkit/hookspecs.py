"""The hooks: the map of what a plugin can take part in.

A plugin implements any of these as a function marked with ``@genkit.hookimpl``; an implementation may take
fewer arguments than the specification. A misspelt hook is an error, never ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from genkit.events import (
        CheckpointWritten,
        EpochEnd,
        EvaluationEnd,
        RunEnd,
        RunStart,
        StepReport,
    )
    from genkit.registry import Registrar

PROJECT = "genkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_components(register: Registrar) -> None:
    """Registers components: call ``register(name, cls)`` or ``register(name, "module:Class", kind=...)``.

    Called once, when plugins are loaded. Import nothing heavy outside the body.
    """


@hookspec
def make_observers(start: RunStart) -> list[object]:  # pyright: ignore[reportReturnType]
    """Returns objects whose own ``on_...`` hooks are called during this run, and only this run.

    Called before ``on_run_start``; for observers that keep state. A plugin without state can implement the
    ``on_...`` hooks as plain functions.
    """


@hookspec
def on_run_start(start: RunStart) -> None:
    """A run begins or is resumed; everything is built, nothing is trained yet."""


@hookspec
def on_step(report: StepReport) -> None:
    """Called every ``train.log_every`` steps with the figures averaged since the last call."""


@hookspec
def on_epoch_end(report: EpochEnd) -> None:
    """An epoch is over; its training figures are means over the whole epoch."""


@hookspec
def on_evaluation(report: EvaluationEnd) -> None:
    """An evaluator has judged the model; its pictures are already on disk."""


@hookspec
def on_checkpoint(report: CheckpointWritten) -> None:
    """A checkpoint is complete on disk."""


@hookspec
def on_run_end(report: RunEnd) -> None:
    """A run is over: finished, interrupted or failed. Release files here."""
