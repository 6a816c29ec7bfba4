"""The command that holds runs against published figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genkit.cli.app import command

if TYPE_CHECKING:
    from genkit.report import Group


@command("report")
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Runs' folders, or folders of runs that have a published figure."),
    ],
    table: Annotated[bool, typer.Option("--table", help="Print Markdown.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the Markdown to this file.")] = None,
) -> None:
    """Holds runs against the published figures in their recipes, those that may be ranked together."""
    from genkit.engine.folder import replace_text
    from genkit.report import find_runs, grouped, markdown, read_account

    chosen, left_out = find_runs(runs)
    for run in left_out:
        typer.echo(f"note: {run} is left out: its recipe names no published figure", err=True)
    groups = grouped([read_account(run) for run in chosen])
    if output is not None:
        replace_text(output, markdown(groups))
        typer.echo(f"wrote {output}")
    elif table:
        typer.echo(markdown(groups), nl=False)
    else:
        _print(groups)


def _print(groups: Sequence[Group]) -> None:
    from genkit.cli.tables import print_table
    from genkit.report import HEADERS, cells

    for number, group in enumerate(groups):
        rows = [cells(row) for row in group.rows]
        told = [i for i in range(len(HEADERS)) if any(row[i] for row in rows)]
        if number:
            typer.echo()
        typer.echo(group.heading)
        print_table([HEADERS[i] for i in told], [[row[i] for i in told] for row in rows])
