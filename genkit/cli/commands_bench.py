"""The command that times a training step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from genkit.cli.app import command, warn_of_plugins
from genkit.cli.commands_runs import Device

if TYPE_CHECKING:
    from genkit.bench import Bench, WholeRun


@command("bench")
def bench(
    recipe: Annotated[str, typer.Argument(help="A recipe file.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Overrides of single values.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps in a round.")] = 50,
    rounds: Annotated[int, typer.Option(help="How often each loop is timed.")] = 12,
    against: Annotated[
        str, typer.Option(help="loop, the bare one; dataloader, the one that people write; both with a comma.")
    ] = "loop,dataloader",
    workers: Annotated[int, typer.Option(help="Processes of the conventional loop's data loader.")] = 0,
    device: Device = "auto",
    whole: Annotated[
        bool, typer.Option("--whole-run", help="What a whole run spends beside its training steps, at its cadence.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, every round included.")] = False,
) -> None:
    """Times the engine's training step beside a bare loop and beside a conventional one; keeps nothing."""
    import json

    from genkit.bench import bench as measure
    from genkit.bench import whole_run

    warn_of_plugins()
    if whole:
        spent = whole_run(recipe, overrides or (), steps, device)
        if as_json:
            typer.echo(json.dumps(spent.to_plain(), indent=2))
        else:
            _print_whole(spent)
        return

    names = [name.strip() for name in against.split(",") if name.strip()]
    found = measure(recipe, overrides or (), steps, rounds, names, workers, device, _show_progress(rounds))
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    if as_json:
        typer.echo(json.dumps(found.to_plain(), indent=2))
    else:
        _print(found)


def _show_progress(rounds: int) -> Callable[[int], None]:
    """Writes the round on a terminal, between the times that are taken."""

    def show(over: int) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\rround {over + 1} of {rounds}", nl=False, err=True)

    return show


def _print(found: Bench) -> None:
    from genkit.cli.tables import print_table

    what = "the bare loop" if found.reference == "loop" else f"the {found.reference}"
    rows = []
    for name in found.seconds:
        low, ratio, high = found.quartiles(name)
        spread = "" if name == found.reference else f"{low:.3f} to {high:.3f}"
        step = f"{1000 * found.seconds_per_step(name):9.3f}"
        rows.append((name, step, f"{ratio:.3f} x", spread, f"{found.examples_per_second(name):,.0f}"))
    unit = "images/s" if found.is_image else "examples/s"
    print_table(("loop", "ms a step", f"to {what}", "quartiles", unit), rows)
    typer.echo()
    print_table(("what", "is"), _facts(found))
    for note in found.notes:
        typer.echo(f"note: {note}")


def _print_whole(spent: WholeRun) -> None:
    from genkit.cli.tables import print_table

    rows = [
        (e.what, f"{e.times:,}", f"{e.first:.3f}", f"{e.later:.3f}" if e.times > 1 else "", f"{e.seconds:.1f}")
        for e in spent.expenses
    ]
    step = f"{spent.seconds_per_step:.4f}"
    table = [("training steps", f"{spent.steps:,}", step, step, f"{spent.training:.1f}"), *rows]
    shares = [f"{float(seconds) / spent.training:.2%}" for *_, seconds in table]
    headers = ("what", "times", "first, s", "later, s", "in all, s", "of training")
    print_table(headers, [(*row, share) for row, share in zip(table, shares, strict=True)])
    typer.echo(f"\na whole run takes {spent.ratio:.3f} times its training steps ({spent.device})")


def _facts(found: Bench) -> list[tuple[str, str]]:
    """What the times were taken under, and where the engine's goes."""
    memory = "" if found.peak_bytes is None else f"{found.peak_bytes / 2**20:,.0f} MiB: "
    model = ", ".join(f"{name} {found.shares[name]:.1%}" for name in ("loss", "backward", "optimizer"))
    return [
        ("device", found.device),
        ("threads", str(found.threads)),
        ("batch size", str(found.batch_size)),
        ("timed", f"{found.rounds} rounds of {found.steps} steps, in turn"),
        ("peak memory", f"{memory}{found.peak_of}"),
        ("engine's step", f"{found.shares['outside']:.1%} outside model code; {model}"),
    ]
