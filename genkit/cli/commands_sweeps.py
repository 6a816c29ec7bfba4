"""The command that runs a recipe at every point of a grid."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from genkit.cli.app import command, warn_of_plugins

if TYPE_CHECKING:
    from genkit.launcher import Launcher
    from genkit.sweep import Outcome


@command("sweep")
def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe file.")],
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY.PATH=VALUE,VALUE...", help="Axes, as seed=0..4 or objective.beta=0.5,1; overrides."
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The sweep's name; the recipe file's and -sweep, if not given.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="The folder that the sweep's folder goes into.")] = Path("runs"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time on this machine.")] = None,
    launcher: Annotated[
        str, typer.Option(help="local, slurm, ray; or with options: '{use: slurm, hours: 2}'.")
    ] = "local",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check every point and list them.")] = False,
) -> None:
    """Runs a recipe at every point of a grid, what is unfinished only, and ends in one table."""
    import signal

    from genkit.cli.tables import print_table
    from genkit.runs import checked_name
    from genkit.sweep import Sweep, table, write_csv

    warn_of_plugins()
    carried_out_by = _launcher(launcher, jobs)
    grid = Sweep(recipe, words, runs / checked_name(name or f"{Path(recipe).stem}-sweep"), device)
    if dry_run:
        print_table(("run", "overrides"), [(point.name, " ".join(point.overrides)) for point in grid.points])
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    outcomes = []
    steps = grid.run(carried_out_by)
    try:
        for outcome in steps:
            outcomes.append(outcome)
            _report(outcome, len(outcomes), len(grid.points))
    except KeyboardInterrupt:
        steps.close()
        raise
    finally:
        if outcomes:
            outcomes = grid.in_order(outcomes)
            headers, rows = table(outcomes)
            print_table(headers, rows)
            write_csv(outcomes, grid.folder / "sweep.csv")
            typer.echo(f"{grid.folder / 'sweep.csv'}  (every figure of every run)")
    if any(outcome.status != "finished" for outcome in outcomes):
        raise typer.Exit(1)


def _stop(number: int, frame: object) -> None:
    """Says what is going on before the launcher, wherever it is interrupted, waits for its runs."""
    typer.echo("ending the runs that are under way ...", err=True)
    raise KeyboardInterrupt


def _launcher(text: str, jobs: int | None) -> Launcher:
    import yaml

    from genkit import runs as runner
    from genkit.errors import UsageError

    try:
        node = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--launcher {text!r}: a name or '{{use: name, key: value}}' is wanted") from None
    if jobs is not None:
        if node != "local":
            raise UsageError(f"--jobs is for runs on this machine; --launcher {text} has options of its own")
        node = {"use": "local", "jobs": jobs}
    return runner.build("launcher", node)


def _report(outcome: Outcome, number: int, total: int) -> None:
    figures = "  ".join(f"{r.split} {r.name} {r.value:.5g}" for r in outcome.records if "/" not in r.name)
    typer.echo(f"{number}/{total} {outcome.point.name}: {outcome.status}  {figures or outcome.message}", err=True)
