"""Rows of a report: runs that differ in their seed alone are one, and only like figures stand together."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from genkit.report.account import Account

Key = tuple[str, ...]
NO_FIGURE = "No figure yet"
SIZES = ("train", "validation")  # of a dataset: how much is learned from changes no test figure's meaning


@dataclass(frozen=True)
class Row:
    """Runs of one recipe, or a single one.

    Attributes:
        runs: The runs, by their seeds.
    """

    runs: Sequence[Account]

    @property
    def first(self) -> Account:
        """A run that stands for all in what they have in common."""
        return self.runs[0]

    @cached_property
    def values(self) -> list[float]:
        """The figure of each run; empty where it has not been taken."""
        return [run.record.value for run in self.runs if run.record]

    @property
    def value(self) -> float:
        """The mean over the runs."""
        return statistics.mean(self.values)

    @property
    def standard_error(self) -> float | None:
        """Over the runs; of a single one what its evaluator gives."""
        if len(self.values) < 2:
            return self.first.standard_error
        return statistics.stdev(self.values) / math.sqrt(len(self.values))

    @property
    def kind(self) -> Key:
        """What figures must share to stand in one ranking: data, evaluator, unit and tag."""
        record = self.first.record
        if record is None:
            return (NO_FIGURE,)
        data = {key: value for key, value in self.first.recipe["data"].items() if key not in SIZES}
        return (data.pop("use"), _evaluator(self.first), record.unit, record.tag, json.dumps(data))

    @property
    def place(self) -> float:
        """Where it stands among its like; smaller is better."""
        record = self.first.record
        if record is None:
            return 0.0
        return -self.value if record.better == "higher" else self.value


@dataclass(frozen=True)
class Group:
    """Rows that may be ranked.

    Attributes:
        heading: What they have in common.
        rows: The rows, the best first.
    """

    heading: str
    rows: Sequence[Row]


def grouped(accounts: Sequence[Account]) -> list[Group]:
    """Groups in the order of their first runs; what has no figure yet comes last."""
    kinds: dict[Key, list[Row]] = {}
    for row in _rows(accounts):
        kinds.setdefault(row.kind, []).append(row)
    headings = [_heading(kind) for kind in kinds]
    groups = [
        Group(heading if headings.count(heading) == 1 else f"{heading}; data {kind[-1]}", sorted(rows, key=_by_place))
        for (kind, rows), heading in zip(kinds.items(), headings, strict=True)
    ]
    return sorted(groups, key=lambda group: group.heading == NO_FIGURE)


def _rows(accounts: Sequence[Account]) -> list[Row]:
    rows: dict[Key, list[Account]] = {}
    for run in accounts:
        same = _recipe(run) if run.record else str(run.path)  # what has no figure yet has no mean
        mark = (run.record.unit, run.record.tag) if run.record else ()
        keys = (("#" * times, same, *mark) for times in range(len(accounts)))
        # a seed that is there twice is no second draw: it gets a row of its own
        key = next(key for key in keys if run.seed not in [other.seed for other in rows.get(key, ())])
        rows.setdefault(key, []).append(run)
    return [Row(sorted(runs, key=lambda run: run.seed)) for runs in rows.values()]


def _recipe(run: Account) -> str:
    """All that runs of one row share; versions of plugins may differ."""
    return json.dumps({k: v for k, v in run.recipe.items() if k not in ("seed", "served_by")}, sort_keys=True)


def _evaluator(run: Account) -> str:
    """What took the figure: entries are called as their authors like."""
    entry, slash, name = run.figure.partition("/")
    node: Any = run.recipe.get("evaluate", {}).get(entry, {})
    return f"{node.get('use', entry)}{slash}{name}"


def _heading(kind: Key) -> str:
    if kind == (NO_FIGURE,):
        return NO_FIGURE
    data, evaluator, unit, tag, _ = kind
    return f"{data}, {evaluator}{f' in {unit}' if unit else ''}{f': {tag}' if tag else ''}"


def _by_place(row: Row) -> tuple[float, str]:
    return row.place, row.first.name
