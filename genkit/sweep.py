"""Sweeps: one recipe at every point of a grid of overrides, carried out by a launcher, and judged side by side."""

from __future__ import annotations

import csv
import itertools
import re
import statistics
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from genkit.engine.assembly import dry_build
from genkit.engine.folder import RunFolder, recipe_text
from genkit.errors import DataError, UsageError
from genkit.events import Record
from genkit.launcher import Job, Launcher
from genkit.recipe import load_recipe

RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
OPENING, CLOSING = "[{(", "]})"


@dataclass(frozen=True)
class Axis:
    """A key and the values that it takes.

    Attributes:
        key: The key's path in the recipe.
        values: As they are written on the command line.
    """

    key: str
    values: tuple[str, ...]

    @classmethod
    def parse(cls, word: str) -> Axis:
        """Reads ``key.path=value,value``; ``0..4`` stands for the whole numbers from 0 to 4.

        Example:
            >>> Axis.parse("model.encoder.hidden_dims=[512,512],[64]").values
            ('[512,512]', '[64]')
            >>> Axis.parse("seed=0..2,7").values
            ('0', '1', '2', '7')

        Raises:
            UsageError: There is no key or no value.
        """
        key, equals, text = word.partition("=")
        values = tuple(value for part in _split(text) for value in _spelled_out(part.strip()))
        if not key or not equals or not all(values):
            raise UsageError(f"{word!r}: a sweep takes key.path=value,value,... or key.path=0..4")
        return cls(key, values)


