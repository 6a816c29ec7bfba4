"""Commands that train, and that use what was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genkit.cli.app import command, warn_of_plugins

if TYPE_CHECKING:
    from genkit.events import Record, RunEnd

Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")]
CheckpointName = Annotated[
    str | None,
    typer.Option("--checkpoint", help="best, last or epoch-0050; the best, if there is one, where nothing is said."),
]


@command("run")
def run(
    recipe: Annotated[str | None, typer.Argument(help="A recipe file.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Overrides of single values.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The run's name; the recipe file's, if not given.")] = None,
    runs: Annotated[Path, typer.Option(help="The folder that runs go into.")] = Path("runs"),
    device: Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build everything, say what would be done.")] = False,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN|auto", help="Continue this run; auto: that of the recipe's name, if any.")
    ] = None,
    allow_changes: Annotated[
        bool, typer.Option("--allow-changes", help="Continue it with a recipe that is not the one it began with.")
    ] = False,
    devices: Annotated[
        int, typer.Option(min=1, help="Processes on this machine that train together, each on a device of its own.")
    ] = 1,
    checkpoint: Annotated[
        str | None, typer.Option(help="Continue it from another checkpoint than the last, such as epoch-0050.")
    ] = None,
) -> None:
    """Trains a recipe and judges the result."""
    from genkit import runs as runner
    from genkit.errors import UsageError

    if devices > 1 and not dry_run:
        if recipe is not None and resume is None:
            runner.check_recipe_and_name(recipe, overrides or (), name, runs)  # told once, not by every process
        _launch(devices)
    warn_of_plugins()
    if resume not in (None, "auto"):
        changes = [*([recipe] if recipe else ()), *(overrides or ())]
        if name is not None or dry_run or any("=" not in change for change in changes):
            raise UsageError(
                "--resume RUN takes the run's own recipe, and overrides beside --allow-changes: "
                "no recipe, no --name, no --dry-run (for these, --resume auto)"
            )
        end = runner.resume(
            resume, overrides=changes, device=device, allow_changes=allow_changes, checkpoint=checkpoint
        )
        _close(end)
    elif checkpoint is not None or (allow_changes and resume is None):
        raise UsageError("--checkpoint and --allow-changes are for --resume RUN")
    elif recipe is None:
        raise UsageError("a recipe is wanted, or --resume RUN")
    elif dry_run:
        runner.checked_name(runner.default_name(recipe) if name is None else name)
        _print_plan(recipe, overrides or [], device)
    else:
        options = {"name": name, "runs": runs, "device": device, "allow_changes": allow_changes}
        _close(runner.run(recipe, overrides=overrides or (), resume=resume == "auto", **options))


def _launch(devices: int) -> None:
    """Becomes torch's launcher, which runs this very command in so many processes."""
    import os
    import sys

    words = sys.argv[1:]
    place = next(i for i, word in enumerate(words) if word.startswith("--devices"))
    del words[place : place + (1 if "=" in words[place] else 2)]
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else each process advises against what games need
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={devices}"]
    os.execv(sys.executable, [*launcher, "-m", "genkit", *words])


def _print_plan(recipe: str, overrides: Sequence[str], device: str) -> None:
    from genkit.cli.tables import print_table
    from genkit.engine import assemble, choose_device
    from genkit.engine.folder import device_name, recipe_text
    from genkit.engine.placement import describe
    from genkit.recipe import load_recipe

    checked = load_recipe(recipe, overrides)
    assembly = assemble(checked, choose_device(device))
    typer.echo(recipe_text(checked))
    rows = [
        ("device", device_name(assembly.device)),
        ("data", f"{assembly.parts.spec.shape}, {assembly.parts.spec.describe_values()}"),
        *((split, f"{len(feed):,} examples") for split, feed in assembly.feeds.items()),
        ("all data", describe(assembly.feeds)),
        *((player, f"{state.num_parameters:,} parameters") for player, state in assembly.players.items()),
        ("steps", f"{checked.train.epochs} epochs of {assembly.steps_per_epoch}"),
    ]
    print_table(("what", "is"), rows)


def _close(end: RunEnd) -> None:
    """Prints what the run came to, once, and ends with its exit code."""
    import os

    from genkit.cli.app import INTERRUPTED

    if os.environ.get("RANK", "0") != "0":
        raise typer.Exit(0 if end.status == "finished" else 128 + end.signal if end.signal else INTERRUPTED)

    if end.status == "interrupted":
        typer.echo(f"interrupted; continue with: genkit run --resume {end.folder}", err=True)
        raise typer.Exit(128 + end.signal if end.signal else INTERRUPTED)
    if end.message:
        typer.echo(end.message, err=True)
    _print_records(end.records)
    _print_paths(end.folder)


