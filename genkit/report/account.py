"""What a run's own files tell of it: its recipe, its figure, what it took and where."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genkit.engine.folder import RunFolder, read_json
from genkit.errors import UsageError
from genkit.events import Record, read_records
from genkit.recipe.check import check_published
from genkit.recipe.published import said
from genkit.recipe.recipe import Published
from genkit.recipe.source import Source, read

NEEDED = ("seed", "data.use", "train.epochs")
"""Keys of every resolved recipe that a report is made with."""


@dataclass(frozen=True)
class Account:
    """What is told of one run.

    Attributes:
        path: Its folder.
        recipe: Its resolved recipe, plain.
        published: The published figure that it is to reach, if there is one.
        finished: Whether it has come to its end.
        epochs: Epochs that are over.
        figure: Which figure is compared: an entry of ``evaluate``, or ``entry/name``; empty if there is none.
        record: That figure on the test data; ``None`` if it has not been taken.
        standard_error: Its own standard error, where its evaluator gives one.
        seconds: How long the run has taken, over all of its sessions.
        at_least: Whether it was longer than that, nobody knows by how much.
        device: Where it was trained, in words.
        changes: How its recipe was changed on the way, in words.
    """

    path: Path
    recipe: Mapping[str, Any]
    published: Published | None
    finished: bool
    epochs: int
    figure: str
    record: Record | None
    standard_error: float | None
    seconds: float
    at_least: bool
    device: str
    changes: Sequence[str]

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.recipe["seed"]

    @property
    def total_epochs(self) -> int:
        """Epochs that its recipe asks for."""
        return self.recipe["train"]["epochs"]


def find_runs(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The runs that are meant by some folders, each once.

    Args:
        paths: Folders of runs, and folders that hold runs; of the latter those count that have a published figure.

    Returns:
        The runs, and those of a folder that were left out.

    Raises:
        UsageError: One of the folders is no run and holds none.
        RecipeError: A run's recipe cannot be read.
    """
    chosen: dict[Path, Path] = {}
    left_out: list[Path] = []
    for path in paths:
        inner = [] if RunFolder(path).recipe.is_file() else sorted(file.parent for file in path.glob("*/recipe.yaml"))
        if not inner:
            RunFolder(path).check_run()
        compared = [run for run in inner if read(run / "recipe.yaml").values.get("published")]
        left_out += [run for run in inner if run not in compared]
        for run in compared if inner else [path]:
            chosen.setdefault(run.resolve(), run)
    return list(chosen.values()), [run for run in left_out if run.resolve() not in chosen]


def read_account(path: Path) -> Account:
    """Reads a run's files.

    Raises:
        UsageError: It is no run, or its recipe is not the resolved one that runs have.
        RecipeError: Its recipe cannot be read, or names its published figure in a wrong way.
    """
    folder = RunFolder(path)
    folder.check_run()
    source = _resolved(folder)
    published = check_published(source)
    environment, end = read_json(folder.environment), folder.read_result()
    figures = [record for record in (end.records if end else ()) if record.split == "test"]
    figure = published.figure if published else _principal(source.values, figures)
    seconds, at_least = _time(folder, environment)
    return Account(
        path=path.resolve(),
        recipe=source.values,
        published=published,
        finished=end is not None,
        epochs=source.values["train"]["epochs"] if end else _epochs_over(folder),
        figure=figure,
        record=_named(figures, figure),
        standard_error=_value(_named(figures, f"{figure}/standard_error")),
        seconds=seconds,
        at_least=at_least,
        device=", then ".join(dict.fromkeys(_devices(environment))),
        changes=list(_changes(environment)),
    )


def _resolved(folder: RunFolder) -> Source:
    source = read(folder.recipe)
    known = said(source.values)
    missing = [key for key in NEEDED if key not in known]
    if missing:
        raise UsageError(f"{folder.path} is no run: its recipe.yaml is no resolved recipe, it has no {missing[0]}")
    return source


def _principal(recipe: Mapping[str, Any], figures: Sequence[Record]) -> str:
    """The figure of a run that is compared with nothing: the one that chose its best epoch, or the first."""
    chooser = said(recipe).get("train.best", "")
    names = [record.name for record in figures]
    return chooser if chooser in names else next(iter(names), "")


def _named(figures: Sequence[Record], name: str) -> Record | None:
    return next((record for record in figures if record.name == name), None)


def _value(record: Record | None) -> float | None:
    return None if record is None else record.value


def _epochs_over(folder: RunFolder) -> int:
    return int(max((record.epoch for record in read_records(folder.metrics)), default=0))


def _time(folder: RunFolder, environment: Mapping[str, Any]) -> tuple[float, bool]:
    """Seconds of all sessions as far as they are known, and whether there were more."""
    result = read_json(folder.result)
    told = result.get("time") or read_json(folder.time)
    if told:
        return told["seconds"], told["at_least"] or told.get("running", False)
    return result.get("seconds", 0.0), bool(environment.get("resumed")) or not result  # an older genkit's last session


def _devices(environment: Mapping[str, Any]) -> Iterator[str]:
    """Where the run began, and where it went on."""
    now = dict(environment)
    for note in ({}, *environment.get("resumed", ())):
        now.update(note.get("environment", {}))
        device, processes = now.get("device", "not told"), now.get("processes", 1)
        threads = f", {now['threads']} thread{'' if now['threads'] == 1 else 's'}" if device == "cpu" else ""
        yield f"{f'{processes} x ' if processes > 1 else ''}{device}{threads}"


def _changes(environment: Mapping[str, Any]) -> Iterator[str]:
    for note in environment.get("resumed", ()):
        for key, value in note["recipe"].items():
            yield f"{key} was changed to {json.dumps(value)} at step {note['step']:,}"
