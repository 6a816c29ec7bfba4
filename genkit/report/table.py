"""Rows in words, for a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from genkit.recipe.published import EPOCHS
from genkit.report.departures import departures
from genkit.report.rows import Group, Row

HEADERS = (
    *("run", "paper and table", "published", "ours", "standard error", "seeds", "what it is", "epochs", "best epoch"),
    *("device", "time", "departures from the protocol"),
)


def cells(row: Row) -> list[str]:
    """A row's cells under :data:`HEADERS`."""
    record = row.first.record
    digits = _digits(row)
    unit = f" {record.unit}" if record and record.unit else ""
    error = row.standard_error if record else None
    return [
        ", ".join(run.name for run in row.runs),
        _paper(row),
        _published(row),
        f"{row.value:.{digits}f}{unit}" if record else "",
        "" if error is None else f"{error:.{digits + 1}f}",
        ", ".join(str(run.seed) for run in row.runs),
        record.tag if record else "",
        _epochs(row),
        _best_epochs(row),
        " or ".join(dict.fromkeys(run.device for run in row.runs)),
        _time(row),
        _departures(row),
    ]


def markdown(groups: Sequence[Group], name: Callable[[str], str] = "`{}`".format) -> str:
    """Tables, one for each group of figures that may be ranked, under their headings.

    Args:
        groups: The groups.
        name: Markdown for a run's name.
    """
    return "\n".join(f"**{_text(group.heading)}**\n\n{_table(group, name)}" for group in groups)


def _table(group: Group, name: Callable[[str], str]) -> str:
    rows = [[", ".join(name(run.name) for run in row.runs), *map(_text, cells(row)[1:])] for row in group.rows]
    lines = [HEADERS, ["---"] * len(HEADERS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _text(text: str) -> str:
    """Words that no reader of Markdown takes for marks."""
    plain = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in r"\|*_`<[" else letter for letter in plain)


def _paper(row: Row) -> str:
    published = row.first.published
    if published is None:
        return ""
    return f"{published.paper}; {published.table}{f' ({published.note})' if published.note else ''}"


def _published(row: Row) -> str:
    published = row.first.published
    if published is None:
        return ""
    return f"{repr(published.value).removesuffix('.0')} {published.unit or ''}".rstrip()


def _departures(row: Row) -> str:
    """Those of the runs; where they differ, each with its seed."""
    said = {run.seed: departures(run) for run in row.runs}
    if len(set(said.values())) == 1:
        return said[row.first.seed]
    return "; ".join(f"seed {seed}: {words}" for seed, words in said.items())


def _digits(row: Row) -> int:
    """As many decimals as the paper has, but two at least; where there is no paper, four."""
    published = row.first.published
    if published is None:
        return 4
    exponent = Decimal(repr(published.value)).as_tuple().exponent
    return max(2, -exponent if isinstance(exponent, int) else 0)


def _epochs(row: Row) -> str:
    """Epochs that are over, of those that the paper's protocol asks for."""
    published, over = row.first.published, f"{row.first.epochs:,}"
    asked = published.protocol.get(EPOCHS) if published else None
    return f"{over} of {asked:,}" if isinstance(asked, int) else over


def _best_epochs(row: Row) -> str:
    """The epochs whose weights were judged; empty where they were the last ones."""
    taken = [(run.record.epoch, run.epochs) for run in row.runs if run.record]
    if all(epoch == last for epoch, last in taken):
        return ""
    return ", ".join(f"{epoch:g}" for epoch, _ in taken)


def _time(row: Row) -> str:
    """Time of a run, the mean of several."""
    seconds = sum(run.seconds for run in row.runs) / len(row.runs)
    more = "at least " if any(run.at_least for run in row.runs) else ""
    return f"{more}{duration(seconds)}{' a run' if len(row.runs) > 1 else ''}"


def duration(seconds: float) -> str:
    """Seconds in the unit that is easily read.

    Example:
        >>> duration(45.2), duration(552), duration(11160)
        ('45 s', '9.2 min', '3.1 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