def _split(text: str) -> list[str]:
    """The parts between the commas that stand in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        quote = "" if letter == quote else letter if not quote and letter in "'\"" else quote
        depth += (letter in OPENING) - (letter in CLOSING) if not quote else 0
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _spelled_out(part: str) -> list[str]:
    match = RANGE.fullmatch(part)
    if not match:
        return [part]
    first, last = int(match[1]), int(match[2])
    step = 1 if last >= first else -1
    return [str(number) for number in range(first, last + step, step)]


@dataclass(frozen=True)
class Point:
    """One point of the grid.

    Attributes:
        name: Its run's name.
        values: The value of each axis, by the axis's short name.
        overrides: All overrides of its recipe.
    """

    name: str
    values: dict[str, str]
    overrides: tuple[str, ...]


@dataclass
class Outcome:
    """What became of a point.

    Attributes:
        point: The point.
        status: ``finished``, ``failed`` or ``interrupted``.
        records: Its final figures.
        message: Why it is not finished.
    """

    point: Point
    status: str
    records: Sequence[Record] = field(default_factory=tuple)
    message: str = ""


class Sweep:
    """The runs of a sweep, in one folder.

    Args:
        recipe: The recipe's file.
        words: Overrides, and axes with several values.
        folder: Where the runs go.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        UsageError: No key has several values, or two points would be one.
        RecipeError: A point's recipe is wrong.
    """

    def __init__(self, recipe: str | Path, words: Sequence[str], folder: str | Path, device: str = "auto") -> None:
        self.recipe = Path(recipe)
        self.folder = Path(folder)
        self.device = device
        self.points = list(grid([Axis.parse(word) for word in words]))
        self.texts: dict[str, str] = {}
        for point in self.points:
            checked = load_recipe(self.recipe, point.overrides)
            self.texts[point.name] = recipe_text(checked)
            try:
                dry_build(checked)
            except DataError:
                continue  # whether the parts fit shows when the data is there

    def run(self, launcher: Launcher) -> Generator[Outcome, None, None]:
        """Carries out what is not finished yet; yields each point when it has ended, finished ones first.

        When it is closed before its end, the runs under way are asked to end and waited for.
        """
        points = {point.name: point for point in self.points}
        done = {name for name in points if self._is_finished(name)}
        yield from (self.outcome(points[name], 0) for name in points if name in done)
        jobs = [self.job(point) for name, point in points.items() if name not in done]
        if jobs:
            with closing(launcher.run(jobs)) as ended:
                for job, code in ended:
                    yield self.outcome(points[job.name], code)

    def job(self, point: Point) -> Job:
        """A point's run as a command, which may be called again."""
        words = [sys.executable, "-m", "genkit", "run", str(self.recipe), *point.overrides]
        words += ["--name", point.name, "--runs", str(self.folder), "--device", self.device, "--resume", "auto"]
        log = self.folder.absolute() / "logs" / f"{point.name}.txt"
        return Job(point.name, tuple(words), Path.cwd(), log)

    def outcome(self, point: Point, code: int) -> Outcome:
        """What a point's run left behind."""
        end = RunFolder(self.folder / point.name).read_result()
        if end is not None and code == 0:
            return Outcome(point, "finished", end.records)
        log = self.folder / "logs" / f"{point.name}.txt"
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
        said = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
        return Outcome(point, "interrupted" if code in (130, 143) else "failed", message=f"{said} ({log})")

    def in_order(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """Outcomes as the grid goes, not as they came."""
        place = {point.name: number for number, point in enumerate(self.points)}
        return sorted(outcomes, key=lambda outcome: place[outcome.point.name])

    def _is_finished(self, name: str) -> bool:
        folder = RunFolder(self.folder / name)
        if folder.read_result() is None:
            return False
        return folder.recipe.is_file() and folder.recipe.read_text(encoding="utf-8") == self.texts[name]


def grid(axes: Sequence[Axis]) -> Iterator[Point]:
    """All points, the last axis going fastest.

    Raises:
        UsageError: No key has several values, or a key or value is there twice.
    """
    keys = [axis.key for axis in axes]
    doubled = [key for key in keys if keys.count(key) > 1]
    doubled += [f"{a.key}={v}" for a in axes for v in a.values if a.values.count(v) > 1]
    if doubled:
        raise UsageError(f"{doubled[0]} is given twice")
    swept = [axis for axis in axes if len(axis.values) > 1]
    if not swept:
        raise UsageError("a sweep needs a key with several values: objective.beta=0.5,1,4 or seed=0..4")
    short = dict(zip([axis.key for axis in swept], short_names([axis.key for axis in swept]), strict=True))
    taken: set[str] = set()
    for combination in itertools.product(*(axis.values for axis in axes)):
        chosen = dict(zip(keys, combination, strict=True))
        values = {short[axis.key]: chosen[axis.key] for axis in swept}
        name = re.sub(r"[^\w.+=-]+", "-", "_".join(f"{key}={value}" for key, value in values.items()))
        name = name if name not in taken else f"{name}_{len(taken)}"
        taken.add(name)
        yield Point(name, values, tuple(f"{key}={value}" for key, value in chosen.items()))


def short_names(keys: Sequence[str]) -> list[str]:
    """The shortest ends of dotted keys that tell them apart.

    Example:
        >>> short_names(["model.encoder.dropout", "model.decoder.dropout", "seed"])
        ['encoder.dropout', 'decoder.dropout', 'seed']
    """
    for length in range(1, max(key.count(".") for key in keys) + 2):
        ends = [".".join(key.split(".")[-length:]) for key in keys]
        if len(set(ends)) == len(ends):
            return ends
    return list(keys)


# ---- the table -------------------------------------------------------------------------------------------------------


def table(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Headers and rows: a row for each point, those that differ by their seed alone taken together.

    A column is one figure on one split under one tag: figures under different tags never share a column.

    Returns:
        The headers, and rows of means; with their standard deviation over seeds, where there are several.
    """
    axes = [axis for axis in outcomes[0].point.values if axis != "seed"]
    groups: dict[tuple[str, ...], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(tuple(outcome.point.values[axis] for axis in axes), []).append(outcome)
    columns = list(dict.fromkeys(_column(record) for outcome in outcomes for record in outcome.records))
    rows = [
        [*values, *(_cell(group, column) for column in columns), _statuses(group)] for values, group in groups.items()
    ]
    return [*axes, *(" ".join(filter(None, column)) for column in columns), "status"], rows


def _column(record: Record) -> tuple[str, str, str, str]:
    return record.split, record.name, record.unit, f"[{record.tag}]" if record.tag else ""


def _cell(group: Sequence[Outcome], column: tuple[str, str, str, str]) -> str:
    values = [r.value for outcome in group for r in outcome.records if _column(r) == column]
    if not values:
        return ""
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


def _statuses(group: Sequence[Outcome]) -> str:
    counts = {status: sum(o.status == status for o in group) for status in dict.fromkeys(o.status for o in group)}
    return ", ".join(f"{count} {status}" for status, count in counts.items()) if len(group) > 1 else group[0].status


def write_csv(outcomes: Sequence[Outcome], path: Path) -> None:
    """Writes a line for each figure of each run.

    Raises:
        UsageError: It cannot be written.
    """
    axes = list(outcomes[0].point.values)
    headers = [*axes, "run", "status", "split", "figure", "value", "unit", "tag", "epoch"]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(headers)
            for outcome in outcomes:
                own = [*outcome.point.values.values(), outcome.point.name, outcome.status]
                for r in outcome.records or [None]:
                    lines.writerow([*own, *((r.split, r.name, r.value, r.unit, r.tag, r.epoch) if r else ())])
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error}") from error
