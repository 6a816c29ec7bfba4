"""The hooks: the map of what a plugin can take part in.

A plugin implements any of these as a function marked with ``@genkit.hookimpl``; an implementation may take
fewer arguments than the specification. A misspelt hook is an error, never ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pluggy

if TYPE_CHECKING:
    from genkit.component import Component
    from genkit.events import (
        CheckpointWritten,
        EpochEnd,
        EvaluationEnd,
        RunEnd,
        RunStart,
        StepReport,
    )

PROJECT = "genkit"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Register(Protocol):
    """What ``register_components`` is handed: call it once for each component."""

    def __call__(self, name: str, target: type[Component] | str, *, kind: str | None = None) -> None:
        """Registers a component.

        Args:
            name: Its name in recipes, snake_case, unique in its kind.
            target: The class, or ``"module:Class"`` to have it imported when it is first used.
            kind: The kind's name; needed beside a string, read off a class.

        Raises:
            PluginError: The name is not snake_case or is taken, or the class is of no kind.
        """
        ...


@hookspec
def register_components(register: Register) -> None:
    """Registers components: call ``register(name, cls)`` or ``register(name, "module:Class", kind=...)``.

    Called once, when plugins are loaded. Import nothing heavy outside the body.
    """


class RegisterTemplate(Protocol):
    """What ``register_templates`` is handed: call it once for each kind."""

    def __call__(self, kind: str, module: str) -> None:
        """Offers what a new component of a kind starts from.

        Args:
            kind: The kind's name.
            module: A module of the plugin whose source is that start: working code, with a class ``Template`` that
                recipes would call ``template``. Beside it lies, under the same name, a recipe that uses it:
                ``backbone.py`` and ``backbone.yaml``. Both words are replaced wherever they stand.

        Raises:
            PluginError: Another plugin offers a template of this kind.
        """
        ...


@hookspec
def register_templates(register: RegisterTemplate) -> None:
    """Offers templates of new components: call ``register(kind, "package.module")``.

    Called when ``genkit new-plugin`` makes a plugin, and at no other time. A plugin that defines a kind shows here what
    a component of it looks like.
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