def _print_records(records: Sequence[Record]) -> None:
    from genkit.cli.tables import print_table

    if records:
        headers = ("split", "figure", "value", "floor", "unit", "epoch", "what it is")
        rows = [
            (
                r.split,
                r.name,
                _number(r.value),
                "" if r.floor is None else _number(r.floor),
                r.unit,
                f"{r.epoch:g}",
                r.tag,
            )
            for r in records
        ]
        shown = [i for i, header in enumerate(headers) if header != "floor" or any(row[i] for row in rows)]
        print_table([headers[i] for i in shown], [[row[i] for i in shown] for row in rows])


def _number(value: float) -> str:
    """Counts whole, everything else with four decimals, or as many as show that it is not 0."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.4f}" if value == 0 or abs(value) >= 5e-5 else f"{value:.1e}"


def _print_paths(folder: Path) -> None:
    from rich.filesize import decimal

    from genkit.engine.folder import disk_usage

    for name, what in (
        ("recipe.yaml", "the resolved recipe"),
        ("metrics.jsonl", "every figure"),
        ("images", "pictures"),
        ("tensorboard", "for tensorboard --logdir"),
        ("checkpoints", "weights"),
    ):
        if (folder / name).exists():
            size = f", {decimal(disk_usage(folder / name))}" if name == "checkpoints" else ""
            typer.echo(f"{folder / name}  ({what}{size})")


@command("sample")
def sample(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Options of the sampler, such as temperature=0.8."),
    ] = None,
    num_samples: Annotated[int, typer.Option("-n", "--num-samples", min=1, help="How many.")] = 64,
    output: Annotated[Path, typer.Option("-o", "--output", help="A .png of a grid, or a .npy of the values.")] = Path(
        "samples.png"
    ),
    columns: Annotated[int, typer.Option(min=1, help="Images in a row.")] = 8,
    zoom: Annotated[int, typer.Option(min=1, help="Screen pixels for one pixel.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    sampler: Annotated[str | None, typer.Option(help="A sampler in the place of the recipe's.")] = None,
    checkpoint: CheckpointName = None,
    device: Device = "auto",
) -> None:
    """Draws samples from a trained run."""
    from genkit import runs as runner
    from genkit.errors import UsageError
    from genkit.recipe.source import from_values

    warn_of_plugins()
    if output.suffix not in (".png", ".npy"):
        raise UsageError(f"{output}: a name that ends in .png or .npy is wanted")
    loaded = runner.load(run_path, checkpoint=checkpoint, device=device)
    if output.suffix == ".png" and not loaded.spec.is_image:
        raise UsageError(f"the data has shape {loaded.spec.shape}, no images: write a .npy with -o samples.npy")
    node: Any = sampler or loaded.recipe.sampler.to_plain()
    node = from_values({"sampler": node}, [f"sampler.{option}" for option in options or ()]).values["sampler"]
    x = loaded.sample(num_samples, seed=seed, sampler=node)
    _write_samples(x, output, columns, zoom)
    typer.echo(f"wrote {num_samples} samples of {run_path} ({loaded.checkpoint_name}, seed {seed}) to {output}")


def _write_samples(x: Any, output: Path, columns: int, zoom: int) -> None:
    import numpy as np

    from genkit.errors import UsageError
    from genkit.picture import image_grid, save_png

    try:
        if output.suffix == ".npy":
            np.save(output, x.cpu().numpy(), allow_pickle=False)
        else:
            save_png(image_grid(x, min(columns, len(x)), zoom=zoom), output)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error}") from error


@command("evaluate")
def evaluate(
    run_path: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]... [KEY=VALUE]...",
            help="Keys of the recipe's evaluate, or other evaluators' names; and options of theirs.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    checkpoint: CheckpointName = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Judges a trained run with its recipe's evaluators, or with others."""
    from genkit import runs as runner

    warn_of_plugins()
    names = [word for word in words or () if "=" not in word]
    overrides = [word for word in words or () if "=" in word]
    loaded = runner.load(run_path, checkpoint=checkpoint, device=device)
    reports = loaded.evaluate(names, overrides, split)
    records = [record for report in reports for record in report.records]
    for report in reports:
        for note in report.notes:
            typer.echo(f"{report.entry}: {note}", err=True)
    if as_json:
        import json

        typer.echo(json.dumps([asdict(record) for record in records], indent=2))
        return
    _print_records(records)
    for report in reports:
        for _, path in report.pictures:
            typer.echo(str(path))
